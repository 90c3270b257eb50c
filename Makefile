# zit: build, test, install. Out of tree in build/; no configure step. `scripts/setup` installs what is needed.
#
#   make              everything            make SAN=1        the same with ASAN and UBSAN, in build-san/
#   make check        unit, kernel, model and system tests    make bench     figures, as ratios
#   make install DESTDIR= PREFIX=/usr                        make V=1    show the commands

CC      ?= cc
Q       := $(if $(V),,@)
PREFIX  ?= /usr
DESTDIR ?=
BUILD   := $(if $(SAN),build-san,build)
VERSION := 0.1

WARN    := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Werror
comma   := ,
SANFLAGS := $(if $(SAN),-fsanitize=address$(comma)undefined -fno-omit-frame-pointer -fno-sanitize-recover=undefined)
CFLAGS  ?= -O2 -g
ALL_CFLAGS = -std=gnu11 $(CFLAGS) $(WARN) $(SANFLAGS) -D_GNU_SOURCE -I. -I$(BUILD) -DZIT_VERSION='"$(VERSION)"'
ALL_LDFLAGS = $(SANFLAGS) $(LDFLAGS)


# ---- what each program is made of

IPC := ipc/err.o ipc/utf8.o ipc/nearest.o ipc/clock.o ipc/log.o ipc/buf.o ipc/fsm.o ipc/proto.o ipc/channel.o ipc/shm.o ipc/api.o

KERNELS := kernels/tensor.o kernels/device.o kernels/convert.o \
	kernels/ref/backend.o kernels/ref/memory.o kernels/ref/linear.o kernels/ref/norm.o kernels/ref/attention.o \
	kernels/ref/elementwise.o kernels/ref/patch.o kernels/ref/conv.o \
	kernels/cpu/backend.o kernels/cpu/linear.o kernels/cpu/gemm.o kernels/cpu/norm.o kernels/cpu/attention.o \
	kernels/cpu/elementwise.o kernels/cpu/conv.o

RUNNER_MODEL := runner/generation.o runner/model.o runner/schedule.o runner/sampler.o runner/noise.o runner/dit.o \
	runner/dit_time.o runner/text_encoder.o runner/vae.o runner/weights.o runner/arena.o runner/fault.o runner/sha256.o \
	runner/model_config.o runner/checkpoint.o runner/safetensors.o runner/json_file.o runner/tokenizer.o \
	runner/bpe.o runner/pretokenize.o

RUNNER := runner/main.o runner/options.o runner/session.o runner/encoder.o runner/png_writer.o runner/metadata.o runner/result.o

SUPERVISOR := supervisor/main.o supervisor/daemon.o supervisor/conf.o supervisor/paths.o supervisor/client.o \
	supervisor/outbox.o supervisor/methods.o supervisor/job.o supervisor/id.o supervisor/queue.o supervisor/sched.o \
	supervisor/runner.o supervisor/runner_messages.o supervisor/runner_death.o supervisor/spawn.o supervisor/disk.o \
	supervisor/notify.o

CTL := ctl/main.o ctl/options.o ctl/client.o ctl/call.o ctl/draw.o ctl/inspect.o ctl/admin.o ctl/output.o \
	ctl/progress.o ctl/picture.o

PROGRAMS := zitd zit-runner zitctl

LIBS_zitd       := -lev -ljansson -lsystemd -linih -lpthread -lm
LIBS_zit-runner := -ljansson -lutf8proc -lpng -ldnnl -lgomp -lm -lpthread
LIBS_zitctl     := -ljansson

all: $(PROGRAMS:%=$(BUILD)/%)

$(BUILD)/zitd: $(addprefix $(BUILD)/,$(IPC) $(SUPERVISOR))
$(BUILD)/zit-runner: $(addprefix $(BUILD)/,$(IPC) $(KERNELS) $(RUNNER_MODEL) $(RUNNER))
$(BUILD)/zitctl: $(addprefix $(BUILD)/,$(IPC) $(CTL))

$(PROGRAMS:%=$(BUILD)/%):
	@echo "  LD    $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) $(LIBS_$(@F))

# ---- compiling

# The arithmetic is compiled for speed; everything else for debugging ease.
$(BUILD)/kernels/%.o: CFLAGS := -O3 -g -fopenmp
# What cpu/ is compiled for; cpu_open looks for it before anything else runs.
$(BUILD)/kernels/cpu/%.o: CFLAGS := -O3 -g -fopenmp -march=x86-64-v3 -mprefer-vector-width=256

$(BUILD)/%.o: %.c | $(BUILD)/build_id.h
	@mkdir -p $(@D)
	@echo "  CC    $<"
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

# ZIT_BUILD: the version and a hash of what two processes must agree on; both ends of a runner's socket compare it.
$(BUILD)/build_id.h: $(sort $(wildcard ipc/*.def ipc/*.h))
	@mkdir -p $(@D)
	@echo "#define ZIT_BUILD \"$(VERSION)+$$(cat $^ | sha256sum | cut -c1-8)\"" > $@

# ---- tests: every tests/unit/test_X.c, tests/kernels/test_X.c and tests/model/test_X.c is one cmocka program

# (lists below name the objects of the product that each kind of test links)

# The tiny checkpoints and their golden arrays, from formulas: bf16 and float32 of configuration B, bf16 of A and C. Always in
# build/, the sanitized build reads the same ones.
GOLDEN := build/golden
GOLDEN_ALL := $(GOLDEN)/.done $(GOLDEN)-f32/.done $(GOLDEN)-a/.done $(GOLDEN)-c/.done

$(GOLDEN)/.done: GOLDEN_FLAGS :=
$(GOLDEN)-f32/.done: GOLDEN_FLAGS := --f32
$(GOLDEN)-a/.done: GOLDEN_FLAGS := --config A
$(GOLDEN)-c/.done: GOLDEN_FLAGS := --config C

$(GOLDEN_ALL): tests/golden/golden-tiny.py
	@mkdir -p $(@D)
	@echo "  GOLD  $(@D)"
	$(Q)/usr/bin/python3 $< --write $(@D) $(GOLDEN_FLAGS) >$(@D)/values.txt
	@touch $@

golden: $(GOLDEN_ALL)
demo-model: $(GOLDEN)/.done

# The model against the numpy model and the public implementation. Run from the root, where the vectors are.
MODEL_TESTS := stages golden model reference

$(MODEL_TESTS:%=$(BUILD)/tests/model/test_%): $(BUILD)/tests/model/test_%: $(BUILD)/tests/model/test_%.o \
		$(addprefix $(BUILD)/,tests/model/golden.o $(IPC) $(KERNELS) $(RUNNER_MODEL))
	@echo "  LD    $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) $(LIBS_zit-runner) -lcmocka

check-model: $(MODEL_TESTS:%=$(BUILD)/tests/model/test_%) $(GOLDEN_ALL)
	$(Q)set -e; for t in $(filter-out %.done,$^); do echo "  TEST  $$t"; $$t; done

$(BUILD)/tests/bench/bench_pipeline: \
		$(addprefix $(BUILD)/,tests/bench/bench_pipeline.o $(IPC) $(KERNELS) $(RUNNER_MODEL))
	@echo "  LD    $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) $(LIBS_zit-runner)

bench-pipeline: $(BUILD)/tests/bench/bench_pipeline $(GOLDEN)/.done
	$(Q)$<

# The runner's process side; test_session runs the real program on a tiny checkpoint.
RUNNER_TESTS := png metadata session fake_runner

$(RUNNER_TESTS:%=$(BUILD)/tests/unit/test_%): $(BUILD)/tests/unit/test_%: $(BUILD)/tests/unit/test_%.o \
		$(addprefix $(BUILD)/,$(IPC) runner/png_writer.o runner/metadata.o runner/result.o)
	@echo "  LD    $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) -lcmocka -ljansson -lpng -lz -lpthread

$(BUILD)/tests/unit/test_session: $(BUILD)/tests/unit/peer.o $(BUILD)/zit-runner
$(BUILD)/tests/unit/test_fake_runner: $(BUILD)/tests/unit/peer.o $(BUILD)/tests/fake_runner

# A runner without a model, for tests of zitd.
$(BUILD)/tests/fake_runner: $(addprefix $(BUILD)/,tests/system/fake_runner.o $(IPC) runner/result.o)
	@echo "  LD    $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) -ljansson

check-runner: $(RUNNER_TESTS:%=$(BUILD)/tests/unit/test_%) $(GOLDEN)/.done
	$(Q)set -e; for t in $(filter-out %.done,$^); do echo "  TEST  $$t"; $$t; done

clean:
	rm -rf build build-san

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)

.PHONY: all golden demo-model check-model check-runner bench-pipeline clean
