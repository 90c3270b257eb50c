#!/usr/bin/env python3
"""What the service costs when nobody asks, and what an administrator waits for: zitd beside supervisord, in one run.

  make bench-systemd          prints it; nothing here fails on a time

Both supervise one process: zitd fake_runner, with a watchdog as its unit has it; supervisord a sleep. A wake-up is a
voluntary context switch of any of its threads. `supervisorctl restart` returns when the new process runs, `zitctl
restart` when the order is taken: for that, the time until the new process has said hello stands beside it.
"""
import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench_service import percentile, show, supervisord
from harness import BUILD, Connection, Zitd, until
from systemd import Systemd

QUEUED, HISTORY, AT_ONCE = 50, 10000, 20


def wall_s(words):
    begin = time.perf_counter()
    subprocess.run(list(map(str, words)), check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def zitctl(daemon, *words):
    return wall_s([BUILD / "zitctl", "-H", daemon.socket_path, *words])


def restart(daemon):
    """The command, and until the successor is there."""
    generation, begin = daemon.runner()["generation"], time.perf_counter()
    command = zitctl(daemon, "restart")
    until(lambda: (r := daemon.runner())["generation"] > generation and r["state"] not in ("spawning", "backoff"), 10, "successor")
    took = time.perf_counter() - begin
    until(lambda: daemon.runner()["state"] == "idle", 10, "idle")
    return command, took


def commands(daemon, conf, rounds):
    """Interleaved; supervisorctl only with a configuration, and a fifth as often, for it takes its time."""
    ours, orders, successors, theirs, their_restarts = [], [], [], [], []
    for i in range(rounds):
        ours.append(zitctl(daemon, "status"))
        order, successor = restart(daemon)
        orders.append(order)
        successors.append(successor)
        if conf and i % 5 == 0:
            theirs.append(wall_s(["supervisorctl", "-c", conf, "status"]))
            their_restarts.append(wall_s(["supervisorctl", "-c", conf, "restart", "x"]))
    show("zitctl status", ours)
    show("zitctl restart", orders)
    show("... -> the next runner said hello", successors)
    if conf:
        show("supervisorctl status", theirs)
        show("supervisorctl restart", their_restarts)
        print(f"zit / supervisor, p50: status {percentile(ours, 50) / percentile(theirs, 50):.4f}, "
              f"restart {percentile(successors, 50) / percentile(their_restarts, 50):.4f}")


def switches(pid):
    """Voluntary context switches of all its threads."""
    lines = [line for task in Path(f"/proc/{pid}/task").iterdir() for line in (task / "status").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))


def idle(pids, seconds):
    """Wake-ups a second of each."""
    before = {name: switches(pid) for name, pid in pids.items()}
    time.sleep(seconds)
    for name, pid in pids.items():
        print(f"{name + ', idle':48s} {(switches(pid) - before[name]) / seconds:.2f} wake-ups/s over {seconds} s")


def resident(daemon):
    """With a long past and a full queue."""
    connection = Connection(daemon.socket_path)
    for _ in range(HISTORY // AT_ONCE):
        asked = [connection.send("submit", prompt="a red circle on a blue background", steps=1, wait=True) for _ in range(AT_ONCE)]
        for each in asked:
            connection.reply(each)
    daemon.ctl("pause", "all")
    for _ in range(QUEUED):
        connection.call("submit", prompt="a red circle on a blue background", steps=1)
    print(f"{'zitd resident':48s} {daemon.rss_kib()} KiB, {QUEUED} queued, {HISTORY} in history")
    connection.close()


def measure(directory, options, conf, supervisor):
    systemd = Systemd(directory, watchdog_s=30)
    daemon = Zitd(directory / "d", "step 0", notify=systemd.environment, queue={"client_cap": 100, "reserved_high": 0}).start()
    try:
        print(f"{'zitd resident':48s} {daemon.rss_kib()} KiB new")
        commands(daemon, conf, options.rounds)
        pids = {"zitd": daemon.process.pid}
        if supervisor:
            pids["supervisord"] = supervisor
        idle(pids, options.seconds)
        resident(daemon)
    finally:
        daemon.process.kill()
        daemon.clean_up()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rounds", type=int, default=50)
    p.add_argument("--seconds", type=int, default=60, help="of idleness")
    options = p.parse_args()
    with tempfile.TemporaryDirectory(prefix="zit-systemd-") as name:
        if not shutil.which("supervisord"):
            print("supervisord is not installed: nothing to compare with")
            measure(Path(name), options, None, None)
            return
        with supervisord(Path(name), "command=sleep 1000\nstartsecs=0") as conf:
            measure(Path(name), options, conf, int((Path(name) / "s.pid").read_text()))


if __name__ == "__main__":
    sys.exit(main())
