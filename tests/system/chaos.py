#!/usr/bin/env python3
"""Mixed load on a real zitd with real runners, and random faults from outside, for a while; then the books are checked.

  make chaos SECONDS=60 SEED=1

Every job that was accepted must have exactly one end, every request exactly one answer, and every picture the pixels
of an undisturbed run with the same parameters, whatever was killed, stopped or restarted meanwhile. Ends with the line
accepted=… done=… failed=… resumed=… respawns=… lost=0 duplicates=0 worst_recovery_ms=…, and fails when lost or
duplicates is not 0, a picture differs, or the auditor of the system tests finds something left behind.
"""
import argparse
import collections
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

from harness import FINAL, Connection, RpcError, Zitd, result_pixels, until

SECTIONS = {
    "zitd": {"max_clients": 200},
    "queue": {"history": 100000, "quarantine": 2},
    "runner": {"concurrency": 2, "hang_timeout": 2, "stopwaitsecs_timeout": 0.5, "stopwaitsecs": 3, "max_jobs": 60},
    "runner:a": {},
    "runner:b": {},
}
CLIENTS, PARAMETER_SETS = 5, 12
REFUSALS = {"queue_full", "no_runner", "poisoned", "queue_timeout"}  # the last: it asked for less patience than it needs


def parameter_sets(rng):
    return [{"prompt": f"a picture of thing {i}", "seed": rng.randrange(1 << 31), "steps": rng.choice((4, 8, 20, 40)),
             "width": rng.choice((64, 80, 96)), "height": rng.choice((64, 96)), "n": rng.choice((1, 1, 1, 2, 3))}
            for i in range(PARAMETER_SETS)]


def references(directory, sets):
    """The pictures of an undisturbed run, by their prompt."""
    daemon = Zitd(directory, **{k: dict(v) for k, v in SECTIONS.items()}).start()
    try:
        records = {p["prompt"]: daemon.generate(**p) for p in sets}
        assert all(r["state"] == "done" for r in records.values()), records
        return {prompt: result_pixels(r) for prompt, r in records.items()}
    finally:
        daemon.stop()
        daemon.clean_up()


class Books:
    """What the clients have seen, to be held against what zitd says in the end."""

    def __init__(self, pictures):
        self.lock = threading.Lock()
        self.pictures = pictures
        self.accepted = {}  # id -> the state that a waiting client was told, or None
        self.duplicates = 0
        self.wrong = []  # pictures that differ, outcomes that changed
        self.refused = collections.Counter()
        self.broken = []  # what went wrong in a client thread

    def accept(self, job):
        with self.lock:
            self.accepted.setdefault(job, None)

    def answer(self, record):
        with self.lock:
            if self.accepted.get(record["job"]) is not None:
                self.duplicates += 1
            self.accepted[record["job"]] = record["state"]
        if record["state"] == "done" and result_pixels(record) != self.pictures[record["prompt"]]:
            self.wrong.append(f"{record['job']}: its pictures are not those of an undisturbed run")

    def refuse(self, error):
        with self.lock:
            self.refused[error.name] += 1
        if error.name not in REFUSALS:
            self.wrong.append(f"an unexpected refusal: {error}")


class Client(threading.Thread):
    """One user after another, each on a connection of its own, until the end."""

    def __init__(self, daemon, books, sets, seed, end):
        super().__init__(daemon=True)
        self.zitd, self.books, self.sets, self.end = daemon, books, sets, end
        self.rng = random.Random(seed)

    def run(self):
        kinds = (self.waits, self.waits, self.submits_and_waits, self.hangs_up, self.cancels, self.is_impatient)
        try:
            while time.monotonic() < self.end:
                kind, request = self.rng.choice(kinds), dict(self.rng.choice(self.sets))
                request["priority"] = self.rng.choice(("high", "normal", "low"))
                connection = Connection(self.zitd.socket_path, timeout=120.0)
                try:
                    kind(connection, request)
                except RpcError as e:
                    self.books.refuse(e)
                    time.sleep(0.1)
                finally:
                    connection.close()
        except Exception as e:  # noqa: BLE001: whatever it is, it must be seen
            self.books.broken.append(f"{self.name}: {e!r}")

    def waits(self, connection, request):
        number = connection.send("submit", wait=True, events=self.rng.random() < 0.5, **request)
        self.books.answer(connection.reply(number))
        connection.call("status")  # whatever else it was sent comes first
        with self.books.lock:
            self.books.duplicates += sum(1 for line in connection.strays if line.get("id") == number)

    def submits_and_waits(self, connection, request):
        job = connection.call("submit", **request)["job"]
        self.books.accept(job)
        time.sleep(self.rng.random() * 0.3)
        self.books.answer(connection.call("wait", job=job))

    def hangs_up(self, connection, request):
        connection.send("submit", wait=True, events=True, on_disconnect=self.rng.choice(("cancel", "keep")), **request)
        line = connection.read_line()
        if "params" in line:
            self.books.accept(line["params"]["job"])
        elif "error" in line:
            raise RpcError(line["error"])
        time.sleep(self.rng.random() * 0.2)

    def cancels(self, connection, request):
        job = connection.call("submit", **request)["job"]
        self.books.accept(job)
        time.sleep(self.rng.random() * 0.5)
        connection.call("cancel", job=job)
        self.books.answer(connection.call("wait", job=job))

    def is_impatient(self, connection, request):
        key = self.rng.choice(("exec_timeout", "queue_timeout"))
        request[key] = 0.05 + self.rng.random() * 0.2
        self.books.answer(connection.call("submit", wait=True, **request))


class Faults:
    """One fault after another, each followed by a look at how long the runner was away."""

    def __init__(self, daemon, seed):
        self.zitd, self.rng = daemon, random.Random(seed)
        self.counts = collections.Counter()
        self.worst_s = 0.0

    def runner(self):
        return self.rng.choice(self.zitd.status()["runners"])

    def kill(self, number):
        runner = self.runner()
        if not runner["pid"]:
            return
        os.kill(runner["pid"], number)
        if number == signal.SIGKILL and runner["state"] in ("idle", "busy"):
            self.measure(runner)

    def measure(self, before):
        """From the kill to serving again; a runner that has died too often is another matter."""
        begin = time.monotonic()
        while time.monotonic() - begin < 10:
            now = next(r for r in self.zitd.status()["runners"] if r["name"] == before["name"])
            if now["state"] == "failed":
                return
            if now["generation"] > before["generation"] and now["state"] in ("idle", "busy"):
                break
            time.sleep(0.002)
        self.worst_s = max(self.worst_s, time.monotonic() - begin)

    def restart(self):
        self.zitd.call("restart", runner=self.runner()["name"])

    def reload(self):
        self.zitd.process.send_signal(signal.SIGHUP)

    def garbage(self):
        connection = Connection(self.zitd.socket_path)
        connection.send_raw(self.rng.randbytes(self.rng.randrange(1, 5000)))
        connection.close()

    def storm(self):
        for _ in range(100):
            Connection(self.zitd.socket_path).close()

    def one(self):
        kinds = {"SIGKILL": lambda: self.kill(signal.SIGKILL), "SIGABRT": lambda: self.kill(signal.SIGABRT),
                 "SIGSTOP": lambda: self.kill(signal.SIGSTOP), "restart": self.restart, "reload": self.reload,
                 "garbage": self.garbage, "storm": self.storm}
        name = self.rng.choice(("SIGKILL",) * 4 + ("SIGABRT", "SIGSTOP", "restart", "reload", "garbage", "storm"))
        try:
            kinds[name]()
            self.counts[name] += 1
        except (OSError, RpcError):
            self.counts[name + " missed"] += 1  # the runner was gone, or the peer closed first
        for runner in self.zitd.status()["runners"]:
            if runner["state"] == "failed":
                self.zitd.call("restart", runner=runner["name"])
                self.counts["forgiven"] += 1


def final_records(daemon, books):
    """Every accepted job's record, once it is final; and the ids that zitd does not know or does not end."""
    records, lost = [], []
    for job in books.accepted:
        try:
            records.append(until(lambda job=job: (r := daemon.job(job))["state"] in FINAL and r, 90.0, f"{job} final"))
        except (RpcError, AssertionError):
            lost.append(job)
    return records, lost


def check_outcomes(records, books):
    """A job's end is the one that its client was told, and stays it."""
    for record in records:
        told = books.accepted[record["job"]]
        if told is not None and told != record["state"]:
            books.wrong.append(f"{record['job']}: its client was told {told}, now it is {record['state']}")


def report(records, lost, books, faults, respawns):
    failed = collections.Counter(r["error"]["name"] for r in records if r["state"] != "done")
    done = sum(r["state"] == "done" for r in records)
    print("faults:", ", ".join(f"{name} {count}" for name, count in sorted(faults.counts.items())))
    print("ended badly, by error:", ", ".join(f"{name} {count}" for name, count in sorted(failed.items())))
    print("refused:", ", ".join(f"{name} {count}" for name, count in sorted(books.refused.items())) or "none")
    print("steps that checkpoints saved:", sum(r.get("steps_saved", 0) for r in records), "in",
          sum(r.get("resumed", 0) for r in records), "resumptions;", "attempts", sum(r["attempts"] for r in records))
    print("made way for a high one:", sum("suspended_s" in r for r in records), "jobs, of which done",
          sum("suspended_s" in r and r["state"] == "done" for r in records))
    for line in books.wrong + books.broken:
        print("WRONG:", line)
    print(f"accepted={len(books.accepted)} done={done} failed={sum(failed.values())} "
          f"resumed={sum(r.get('resumed', 0) for r in records)} respawns={respawns} lost={len(lost)} "
          f"duplicates={books.duplicates} worst_recovery_ms={faults.worst_s * 1e3:.0f}", flush=True)


def storm(daemon, pictures, sets, seconds, seed):
    books, end = Books(pictures), time.monotonic() + seconds
    clients = [Client(daemon, books, sets, f"{seed}-{i}", end) for i in range(CLIENTS)]
    faults = Faults(daemon, seed)
    for client in clients:
        client.start()
    while time.monotonic() < end:
        time.sleep(0.1 + faults.rng.random() * 0.9)
        faults.one()
    for client in clients:
        client.join(120.0)
        if client.is_alive():
            books.broken.append(f"{client.name} still waits for an answer")
    return books, faults


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--seconds", type=float, default=60)
    p.add_argument("--seed", type=int, default=1)
    options = p.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="zit-chaos-"))
    sets = parameter_sets(random.Random(options.seed))
    pictures = references(directory / "plain", sets)
    daemon = Zitd(directory / "chaos", **{k: dict(v) for k, v in SECTIONS.items()}).start()
    try:
        books, faults = storm(daemon, pictures, sets, options.seconds, options.seed)
        daemon.call("restart")  # forgives deaths, and frees what was stopped last
        records, lost = final_records(daemon, books)
        check_outcomes(records, books)
        respawns = sum(r["restarts"] for r in daemon.status()["runners"])
        daemon.audit()
        report(records, lost, books, faults, respawns)
        good = not lost and not books.duplicates and not books.wrong and not books.broken
    finally:
        daemon.clean_up()
    if good:
        shutil.rmtree(directory)
    else:
        print(f"what is left is in {directory}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
