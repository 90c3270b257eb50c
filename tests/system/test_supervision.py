"""What a runner's death costs: checkpoints, blame, the rungs of the escalation, recycling, orders, logs, strays.

The scenario numbers are those of the list of faults that the design answers to.
"""
import contextlib
import ctypes
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from harness import BUILD, SANITIZED, SLACK_S, SMALL, RpcError, result_pixels, until
from systemd import Systemd
from tracer import Tracer


def two_runners(**options):
    return {"runner": options, "runner:a": {}, "runner:b": {}}


def dead(pid):
    """Gone, or a zombie that its new parent has not looked at."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def busy_runner(daemon, job):
    """The record of the runner that works on the job."""
    return until(lambda: next((r for r in daemon.status()["runners"] if job in r["jobs"]), None), what="its runner")


# ---- 1: death in every phase

@pytest.mark.parametrize("phase, attempts", [
    ("hello", 1), ("loading", 1), ("warming", 1), ("ready", 1), ("job", 2), ("ack", 2), ("step 2", 2), ("encode", 2),
    ("picture", 2), ("done", 1)])
def test_death_in_each_phase(zitd, phase, attempts):
    """Generation 1 or attempt 1 dies there; the job is done all the same, and blamed only for what it can be."""
    daemon = zitd(f"try 1 {phase} kill 9", ready=False)
    job = until(lambda: try_submit(daemon), what="zitd listening")
    record = daemon.wait(job)
    assert record["state"] == "done" and record["attempts"] == attempts, record
    assert daemon.runner()["deaths"] == 1


def try_submit(daemon):
    try:
        return daemon.submit(steps=3)
    except (OSError, RpcError):
        return None


def test_death_after_done_loses_nothing(zitd):
    daemon = zitd("try 1 after kill 9")
    record = daemon.generate(steps=2)
    assert record["state"] == "done" and record["attempts"] == 1
    until(lambda: daemon.runner()["generation"] == 2 and daemon.runner()["state"] == "idle", what="successor")
    assert daemon.generate()["state"] == "done"


# ---- checkpoints

def test_killed_job_goes_on_with_the_same_bits(zitd):
    """Killed twice by others' hands at different steps, with n = 2; every picture is that of an undisturbed run."""
    daemon = zitd()
    request = {"seed": 7, "steps": 100, "n": 2, "width": 128, "height": 64}
    plain = daemon.generate("a cat", **request)
    assert plain["state"] == "done", plain
    job = daemon.submit("a cat", **request)
    for step in (10, 30):
        until(lambda: daemon.job(job).get("progress", {}).get("step", 0) >= step, what=f"step {step}")
        daemon.call("restart")
        until(lambda: daemon.job(job)["attempts"] == step // 10 // 2 + 2, what="next attempt")
    record = daemon.wait(job)
    assert record["state"] == "done" and record["attempts"] == 3, record
    assert record["resumed"] == 2 and record["steps_saved"] >= 10 + 10
    assert result_pixels(record) == result_pixels(plain)


def test_crashed_job_goes_on_on_another_runner(zitd):
    daemon = zitd("real", **two_runners())
    plain = daemon.generate(seed=3, steps=100, **SMALL)
    job = daemon.submit(seed=3, steps=100, **SMALL)
    until(lambda: daemon.job(job).get("progress", {}).get("step", 0) >= 10, what="step 10")
    os.kill(busy_runner(daemon, job)["pid"], signal.SIGABRT)
    record = daemon.wait(job)
    assert record["state"] == "done" and record["attempts"] == 2 and record["resumed"] == 1, record
    assert record["steps_saved"] >= 10
    assert result_pixels(record) == result_pixels(plain)


def checkpoint_of(daemon):
    """zitd's own descriptor of the one checkpoint there is."""
    found = []
    for path in Path(f"/proc/{daemon.process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the disk thread's come and go
            if "zit-checkpoint" in os.readlink(path):
                found.append(path)
    assert len(found) == 1, found
    return found[0]


@pytest.mark.parametrize("damage", ["one bit in each half", "zeros"])
def test_damaged_checkpoint_means_starting_over(zitd, damage):
    daemon = zitd()
    request = {"seed": 5, "steps": 60, "width": 128, "height": 128}
    plain = daemon.generate(**request)
    job = daemon.submit(**request)
    until(lambda: daemon.job(job).get("progress", {}).get("step", 0) >= 10, what="step 10")
    pid = busy_runner(daemon, job)["pid"]
    os.kill(pid, signal.SIGSTOP)
    with open(checkpoint_of(daemon), "r+b") as f:
        size = f.seek(0, os.SEEK_END)
        for half in (0, size // 2):
            f.seek(half + 100)
            byte = f.read(1)[0]
            f.seek(half + 100 if damage != "zeros" else half)
            f.write(bytes([byte ^ 4]) if damage != "zeros" else bytes(4096))
    os.kill(pid, signal.SIGKILL)
    record = daemon.wait(job)
    assert record["state"] == "done" and record["attempts"] == 2, record
    assert "resumed" not in record
    assert result_pixels(record) == result_pixels(plain)


# ---- 9 to 11: blame

def test_sticky_error_ends_the_runner_at_the_first_job(zitd):
    """9: exit 71 at the first job; one job sees it, and goes on elsewhere."""
    daemon = zitd("try 1 step 2 fatal 71")
    record = daemon.generate(steps=3)
    assert record["state"] == "done" and record["attempts"] == 2
    assert daemon.runner()["deaths"] == 1 and "71" in daemon.runner()["last_error"]


def test_out_of_memory_with_three_jobs(zitd):
    """10: three held, one to blame: alone and fresh it dies twice and is FAILED, the others are done."""
    daemon = zitd("step 0.05;@oom;step 0.05;step 2 exit 72", runner={"concurrency": 3, "startretries": 9})
    jobs = [daemon.submit("good", steps=20), daemon.submit("@oom", steps=4), daemon.submit("also good", steps=20)]
    records = [daemon.wait(job) for job in jobs]
    assert [r["state"] for r in records] == ["done", "failed", "done"], records
    assert records[1]["error"]["name"] == "out_of_memory"
    assert records[1]["attempts"] == 3 and records[1]["exit_status"] == 72


def test_poison_among_forty(zitd):
    """11: two runners, three jobs each, one job that always crashes among forty: one DEAD, forty done."""
    daemon = zitd("step 0.01;@poison;step 0.01;step 2 kill 11", queue={"max_size": 100, "client_cap": 100},
                  **two_runners(concurrency=3))
    daemon.call("pause")  # so that it has company, however long forty-one submissions take
    jobs = [daemon.submit("good", steps=5) for _ in range(20)]
    poison = daemon.submit("@poison", steps=5)
    jobs += [daemon.submit("good", steps=5) for _ in range(20)]
    daemon.call("resume")
    record = daemon.wait(poison)
    assert record["state"] == "dead" and record["error"]["name"] == "runner_crashed", record
    assert record["signal"] == 11
    assert [daemon.wait(job)["state"] for job in jobs] == ["done"] * 40
    assert sum(r["deaths"] for r in daemon.status()["runners"]) == 3  # once in company, twice alone


def test_dead_letter_has_last_words_and_log(zitd):
    daemon = zitd("@x; ack flood 3000; step 1 words Gurgle; step 2 kill 6")
    job = daemon.submit("@x", seed=11)
    record = daemon.wait(job)
    assert record["state"] == "dead" and record["last_words"] == "Gurgle" and record["signal"] == 6
    assert record["log_tail"].count("x" * 999) >= 3
    listed = daemon.ctl("dead", "list", "-o", "json")
    assert listed.returncode == 0 and job in listed.stdout
    assert job in daemon.ctl("dead").stdout


def test_quarantine_and_dead_letters(zitd):
    """Others like a dead job are refused by name; an administrator may see whether it still kills; `drop` forgets."""
    daemon = zitd("step 0.3;@x; step 1 kill 11", queue={"quarantine": 1.5}, runner={"startretries": 20})
    daemon.call("pause")  # two deaths may take less time than a client between two submissions
    first, other, held = (daemon.submit("@x", steps=2, seed=seed) for seed in (5, 6, 7))
    daemon.call("hold", job=held)
    daemon.call("resume")
    assert daemon.wait(first)["state"] == "dead"
    for job in (other, held):  # they waited, and would have died likewise
        assert daemon.wait(job)["error"]["name"] == "poisoned"
    with pytest.raises(RpcError) as refused:
        daemon.submit("@x", steps=2)
    assert refused.value.name == "poisoned" and 0 < refused.value.data["retry_after_s"] <= 1.5
    assert daemon.generate("good", steps=1)["state"] == "done"
    assert daemon.generate("@x", steps=3)["state"] == "dead"  # other parameters: another job
    daemon.call("restart")  # four deaths so far; the fifth would be the runner's own end
    retried = daemon.ctl("dead", "retry", first, "-o", "name").stdout.strip()
    daemon.accepted.add(retried)
    record = daemon.wait(retried)
    assert record["state"] == "dead" and record["retry_of"] == first and record["seed"] == 5
    assert record["attempts"] == 2
    assert daemon.job(first)["retried_as"] == retried
    until(lambda: may_submit(daemon, "@x", steps=2), what="the half-open probe")
    assert daemon.ctl("dead", "drop", retried).returncode == 0
    with pytest.raises(RpcError) as unknown:
        daemon.job(retried)
    assert unknown.value.name == "unknown_job"
    daemon.accepted.discard(retried)
    assert daemon.ctl("dead", "retry", "job_nonsense").returncode == 4


def may_submit(daemon, prompt, **params):
    try:
        return daemon.submit(prompt, **params)
    except RpcError as e:
        assert e.name == "poisoned"
        return None


def test_quarantine_ends_with_a_probe_that_is_good(zitd, tmp_path):
    script = tmp_path / "script"
    script.write_text("@x; step 1 kill 11")
    daemon = zitd(str(script), queue={"quarantine": 0.5})
    assert daemon.generate("@x")["state"] == "dead"
    script.write_text("@x; step 0.2")
    daemon.call("restart")
    probe = until(lambda: may_submit(daemon, "@x"), what="a probe")
    with pytest.raises(RpcError) as refused:
        daemon.submit("@x")
    assert refused.value.name == "poisoned"  # one at a time
    assert daemon.wait(probe)["state"] == "done"
    assert daemon.generate("@x")["state"] == "done"


# ---- several jobs on a runner

def test_concurrency_takes_turns(zitd):
    """Two jobs step by step on the real runner: both get on at once, and their pictures are those of runs alone."""
    daemon = zitd("real", runner={"concurrency": 2})
    alone = [daemon.generate(f"cat {i}", seed=i, steps=100, **SMALL) for i in range(2)]
    jobs = [daemon.submit(f"cat {i}", seed=i, steps=100, **SMALL) for i in range(2)]
    both = until(lambda: all(2 <= daemon.job(j).get("progress", {}).get("step", 0) <= 80 for j in jobs)
                 and daemon.runner()["jobs"], what="both in their steps")
    assert set(both) == set(jobs)
    for plain, job in zip(alone, jobs):
        assert result_pixels(daemon.wait(job)) == result_pixels(plain)


def test_third_job_waits_at_concurrency_two(zitd):
    daemon = zitd("step 0.05", runner={"concurrency": 2})
    jobs = [daemon.submit(steps=20) for _ in range(3)]
    until(lambda: len(daemon.runner()["jobs"]) == 2, what="two held")
    assert daemon.job(jobs[2])["state"] == "queued"
    assert [daemon.wait(j)["state"] for j in jobs] == ["done"] * 3


def test_next_job_starts_while_the_last_is_encoded(zitd):
    """The PNG of one job takes a second; the next job's steps do not wait for it."""
    daemon = zitd("@slow; picture 1.0; @next; step 0.01")
    slow, quick = daemon.submit("@slow", steps=1), daemon.submit("@next", steps=1)
    until(lambda: set(daemon.runner()["jobs"]) == {slow, quick}, what="both held")
    assert daemon.wait(slow)["state"] == "done" and daemon.wait(quick)["state"] == "done"


def test_cancel_of_one_leaves_the_other(zitd):
    daemon = zitd("step 0.05", runner={"concurrency": 2})
    jobs = [daemon.submit(steps=30) for _ in range(2)]
    until(lambda: len(daemon.runner()["jobs"]) == 2, what="two held")
    daemon.call("cancel", job=jobs[0])
    assert daemon.wait(jobs[0])["state"] == "cancelled"
    record = daemon.wait(jobs[1])
    assert record["state"] == "done" and record["attempts"] == 1
    assert daemon.runner()["generation"] == 1


def test_overrun_of_one_costs_the_other_only_time(zitd):
    """The deaf one is killed with its runner; its neighbour comes back, unblamed."""
    daemon = zitd("step 0.05;@deaf;step 0.05;job ignore_cancel;job ignore_signals",
                  runner={"concurrency": 2, "stopwaitsecs_timeout": 0.3})
    deaf, good = daemon.submit("@deaf", steps=100, exec_timeout=0.5), daemon.submit("good", steps=60)
    assert daemon.wait(deaf)["state"] == "timed_out"
    record = daemon.wait(good)
    assert record["state"] == "done" and record["attempts"] == 2, record
    assert daemon.runner()["deaths"] == 0  # what we end ourselves does not count


# ---- 7, 8: escalation

def rung_times(daemon):
    """When each rung was logged, by its words; seconds of the day."""
    times = {}
    for line in daemon.log().splitlines():
        for word in ("sending stopsignal", "killed, ", "is not gone 10 s"):
            if word in line:
                hours, minutes, seconds = line.split("T")[1].split("Z")[0].split(":")
                times[word] = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    return times


def test_rungs_come_at_their_times(zitd):
    """7: ignores CANCEL and signals. stopsignal 0.5 s + 3 steps after the cancel, SIGKILL stopwaitsecs_timeout later."""
    daemon = zitd("step 0.02;@deaf;ack ignore_signals;ack 0.1;ack hang", runner={"stopwaitsecs_timeout": 0.7})
    job = daemon.submit("@deaf", exec_timeout=0.5)
    record = daemon.wait(job)
    assert record["state"] == "timed_out" and 0.5 <= record["run_s"] <= 0.5 + SLACK_S / 3
    until(lambda: daemon.runner()["generation"] == 2, what="successor")
    times = rung_times(daemon)
    assert 0.65 <= times["killed, "] - times["sending stopsignal"] <= 0.7 + SLACK_S / 3


def hold(pid):
    try:
        return Tracer(pid)
    except OSError as e:
        pytest.skip(f"ptrace is not allowed here: {e}")


def test_wedged_process_gives_up_its_device_and_nothing_else(zitd, tmp_path):
    """7: killed, but it does not go: WEDGED after 10 s; the other runner works on; back when it goes at last."""
    systemd = Systemd(tmp_path)
    daemon = zitd("real", notify=systemd.environment, **two_runners())
    job = daemon.submit(steps=100, **SMALL)
    daemon.wait_running(job)
    runner = busy_runner(daemon, job)
    tracer = hold(runner["pid"])
    os.kill(runner["pid"], signal.SIGKILL)
    cpu = cpu_seconds(daemon)
    until(lambda: daemon.status()["runners"][0 if runner["name"] == "a" else 1]["state"] == "wedged", 15.0, "wedged")
    assert cpu_seconds(daemon) - cpu < 1.0  # and zitd did not spin on it
    assert daemon.wait(job)["state"] == "done"
    assert daemon.generate(**SMALL)["state"] == "done"
    assert daemon.status()["state"] == "degraded"
    before = systemd.pings
    until(lambda: systemd.pings >= before + 3, 5.0, "pings: a wedged runner is a legal state")
    tracer.let_go()
    until(lambda: all(r["state"] == "idle" for r in daemon.status()["runners"]), what="both back")


def cpu_seconds(daemon):
    fields = Path(f"/proc/{daemon.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_hang_is_seen_at_its_pace_and_not_before(zitd):
    """8: steps of 0.4 s and hang_timeout 1: a pause of 2 s is within 8 steps, one for ever is not."""
    daemon = zitd("step 0.4;@pause;step 0.4;step 3 sleep 1.6;@hang;step 0.4;step 3 hang",
                  runner={"hang_timeout": 1, "stopwaitsecs_timeout": 0.5})
    record = daemon.generate("@pause", steps=4)
    assert record["state"] == "done" and record["attempts"] == 1, record
    begin = time.monotonic()
    job = daemon.submit("@hang", steps=4)
    until(lambda: daemon.job(job)["attempts"] == 2, what="second attempt")
    assert time.monotonic() - begin >= 2 * 0.4 + 8 * 0.4
    daemon.call("cancel", job=job)


def test_work_between_two_steps_is_a_sign_of_life(zitd):
    """8: hang_timeout 1: a step of 3 s of which parts get done is no hang; what stops in the middle of one is."""
    daemon = zitd("step 0.01;@long;step 1 work 3;@stuck;step 1 work 1.5;step 1 hang", runner={"hang_timeout": 1})
    record = daemon.generate("@long", steps=2)
    assert record["state"] == "done" and record["attempts"] == 1, record
    begin = time.monotonic()
    job = daemon.submit("@stuck", steps=2)
    until(lambda: daemon.job(job)["attempts"] == 2, what="second attempt")
    assert time.monotonic() - begin >= 1.5 + 1 - 0.1
    daemon.call("cancel", job=job)


def test_a_clock_of_tomorrow_is_no_sign_of_life(zitd):
    """What a runner writes on its page is not believed: a time that is still to come says nothing."""
    daemon = zitd("step 0.01;@stuck;step 1 scribble;step 1 hang", runner={"hang_timeout": 1})
    job = daemon.submit("@stuck", steps=2)
    until(lambda: daemon.job(job)["attempts"] == 2, what="second attempt")
    daemon.call("cancel", job=job)


# ---- 13, 14: respawning

def test_three_failed_starts_then_an_order(zitd, tmp_path):
    """13: FAILED after startretries, with its reason in STATUS; `start` when the cause is gone, and READY forgives."""
    script = tmp_path / "script"
    script.write_text("loading fatal 70")
    daemon = zitd(str(script), ready=False)
    daemon.wait_listening()
    runner = until(lambda: (r := daemon.runner())["state"] == "failed" and r, what="failed")
    assert runner["deaths"] == 3 and "70" in runner["last_error"]
    with pytest.raises(RpcError) as refused:
        daemon.submit()
    assert refused.value.name == "no_runner"
    script.write_text("")
    assert daemon.ctl("start", "0").returncode == 0
    daemon.wait_ready()
    assert daemon.generate()["state"] == "done"


def test_five_deaths_in_ten_minutes_and_planned_ones(zitd):
    """14: a dozen timeouts that end in SIGKILL do not count; the fifth crash does."""
    daemon = zitd("@deaf;job ignore_signals;ack hang;@crash;step 1 kill 11",
                  runner={"stopwaitsecs_timeout": 0}, queue={"quarantine": 0})
    for _ in range(12):
        assert daemon.generate("@deaf", exec_timeout=0.01)["state"] == "timed_out"
    until(lambda: daemon.runner()["state"] == "idle", what="idle again")
    assert daemon.runner()["deaths"] == 0
    for _ in range(2):
        assert daemon.generate("@crash")["state"] == "dead"
    job = daemon.submit("@crash")
    until(lambda: daemon.runner()["state"] == "failed", what="failed at the fifth")
    assert daemon.runner()["deaths"] == 5
    daemon.call("cancel", job=job)


def test_autostart_and_autorestart(zitd):
    daemon = zitd("@good; after exit 0; @bad; after kill 9", ready=False,
                  runner={"autostart": "false", "autorestart": "unexpected"})
    daemon.wait_listening()
    assert daemon.runner()["state"] == "stopped" and daemon.runner()["pid"] == 0
    with pytest.raises(RpcError):
        daemon.submit()
    daemon.call("start", runner="0")
    daemon.wait_ready()
    daemon.generate("@good")
    until(lambda: daemon.runner()["state"] == "stopped", what="stopped after exit 0")
    daemon.call("start")
    daemon.wait_ready()
    daemon.generate("@bad")
    until(lambda: daemon.runner()["generation"] == 3 and daemon.runner()["state"] == "idle", what="after a crash")


# ---- 33 and canaries

def test_max_jobs_recycles_between_jobs(zitd):
    daemon = zitd("step 0.01", runner={"max_jobs": 3})
    jobs = [daemon.submit(steps=3) for _ in range(10)]
    records = [daemon.wait(j) for j in jobs]
    assert all(r["state"] == "done" and r["attempts"] == 1 for r in records)
    until(lambda: daemon.runner()["generation"] == 4, what="three replacements")
    assert daemon.runner()["deaths"] == 0


def test_max_memory_recycles_between_jobs(zitd):
    daemon = zitd("@big;step 1 allocate 100e6", runner={"max_memory": 60})
    assert daemon.generate("small")["state"] == "done" and daemon.runner()["generation"] == 1
    record = daemon.generate("@big")
    assert record["state"] == "done" and record["attempts"] == 1
    until(lambda: daemon.runner()["generation"] == 2, what="replaced")


def test_canary_finds_a_dead_device(zitd):
    """An idle runner that does not answer is killed and replaced, before a job meets it; one that does stays."""
    daemon = zitd("try 1 canary hang", runner={"canary_interval": 0.3, "hang_timeout": 1})
    until(lambda: daemon.runner()["generation"] == 2, what="replaced")
    time.sleep(1.5)
    assert daemon.runner()["generation"] == 2 and daemon.runner()["deaths"] == 1
    assert daemon.generate()["state"] == "done"


def test_real_runner_passes_its_canaries(zitd):
    daemon = zitd("real", runner={"canary_interval": 0.1})
    assert daemon.generate(steps=2, **SMALL)["state"] == "done"
    time.sleep(1.0)
    assert daemon.generate(steps=2, **SMALL)["state"] == "done"
    assert daemon.runner()["generation"] == 1


# ---- orders

def test_stop_start_drain_resume(zitd):
    daemon = zitd("step 0.05", **two_runners())
    jobs = [daemon.submit(steps=60) for _ in range(2)]
    until(lambda: all(r["jobs"] for r in daemon.status()["runners"]), what="both busy")
    assert daemon.ctl("drain", "a").returncode == 0
    assert daemon.ctl("stop", "b").returncode == 0
    until(lambda: daemon.runner(1)["state"] == "stopped", what="b stopped")
    waiting = [j for j in jobs if daemon.job(j)["state"] == "queued"]
    assert len(waiting) == 1  # b's job; a finishes its own and takes no other
    until(lambda: daemon.runner(0)["state"] == "idle", what="a has finished")
    assert daemon.runner(0)["draining"] and daemon.job(waiting[0])["state"] == "queued"
    with pytest.raises(RpcError) as refused:
        daemon.submit()
    assert refused.value.name == "no_runner"
    assert daemon.ctl("resume", "a").returncode == 0
    assert daemon.wait(waiting[0])["state"] == "done"
    assert daemon.ctl("start", "all").returncode == 0
    until(lambda: all(r["state"] == "idle" for r in daemon.status()["runners"]), what="both back")
    assert daemon.ctl("stop", "c").returncode == 2
    assert daemon.ctl("stop").returncode == 2


# ---- 22, 23: children and orphans

def test_grandchildren_do_not_outlive_their_runner(zitd):
    """22: one in its group, one in a session of its own; both are gone a second after it died, and no zombie is left."""
    daemon = zitd("@fork; step 1 fork 100; step 2 daemonize 100; step 3 kill 9")
    job = daemon.submit("@fork")
    daemon.wait(job)
    until(lambda: set(daemon.processes()) == {daemon.process.pid, daemon.runner()["pid"]}, 1.0 + SLACK_S, "strays gone")
    until(lambda: daemon.zombies() == [], 1.0 + SLACK_S, "and buried")


def cgroup_root():
    """Where control groups of version 2 can be made, or None."""
    for place in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
        if os.access(f"{place}/cgroup.procs", os.W_OK) and Path(place, "cgroup.subtree_control").exists():
            return Path(place)
    return None


@pytest.mark.skipif(cgroup_root() is None, reason="no control groups of version 2 that are ours")
def test_delegated_control_group(zitd):
    """In a group of its own, as systemd's Delegate=yes gives it, each runner has a leaf, and its death empties it."""
    group = cgroup_root() / f"zit-test-{os.getpid()}"
    group.mkdir()
    try:
        daemon = zitd("@fork; step 1 daemonize 100; step 2 kill 9", prefix=[
            "sh", "-c", f'echo $$ >{group}/cgroup.procs && exec "$@"', "sh"])
        leaf = group / "runner-0" / "cgroup.procs"
        assert leaf.read_text().split() == [str(daemon.runner()["pid"])]
        assert (group / "zitd" / "cgroup.procs").read_text().split() == [str(daemon.process.pid)]
        daemon.wait(daemon.submit("@fork"))
        until(lambda: leaf.read_text().split() == [str(daemon.runner()["pid"])], 1.0 + SLACK_S, "the leaf to itself")
        daemon.audit()
        daemon.audited = False
    finally:
        for leaf in ("runner-0", "zitd", "."):
            until(lambda leaf=leaf: remove_group(group / leaf), what="empty group")


def remove_group(path):
    try:
        path.rmdir()
        return True
    except FileNotFoundError:
        return True
    except OSError:
        return False


def test_second_zitd_names_the_first(zitd):
    """23: refused, with the pid of the one that runs."""
    daemon = zitd("")
    second = subprocess.run(daemon.command(), env=daemon.env, capture_output=True, text=True, timeout=60, check=False)
    assert second.returncode != 0 and str(daemon.process.pid) in second.stderr


@pytest.mark.parametrize("policy", ["report", "kill"])
def test_orphan_keeps_its_device(zitd, tmp_path, policy):
    """23: a runner that outlived its zitd, PDEATHSIG taken from it. The next zitd sees it, and ends it only if told to."""
    wrapper = tmp_path / "wrapper"
    wrapper.write_text(f'#!/bin/sh\nexec setpriv --pdeathsig clear {BUILD}/tests/fake_runner "$@"\n')
    wrapper.chmod(0o755)
    daemon = zitd("@hang; step 1 flood 1000; step 1 hang", runner={"command": wrapper}, zitd={"orphans": policy})
    daemon.connect().send("submit", prompt="@hang", wait=True, durable=False)  # it does not come back after the restart
    orphan = daemon.runner()["pid"]
    until(lambda: "x" * 900 in daemon.log(), what="its line: it looks at nothing any more")
    daemon.process.kill()
    daemon.process.wait()
    assert not dead(orphan)
    daemon.start(ready=False)
    if policy == "report":
        daemon.wait_listening()
        until(lambda: str(orphan) in (daemon.runner().get("last_error") or ""), what="reported")
        assert not dead(orphan)
        os.kill(orphan, signal.SIGKILL)
    daemon.wait_ready()
    assert dead(orphan) and daemon.runner()["deaths"] == 0
    daemon.baseline_fds = daemon.fd_count()
    assert daemon.generate("fine")["state"] == "done"


# ---- 32: logs

def test_runner_that_prints_without_end(zitd):
    """32: 300 MB on stderr in the middle of a job; zitd stays quick, passes some of it on, and says how much it did not."""
    daemon = zitd("@loud; step 1 flood 3e8; step 2 words done", runner={"hang_timeout": 60})
    job = daemon.submit("@loud", steps=3)
    slowest, begin = 0.0, time.monotonic()
    while daemon.job(job)["state"] != "done":
        before = time.monotonic()
        daemon.status()
        slowest = max(slowest, time.monotonic() - before)
    took = time.monotonic() - begin
    print(f"300 MB in {took:.2f} s, slowest status {slowest * 1e3:.1f} ms")
    assert slowest < 0.5 * SLACK_S
    passed = daemon.log().count("x" * 800)
    assert 100 <= passed < 500 + 100 * (took + 2), f"{passed} of 300,000 lines were passed on"
    assert "were too many and are not shown" in daemon.log()


def test_log_reader_that_is_stuck(zitd, tmp_path):
    """32: nobody reads zitd's stderr and the pipe is full: it answers as ever, and says later what was lost."""
    daemon = zitd("step 0.01", ready=False, audited=False)
    daemon.stop()
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writer, True)
    daemon.process = subprocess.Popen(daemon.command(), env=daemon.env, stdin=subprocess.DEVNULL,
                                      stdout=subprocess.DEVNULL, stderr=writer, start_new_session=True)
    os.close(writer)
    daemon.wait_ready()
    for _ in range(20):
        assert daemon.generate(steps=2)["state"] == "done"
    heard = os.read(reader, 1 << 20)
    daemon.generate(steps=2)
    os.set_blocking(reader, False)
    heard = os.read(reader, 1 << 20).decode()
    assert "lines of this log were lost" in heard, heard[-2000:]
    assert daemon.stop() == 0
    os.close(reader)


# ---- 10: memory that really runs out

@pytest.mark.skipif(SANITIZED, reason="the sanitizer itself ends when it gets no memory")
def test_real_runner_out_of_memory(zitd, tmp_path):
    """An address-space limit that is enough for being ready and not for a large picture: one retry, FAILED, no more."""
    large = {"max_pixels": 512 * 512}
    free = zitd("real", runner=large, audited=False)
    status = Path(f"/proc/{free.runner()['pid']}/status").read_text()
    kib = int(next(line for line in status.splitlines() if line.startswith("VmSize")).split()[1])
    free.stop()
    wrapper = tmp_path / "wrapper"
    wrapper.write_text(f'#!/bin/sh\nulimit -v {kib + 16_000}\nexec {BUILD}/zit-runner "$@"\n')
    wrapper.chmod(0o755)
    daemon = zitd("real", runner={"command": wrapper, **large})
    bad = daemon.submit(width=512, height=512, steps=1)
    good = daemon.submit(width=64, height=64, steps=2)
    record = daemon.wait(bad)
    assert record["state"] == "failed" and record["error"]["name"] == "out_of_memory", record
    assert record["attempts"] == 2 and record["exit_status"] in (72, 73)
    assert "no memory" in record["last_words"] or record["last_words"].endswith("status 1")  # dnnl_out_of_memory
    assert daemon.wait(good)["state"] == "done"
    assert daemon.runner()["deaths"] == 2


def test_interrupted_job_does_not_expire_for_the_moment_of_a_respawn(zitd):
    """Its queue_timeout counts waiting only: longer at work than that, then interrupted, it still ends well."""
    daemon = zitd("step 0.05;try 2 loading 0.5")
    job = daemon.submit(steps=30, queue_timeout=0.3)
    until(lambda: daemon.job(job).get("progress", {}).get("step", 0) >= 10, what="half a second of work")
    daemon.call("restart")
    record = daemon.wait(job)
    assert record["state"] == "done" and record["attempts"] == 2, record


def test_fresh_runner_is_made_for_a_job_that_ran_out_of_memory(zitd):
    """10: the retry waits for a process that has done nothing, though another one is always busy and never idle."""
    daemon = zitd("step 0.02;@oom;try 1 step 1 exit 72", **two_runners(concurrency=2))
    jobs = [daemon.submit(steps=20) for _ in range(12)]
    record = daemon.generate("@oom", steps=2, priority="high")
    assert record["state"] == "done" and record["attempts"] in (2, 3), record
    assert [daemon.wait(j)["state"] for j in jobs] == ["done"] * 12
