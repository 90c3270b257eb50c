#!/usr/bin/env python3
"""zitd under load, killed with SIGKILL at random moments, again and again, on one state directory.

  make crash N=300 SEED=1     ends with one line of figures; fails when a job was lost or done twice

Each round: zitd is started; clients submit jobs that must survive, some of them waited for, some by a key, and hold, release,
reclass and cancel others that wait for long; 20 to 250 ms later it is killed. An order that was acknowledged is so in the next
life. An attempt counts once it is on disk, which it is not in state claimed, and an answer may say that too.
lost: acknowledged jobs that zitd does not know later, or that do not end, or whose attempts went down. twice: jobs that ran again
though a client had been told their end, and keys with two jobs. replay: from zitd's exec to its first answer on the socket.
"""
import argparse
import collections
import contextlib
import random
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path

from harness import FINAL, Connection, RpcError, Zitd, until

CLIENTS = 6
PARKED = {"group": "parked", "not_before": 86400}  # a job that waits for long, to be ordered about
ORDERS = (("hold", {}), ("release", {}), ("priority", {"priority": "high"}), ("priority", {"priority": "normal"}), ("cancel", {}))
REFUSALS = {"queue_full", "client_cap", "no_runner"}
SECTIONS = {"queue": {"max_size": 300, "client_cap": 100, "queue_timeout": 86400, "hold_timeout": 86400, "quarantine": 0},
            "runner": {"concurrency": 2},
            "zitd": {"log_level": "warning"}}


class Books:
    """What clients were told, over all lives of zitd."""

    def __init__(self):
        self.lock = threading.Lock()
        self.acknowledged = {}  # id -> the most attempts that anybody has seen
        self.told = {}  # id -> the final record that a client was given
        self.keys = collections.defaultdict(set)
        self.parked = {}  # id -> what of it was acknowledged last; None: an order is under way
        self.orders = 0  # acknowledged
        self.broken = []

    def known(self):
        """What anybody has seen by now: an answer to what is asked from here on must not fall behind it."""
        with self.lock:
            return dict(self.acknowledged)

    def note(self, record, known, key=None):
        job, attempts = record["job"], record.get("attempts", 0)
        with self.lock:
            seen = self.acknowledged.setdefault(job, 0)
            if record["state"] != "claimed":
                if attempts < known.get(job, 0):
                    self.broken.append(f"{job}: {known[job]} attempts, then {attempts}")
                self.acknowledged[job] = max(seen, attempts)
            if record["state"] in FINAL:
                self.told.setdefault(job, record)
            if key:
                self.keys[key].add(job)

    def begin_order(self, rng):
        """A parked job that nobody orders about meanwhile; None: there is none."""
        with self.lock:
            free = [job for job, promise in self.parked.items() if promise]
            job = rng.choice(free) if free else None
            if job:
                self.parked[job] = None
            return job

    def end_order(self, record):
        with self.lock:
            self.orders += 1
            self.parked[record["job"]] = standing(record)
            if record["state"] in FINAL:
                del self.parked[record["job"]]

    def check_orders(self, waiting):
        """In a new life, before anybody asks for more."""
        for job, promise in list(self.parked.items()):
            found = waiting.get(job)
            if promise and found != promise:
                self.broken.append(f"{job}: acknowledged as {promise}, then {found}")
            self.parked[job] = found
            if not found:
                del self.parked[job]


def standing(record):
    """What orders change of a job that waits."""
    return record["state"], record["priority"]


class Client(threading.Thread):
    """Requests one after another on one connection, until that breaks."""

    def __init__(self, daemon, books, seed):
        super().__init__(daemon=True)
        self.zitd, self.books, self.rng = daemon, books, random.Random(seed)

    def run(self):
        try:
            with contextlib.closing(Connection(self.zitd.socket_path, timeout=30.0)) as connection:
                while True:
                    self.one(connection)
        except (OSError, EOFError):
            pass  # zitd was killed
        except Exception as e:  # noqa: BLE001: whatever it is, it must be seen
            self.books.broken.append(repr(e))

    def one(self, connection):
        kind = self.rng.choice(("submit", "submit", "wait", "key", "look", "order", "order"))
        key = f"key {self.rng.randrange(10000)}"
        request = {"prompt": key if kind == "key" else "a cat", "steps": 1}
        known = self.books.known()
        try:
            if kind == "look":
                for record in connection.call("list", limit=50)["jobs"]:
                    if record["job"] in known:
                        self.books.note(record, known)
            elif kind == "order":
                self.order(connection, known)
            elif kind == "key":
                self.books.note(connection.call("submit", idempotency_key=key, **request), known, key)
            else:
                self.books.note(connection.call("submit", wait=kind == "wait", on_disconnect="keep", **request), known)
        except RpcError as e:
            if e.name not in REFUSALS:
                raise
            time.sleep(0.01)

    def order(self, connection, known):
        """A parked job more, or one that is ordered about."""
        job = self.books.begin_order(self.rng) if self.rng.random() < 0.8 else None
        method, params = self.rng.choice(ORDERS)
        if job:
            record = connection.call(method, job=job, **params)["jobs"][0]
        else:
            record = connection.call("submit", prompt="parked", **PARKED)
        self.books.note(record, known)
        self.books.end_order(record)


def start(daemon):
    """Seconds from exec to the first answer."""
    begin = time.monotonic()
    daemon.start(ready=False)
    while True:
        assert daemon.process.poll() is None, f"zitd ended with {daemon.process.returncode}:\n{daemon.log()[-3000:]}"
        with contextlib.suppress(OSError, EOFError):
            daemon.status()
            return time.monotonic() - begin
        time.sleep(0.001)


def one_round(daemon, books, rng):
    """One life of zitd; how long its start took."""
    took_s = start(daemon)
    books.check_orders({r["job"]: standing(r) for r in daemon.call("list", state="waiting", group="parked", limit=1000)["jobs"]})
    clients = [Client(daemon, books, rng.random()) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    time.sleep(rng.uniform(0.020, 0.250))
    daemon.kill()
    for client in clients:
        client.join(30.0)
        assert not client.is_alive(), "a client still waits, though zitd is gone"
    return took_s


def all_records(daemon):
    """Of every job that zitd knows, by id."""
    records, before = {}, {}
    while True:
        page = daemon.call("list", state="final", limit=1000, **before)["jobs"]
        if not page:
            return records
        for record in page:
            assert record["job"] not in records, "a job has two records"
            records[record["job"]] = record
        before = {"before": page[-1]["job"]}


def compare(books, records):
    """Jobs that were lost, and those that were done twice."""
    lost = [job for job, attempts in books.acknowledged.items()
            if job not in records or records[job]["attempts"] < attempts]
    twice = [job for job, told in books.told.items() if job in records and
             (told["state"], told["attempts"]) != (records[job]["state"], records[job]["attempts"])]
    twice += [key for key, jobs in books.keys.items() if len(jobs) > 1]
    return lost, twice


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--kills", type=int, default=300)
    p.add_argument("--seed", type=int, default=1)
    options = p.parse_args()
    rng, books = random.Random(options.seed), Books()
    directory = Path(tempfile.mkdtemp(prefix="zit-crash-"))
    daemon = Zitd(directory, "step 0.002", **SECTIONS)
    try:
        replays = sorted(one_round(daemon, books, rng) for _ in range(options.kills))
        start(daemon)
        daemon.wait_ready()
        with contextlib.suppress(RpcError):
            daemon.call("cancel", group="parked")
        until(lambda: not daemon.call("queue")["jobs"], 300.0, "the queue's end")
        lost, twice = compare(books, all_records(daemon))
        states = collections.Counter(r["state"] for r in all_records(daemon).values())
        daemon.baseline_fds = daemon.fd_count()
        daemon.audit()
    finally:
        daemon.clean_up()
    for line in books.broken + [f"lost: {job}" for job in lost] + [f"twice: {job}" for job in twice]:
        print("WRONG:", line)
    print("ends:", ", ".join(f"{state} {count}" for state, count in sorted(states.items())), f"after {books.orders} orders")
    p99 = replays[min(len(replays) - 1, int(len(replays) * 0.99))]
    print(f"kills={options.kills} acknowledged={len(books.acknowledged)} lost={len(lost)} twice={len(twice)} "
          f"replay_p99_ms={p99 * 1e3:.0f}", flush=True)
    good = not lost and not twice and not books.broken
    if good:
        shutil.rmtree(directory)
    else:
        print(f"what is left is in {directory}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
