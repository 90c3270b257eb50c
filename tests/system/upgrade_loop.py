#!/usr/bin/env python3
"""zitd is upgraded every 200 ms under load, and nobody may notice.

  make upgrade-loop N=200

Clients of several kinds, each on one connection for the whole run: some wait for their jobs with the picture as a
descriptor or as base64, one subscribes to events, some submit and come back for the result, one asks for `status`
a thousand times a second, in a process of its own so that it sees zitd's pauses and not those of its fellows. Each request must be answered, each job be done at its first attempt by the runner that was
there in the beginning, with the same picture. Ends with the line
upgrades=… failed_requests=0 pause_p99_ms=…, and fails when failed_requests is not 0 or the auditor finds something.

pause_p99_ms is over the upgrades: of each the longest time that one of its `status` requests took (goal: 20 ms).
"""
import argparse
import base64
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

from harness import FINAL, Connection, RpcError, Zitd

SCRIPT = "step 0.01"
SECTIONS = {"runner": {"concurrency": 2}, "runner:a": {}, "runner:b": {}, "queue": {"max_size": 500},
            "zitd": {"log_level": "notice"}}
EVERY_S = 0.2


class Run:
    """What all clients share."""

    def __init__(self, daemon, seed):
        self.daemon, self.seed = daemon, seed
        self.over = threading.Event()
        self.lock = threading.Lock()
        self.requests, self.failures = 0, []
        self.pictures = set()

    def client(self, work, *arguments):
        """A thread that does its work on one connection until the run is over."""
        def body():
            connection = self.daemon.connect()
            rng = random.Random(f"{self.seed} {work.__name__} {arguments}")
            while not self.over.is_set():
                try:
                    work(connection, rng, *arguments)
                except (RpcError, OSError, EOFError, AssertionError, KeyError) as e:
                    self.fail(f"{work.__name__}{arguments}: {e!r}\n{traceback.format_exc()}")
                    connection = self.daemon.connect()
                with self.lock:
                    self.requests += 1
        thread = threading.Thread(target=body)
        thread.start()
        return thread

    def fail(self, why):
        with self.lock:
            self.failures.append(why)

    def see(self, record, data):
        assert record["state"] == "done" and record["attempts"] == 1, record
        with self.lock:
            self.pictures.add(data)
            assert len(self.pictures) == 1, "another picture"

    # ---- kinds of clients

    def waits(self, connection, rng, deliver, durable):
        record = connection.call("submit", prompt="a", steps=rng.randrange(1, 30), wait=True, deliver=deliver, seed=1,
                                 durable=durable, events=rng.random() < 0.5,
                                 priority=rng.choice(("high", "normal", "low")))
        picture = record["result"]["pictures"][0]
        if deliver == "base64":
            data = base64.b64decode(picture["base64"])
        else:
            data = os.pread(connection.fds[picture["fd"]], picture["bytes"] + 1, 0)
            os.close(connection.fds.pop())
        self.see(record, data)

    def comes_back(self, connection, rng):
        job = connection.call("submit", prompt="b", steps=rng.randrange(1, 30), seed=1)["job"]
        time.sleep(rng.random() * 0.3)
        record = connection.call("wait", job=job)
        assert connection.call("get", job=job)["state"] == "done"
        self.see(record, Path(record["result"]["pictures"][0]["path"]).read_bytes())

    def subscribes(self, connection, _rng):
        seq = connection.call("subscribe")["after"]
        connection.socket.settimeout(0.5)
        while not self.over.is_set():
            try:
                event = connection.read_line()["params"]
            except TimeoutError:
                continue
            assert event["seq"] == seq + 1, f"event {event['seq']} after {seq}"
            seq += 1

    def start(self):
        kinds = [(self.waits, deliver, durable) for deliver in ("fd", "base64") for durable in (True, False)]
        kinds += [(self.comes_back,)] * 2 + [(self.subscribes,)]
        return [self.client(*kind) for kind in kinds]


def poll(path):
    """Asks for the status until stdin ends: a line for each, when it was sent and how long it took."""
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    connection = Connection(path)
    while not over.is_set():
        begin = time.monotonic()
        connection.call("status")
        took = time.monotonic() - begin
        print(begin, took)
        time.sleep(max(0.0, begin + 0.001 - time.monotonic()))


class Poller:
    """poll() in a process of its own."""

    def __init__(self, path):
        # Its lines go to a file: a pipe that nobody reads would stop it.
        self.lines = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen([sys.executable, __file__, "--poll", path], stdin=subprocess.PIPE,
                                        stdout=self.lines)

    def end(self, run):
        """[(when it was sent, how long it took)]; a request that failed has ended it before."""
        self.process.stdin.close()
        if self.process.wait(60) != 0:
            run.fail("a status request failed")
        self.lines.seek(0)
        return [tuple(map(float, line.split())) for line in self.lines]


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def pauses(polls, upgrades):
    """Of each upgrade (begin, end) the longest poll that overlaps it, in ms."""
    longest = [max((took for begin, took in polls if begin < end and begin + took > start), default=0.0)
               for start, end in upgrades]
    return [1000 * value for value in longest]


def upgrade_again_and_again(run, count):
    """[(begin, end)] by our clock, and the pauses in ms that zitd itself tells."""
    admin = run.daemon.connect()
    upgrades, told = [], []
    for _ in range(count):
        begin = time.monotonic()
        try:
            told.append(admin.call("upgrade")["pause_ms"])
        except (RpcError, OSError, EOFError) as e:
            run.fail(f"upgrade: {e!r}")
            admin = run.daemon.connect()
        upgrades.append((begin, time.monotonic()))
        time.sleep(max(0.0, begin + EVERY_S - time.monotonic()))
    return upgrades, told


def runners(daemon):
    return [(r["pid"], r["generation"]) for r in daemon.status()["runners"]]


def measure(run, count):
    """The whole run; its figures are printed."""
    daemon = run.daemon
    before = runners(daemon)
    threads, poller = run.start(), Poller(daemon.socket_path)
    upgrades, told = upgrade_again_and_again(run, count)
    run.over.set()
    for thread in threads:
        thread.join(60)
    polls = poller.end(run)
    if runners(daemon) != before:
        run.fail(f"runners were replaced: {before} -> {runners(daemon)}")
    records = daemon.records()
    daemon.accepted = {r["job"] for r in records}
    if not all(r["state"] in FINAL for r in records):
        run.fail("a job has no end")
    daemon.audit()
    seen = pauses(polls, upgrades)
    print(f"requests={run.requests} jobs={len(records)} polls={len(polls)} "
          f"poll_p50_ms={1000 * percentile([t for _, t in polls], 0.5):.2f} "
          f"pause_p50_ms={percentile(seen, 0.5):.1f} pause_max_ms={max(seen):.1f} "
          f"told_p50_ms={percentile(told, 0.5):.1f} told_p99_ms={percentile(told, 0.99):.1f}")
    print(f"upgrades={len(upgrades)} failed_requests={len(run.failures)} pause_p99_ms={percentile(seen, 0.99):.1f}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--upgrades", type=int, default=200)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--poll", metavar="SOCKET", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.poll:
        return poll(options.poll)
    directory = tempfile.mkdtemp(prefix="zit-upgrade-")
    daemon = Zitd(directory, SCRIPT, **SECTIONS).start()
    run = Run(daemon, options.seed)
    finished = False
    try:
        measure(run, options.upgrades)
        finished = True
    finally:
        for failure in run.failures[:5]:
            print(failure, file=sys.stderr)
        if not finished or run.failures:
            print(daemon.log()[-3000:], file=sys.stderr)
        daemon.clean_up()
        shutil.rmtree(directory, ignore_errors=True)
    return 1 if run.failures else 0


if __name__ == "__main__":
    sys.exit(main())
