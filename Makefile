# zit: build, test, install. Out of tree in build/; no configure step. `scripts/setup` installs what is needed.
#
#   make              everything            make SAN=1        the same with ASAN and UBSAN, in build-san/
#   make check        unit, kernel, model and system tests    make bench     figures, as ratios
#   make chaos SECONDS=60 SEED=1    mixed load under random faults
#   make crash N=300 SEED=1         zitd killed with SIGKILL under load, N times
#   make upgrade-loop N=200         zitd replaced every 200 ms under load
#   make CUDA=0       without zit-runner-cuda, which is built where nvcc is found
#   make install DESTDIR= PREFIX=/usr        make deb         build/zit_*.deb
#   make V=1          show the commands

CC      ?= cc
Q       := $(if $(V),,@)
PREFIX  ?= /usr
DESTDIR ?=
BUILD   := $(if $(SAN),build-san,build)
VERSION := 0.1

WARN    := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Werror
# At -O1 gcc does not see how long texts are that are put together, and thinks the worst.
WARN    += $(if $(SAN),-Wno-format-truncation)
comma   := ,
SANFLAGS := $(if $(SAN),-fsanitize=address$(comma)undefined -fno-omit-frame-pointer -fno-sanitize-recover=undefined)
CFLAGS  ?= $(if $(SAN),-O1,-O2) -g
ALL_CFLAGS = -std=gnu11 $(CFLAGS) $(WARN) $(SANFLAGS) -D_GNU_SOURCE -I. -I$(BUILD) -DZIT_VERSION='"$(VERSION)"'
ALL_LDFLAGS = $(SANFLAGS) $(LDFLAGS)


# ---- what each program is made of

IPC := ipc/err.o ipc/utf8.o ipc/nearest.o ipc/hash.o ipc/decimal.o ipc/sha256.o ipc/clock.o ipc/random.o ipc/log.o ipc/buf.o ipc/fsm.o ipc/proto.o ipc/fds.o ipc/channel.o ipc/shm.o ipc/json_text.o ipc/api.o ipc/api_fields.o ipc/api_rows.o ipc/api_reply.o ipc/group.o

KERNELS := kernels/tensor.o kernels/device.o kernels/convert.o \
	kernels/ref/backend.o kernels/ref/memory.o kernels/ref/linear.o kernels/ref/norm.o kernels/ref/attention.o \
	kernels/ref/elementwise.o kernels/ref/patch.o kernels/ref/conv.o \
	kernels/cpu/backend.o kernels/cpu/scratch.o kernels/cpu/linear.o kernels/cpu/gemm.o kernels/cpu/norm.o kernels/cpu/group_norm.o kernels/cpu/attention.o \
	kernels/cpu/elementwise.o kernels/cpu/conv.o kernels/cpu/convolution.o

# The CUDA backend: these files by nvcc for a card, and by the host's compiler for the emulated device of tests/emul.
CUDA_HOME ?= $(if $(wildcard /usr/local/cuda/bin/nvcc),/usr/local/cuda,$(patsubst %/bin/nvcc,%,$(realpath $(shell command -v nvcc))))
NVCC := $(firstword $(shell command -v nvcc) $(wildcard $(CUDA_HOME)/bin/nvcc))
HAS_CUDA := $(if $(filter 0,$(CUDA))$(SAN),,$(NVCC))

KERNELS_CUDA := $(addprefix kernels/cuda/,backend memory weights fault linear norm group_norm qkv attention attention_tiled attention_wgmma \
	elementwise patch conv conv_wgmma conv_tiled conv_plain conv_fold boxes graph gemm gemm_choice gemm_search gemm_plain sensors)

RUNNER_MODEL := runner/generation.o runner/model.o runner/model_memory.o runner/step_table.o runner/caption_cache.o runner/sampler.o runner/noise.o runner/dit.o \
	runner/dit_time.o runner/text_encoder.o runner/text_layers.o runner/vae.o runner/vae_canvas.o runner/vae_decode.o runner/weights.o runner/arena.o runner/fault.o \
	runner/model_config.o runner/checkpoint.o runner/safetensors.o runner/json_file.o runner/tokenizer.o \
	runner/bpe.o runner/pretokenize.o runner/nfc.o

RUNNER := runner/main.o runner/bus_error.o runner/options.o runner/session.o runner/session_jobs.o runner/session_work.o runner/session_messages.o runner/encoder.o runner/thread.o runner/sensors.o runner/png_writer.o runner/metadata.o runner/result.o \
	runner/resume.o runner/canary.o runner/warm_up.o runner/probe.o

SCHEDULING := $(addprefix supervisor/scheduling/,fair.o fair_clients.o fair_copy.o fair_admit.o fair_dump.o cost.o plan.o forecast.o gate.o limits.o load.o)
STORE := $(addprefix supervisor/store/,store.o store_open.o store_find.o store_salvage.o store_rows.o store_tables.o store_space.o store_log.o seal.o)
SOCKET := $(addprefix supervisor/socket/,client.o clients.o client_handover.o attachment.o outbox.o listener.o)
JOBS := $(addprefix supervisor/jobs/,job.o job_clocks.o job_attempt.o job_make.o job_row.o job_handover.o queue.o \
	quarantine.o)
RUNNERS := $(addprefix supervisor/runners/,runner.o runner_clocks.o runner_make.o runner_start.o runner_program.o \
	runner_device.o runner_jobs.o runner_spares.o runner_preempt.o runner_orders.o runner_messages.o runner_death.o runner_log.o \
	runner_handover.o probe.o devices.o environment.o spawn.o device_lock.o cgroup.o strays.o)
METHODS := $(addprefix supervisor/methods/,methods.o methods_submit.o methods_lists.o methods_jobs.o methods_queue.o \
	methods_service.o waiters.o acks.o lookup.o events.o job_record.o)
SUPERVISOR := $(SCHEDULING) $(STORE) $(SOCKET) $(JOBS) $(RUNNERS) $(METHODS) $(addprefix supervisor/,main.o age_clock.o calendar.o conf.o \
	conf_compare.o conf_rows.o daemon.o daemon_admit.o daemon_clients.o daemon_conf.o daemon_dead.o daemon_devices.o \
	daemon_end.o daemon_group.o daemon_handover.o daemon_health.o daemon_jobs.o daemon_memory.o daemon_metrics.o daemon_orders.o \
	daemon_outlook.o daemon_replay.o daemon_runners.o daemon_saved.o daemon_socket.o daemon_store.o daemon_turns.o disk.o \
	exposition.o fields.o handover.o histogram.o id.o journal.o journal_forms.o journal_table.o metrics.o notify.o \
	paths.o sched.o timer.o upgrade.o upgrade_trial.o)

CTL := ctl/main.o ctl/help.o ctl/options.o ctl/option_set.o ctl/commands.o ctl/client.o ctl/call.o ctl/draw.o ctl/inspect.o ctl/tables.o ctl/turns.o ctl/events.o ctl/admin.o \
	ctl/config.o ctl/metrics.o ctl/output.o ctl/progress.o ctl/program.o ctl/logs.o ctl/completion.o ctl/screen.o ctl/top.o ctl/top_frame.o ctl/top_lines.o \
	ctl/status.o ctl/advice.o ctl/doctor.o ctl/doctor_find.o ctl/doctor_service.o ctl/doctor_machine.o ctl/doctor_model.o \
	ctl/picture.o ctl/picture_read.o ctl/whole_file.o ctl/request.o ctl/info.o \
	ctl/batch.o ctl/batch_answers.o ctl/batch_items.o ctl/batch_book.o ctl/batch_progress.o

PROGRAMS := zitd zit-runner zitctl zit-sim $(if $(HAS_CUDA),zit-runner-cuda)

LIBS_zitd       := -lev -ljansson -lsqlite3 -lsystemd -linih -lpthread -lm
LIBS_zit-runner := -ljansson -lutf8proc -lpng -lz -ldnnl -lgomp -lm -lpthread
LIBS_zit-runner-cuda = $(LIBS_zit-runner) -L$(CUDA_HOME)/lib64 -Wl,-rpath,$(CUDA_HOME)/lib64 -lcublasLt -lcudart_static \
	-lstdc++ -lrt -ldl
LIBS_zitctl     := -ljansson -lpng
LIBS_zit-sim    := -ljansson -lm

all: $(PROGRAMS:%=$(BUILD)/%)

$(BUILD)/zitd: $(addprefix $(BUILD)/,$(IPC) $(SUPERVISOR))
$(BUILD)/zit-runner: $(addprefix $(BUILD)/,$(IPC) $(KERNELS) $(RUNNER_MODEL) $(RUNNER))
$(BUILD)/zitctl: $(addprefix $(BUILD)/,$(IPC) $(CTL))
$(BUILD)/zit-sim: $(addprefix $(BUILD)/,$(addprefix supervisor/scheduling/,zit_sim.o sim_flood.o) $(SCHEDULING))

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

# What has the third backend in its table.
$(BUILD)/cuda/%.o: CFLAGS := -O3 -g -fopenmp -DZIT_CUDA
$(BUILD)/cuda/%.o: %.c
	@mkdir -p $(@D)
	@echo "  CC    $< with cuda"
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

# sm_80 (A100, and by the same instructions 86 and 89), sm_90a (H100), and PTX for what comes later.
NVCCFLAGS := -std=c++20 -O3 -g -lineinfo -I. --threads 2 -gencode arch=compute_80,code=[sm_80,compute_80] \
	-gencode arch=compute_90a,code=sm_90a -Xcompiler -fopenmp,-Wall,-Wno-format-truncation,-Wno-deprecated-enum-enum-conversion,-Werror,-D_GNU_SOURCE

# No kernel may spill, and ptxas's remarks C75xx are failures too: a product by warpgroups that waits for the one before, or
# registers that do not move, cost half the speed and nothing else would show it.
$(BUILD)/cuda/%.o: %.cu
	@mkdir -p $(@D)
	@echo "  NVCC  $<"
	$(Q)$(NVCC) $(NVCCFLAGS) -Xptxas -warn-spills,-Werror -MMD -MP -c -o $@ $< >$@.said 2>&1 && ! grep 'C75[0-9][0-9]' $@.said || \
		{ cat $@.said; rm -f $@; exit 1; }

# The same sources for the emulated device.
EMULFLAGS = -std=c++20 -O2 -g -fopenmp -Itests/emul -I. -Wall -Wno-unknown-pragmas -Wno-format-truncation \
	-Wno-deprecated-enum-enum-conversion -Wno-psabi -Werror $(SANFLAGS) -D_GNU_SOURCE

$(BUILD)/emul/%.o: %.cu
	@mkdir -p $(@D)
	@echo "  CXX   $< emulated"
	$(Q)$(CXX) $(EMULFLAGS) -x c++ -MMD -MP -c -o $@ $<

$(BUILD)/emul/tests/emul/cublaslt.o $(BUILD)/emul/tests/emul/products.o $(BUILD)/emul/kernels/cuda/conv_plain.o: EMULFLAGS += -O3 -march=x86-64-v3
# The tensor cores themselves: what they read of shared memory and of registers they check, number by number.
$(BUILD)/emul/tests/emul/products.o: SANFLAGS :=
$(BUILD)/emul/%.o: %.cc
	@mkdir -p $(@D)
	@echo "  CXX   $<"
	$(Q)$(CXX) $(EMULFLAGS) -MMD -MP -c -o $@ $<

# ZIT_BUILD: the version and a hash of what two processes must agree on; both ends of a runner's socket compare it.
$(BUILD)/build_id.h: $(sort $(wildcard ipc/*.def ipc/*.h))
	@mkdir -p $(@D)
	@echo "#define ZIT_BUILD \"$(VERSION)+$$(cat $^ | sha256sum | cut -c1-8)\"" > $@

# The kernels with the cuda backend: for a card, and for the emulated device, where cuBLASLt is plain loops.
FOR_CARDS := $(addprefix $(BUILD)/,$(filter-out kernels/device.o,$(KERNELS))) \
	$(addprefix $(BUILD)/cuda/,kernels/device.o $(KERNELS_CUDA:%=%.o))
EMULATED := $(addprefix $(BUILD)/,$(filter-out kernels/device.o,$(KERNELS))) \
	$(BUILD)/cuda/kernels/device.o \
	$(addprefix $(BUILD)/emul/,$(KERNELS_CUDA:%=%.o) $(addprefix tests/emul/,scheduler.o hopper.o products.o runtime.o cublaslt.o))

$(BUILD)/zit-runner-cuda: $(addprefix $(BUILD)/,$(IPC) $(RUNNER_MODEL) $(RUNNER)) $(FOR_CARDS)

# ---- tests: every tests/*/test_X.c is one cmocka program; each kind names the objects that it links

# The tiny checkpoints and their golden arrays, from formulas: bf16 and float32 of configuration B, bf16 of A, C and D. Always in
# build/, the sanitized build reads the same ones.
GOLDEN := build/golden
PYTHON ?= /usr/bin/python3
GOLDEN_ALL := $(GOLDEN)/.done $(GOLDEN)-f32/.done $(GOLDEN)-a/.done $(GOLDEN)-c/.done $(GOLDEN)-d/.done

$(GOLDEN)/.done: GOLDEN_FLAGS :=
$(GOLDEN)-f32/.done: GOLDEN_FLAGS := --f32
$(GOLDEN)-a/.done: GOLDEN_FLAGS := --config A
$(GOLDEN)-c/.done: GOLDEN_FLAGS := --config C
$(GOLDEN)-d/.done: GOLDEN_FLAGS := --config D

$(GOLDEN_ALL): tests/golden/golden-tiny.py
	@mkdir -p $(@D)
	@echo "  GOLD  $(@D)"
	$(Q)$(PYTHON) $< --write $(@D) $(GOLDEN_FLAGS) >$(@D)/values.txt
	@touch $@

golden: $(GOLDEN_ALL)

# The model against the numpy model and the public implementation. Run from the root, where the vectors are.
MODEL_TESTS := stages golden decode model streamed reference

$(MODEL_TESTS:%=$(BUILD)/tests/model/test_%): $(BUILD)/tests/model/test_%: $(BUILD)/tests/model/test_%.o \
		$(addprefix $(BUILD)/,tests/model/golden.o tests/model/settings.o $(IPC) $(KERNELS) $(RUNNER_MODEL))
	@echo "  LD    $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) $(LIBS_zit-runner) -lcmocka

# The same programs with the cuda backend on the emulated device, and for a card.
$(MODEL_TESTS:%=$(BUILD)/emul/test_%): $(BUILD)/emul/test_%: $(BUILD)/tests/model/test_%.o \
		$(addprefix $(BUILD)/,tests/model/golden.o tests/model/settings_cuda.o $(IPC) $(RUNNER_MODEL)) $(EMULATED)
	@echo "  LD    $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) $(LIBS_zit-runner) -lcmocka -lstdc++

$(MODEL_TESTS:%=$(BUILD)/cuda/test_%): $(BUILD)/cuda/test_%: $(BUILD)/tests/model/test_%.o \
		$(addprefix $(BUILD)/,tests/model/golden.o tests/model/settings_cuda.o $(IPC) $(RUNNER_MODEL)) $(FOR_CARDS)
	@echo "  LD    $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) $(LIBS_zit-runner-cuda) -lcmocka

CHECKED_MODEL_TESTS := $(MODEL_TESTS:%=$(BUILD)/tests/model/test_%) $(if $(SAN),,$(BUILD)/emul/test_stages $(BUILD)/emul/test_decode $(BUILD)/emul/test_golden $(BUILD)/emul/test_streamed)

check-model: $(CHECKED_MODEL_TESTS:%=%.run)

# A test program is run as a target of its own, so that `make -j` fills the processors, `-k` goes on to the others.
# Passive: threads that spin while they wait slow the tests down fifty times on a busy machine. A small quarantine: fresh
# memory for each allocation is a third of what sanitized programs do otherwise.
%.run: % $(GOLDEN_ALL)
	@echo "  TEST  $<"
	$(Q)OMP_WAIT_POLICY=passive ASAN_OPTIONS=$${ASAN_OPTIONS-quarantine_size_mb=16:malloc_context_size=12} $<

$(BUILD)/tests/bench/bench_%: $(BUILD)/tests/bench/bench_%.o \
		$(addprefix $(BUILD)/,$(IPC) $(KERNELS) $(RUNNER_MODEL) runner/resume.o)
	@echo "  LD    $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) $(LIBS_zit-runner)

# Networks of full size with random weights, on a card; small ones on the emulated device, to see that the program works.
BENCH_GPU := $(addprefix $(BUILD)/,$(addprefix tests/bench/,bench_gpu.o bench_measure.o bench_operations.o bench_networks.o random_checkpoint.o) $(IPC) \
	$(filter-out runner/checkpoint.o,$(RUNNER_MODEL)))

$(BUILD)/tests/bench/random_checkpoint.o: CFLAGS := -O3 -g -fopenmp
$(BUILD)/cuda/bench_gpu: $(BENCH_GPU) $(FOR_CARDS)
	@echo "  LD    $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) $(LIBS_zit-runner-cuda)

$(BUILD)/emul/bench_gpu: $(BENCH_GPU) $(EMULATED)
	@echo "  LD    $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) $(LIBS_zit-runner) -lstdc++

bench-pipeline: $(BUILD)/tests/bench/bench_pipeline $(GOLDEN)/.done
	$(Q)$<

bench-png: $(BUILD)/tests/bench/bench_png
	$(Q)$<

# It needs no model.
$(BUILD)/tests/bench/bench_png: $(addprefix $(BUILD)/,tests/bench/bench_png.o $(IPC) runner/png_writer.o runner/metadata.o runner/result.o)
	@echo "  LD    $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) -ljansson -lpng -lz -lm

bench-checkpoint: $(BUILD)/tests/bench/bench_checkpoint $(GOLDEN)/.done
	$(Q)OMP_WAIT_POLICY=passive $<

# The runner's process side; test_session runs the real program on a tiny checkpoint.
RUNNER_TESTS := png metadata resume session fake_runner cuda_runner

$(RUNNER_TESTS:%=$(BUILD)/tests/unit/test_%): $(BUILD)/tests/unit/test_%: $(BUILD)/tests/unit/test_%.o \
		$(addprefix $(BUILD)/,$(IPC) runner/png_writer.o runner/metadata.o runner/result.o runner/resume.o)
	@echo "  LD    $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) -lcmocka -ljansson -lpng -lz -lpthread

$(BUILD)/tests/unit/test_session: $(BUILD)/tests/unit/peer.o $(BUILD)/zit-runner
$(BUILD)/tests/unit/test_cuda_runner: $(BUILD)/tests/unit/peer.o $(BUILD)/zit-runner $(BUILD)/emul/zit-runner $(if $(HAS_CUDA),$(BUILD)/zit-runner-cuda)
$(BUILD)/tests/unit/test_cuda_runner: $(BUILD)/emul/nvml/libnvidia-ml.so.1
$(BUILD)/tests/unit/test_fake_runner: $(BUILD)/tests/unit/peer.o $(BUILD)/tests/fake_runner

# What reads the sensors of the emulated device.
$(BUILD)/emul/nvml/libnvidia-ml.so.1: tests/emul/nvml.c
	@mkdir -p $(@D)
	$(Q)$(CC) -std=gnu11 -O2 -Wall -Wextra -shared -fPIC -o $@ $<

$(BUILD)/emul/zit-runner: $(addprefix $(BUILD)/,$(IPC) $(RUNNER_MODEL) $(RUNNER)) $(EMULATED)
	@echo "  LD    $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) $(LIBS_zit-runner) -lstdc++

# A runner without a model, for tests of zitd.
$(BUILD)/tests/fake_runner: $(addprefix $(BUILD)/,tests/system/fake_runner.o $(IPC) runner/result.o)
	@echo "  LD    $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) -ljansson

# A disk that is slow or fails, a kernel that interrupts, a clock that is set, for LD_PRELOAD.
PRELOADED := $(addprefix $(BUILD)/tests/faulty_,disk.so calls.so clock.so)

$(PRELOADED): $(BUILD)/tests/%.so: tests/system/%.c
	@mkdir -p $(@D)
	@echo "  LD    $@"
	$(Q)$(CC) -std=gnu11 -O2 -g $(WARN) -D_GNU_SOURCE -shared -fPIC -o $@ $< -ldl

check-runner: $(RUNNER_TESTS:%=$(BUILD)/tests/unit/test_%.run)

# Unit tests of the supervisor and of what all share: the program's objects without its main.
IPC_TESTS := err utf8 hash buf fsm proto channel json_text api shm fuzz
INPUT_TESTS := checkpoint tokenizer noise model_config
SUPERVISOR_TESTS := age_clock calendar conf devices job_row metrics queue fair fairness cost limits tables quarantine health group

$(IPC_TESTS:%=$(BUILD)/tests/unit/test_%): $(BUILD)/tests/unit/test_%: $(BUILD)/tests/unit/test_%.o $(addprefix $(BUILD)/,$(IPC))
	@echo "  LD    $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) -lcmocka -ljansson -lm

$(INPUT_TESTS:%=$(BUILD)/tests/unit/test_%): $(BUILD)/tests/unit/test_%: $(BUILD)/tests/unit/test_%.o \
		$(addprefix $(BUILD)/,$(IPC) $(RUNNER_MODEL) $(KERNELS))
	@echo "  LD    $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) -lcmocka $(LIBS_zit-runner)

$(BUILD)/tests/unit/test_checkpoint: $(BUILD)/runner/bus_error.o

$(SUPERVISOR_TESTS:%=$(BUILD)/tests/unit/test_%): $(BUILD)/tests/unit/test_%: $(BUILD)/tests/unit/test_%.o \
		$(addprefix $(BUILD)/,$(IPC) $(filter-out supervisor/main.o,$(SUPERVISOR)))
	@echo "  LD    $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) -lcmocka $(LIBS_zitd)

# The public socket alone, with what it stands on.
$(BUILD)/tests/unit/test_socket: $(addprefix $(BUILD)/,tests/unit/test_socket.o $(IPC) $(SOCKET) \
		$(addprefix supervisor/,fields.o handover.o journal.o journal_forms.o journal_table.o notify.o timer.o))
	@echo "  LD    $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) -lcmocka -lev -ljansson -lsystemd -lm

# The durable store alone: what it keeps, and what it does when bits flip, the power goes, or the disk fails.
STORE_TESTS := store store_faults store_versions

$(STORE_TESTS:%=$(BUILD)/tests/unit/test_%): $(BUILD)/tests/unit/test_%: $(BUILD)/tests/unit/test_%.o \
		$(addprefix $(BUILD)/,$(IPC) $(STORE) $(addprefix tests/unit/store_,samples.o history.o files.o vfs.o))
	@echo "  LD    $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) -lcmocka -ljansson -lsqlite3 -lm

# The daemon in a world that the test plays: it has its own libev, channel, disk, log, and all that faces outwards.
WORLD_OWN := $(SOCKET) $(METHODS) $(filter-out %/seal.o,$(STORE)) ipc/log.o ipc/channel.o \
	$(addprefix supervisor/runners/,runner_log.o spawn.o device_lock.o cgroup.o strays.o) \
	$(addprefix supervisor/,main.o disk.o notify.o paths.o upgrade.o upgrade_trial.o journal.o journal_forms.o journal_table.o)
WORLD_WRAPPED := close fcntl fstat fopen kill waitpid shm_create shm_watch shm_detach shm_create_checkpoint shm_clear_checkpoint fsm_event fsm_clock daemon_remember

WORLD := $(patsubst %.c,%.o,$(sort $(wildcard tests/world/*.c)))

$(BUILD)/tests/world/test_world: $(addprefix $(BUILD)/,$(WORLD) $(filter-out $(WORLD_OWN),$(IPC) $(SUPERVISOR)))
	@echo "  LD    $@"
	$(Q)$(CC) $(ALL_LDFLAGS) $(WORLD_WRAPPED:%=-Wl,--wrap=%) -o $@ $(filter %.o,$^) -lcmocka $(filter-out -lev,$(LIBS_zitd))

UNIT_TESTS := $(patsubst %,$(BUILD)/tests/unit/test_%,$(IPC_TESTS) $(INPUT_TESTS) $(SUPERVISOR_TESTS) socket $(STORE_TESTS)) $(BUILD)/tests/world/test_world

check-unit: $(UNIT_TESTS:%=%.run)

# Every operation of ops.h on its list of shapes, cpu against ref, and cuda on the emulated device against ref.
EMUL_TESTS := $(addprefix $(BUILD)/emul/test_,emul hopper undefined gemm)
KERNEL_TESTS := $(BUILD)/tests/kernels/test_ops $(EMUL_TESTS) $(BUILD)/emul/test_cuda $(if $(SAN),,$(BUILD)/emul/bench_gpu)

$(BUILD)/tests/kernels/test_ops: $(addprefix $(BUILD)/,tests/kernels/test_ops.o tests/kernels/operations.o $(KERNELS))
	@echo "  LD    $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) -lcmocka -ldnnl -lgomp -lm

$(BUILD)/emul/test_cuda: $(addprefix $(BUILD)/,tests/kernels/test_cuda.o tests/kernels/conv_forms.o tests/kernels/operations.o) $(EMULATED)
	@echo "  LD    $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) -lcmocka -ldnnl -lgomp -lm -lstdc++

$(EMUL_TESTS): $(BUILD)/emul/%: $(BUILD)/emul/tests/emul/%.o $(EMULATED)
	@echo "  LD    $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) -lcmocka -ldnnl -lgomp -lm -lstdc++

# EMUL_SEED: the order in which threads run; one in each kind of build.
CUDA_ORDER := $(BUILD)/emul/test_cuda.seed-$(if $(SAN),2,1)

check-kernels: $(BUILD)/tests/kernels/test_ops.run $(EMUL_TESTS:%=%.run) $(CUDA_ORDER) $(if $(SAN),,check-bench-gpu)

$(CUDA_ORDER): $(BUILD)/emul/test_cuda.seed-%: $(BUILD)/emul/test_cuda
	@echo "  TEST  $< with EMUL_SEED=$*"
	$(Q)EMUL_SEED=$* OMP_WAIT_POLICY=passive $<

check-bench-gpu: $(BUILD)/emul/bench_gpu
	$(Q)OMP_WAIT_POLICY=passive $< --small --rounds 1 --only vae-32 >/dev/null

# That the program of gpu-service works: the tiny model, on the processor.
check-gpu-service: all $(GOLDEN)/.done
	$(Q)ZIT_BUILD_DIR=$(abspath $(BUILD)) $(PYTHON) tests/bench/bench_full_size.py --runner $(BUILD)/zit-runner --device cpu --small --pictures 2 >/dev/null

# The real zitd with the real runner and with the fake one, faults from outside, the auditor after each.
check-system: all $(BUILD)/tests/fake_runner $(PRELOADED) $(GOLDEN)/.done
	$(Q)ZIT_BUILD_DIR=$(abspath $(BUILD)) /usr/bin/python3 -m pytest -q -n 3 -p no:cacheprovider tests/system

# Mixed load under random faults; how long, and what is drawn.
SECONDS ?= $(if $(SAN),20,40)
SEED ?= 1

chaos: all $(GOLDEN)/.done
	$(Q)ZIT_BUILD_DIR=$(abspath $(BUILD)) /usr/bin/python3 tests/system/chaos.py --seconds $(SECONDS) --seed $(SEED)

# zitd killed under load, N times; make check has a short one.
N ?= 300

crash: all $(BUILD)/tests/fake_runner
	$(Q)ZIT_BUILD_DIR=$(abspath $(BUILD)) /usr/bin/python3 tests/system/crash.py --kills $(N) --seed $(SEED)

check-crash: all $(BUILD)/tests/fake_runner
	$(Q)ZIT_BUILD_DIR=$(abspath $(BUILD)) /usr/bin/python3 tests/system/crash.py --kills $(if $(SAN),15,40) --seed $(SEED)

# zitd upgraded every 200 ms under load; how often. make check has a short one.
upgrade-loop: all $(BUILD)/tests/fake_runner
	$(Q)ZIT_BUILD_DIR=$(abspath $(BUILD)) /usr/bin/python3 tests/system/upgrade_loop.py --upgrades $(or $(N),200) --seed $(SEED)

check-upgrade: all $(BUILD)/tests/fake_runner
	$(Q)ZIT_BUILD_DIR=$(abspath $(BUILD)) /usr/bin/python3 tests/system/upgrade_loop.py --upgrades 20 --seed $(SEED)

# All that the checks run, so that it can be built in parallel before them.
programs: all man golden $(UNIT_TESTS) $(RUNNER_TESTS:%=$(BUILD)/tests/unit/test_%) $(CHECKED_MODEL_TESTS) \
	$(KERNEL_TESTS) $(BUILD)/tests/fake_runner $(PRELOADED) gpu-programs

# ---- on a card. Without one, or without nvcc, these say so. scripts/gpu-check runs all of them and ends with a table.
# PACKED=1: the programs came from another machine (make gpu-pack), and are not made here.

GPU_PROGRAMS := $(if $(HAS_CUDA),$(addprefix $(BUILD)/,zit-runner-cuda cuda/test_cuda cuda/test_stages cuda/test_decode cuda/test_golden cuda/test_model \
	cuda/test_reference cuda/bench_gpu cuda/faulty tests/gpu/test_faults))
WITH_DEVICE := scripts/with-device $(BUILD)/zit-runner-cuda
SANITIZER = $(firstword $(shell command -v compute-sanitizer) $(wildcard $(CUDA_HOME)/bin/compute-sanitizer))

GPU_NEEDS := $(if $(PACKED),,$(GPU_PROGRAMS) $(addprefix $(BUILD)/,zitd zitctl tests/fake_runner tests/bench/bench_png))

gpu-programs: $(GPU_PROGRAMS)

gpu-needs: $(GPU_NEEDS) golden

gpu-pack: $(GPU_NEEDS)
	$(Q)scripts/gpu-pack $(BUILD)/gpu-pack.tar.xz $^

$(BUILD)/cuda/test_cuda: $(addprefix $(BUILD)/,tests/kernels/test_cuda.o tests/kernels/conv_forms.o tests/kernels/operations.o) $(FOR_CARDS)
	@echo "  LD    $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) -lcmocka $(LIBS_zit-runner-cuda)

$(BUILD)/cuda/faulty: $(BUILD)/cuda/tests/gpu/faulty.o $(FOR_CARDS)
	@echo "  LD    $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) $(LIBS_zit-runner-cuda)

$(BUILD)/tests/gpu/test_faults: $(addprefix $(BUILD)/,tests/gpu/test_faults.o tests/unit/peer.o $(IPC))
	@echo "  LD    $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) -lcmocka -ljansson

gpu-operations: gpu-needs
	$(Q)$(WITH_DEVICE) $(BUILD)/cuda/test_cuda

gpu-stages: gpu-needs
	$(Q)$(WITH_DEVICE) $(BUILD)/cuda/test_stages
	$(Q)$(WITH_DEVICE) $(BUILD)/cuda/test_decode

gpu-pictures: gpu-needs
	$(Q)$(WITH_DEVICE) $(BUILD)/cuda/test_golden && $(WITH_DEVICE) $(BUILD)/cuda/test_model

gpu-reference: gpu-needs
	$(Q)$(WITH_DEVICE) $(BUILD)/cuda/test_reference

gpu-faults: gpu-needs
	$(Q)$(WITH_DEVICE) $(BUILD)/tests/gpu/test_faults

# A job in a kernel without an end, and zitd.
gpu-timeout: gpu-needs
	$(Q)ZIT_BUILD_DIR=$(abspath $(BUILD)) $(WITH_DEVICE) $(PYTHON) -m pytest -q -p no:cacheprovider tests/gpu

# The real zitd and runner, the demo model: the device's rest between jobs, its memory after READY.
gpu-jobs: gpu-needs
	$(Q)ZIT_BUILD_DIR=$(abspath $(BUILD)) $(WITH_DEVICE) $(PYTHON) tests/bench/bench_jobs.py --runner $(BUILD)/zit-runner-cuda --device cuda:0

# The same with a checkpoint as large as the real one: what a client waits for, a start, a kill.
gpu-service: gpu-needs
	$(Q)ZIT_BUILD_DIR=$(abspath $(BUILD)) $(WITH_DEVICE) $(PYTHON) tests/bench/bench_full_size.py --runner $(BUILD)/zit-runner-cuda

gpu-memcheck: gpu-needs
	$(Q)$(if $(SANITIZER),$(WITH_DEVICE) $(SANITIZER) --tool memcheck --error-exitcode 1 $(BUILD)/cuda/test_cuda, \
		echo "skipped: compute-sanitizer is not installed"; exit 77)

gpu-racecheck: gpu-needs
	$(Q)$(if $(SANITIZER),$(WITH_DEVICE) scripts/racecheck $(SANITIZER) $(BUILD)/cuda/test_cuda, \
		echo "skipped: compute-sanitizer is not installed"; exit 77)

GPU_PARTS := gpu-operations gpu-stages gpu-pictures gpu-reference gpu-faults gpu-timeout gpu-memcheck gpu-racecheck

check-gpu: gpu-needs
	$(Q)$(WITH_DEVICE) $(MAKE) --no-print-directory -k $(GPU_PARTS) || [ $$? -eq 77 ]

bench-gpu: gpu-needs
	$(Q)$(WITH_DEVICE) $(BUILD)/cuda/bench_gpu --cache $(BUILD) || [ $$? -eq 77 ]

check-layers: $(BUILD)/zitd $(BUILD)/zitctl
	$(Q)scripts/layers $<

# Every file that begins as a shell's script does.
SCRIPTS = $(shell git ls-files -z --cached --others --exclude-standard | xargs -0 grep -lE '^\#!.*[/ ](ba|da)?sh$$')

check-scripts:
	$(Q)shellcheck scripts/setup scripts/demo scripts/test scripts/layers scripts/gpu-check scripts/gpu-pack scripts/gpu-unpack scripts/racecheck scripts/with-device scripts/bench-peers tests/spin/run .ci/run

# The protocol of job, runner and zitd as a model, all of its states; no code of ours runs in it, so once is enough.
check-spin:
	$(Q)$(if $(SAN),echo "  SKIP  tests/spin: it has no code to sanitize",tests/spin/run)

# Units that systemd understands, and how much they leave open: at most 1.0 of 10. Once is enough.
UNITS := $(BUILD)/units/zitd.service $(BUILD)/units/zitd.socket

$(UNITS): $(BUILD)/units/%: conf/%
	@mkdir -p $(@D)
	$(Q)sed 's,/usr/bin/,$(abspath $(BUILD))/,g' $< >$@

check-units: all $(UNITS)
	$(Q)systemd-analyze verify --man=no $(UNITS)
	$(Q)systemd-analyze security --offline=yes --no-pager --threshold=10 $(BUILD)/units/zitd.service >$(BUILD)/units/security || \
		{ cat $(BUILD)/units/security; exit 1; }
	@tail -n 1 $(BUILD)/units/security

# Parts need nothing of each other and no quiet machine; the whole has clocks in it, and is checked a thing at a time.
# The longest first: two at a time are done soonest so.
LONGEST := $(addprefix $(BUILD)/,tests/unit/test_cuda_runner.run $(if $(SAN),,emul/test_golden.run) tests/world/test_world.run \
	$(CUDA_ORDER:$(BUILD)/%=%) tests/model/test_model.run tests/unit/test_store_faults.run)

check-parts: $(LONGEST) check-model check-unit check-deb check-kernels check-runner check-spin check-units check-man check-scripts check-layers
check-whole: check-system $(if $(SAN),,check-gpu-service) check-systemd check-crash check-upgrade chaos
check: check-parts check-whole

# ---- manual pages: their lists come from the .def rows

MAN := zitctl.1 zit-sim.1 zitd.8 zit-runner.8 zitd.conf.5 zit-api.7 zit-protocol.7 zit-log.7

$(BUILD)/def-tables: $(addprefix $(BUILD)/,man/def-tables.o man/def-api.o man/def-protocol.o man/def-events.o supervisor/conf_rows.o supervisor/runners/devices.o supervisor/scheduling/gate.o ipc/err.o ipc/utf8.o ipc/log.o ipc/clock.o)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) -ljansson -lm

$(MAN:%=$(BUILD)/man/%): $(BUILD)/man/%: man/%.in $(BUILD)/def-tables
	@mkdir -p $(@D)
	$(Q)$(BUILD)/def-tables $< > $@

# What journalctl -x says of each kind of event.
CATALOGS := zitd.catalog zitd.zh_CN.catalog

$(CATALOGS:%=$(BUILD)/conf/%): $(BUILD)/conf/%: conf/%.in $(BUILD)/def-tables
	@mkdir -p $(@D)
	$(Q)$(BUILD)/def-tables $< > $@

man: $(MAN:%=$(BUILD)/man/%) $(CATALOGS:%=$(BUILD)/conf/%)
all: man

check-man: man
	$(Q)mandoc -Tlint -W warning $(MAN:%=$(BUILD)/man/%)

# ---- figures, as ratios where they can be

bench: bench-pipeline bench-png bench-checkpoint bench-service bench-respawn bench-preempt bench-queue bench-durable bench-systemd

# zitd beside supervisord (Debian package supervisor), in one run.
bench-respawn: all $(BUILD)/tests/fake_runner $(BUILD)/tests/bench/stamp
	$(Q)ZIT_BUILD_DIR=$(abspath $(BUILD)) /usr/bin/python3 tests/bench/bench_respawn.py

# zitd beside Redis (Debian package redis-server), in one run.
bench-durable: all $(addprefix $(BUILD)/tests/,fake_runner faulty_disk.so bench/pump bench/durable_floor)
	$(Q)ZIT_BUILD_DIR=$(abspath $(BUILD)) /usr/bin/python3 tests/bench/bench_durable.py

$(BUILD)/tests/bench/pump: $(BUILD)/tests/bench/pump.o
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^

$(BUILD)/tests/bench/stamp: $(BUILD)/tests/bench/stamp.o
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^

# zitd's queue beside beanstalkd (Debian package beanstalkd), the same client program, rounds in turn.
bench-queue: all $(addprefix $(BUILD)/tests/,fake_runner bench/queue_client bench/queue_floor bench/bench_turns)
	$(Q)ZIT_BUILD_DIR=$(abspath $(BUILD)) /usr/bin/python3 tests/bench/bench_queue.py

$(BUILD)/tests/bench/queue_client: %: %.o
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^

$(BUILD)/tests/bench/queue_floor $(BUILD)/tests/bench/durable_floor: %: %.o $(BUILD)/tests/bench/floor.o
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ -lsqlite3 -lpthread

$(BUILD)/tests/bench/bench_turns: $(addprefix $(BUILD)/,tests/bench/bench_turns.o supervisor/scheduling/fair.o supervisor/scheduling/fair_clients.o supervisor/scheduling/fair_copy.o supervisor/scheduling/plan.o)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ -lm

bench-service: all $(BUILD)/tests/fake_runner
	$(Q)/usr/bin/python3 tests/bench/bench_service.py

# zitd at rest, and its commands, beside supervisord.
bench-systemd: all $(BUILD)/tests/fake_runner
	$(Q)ZIT_BUILD_DIR=$(abspath $(BUILD)) /usr/bin/python3 tests/bench/bench_systemd.py

# How long a high job waits for a low one's step, or for its end.
bench-preempt: all
	$(Q)ZIT_BUILD_DIR=$(abspath $(BUILD)) /usr/bin/python3 tests/bench/bench_preempt.py

# ---- installing: the one place that says what goes where; the Debian package is made of it

SHARE  := $(DESTDIR)$(PREFIX)/share
UNITDIR ?= $(PREFIX)/lib/systemd/system
# Files that name /usr are told of another PREFIX. $(call put,FILE,FOLDER)
put = sed 's,/usr/,$(PREFIX)/,g' $(1) | install -D -m 644 /dev/stdin $(2)/$(notdir $(1))
DEMO := $(patsubst conf/demo/model/%,%,$(shell find conf/demo/model -type f ! -path '*/training/*'))

COMPLETIONS := bash-completion/completions zsh/vendor-completions fish/vendor_completions.d

install: all
	install -D -m 755 -t $(DESTDIR)$(PREFIX)/bin $(PROGRAMS:%=$(BUILD)/%)
	set -e; for page in $(MAN); do install -D -m 644 -t $(SHARE)/man/man$${page##*.} $(BUILD)/man/$$page; done
	set -e; for file in $(DEMO); do install -D -m 644 conf/demo/model/$$file $(SHARE)/zit/demo/$$file; done
	install -D -m 644 -t $(SHARE)/doc/zit README.md
	$(call put,conf/zitd.service,$(DESTDIR)$(UNITDIR))
	$(call put,conf/zitd.socket,$(DESTDIR)$(UNITDIR))
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/systemd/catalog $(CATALOGS:%=$(BUILD)/conf/%)
	install -D -m 644 conf/sysusers.conf $(DESTDIR)$(PREFIX)/lib/sysusers.d/zit.conf
	install -D -m 644 conf/tmpfiles.conf $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/zit.conf
	install -d $(COMPLETIONS:%=$(SHARE)/%)
	$(BUILD)/zitctl completion bash >$(SHARE)/bash-completion/completions/zitctl
	$(BUILD)/zitctl completion zsh >$(SHARE)/zsh/vendor-completions/_zitctl
	$(BUILD)/zitctl completion fish >$(SHARE)/fish/vendor_completions.d/zitctl.fish
	install -d $(DESTDIR)/etc/zit/conf.d
	test -e $(DESTDIR)/etc/zit/zitd.conf || $(call put,conf/zitd.conf,$(DESTDIR)/etc/zit)

# ---- the Debian package: build/zit_*.deb, made of the files that git knows, with conf/debian/ as debian/

DEB := build/zit_$(VERSION)_amd64.deb
DEB_TREE := build/deb/zit-$(VERSION)
DEB_FILES := $(shell git ls-files --cached --others --exclude-standard 2>/dev/null | grep -v '^tests/')

$(DEB): $(DEB_FILES)
	@echo "  DEB   $@"
	$(Q)test "$$(dpkg-parsechangelog -l conf/debian/changelog -S Version)" = "$(VERSION)" || \
		{ echo "conf/debian/changelog is not of version $(VERSION)" >&2; exit 1; }
	$(Q)rm -rf build/deb build/zit_*.deb && mkdir -p $(DEB_TREE)
	$(Q)cp --parents -t $(DEB_TREE) $(DEB_FILES) && cp -r conf/debian $(DEB_TREE)/debian
	$(Q)cd $(DEB_TREE) && env -u MAKEFLAGS -u SAN dpkg-buildpackage -b -us -uc >../build.log 2>&1 || { tail -n 30 ../build.log >&2; exit 1; }
	$(Q)mv build/deb/$(@F) $@

deb: $(DEB)

check-deb:
	$(Q)$(if $(SAN),echo "  SKIP  the Debian package: it is not made with sanitizers",$(MAKE) --no-print-directory lint-deb)

lint-deb: $(DEB)
	$(Q)lintian --fail-on error$(comma)warning $<

# The package in a copy of this machine with a systemd of its own.
check-systemd:
	$(Q)$(if $(SAN),echo "  SKIP  scripts/test-systemd: the package is not made with sanitizers",scripts/test-systemd)

clean:
	rm -rf build build-san

-include $(shell find $(BUILD) -path $(BUILD)/deb -prune -o -name '*.d' -type f -print 2>/dev/null)

.PHONY: check-gpu bench-gpu bench-png gpu-jobs gpu-service gpu-programs gpu-needs gpu-pack $(GPU_PARTS) programs chaos all man golden clean install bench bench-pipeline bench-checkpoint bench-service bench-respawn \
	bench-preempt bench-queue check check-parts check-whole check-bench-gpu check-gpu-service check-unit check-kernels check-model check-runner check-system check-layers check-scripts \
	check-man check-spin crash check-crash bench-durable upgrade-loop check-upgrade deb check-deb lint-deb check-units check-systemd bench-systemd
