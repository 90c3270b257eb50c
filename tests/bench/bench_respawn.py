#!/usr/bin/env python3
"""How long after SIGKILL a supervisor has the next process in main(): zitd beside supervisord, kill by kill in one run.

  make bench-respawn          prints it; nothing here fails on a time

Both start a shell script that becomes stamp, which notes when it is in main(): the shell's start is in both times. Under
zitd it then becomes fake_runner, is killed in the middle of a job, and what counts is the later of the next main() and
the job's return to the queue. Under supervisord it waits. The pauses between kills are random, so that neither is always
hit at the same point of its loop.
"""
import argparse
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

from bench_service import percentile, show, supervisord
from harness import BUILD, Zitd, until

STAMP = BUILD / "tests" / "bench" / "stamp"
FORGIVEN = 4  # kills before a restart that zitd is told: at five within ten minutes it would give the runner up


class Stamps:
    """A program that is stamped at its start, and its processes, oldest first: (ns of CLOCK_MONOTONIC, pid)."""

    def __init__(self, directory, program=""):
        self.path, self.command = directory / "stamps", directory / "stamped"
        self.path.touch()
        self.command.write_text(f'#!/bin/sh\nexec {STAMP} {self.path} {program}\n')
        self.command.chmod(0o755)

    def all(self):
        return [tuple(map(int, line.split())) for line in self.path.read_text().splitlines()]

    def kill(self):
        """Ends the newest process; when that was, and when the next one was in main(), in ns."""
        before = self.all()
        begin = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        os.kill(before[-1][1], signal.SIGKILL)
        return begin, until(lambda: self.all()[len(before):], 30.0, "a new process")[0][0]


class Zit:
    """zitd with one runner; log_level = debug, for its log is what tells when a job is queued again."""

    def __init__(self, directory):
        directory.mkdir()
        self.stamps, self.kills = Stamps(directory, f'{BUILD / "tests" / "fake_runner"} "$@"'), 0
        self.daemon = Zitd(directory, "step 0.05", zitd={"log_level": "debug"}, queue={"quarantine": 0},
                           runner={"command": self.stamps.command})
        self.daemon.env.pop("JOURNAL_STREAM", None)  # with it the log's lines have no time
        self.daemon.start()

    def recovery_s(self):
        if self.kills % FORGIVEN == FORGIVEN - 1:
            self.restart()
        self.kills += 1
        job = self.daemon.submit(steps=100)
        self.daemon.wait_running(job)
        begin, in_main = self.stamps.kill()
        until(lambda: self.daemon.job(job)["attempts"] == 2, 10.0, "second attempt")
        took_ns = max(in_main, self.queued_again(job)) - begin
        self.daemon.call("cancel", job=job)
        self.await_idle()
        return took_ns * 1e-9

    def queued_again(self, job):
        """In ns of CLOCK_MONOTONIC; the log is in the time of day."""
        line = re.search(rf"^(\S+) zitd: job {job}: running -> queued ", self.daemon.log(), re.MULTILINE)
        return int(datetime.fromisoformat(line[1]).timestamp() * 1e9) - time.time_ns() + time.monotonic_ns()

    def restart(self):
        generation = self.daemon.runner()["generation"]
        self.daemon.call("restart")
        until(lambda: self.daemon.runner()["generation"] > generation, 10.0, "restarted runner")
        self.await_idle()

    def await_idle(self):
        until(lambda: self.daemon.runner()["state"] == "idle", 10.0, "idle runner")


def measure(directory, kills, rng):
    """Seconds of each kill: zitd's, supervisord's."""
    stamps = Stamps(directory)
    program = f"command={stamps.command}\nautorestart=true\nstartsecs=0\nstartretries=1000000"
    zit, ours, theirs = Zit(directory / "zitd"), [], []
    try:
        with supervisord(directory, program):
            until(stamps.all, 20.0, "the first process of supervisord")
            for _ in range(kills):
                time.sleep(rng.random())
                ours.append(zit.recovery_s())
                begin, in_main = stamps.kill()
                theirs.append((in_main - begin) * 1e-9)
        zit.daemon.audit()
    finally:
        zit.daemon.clean_up()
    return ours, theirs


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--kills", type=int, default=200)
    p.add_argument("--seed", type=int, default=1)
    options = p.parse_args()
    if not shutil.which("supervisord"):
        sys.exit("bench-respawn: there is no supervisord to compare with; apt-get install supervisor")
    with tempfile.TemporaryDirectory(prefix="zit-respawn-") as name:
        ours, theirs = measure(Path(name), options.kills, random.Random(options.seed))
    show("zitd: SIGKILL -> job queued, next runner in main()", ours)
    show("supervisord: SIGKILL -> next process in main()", theirs)
    print(f"supervisord / zitd, p50: {percentile(theirs, 50) / percentile(ours, 50):.0f}")
    print(f"zitd_p50_ms={percentile(ours, 50) * 1e3:.3f} zitd_p99_ms={percentile(ours, 99) * 1e3:.3f} "
          f"supervisord_p50_ms={percentile(theirs, 50) * 1e3:.3f}")


if __name__ == "__main__":
    main()
