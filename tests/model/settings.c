/*
 * The backends of the host. Tolerances: golden.h.
 */
#include "tests/model/golden.h"

/* Sanitized it takes several times as long, and what is wrong with memory shows in small pictures, too. */
#ifdef __SANITIZE_ADDRESS__
enum { CPU_AREA = 128 * 128 };
#else
enum { CPU_AREA = 256 * 256 };
#endif

const struct golden_setting golden_settings[] = {
    {"ref", PRECISION_F32, 1e-4, 1e-4, 1, "golden-f32", 40 * 40},
    {"cpu", PRECISION_F32, 1e-4, 1e-4, 1, "golden-f32", CPU_AREA},
    {"cpu", PRECISION_BF16, 2e-2, 1e-2, 6, "golden", CPU_AREA},
};

const size_t golden_setting_count = sizeof(golden_settings) / sizeof(golden_settings[0]);
