/*
 * How jobs and runners are shown to people.
 */
#include "ctl/tables.h"

static const struct output_column job_columns[] = {
    {"job", "job", 0},
    {"state", "state", 0},
    {"position", "position", 0},
    {"done in s", "eta_s", 0},
    {"at most s", "eta_p95_s", 0},
    {"held back", "held_back", 0},
    {"stage", "progress.stage", 0},
    {"step", "progress.step", 0},
    {"error", "error.name", 0},
    {"message", "error.message", 0},
    {"last words", "last_words", 0},
    {"log", "log_tail", 1},
    {"group", "group", 0},
    {"retry of", "retry_of", 0},
    {"retried as", "retried_as", 0},
    {"resumed", "resumed", 0},
    {"prompt", "prompt", 0},
    {"width", "width", 0},
    {"height", "height", 0},
    {"steps", "steps", 0},
    {"seed", "seed", 0},
    {"pictures", "n", 0},
    {"priority", "priority", 0},
    {"attempts", "attempts", 0},
    {"queued s", "queued_s", 0},
    {"run s", "run_s", 0},
    {"tokenize s", "tokenize_s", 1},
    {"text s", "text_s", 1},
    {"denoise s", "denoise_s", 1},
    {"decode s", "decode_s", 1},
    {"png s", "png_s", 1},
    {"uid", "client.uid", 1},
    {"pid", "client.pid", 1},
    {"path", "result.path", 0},
    {0},
};

const struct output_table tables_job = {"job", NULL, job_columns};

static const struct output_column queue_columns[] = {
    {"POS", "position", 0},
    {"JOB", "job", 0},
    {"STATE", "state", 0},
    {"CLASS", "priority", 0},
    {"CLIENT", "client.name", 0},
    {"DONE IN S", "eta_s", 0},
    {"AT MOST S", "eta_p95_s", 0},
    {"HELD BACK", "held_back", 1},
    {"STEP", "progress.step", 0},
    {"UID", "client.uid", 1},
    {"WIDTH", "width", 1},
    {"HEIGHT", "height", 1},
    {"STEPS", "steps", 1},
    {"PROMPT", "prompt", 0},
    {0},
};

const struct output_table tables_queue = {"job", "The queue is empty.", queue_columns};

static const struct output_column runner_columns[] = {
    {"RUNNER", "name", 0},
    {"STATE", "state", 0},
    {"FOR S", "state_s", 0},
    {"PID", "pid", 0},
    {"GEN", "generation", 0},
    {"DEATHS", "deaths", 0},
    {"DEVICE", "device", 0},
    {"TEXT ENCODER", "text_encoder", 0},
    {"GPU", "gpu.uuid", 1},
    {"GPU NAME", "gpu.name", 1},
    {"GPU BYTES", "gpu.memory_bytes", 1},
    {"MODEL", "model", 1},
    {"JOB", "job", 0},
    {"DIRECTORY", "model_dir", 1},
    {"LAST ERROR", "last_error", 0},
    {0},
};

const struct output_table tables_runner = {"name", "There are no runners.", runner_columns};
