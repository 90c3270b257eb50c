"""Runners that hang, die or lie; models that are broken; the daemon that is killed. Injected from outside."""
import os
import shutil
import signal
import subprocess

import pytest

from harness import BUILD, MODEL, SLACK_S, SMALL, RpcError, until

# Each section is one way to be bad; a job's prompt chooses it. A good job names none.
SCRIPT = """
step 0.02
@crash; step 2 kill 11
@garbage; step 2 garbage 100
@fds; picture fds 3; done hang
@unsealed; picture unsealed
@hangup; step 2 close
@size; picture bytes 10
@turn; step 2 send_done
@stale; step 2 attempt -1; step 3 generation -1
@twice; after send_done; after send_picture
@scribble; step 2 scribble
@late; step 0.05; cancel send_done
@deaf; step 0.1; job ignore_cancel; job ignore_signals
@oom; step 2 exit 72
@fork; step 2 fork 100; step 3 daemonize 100; step 4 kill 9
"""


def gone(pid):
    return not os.path.exists(f"/proc/{pid}")


def test_stopped_runner_times_out_at_its_clock(zitd):
    """SIGSTOP in mid-job: the job ends at its clock, the process goes, a new runner serves the next job."""
    daemon = zitd()
    pid = daemon.runner()["pid"]
    job = daemon.submit(steps=100, exec_timeout=2, **SMALL)
    daemon.wait_running(job)
    os.kill(pid, signal.SIGSTOP)
    record = daemon.wait(job)
    assert record["state"] == "timed_out"
    assert record["error"]["name"] == "execution_timeout"
    assert 2.0 <= record["run_s"] <= 2.0 + SLACK_S / 2
    assert record["attempts"] == 1
    until(lambda: gone(pid), what="stopped runner gone")
    assert daemon.generate(steps=1, **SMALL)["state"] == "done"
    assert daemon.runner()["generation"] == 2


def test_killed_runner_costs_one_retry(zitd):
    daemon = zitd()
    pid = daemon.runner()["pid"]
    job = daemon.submit(steps=100, **SMALL)
    daemon.wait_running(job)
    os.kill(pid, signal.SIGKILL)
    record = daemon.wait(job)
    assert record["state"] == "done"
    assert record["attempts"] == 2
    assert daemon.runner()["pid"] != pid


def test_job_that_kills_two_runners_is_dead(zitd):
    daemon = zitd()
    job = daemon.submit(steps=100, **SMALL)
    for _ in range(2):
        daemon.wait_running(job)
        os.kill(daemon.runner()["pid"], signal.SIGKILL)
        until(lambda: daemon.runner()["state"] == "busy" or daemon.job(job)["state"] == "dead", what="next attempt")
        until(lambda: daemon.job(job)["attempts"] == 2, what="second attempt")
    record = daemon.wait(job)
    assert record["state"] == "dead"
    assert record["error"]["name"] == "runner_crashed"
    assert record["attempts"] == 2
    assert daemon.generate(steps=1, **SMALL)["state"] == "done"


def test_death_long_after_a_cancel_is_the_runners_own(zitd):
    daemon = zitd("step 0.05")
    job = daemon.submit(steps=100)
    daemon.wait_running(job)
    daemon.call("cancel", job=job)
    until(lambda: daemon.runner()["state"] == "idle", what="runner idle")
    pid = daemon.runner()["pid"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: daemon.runner()["pid"] not in (pid, 0), what="new runner")
    assert daemon.runner()["deaths"] == 1


def test_killed_idle_runner_is_replaced_at_once(zitd):
    daemon = zitd("step 0")
    pid = daemon.runner()["pid"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: daemon.runner()["pid"] not in (pid, None, 0), 2.0 + SLACK_S, "new runner")
    assert daemon.generate()["state"] == "done"


def test_waiting_job_expires_at_its_queue_timeout(zitd):
    daemon = zitd("step 0.05")
    daemon.wait_running(daemon.submit("busy", steps=60))
    record = daemon.generate("late", queue_timeout=1)
    assert record["state"] == "expired"
    assert record["error"]["name"] == "queue_timeout"
    assert 1.0 <= record["queued_s"] <= 1.0 + SLACK_S / 3


def test_restart_keeps_the_job(zitd):
    daemon = zitd()
    job = daemon.submit(steps=100, **SMALL)
    daemon.wait_running(job)
    old = daemon.runner()["pid"]
    daemon.call("restart")
    assert daemon.wait(job)["state"] == "done"
    until(lambda: daemon.runner()["pid"] != old and daemon.runner()["state"] == "idle", what="replaced runner")


@pytest.mark.parametrize("fault", ["crash", "garbage", "fds", "unsealed", "hangup", "size", "turn"])
def test_lying_runner_is_killed_and_nobody_else_notices(zitd, fault):
    """Two deaths of one bad job: it is DEAD, and the good job beside it is done. A third, when the good one was
    given to the runner already and both were suspects."""
    daemon = zitd(SCRIPT, runner={"hang_timeout": 1})
    bad = daemon.submit(f"@{fault}")
    good = daemon.submit("good")
    record = daemon.wait(bad)
    assert record["state"] == "dead" and record["attempts"] in (2, 3), record
    assert daemon.wait(good)["state"] == "done"


@pytest.mark.parametrize("fault", ["stale", "twice", "scribble"])
def test_wrong_messages_are_fenced(zitd, fault):
    daemon = zitd(SCRIPT)
    record = daemon.generate(f"@{fault}")
    assert record["state"] == "done", record
    assert daemon.generate("good")["state"] == "done"


def test_runner_that_ignores_everything_is_killed(zitd):
    daemon = zitd(SCRIPT, runner={"stopwaitsecs_timeout": 1})
    pid = daemon.runner()["pid"]
    record = daemon.generate("@deaf", exec_timeout=1, steps=100)
    assert record["error"]["name"] == "execution_timeout"
    until(lambda: gone(pid), what="deaf runner killed")
    assert daemon.generate("good")["state"] == "done"


def test_result_after_cancel_is_fenced(zitd):
    daemon = zitd(SCRIPT)
    job = daemon.submit("@late", steps=100)
    daemon.wait_running(job)
    daemon.call("cancel", job=job)
    assert daemon.job(job)["state"] == "cancelled"
    assert daemon.generate("good")["state"] == "done"
    assert daemon.job(job)["state"] == "cancelled"


def test_out_of_memory_exit_is_retried_once(zitd):
    record = zitd(SCRIPT).generate("@oom")
    assert record["state"] == "failed"
    assert record["error"]["name"] == "out_of_memory"
    assert record["attempts"] == 2


def test_crash_loop_at_start_backs_off(zitd):
    daemon = zitd("hello exit 70", ready=False, audited=False, runner={"startretries": 2})
    daemon.wait_listening()
    until(lambda: daemon.runner()["state"] == "failed", what="runner failed")
    assert daemon.status()["state"] != "ready"
    assert daemon.stop() == 0


def test_missing_runner_program(zitd):
    daemon = zitd("", ready=False, audited=False, runner={"command": "/nonexistent/runner", "startretries": 1})
    daemon.wait_listening()
    until(lambda: daemon.runner()["state"] == "failed", what="runner failed")
    assert "No such file" in daemon.log()
    assert daemon.stop() == 0


def broken_model(tmp_path, name):
    """A copy of the model whose one file is cut in half; only that file is really copied."""
    copy = tmp_path / "broken"
    shutil.copytree(MODEL, copy, copy_function=os.symlink, ignore=shutil.ignore_patterns("golden"))
    target = copy / name
    data = (MODEL / name).read_bytes()
    target.unlink()
    target.write_bytes(data[: len(data) // 2])
    return copy


def test_truncated_checkpoint_is_named_and_not_retried(zitd, tmp_path):
    name = "vae/diffusion_pytorch_model.safetensors"
    daemon = zitd(ready=False, audited=False, runner={"model": broken_model(tmp_path, name)})
    daemon.wait_listening()
    until(lambda: daemon.runner()["state"] == "failed", what="runner failed")
    runner = daemon.runner()
    assert "diffusion_pytorch_model.safetensors" in runner["last_error"]
    assert runner["deaths"] == 1
    with pytest.raises(RpcError) as e:
        daemon.call("submit", prompt="a cat")
    assert e.value.name == "no_runner"
    assert daemon.stop() == 0


def test_killed_zitd_leaves_nobody(zitd):
    daemon = zitd(audited=False)
    job = daemon.submit(steps=100, **SMALL)
    daemon.wait_running(job)
    daemon.process.kill()
    daemon.process.wait()
    until(lambda: not daemon.processes(), 1.0 + SLACK_S, "no process left")
    daemon.start()
    assert daemon.generate(steps=1, **SMALL)["state"] == "done"
    assert daemon.stop() == 0


def test_second_zitd_is_refused(zitd):
    daemon = zitd("step 0")
    second = subprocess.run(daemon.command(), env=daemon.env, capture_output=True, text=True, timeout=60, check=False)
    assert second.returncode != 0
    assert str(daemon.process.pid) in second.stderr
    assert daemon.generate()["state"] == "done"


def test_sigterm_finishes_the_running_job(zitd):
    daemon = zitd("step 0.05", audited=False)
    connection = daemon.connect()
    connection.send("submit", prompt="last", wait=True, steps=20)
    until(lambda: any(r["state"] == "running" for r in daemon.records()), what="running")
    daemon.process.send_signal(signal.SIGTERM)
    assert connection.read_line()["result"]["state"] == "done"
    assert daemon.process.wait(60) == 0
    assert not daemon.processes()


def test_reload(zitd):
    daemon = zitd("step 0.05", queue={"max_size": 1})
    daemon.wait_running(daemon.submit("running", steps=60))
    daemon.submit("queued", steps=1)
    with pytest.raises(RpcError):
        daemon.call("submit", prompt="refused")
    daemon.sections["queue"]["max_size"] = 5
    daemon.write_config()
    assert [change["key"] for change in daemon.call("reload")["changed"]] == ["queue.max_size"]
    daemon.submit("accepted", steps=1)
    daemon.config.write_text("[queue]\nmax_sise = 4\n")
    with pytest.raises(RpcError) as e:
        daemon.call("reload")
    assert "max_size" in e.value.message and ":2" in e.value.message
    assert daemon.status()["queue"]["max_size"] == 5


def test_check_config(tmp_path):
    config = tmp_path / "bad.conf"
    config.write_text("[queue]\nmax_size = many\n")
    result = subprocess.run([str(BUILD / "zitd"), "--config", str(config), "--check-config"], capture_output=True,
                            text=True, timeout=60, check=False)
    assert result.returncode == 78
    assert "bad.conf:2" in result.stderr and "max_size" in result.stderr


def test_resident_size(zitd):
    daemon = zitd("step 0.02", queue={"client_cap": 100, "reserved_high": 0})
    daemon.submit("busy", steps=100)
    for i in range(49):
        daemon.submit(f"queued {i}", steps=1)
    rss = daemon.rss_kib()
    print(f"zitd with 50 jobs: {rss} KiB resident")
    if "build-san" not in str(BUILD):
        assert rss <= 8 * 1024
