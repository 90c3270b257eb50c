"""
A job that overruns its time in a kernel without an end: zitd's whole escalation, and the device is free afterwards.

The runner is fake_runner with a process beside it, in its group, that hangs a real kernel (tests/gpu/faulty.cu): what a
runner's own kernel does to the device, without a way to make the runner do it. ZIT_FAULTY names another such program.
"""
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "system"))
from harness import BUILD, Zitd, until  # noqa: E402

FAULTY = os.environ.get("ZIT_FAULTY", str(BUILD / "cuda" / "faulty"))
PROGRAM = """#!/bin/sh
{faulty} hang >{dir}/hang &
exec {fake} "$@"
"""
SLACK_MIB, PATIENCE_S = 64, 20


def free_mib():
    answer = subprocess.run([FAULTY, "memory"], capture_output=True, text=True, timeout=60, check=False)
    if answer.returncode != 0:
        pytest.skip(f"there is no device: {answer.stderr}")
    return int(answer.stdout)


def test_a_timeout_frees_the_device(tmp_path):
    before = free_mib()
    program = tmp_path / "runner"
    program.write_text(PROGRAM.format(faulty=FAULTY, dir=tmp_path, fake=BUILD / "tests" / "fake_runner"))
    program.chmod(0o755)
    runner = {"command": program, "device": "cpu", "exec_timeout": 2, "stopwaitsecs_timeout": 1}
    daemon = Zitd(tmp_path / "d", "step 1 hang", runner=runner).start()
    try:
        until(lambda: "launched" in (tmp_path / "hang").read_text(), 60.0, "the kernel")
        first = daemon.runner()["pid"]
        assert daemon.generate()["state"] == "timed_out"
        until(lambda: daemon.runner()["pid"] not in (0, first), 30.0, "a fresh process")
        daemon.stop()
        until(lambda: not daemon.processes(), PATIENCE_S, "the end of all processes")
        until(lambda: free_mib() + SLACK_MIB >= before, PATIENCE_S, f"the device's memory: {free_mib()} of {before} MiB free")
    finally:
        daemon.clean_up()
