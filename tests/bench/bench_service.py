#!/usr/bin/env python3
"""Figures of the service: how long an acknowledgement and a recovery take, and how large zitd is.

  make bench-service          prints them; nothing here fails on a time

The runner is fake_runner with steps that take no time, so what is measured is zitd.
"""
import contextlib
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "system"))
from harness import BUILD, Connection, Zitd, until  # noqa: E402

SUBMITS, KILLS, DEADLINES, DEAF = 2000, 40, 200, 3


def percentile(values, p):
    return sorted(values)[min(len(values) - 1, int(len(values) * p / 100))]


def show(name, seconds, unit=1e3, label="ms"):
    print(f"{name:48s} p50 {percentile(seconds, 50) * unit:8.3f} {label}  p99 {percentile(seconds, 99) * unit:8.3f} {label}"
          f"  n {len(seconds)}")


def acknowledgements(daemon):
    """One connection, submit without wait; the job is waited for outside the clock."""
    connection = Connection(daemon.socket_path)
    waiter = Connection(daemon.socket_path)
    times = []
    for _ in range(SUBMITS):
        begin = time.perf_counter()
        job = connection.call("submit", prompt="a cat", steps=1)["job"]
        times.append(time.perf_counter() - begin)
        waiter.call("wait", job=job)
    connection.close()
    waiter.close()
    return times


def recoveries(directory):
    """SIGKILL of an idle runner to the successor's HELLO as zitd logs it; each daemon is killed at below the intensity limit."""
    times = []
    while len(times) < KILLS:
        daemon = Zitd(directory / f"r{len(times)}", "step 0").start()
        for _ in range(3):
            runner = daemon.runner()
            begin = time.perf_counter()
            os.kill(runner["pid"], signal.SIGKILL)
            while True:
                now = daemon.runner()
                if now["generation"] > runner["generation"] and now["state"] not in ("spawning", "backoff"):
                    break
            times.append(time.perf_counter() - begin)
            until(lambda: daemon.runner()["state"] == "idle", 10, "runner idle")
        daemon.stop()
        daemon.clean_up()
    return times


def deadlines(directory):
    """Lateness of CANCEL after the execution deadline, by zitd's own clock; then until the device is free, from the
    client's answer: a runner that stops at its next step (10 ms), and one that must be killed (stopwaitsecs_timeout 5)."""
    late, free, killed = [], [], []
    daemon = Zitd(directory / "deadlines", "step 0.01;@deaf;job ignore_signals;ack hang").start()
    for prompts, times in ((["good"] * DEADLINES, free), (["@deaf"] * DEAF, killed)):
        for prompt in prompts:
            record = daemon.generate(prompt, steps=50, exec_timeout=0.05)
            begin = time.perf_counter()
            late.append(record["run_s"] - 0.05)
            until(lambda: daemon.runner()["state"] == "idle", 30, "device free")
            times.append(time.perf_counter() - begin)
    daemon.stop()
    daemon.clean_up()
    return late, free, killed


@contextlib.contextmanager
def supervisord(directory, program):
    """supervisord with one program, x, by these lines of its section, all its files in the directory; its configuration."""
    conf = directory / "supervisord.conf"
    conf.write_text(f"[unix_http_server]\nfile={directory}/s.sock\n[supervisord]\nlogfile={directory}/s.log\n"
                    f"pidfile={directory}/s.pid\nchildlogdir={directory}\n[rpcinterface:supervisor]\n"
                    "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n"
                    f"[supervisorctl]\nserverurl=unix://{directory}/s.sock\n[program:x]\n{program}\n")
    process = subprocess.Popen(["supervisord", "-n", "-c", str(conf)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: (directory / "s.sock").exists(), 20, "supervisord")
        yield conf
    finally:
        process.terminate()
        process.wait()


def main():
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        daemon = Zitd(directory / "d", "step 0").start()
        empty_kib = daemon.rss_kib()
        show("submit -> acknowledgement, one connection", acknowledgements(daemon), 1e6, "us")
        print(f"{'zitd resident':48s} {empty_kib} KiB new, {daemon.rss_kib()} KiB after {SUBMITS} jobs")
        daemon.stop()
        daemon.clean_up()
        show("SIGKILL of a runner -> successor said hello", recoveries(directory))
        late, free, killed = deadlines(directory)
        show("execution deadline -> CANCEL sent", late)
        show("... -> device free, steps of 10 ms", free)
        show("... -> device free, runner killed after 5 s", killed)


if __name__ == "__main__":
    main()
