/*
 * The backends of the host. Tolerances: golden.h.
 */
#include "tests/model/golden.h"

/* Sanitized it takes several times as long, and what is wrong with memory shows in small pictures, too: ref
 * draws those of golden-a and golden-c, and leaves the one of configuration B, and prompts of 512 tokens, to
 * the other build. */
#ifdef __SANITIZE_ADDRESS__
enum { CPU_AREA = 128 * 128, REF_TOKENS = 128, REF_GOLDEN = 40 * 24 };
#else
enum { CPU_AREA = 256 * 256, REF_TOKENS = 512, REF_GOLDEN = 160 * 96 };
#endif

enum { TOKENS = 512, GOLDEN = 160 * 96 };

const struct golden_setting golden_settings[] = {
    {"ref", PRECISION_F32, 1e-4, 1e-4, 1, "golden-f32", 40 * 40, REF_TOKENS, REF_GOLDEN},
    {"cpu", PRECISION_F32, 1e-4, 1e-4, 1, "golden-f32", CPU_AREA, TOKENS, GOLDEN},
    {"cpu", PRECISION_BF16, 2e-2, 1e-2, 6, "golden", CPU_AREA, TOKENS, GOLDEN},
};

const size_t golden_setting_count = sizeof(golden_settings) / sizeof(golden_settings[0]);
