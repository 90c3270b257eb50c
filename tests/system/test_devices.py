"""
One runner for each CUDA device. Which there are is told by a program put in the runner's place: what it prints for
--probe is the test's, else it is fake_runner. It notes how it was called.
"""
import json
import re
import time

import pytest

from harness import BUILD, SLACK_S, until

A, B, C = (f"GPU-{letter * 8}-0000-0000-0000-000000000000" for letter in "abc")
PROGRAM = """#!/bin/sh
if [ "$1" = --probe ]; then
    echo asked >>{dir}/asked
    . {dir}/probe
fi
echo "$CUDA_VISIBLE_DEVICES $*" >>{dir}/started
[ "$CUDA_VISIBLE_DEVICES" != "$(cat {dir}/broken)" ] || exit 77
case "$*" in *'--device cuda '*) exit 77;; esac
exec {fake} "$@"
"""


def gpu(uuid, **more):
    return {"uuid": uuid, "name": "H100", "memory_bytes": 80 << 30, "compute_capability": "9.0", **more}


def says(*devices, reason=None, status=0):
    answer = {"devices": [gpu(d) if isinstance(d, str) else d for d in devices]}
    if reason:
        answer["reason"] = reason
    return f"echo '{json.dumps(answer)}'; exit {status}\n"


NONE = says(reason="no driver", status=77)


@pytest.fixture
def machine(tmp_path, zitd):
    """machine(probe, sections) starts a zitd whose runners' program says so; .probe(text) says otherwise from then on."""
    def start(probe, script="step 0.01", broken="nothing", ready=False, device="auto", audited=True, **sections):
        (tmp_path / "probe").write_text(probe)
        (tmp_path / "broken").write_text(broken)
        program = tmp_path / "runner"
        program.write_text(PROGRAM.format(dir=tmp_path, fake=BUILD / "tests" / "fake_runner"))
        program.chmod(0o755)
        runner = {"command": program, "device": device, **sections.pop("runner", {})}
        daemon = zitd(script, ready=ready, runner=runner, audited=audited, **sections)
        daemon.probe = (tmp_path / "probe").write_text
        daemon.notes = lambda name: (tmp_path / name).read_text().splitlines() if (tmp_path / name).exists() else []
        until(lambda: answers(daemon) and daemon.status()["devices"]["state"] != "asking", what="an answer")
        return daemon
    return start


def answers(daemon):
    try:
        return daemon.status()
    except (OSError, EOFError):
        return None


def settled(daemon):
    """Runners by name, none on its way anywhere."""
    def look():
        runners = daemon.status()["runners"]
        return all(r["state"] in ("idle", "busy", "failed", "stopped") for r in runners) and runners
    return {r["name"]: r for r in until(look, what="runners at rest")}


def have(daemon):
    """{runner: the device of its process, "failed" or "stopped"}, as the processes were told."""
    told, runners = {}, settled(daemon)
    for line in daemon.notes("started"):
        visible, words = line.split(" ", 1)
        words = words.split()
        option = words[words.index("--device") + 1]
        told[words[words.index("--name") + 1]] = visible if visible and option == "cuda:0" else option
    return {name: told[name] if r["state"] in ("idle", "busy") else r["state"] for name, r in runners.items()}


CASES = {
    "each device has a runner": (says(A, B), {}, {"0": A, "1": B}, ""),
    "cuda likewise": (says(A, B), {"device": "cuda"}, {"0": A, "1": B}, ""),
    "libraries may speak first": ("echo hello >&2\n" + says(A), {}, {"0": A}, ""),
    "none: the CPU": (NONE, {}, {"0": "cpu"}, "no driver"),
    "none, and the CPU is not wanted": (NONE, {"device": "cuda"}, {"0": "failed"}, "no driver"),
    "one that cannot be used": (says(gpu(A, reason="too old"), B), {}, {"0": B}, ""),
    "none that can be used": (says(gpu(A, reason="too old"), status=77), {}, {"0": "cpu"}, "too old"),
    "named by its index": (says(A, B), {"device": "cuda:1"}, {"0": B}, ""),
    "named by its uuid": (says(A, B), {"device": B}, {"0": B}, ""),
    "named and not there": (says(A), {"device": "cuda:7"}, {"0": "cuda:7"}, ""),
    "garbage": ("echo 5; exit 0\n", {}, {"0": "cpu"}, "is no JSON: 5"),
    "a named device needs no answer": ("exit 1\n", {"device": "cuda:1"}, {"0": "cuda:1"}, "exit status 1"),
    "too much": ("yes\n", {}, {"0": "cpu"}, "does not stop printing"),
    "a crash": ("kill -SEGV $$\n", {}, {"0": "cpu"}, "signal 11"),
    "a hang": ("exec sleep 1000\n", {"zitd": {"probe_timeout": 0.3}}, {"0": "cpu"}, "no answer within 0.3 s"),
    "a child that holds its output": ("sleep 1000 &\n" + says(A), {}, {"0": A}, ""),
    "a section is one runner": (says(A, B), {"runner:x": {}}, {"x": A}, ""),
    "sections share": (says(A, B, C), {"runner:x": {}, "runner:y": {"device": A}, "runner:z": {"device": "cpu"}},
                       {"x": B, "y": A, "z": "cpu"}, ""),
    "one section too many": (says(A), {"runner:x": {}, "runner:y": {"device": "cuda"}, "runner:z": {}},
                             {"x": A, "y": "failed", "z": "cpu"}, ""),
}


@pytest.mark.parametrize("case", CASES)
def test_who_has_which(machine, case):
    probe, sections, expected, reason = CASES[case]
    daemon = machine(probe, **sections)
    assert have(daemon) == expected
    devices = daemon.status()["devices"]
    assert reason in devices.get("reason", "") and bool(reason) == ("reason" in devices), devices
    for name, uuid in expected.items():
        runner = settled(daemon)[name]
        assert runner.get("gpu", {}).get("uuid") == (uuid if uuid in (A, B, C) else None), runner
    if reason:
        status, doctor = daemon.ctl("status").stdout, daemon.ctl("doctor").stdout
        assert reason in status and reason in doctor and reason in daemon.log()


def test_absurdly_many(machine):
    """64 runners, and no more; they are not started here."""
    daemon = machine(says(*(f"GPU-{i:08x}" for i in range(80))), runner={"autostart": "false"}, audited=False)
    runners = daemon.status()["runners"]
    assert [r["name"] for r in runners] == [str(i) for i in range(64)]
    assert "64 of 80 CUDA devices" in daemon.log()


def test_zitd_serves_while_the_driver_hangs(machine):
    """The probe is on its way for ever: questions are answered, jobs accepted, and a stop does not wait for it."""
    daemon = machine("exec sleep 1000\n", zitd={"probe_timeout": 0.2}, audited=False)
    daemon.sections["zitd"]["probe_timeout"] = 600
    daemon.write_config()
    daemon.call("reload")
    begin = time.monotonic()
    assert daemon.status()["devices"]["state"] == "asking"
    assert daemon.generate("a cat")["state"] == "done"
    daemon.stop()
    assert time.monotonic() - begin < SLACK_S
    until(lambda: not daemon.processes(), what="the end of all processes")


def test_both_work_and_one_may_fail(machine):
    """Two jobs at a time; a device that fails takes nothing but itself away."""
    daemon = machine(says(A, B), "step 0.2")
    settled(daemon)
    jobs = [daemon.submit("a cat", steps=4) for _ in range(2)]
    until(lambda: len({r.get("job") for r in daemon.status()["runners"]} - {None}) == 2, what="both busy")
    assert all(daemon.wait(job)["state"] == "done" for job in jobs)
    assert daemon.status()["state"] == "ready"


def test_one_of_two_fails(machine):
    daemon = machine(says(A, B), broken=B)
    assert have(daemon) == {"0": A, "1": "failed"}
    runners, status = settled(daemon), daemon.status()
    assert runners["1"]["exit_status"] == 77 and status["state"] == "degraded"
    assert all(daemon.generate("a cat")["state"] == "done" for _ in range(3))
    assert "there is no such device as it shall use" in daemon.ctl("status").stdout


def test_one_device_is_one_runners(machine):
    """Two sections that name the same device: its lock lets one of them have it."""
    daemon = machine(says(A, B), zitd={"orphans": "kill"}, **{"runner:x": {"device": "cuda:0"}, "runner:y": {"device": A}})
    runners = settled(daemon)
    states = {r["state"]: r for r in runners.values()}
    assert sorted(states) == ["failed", "idle"], runners
    assert f"runner {states['idle']['name']} has its device already" in states["failed"]["last_error"]
    assert states["idle"]["generation"] == 1 and daemon.generate()["state"] == "done"


def test_reload_finds_more(machine):
    """A new device gets a runner, and those that are there do not notice."""
    daemon = machine(says(A))
    before = settled(daemon)["0"]["pid"]
    daemon.probe(says(C, A, B))
    daemon.call("reload")
    until(lambda: len(daemon.status()["runners"]) == 3, what="three runners")
    assert have(daemon) == {"0": A, "1": C, "2": B}
    assert settled(daemon)["0"]["pid"] == before


def test_reload_finds_fewer_and_then_all_again(machine):
    """The runner of a device that is gone finishes its job, then rests; when it is back, that runner goes on."""
    daemon = machine(says(A, B), "step 0.1")
    settled(daemon)
    jobs = [daemon.submit("a cat", steps=10) for _ in range(2)]
    until(lambda: all(r["state"] == "busy" for r in daemon.status()["runners"]), what="both busy")
    daemon.probe(says(A))
    daemon.call("reload")
    until(lambda: "takes no more jobs" in daemon.log(), what="told")
    assert daemon.runner(1)["state"] == "busy"
    assert all(daemon.wait(job)["attempts"] == 1 for job in jobs)
    until(lambda: daemon.runner(1)["state"] == "stopped", what="its end")
    assert B in daemon.runner(1)["last_error"] and daemon.generate("a cat")["state"] == "done"
    daemon.probe(says(B, A))
    daemon.call("reload")
    until(lambda: daemon.runner(1)["state"] == "idle", what="its return")
    assert have(daemon) == {"0": A, "1": B}


def test_the_first_ones_device_goes(machine):
    """Runner 0 stays: on the CPU, until there is a device again; a job of its is not cut off."""
    daemon = machine(says(A), "step 0.1")
    settled(daemon)
    job = daemon.submit("a cat", steps=8)
    daemon.wait_state(job, "running")
    daemon.probe(NONE)
    daemon.call("reload")
    assert daemon.wait(job)["attempts"] == 1
    until(lambda: daemon.notes("started")[-1].split("--device ")[1].startswith("cpu"), what="the CPU")
    assert have(daemon) == {"0": "cpu"}
    daemon.probe(says(B))
    daemon.call("reload")
    until(lambda: daemon.notes("started")[-1].startswith(B), what="the new device")
    assert have(daemon) == {"0": B}


def test_no_answer_is_no_news(machine):
    daemon = machine(says(A, B), zitd={"probe_timeout": 0.3})
    before = {name: r["pid"] for name, r in settled(daemon).items()}
    daemon.probe("exec sleep 1000\n")
    daemon.call("reload")
    until(lambda: daemon.status()["devices"]["state"] == "unknown", what="the end of the probe")
    assert {name: r["pid"] for name, r in settled(daemon).items()} == before
    assert have(daemon) == {"0": A, "1": B}


def test_no_answer_brings_nothing_back(machine):
    """What rests since its device has gone still does."""
    daemon = machine(says(A, B), zitd={"probe_timeout": 0.3}, audited=False)
    settled(daemon)
    for probe, state in ((says(A), "known"), ("exec sleep 1000\n", "unknown")):
        daemon.probe(probe)
        daemon.call("reload")
        until(lambda: daemon.status()["devices"]["state"] == state, what="the end of the probe")
        assert have(daemon) == {"0": A, "1": "stopped"}


def test_reload_to_the_cpu(machine):
    """Further runners go; the first one keeps its process until it is restarted, as with all its options."""
    daemon = machine(says(A, B))
    settled(daemon)
    daemon.sections["runner"]["device"] = "cpu"
    daemon.write_config()
    answer = daemon.call("reload")
    assert answer["restart_runners"] == ["0", "1"]
    assert daemon.runner(0)["state"] == "idle"
    until(lambda: daemon.runner(1)["state"] == "stopped", what="the end of the second")
    daemon.call("restart", runner="0")
    until(lambda: daemon.notes("started")[-1].split("--device ")[1].startswith("cpu"), what="the CPU")
    daemon.sections["runner"]["device"] = "auto"
    daemon.write_config()
    daemon.call("reload")
    until(lambda: daemon.runner(1)["state"] == "idle", what="the return of the second")
    assert have(daemon) == {"0": "cpu", "1": B}


def test_a_cured_driver(machine):
    """device = cuda without a driver: failed for good; a reload after the cure starts all there are."""
    daemon = machine(NONE, device="cuda")
    assert have(daemon) == {"0": "failed"}
    daemon.probe(says(A, B))
    daemon.call("reload")
    until(lambda: len(daemon.status()["runners"]) == 2 and daemon.status()["state"] == "ready", what="both ready")
    assert have(daemon) == {"0": A, "1": B}


def test_upgrade_keeps_them(machine):
    """The same processes on the same devices, and nobody is asked again; a later death does not change that."""
    daemon = machine(says(A, B))
    before = settled(daemon)
    asked = len(daemon.notes("asked"))
    daemon.call("upgrade")
    after = settled(daemon)
    assert [(r["pid"], r["gpu"]) for r in after.values()] == [(r["pid"], r["gpu"]) for r in before.values()]
    assert len(daemon.notes("asked")) == asked
    daemon.call("restart")
    until(lambda: all(r["generation"] == 2 and r["state"] == "idle" for r in daemon.status()["runners"]), what="fresh processes")
    assert have(daemon) == {"0": A, "1": B}


def test_upgrade_while_asking(machine):
    """The answer is the new zitd's."""
    daemon = machine("exec sleep 1000\n", zitd={"probe_timeout": 0.2})
    daemon.sections["zitd"]["probe_timeout"] = 600
    daemon.sections["runner"]["device"] = "cuda"
    daemon.write_config()
    daemon.call("reload")
    until(lambda: daemon.status()["devices"]["state"] == "asking", what="the probe")
    daemon.call("restart")
    until(lambda: daemon.runner()["state"] == "backoff", what="the wait")
    daemon.probe(says(A, B))
    daemon.call("upgrade")
    until(lambda: len(daemon.status()["runners"]) == 2 and daemon.status()["state"] == "ready", what="both ready")
    assert have(daemon) == {"0": A, "1": B}


def test_costs_survive_a_restart(machine):
    """What jobs cost is known by the runner's name, also of one that is made later than the note is read."""
    daemon = machine(says(A, B))
    settled(daemon)
    for _ in range(12):
        jobs = [daemon.submit("a cat", steps=2) for _ in range(2)]
        assert all(daemon.wait(job)["state"] == "done" for job in jobs)
    samples = {r["name"]: r["cost"]["samples"] for r in daemon.status()["runners"]}
    assert samples["1"] > 0
    daemon.stop()
    daemon.start(ready=False)
    until(lambda: answers(daemon) and len(daemon.status()["runners"]) == 2, what="both")
    assert {r["name"]: r["cost"]["samples"] for r in daemon.status()["runners"]} == samples


@pytest.mark.parametrize("key, option, other", [("kernels", "--kernels", "portable"), ("text_encoder", "--text-encoder", "streamed")])
def test_words_for_the_runner(machine, key, option, other):
    """The word that the section has is the one that a runner's process is started with; a fresh one takes over another."""
    daemon = machine(says(A), runner={key: other})
    settled(daemon)
    assert f"{option} {other}" in daemon.notes("started")[-1]
    daemon.sections["runner"][key] = "auto"
    daemon.write_config()
    assert daemon.call("reload")["restart_runners"] == ["0"]
    daemon.call("restart", runner="0")
    until(lambda: f"{option} auto" in daemon.notes("started")[-1], what="a fresh process")


def test_no_such_word(machine):
    """A typing error is told with what may be there."""
    daemon = machine(says(A))
    daemon.sections["runner"]["device"] = "cdua:0"
    daemon.write_config()
    check = daemon.ctl("config", "check", daemon.config)
    assert check.returncode != 0 and "device must be auto, cuda, cuda:N, GPU-UUID, MIG-UUID, cpu or ref" in check.stdout + check.stderr


@pytest.mark.parametrize("program, environment, uuids, reason", [
    ("emul/zit-runner", "EMUL_DEVICES=2", ["GPU-00112233-4455-6677-8899-aabbccddee00", "GPU-00112233-4455-6677-8899-aabbccddee01"], ""),
    ("emul/zit-runner", "EMUL_DEVICES=0", [None], "no device is visible"),
    ("emul/zit-runner", "EMUL_MAJOR=7", [None], "too old"),
    ("zit-runner", "A=1", [None], "no devices of backend 'cuda'"),
])
def test_what_the_real_runner_says(zitd, program, environment, uuids, reason):
    """zitd understands --probe of the runner itself, which has the runner's environment; nothing is started."""
    if not (BUILD / program).exists():
        pytest.skip(f"{program} is not built")
    daemon = zitd(ready=False, audited=False,
                  runner={"command": BUILD / program, "device": "auto", "environment": environment, "autostart": "false"})
    status = until(lambda: (s := answers(daemon)) and s["devices"]["state"] == "known" and s, what="an answer")
    assert [r.get("gpu", {}).get("uuid") for r in status["runners"]] == uuids, status
    assert reason in status["devices"].get("reason", "") and bool(reason) == ("reason" in status["devices"]), status["devices"]


# ---- what their sensors say

def readings(daemon):
    """{metric: {gpu: value}} of zit_gpu_*, without the prefix."""
    found = {}
    for line in daemon.call("metrics")["text"].splitlines():
        if match := re.fullmatch(r'zit_gpu_([a-z_]+){gpu="(.*)"} (\S+)', line):
            found.setdefault(match[1], {})[match[2]] = float(match[3])
    return found


def test_sensors_are_metrics(machine):
    """What each runner's page says of its device; one sensor is not there; those of a runner that has gone say nothing."""
    daemon = machine(says(A, B), "ready sensors 700", ready=True, audited=False)  # one stays stopped
    expected = {"memory_used_bytes": 700, "utilization_ratio": 0.25, "temperature_celsius": 61}
    assert readings(daemon) == {name: {A: value, B: value} for name, value in expected.items()}
    daemon.call("stop", runner="0")
    until(lambda: settled(daemon)["0"]["state"] == "stopped", what="a stop")
    assert readings(daemon) == {name: {B: value} for name, value in expected.items()}


def test_a_mad_page_says_nothing_of_sensors(machine):
    assert readings(machine(says(A), "ready sensors 700; ready scribble", ready=True)) == {}
    daemon = machine(says(A), "ready sensors -5", ready=True)
    assert set(readings(daemon)) == {"utilization_ratio", "temperature_celsius"}
