"""zitctl waits for its picture over the end of a zitd, whatever ended it."""
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from harness import BUILD, until

SLOW = "step 0.05"


def start_ctl(daemon, *arguments):
    return subprocess.Popen([str(BUILD / "zitctl"), "-H", str(daemon.socket_path), *map(str, arguments)],
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def first_line(stream):
    """Without a buffer, which communicate() would not look into."""
    line = b""
    while not line.endswith(b"\n"):
        line += os.read(stream.fileno(), 1)
    return line


def start_generate(daemon, *arguments):
    """With the id of its job, which zitd has told it."""
    process = start_ctl(daemon, "generate", *arguments, "--progress", "json")
    job = json.loads(first_line(process.stderr))["job"]
    daemon.accepted.add(job)
    return process, job


def said(process):
    """Its exit code, and what it says besides progress."""
    out, errors = process.communicate(timeout=60)
    return process.returncode, out, "".join(line for line in errors.splitlines(True) if not line.startswith("{"))


def end(daemon, how):
    daemon.process.send_signal(how)
    daemon.process.wait(30)
    until(lambda: not daemon.processes(), 10.0, "its runners are gone")


def sleeps(pid):
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "S"


def waits_for_an_answer(pid):
    """It sleeps, and has a socket: nothing that it does with one before takes time."""
    return sleeps(pid) and any(os.readlink(fd).startswith("socket:") for fd in Path(f"/proc/{pid}/fd").iterdir())


# What runs is finished before a stop.
@pytest.mark.parametrize("where, how", [("queued", signal.SIGTERM), ("queued", signal.SIGKILL), ("running", signal.SIGKILL)])
def test_generate_gets_its_picture_from_the_next_zitd(zitd, tmp_path, where, how):
    daemon = zitd(SLOW, runner={"preemption": "false", "concurrency": 1})
    if where == "queued":
        daemon.wait_running(daemon.submit("first", steps=20))
    process, job = start_generate(daemon, "second", "--steps", 8, "-o", tmp_path / "second.png")
    daemon.wait_state(job, where)
    end(daemon, how)
    assert process.poll() is None
    daemon.start(ready=False)
    code, out, errors = said(process)
    assert (code, out) == (0, f"{tmp_path}/second.png\n"), errors
    assert (tmp_path / "second.png").stat().st_size > 0
    assert errors == (f"zitctl: zitd {'stops' if how == signal.SIGTERM else 'ended'} before {job} is done; "
                      "waiting for the next one to go on with it\n")
    daemon.wait_ready()


def test_wait_goes_on_over_several_ends(zitd):
    daemon = zitd(SLOW)
    job = daemon.submit("a", not_before=600)
    process = start_ctl(daemon, "wait", job)
    for how in (signal.SIGKILL, signal.SIGTERM):
        until(lambda: daemon.status()["clients"] >= 2, 10.0, "it is connected")
        end(daemon, how)
        daemon.start()
    until(lambda: daemon.status()["clients"] >= 2, 10.0, "it is connected")
    daemon.call("cancel", job=job)
    code, _, errors = said(process)
    assert code == 130 and errors.count("waiting for the next one") == 2, errors


def test_a_job_that_went_with_its_zitd(zitd):
    daemon = zitd(SLOW)
    daemon.connect().send("submit", prompt="a", steps=100, wait=True, durable=False)
    job = until(lambda: next((r["job"] for r in daemon.records()), None), 10.0, "the job")
    process = start_ctl(daemon, "wait", job)
    until(lambda: daemon.status()["clients"] >= 3, 10.0, "it is connected")
    end(daemon, signal.SIGKILL)
    daemon.start()
    code, _, errors = said(process)
    assert code == 4, errors
    assert "unknown_job: " in errors and "not durable; submit it again" in errors


@pytest.mark.parametrize("how, code", [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL), ("--timeout", 124)])
def test_a_job_that_is_to_be_kept_is(zitd, tmp_path, how, code):
    """Whatever ends who waits for it."""
    daemon = zitd(SLOW)
    process, job = start_generate(daemon, "a", "--steps", 40, "--on-disconnect", "keep", *(["--timeout", 1] if how == "--timeout" else []))
    if how != "--timeout":
        process.send_signal(how)
    returned, _, errors = said(process)
    assert returned == code, errors
    if how != signal.SIGKILL:
        assert f"'zitctl wait {job} --save FILE'" in errors, errors
    assert daemon.ctl("wait", job, "--save", tmp_path / "a.png").returncode == 0


def test_enough_of_waiting_for_zitd(zitd):
    daemon = zitd(SLOW)
    process, job = start_generate(daemon, "a", "--not-before", 600, "-o", "/dev/null", "--timeout", 3)
    end(daemon, signal.SIGKILL)
    code, _, errors = said(process)
    assert code == 124 and f"'zitctl cancel {job}' does it when zitd is back" in errors, errors
    daemon.start()
    daemon.call("cancel", job=job)


def test_an_end_before_the_job_was_taken(zitd):
    """The request lies in the socket of a zitd that does not read any more."""
    daemon = zitd(SLOW)
    daemon.process.send_signal(signal.SIGSTOP)
    process = start_ctl(daemon, "generate", "a", "-o", "/dev/null")
    until(lambda: waits_for_an_answer(process.pid), 10.0, "it waits for an answer")
    end(daemon, signal.SIGKILL)
    code, _, errors = said(process)
    assert code == 69 and "whether it took the job before, 'zitctl queue all' says" in errors, errors
    daemon.start()
