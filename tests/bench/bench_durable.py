#!/usr/bin/env python3
"""Durable submissions per second: zitd beside Redis with appendfsync always, and how long zitd's loop waits for a slow disk.

  make bench-durable          prints it; nothing here fails on a time

One client program, pump, drives both over a UNIX socket: each connection sends a request as soon as it has the answer to
the last one. zitd's is a submit whose job stays queued, Redis's an RPUSH of the same text. The floor is durable_floor: rows of zitd's size
put into an SQLite store with zitd's settings by a thread of their own, with nothing read or remembered; it is what this
machine has for a queue in SQLite. Rounds are interleaved, each with fresh servers in fresh directories of one disk, and
before and after each one the disk itself is measured: 4 KiB appended, then fdatasync.
"""
import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench_service import percentile, show
from harness import BUILD, Connection, Zitd, until

PUMP = BUILD / "tests" / "bench" / "pump"
FLOOR = BUILD / "tests" / "bench" / "durable_floor"
BODY = json.dumps({"id": 1, "method": "submit", "params": {"prompt": "a cat in the rain, oil on canvas, " * 3, "steps": 8}})
LARGE = {"queue": {"max_size": 100000, "client_cap": 100, "reserved_high": 0, "queue_timeout": 86400},
         "runner": {"hang_timeout": 3600, "exec_timeout": 86400}, "zitd": {"log_level": "warning"}}
SLOW_MS, LATENCY_S = 4, 5


def fdatasync_s(directory, count=100):
    times = []
    fd = os.open(directory / "raw", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for _ in range(count):
        os.write(fd, bytes(4096))
        begin = time.perf_counter()
        os.fdatasync(fd)
        times.append(time.perf_counter() - begin)
    os.close(fd)
    return times


def pump(socket, connections, seconds, request, refusal):
    """Answers per second; none may be a refusal."""
    out = subprocess.run([PUMP, socket, str(connections), str(seconds), refusal], input=request, capture_output=True,
                         check=True)
    answered, refused, took = out.stdout.split()
    assert int(refused) == 0, out.stderr.decode()
    return int(answered) / float(took)


@contextlib.contextmanager
def zitd(directory, **options):
    """One whose runner is busy with its first job for good."""
    daemon = Zitd(directory, "step 3600", **LARGE, **options).start()
    try:
        daemon.call("submit", prompt="busy")
        until(lambda: daemon.runner()["state"] == "busy", 10.0, "a busy runner")
        yield daemon
    finally:
        daemon.clean_up()


@contextlib.contextmanager
def server(socket, *command):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        until(socket.exists, 10.0, command[0])
        yield socket
    finally:
        process.kill()
        process.wait()


def redis(directory):
    directory.mkdir()
    socket = directory / "redis.sock"
    return server(socket, "redis-server", "--port", "0", "--unixsocket", socket, "--dir", directory, "--appendonly", "yes",
                  "--appendfsync", "always", "--save", "", "--daemonize", "no")


def floor(directory):
    directory.mkdir()
    socket = directory / "floor.sock"
    return server(socket, FLOOR, socket, directory / "store.db")


def resp(*words):
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)


def one_round(directory, seconds, rates):
    directory.mkdir()
    submission = BODY.encode() + b"\n"
    for connections in (1, 64):
        with zitd(directory / f"zitd-{connections}") as daemon:
            rates[f"zitd_{connections}"].append(pump(daemon.socket_path, connections, seconds, submission, '"error"'))
        with floor(directory / f"floor-{connections}") as socket:
            rates[f"floor_{connections}"].append(pump(socket, connections, seconds, submission, '"error"'))
        with redis(directory / f"redis-{connections}") as socket:
            rates[f"redis_{connections}"].append(
                pump(socket, connections, seconds, resp(b"RPUSH", b"queue", BODY.encode()), "-"))
    shutil.rmtree(directory)


def loop_latency(directory, slow_ms):
    """Round trips of status at 1 kHz while eight connections submit and every sync takes so much longer."""
    directory.mkdir()
    control = directory / "disk"
    control.write_text(f"slow {slow_ms}")
    env = {"LD_PRELOAD": str(BUILD / "tests" / "faulty_disk.so"), "FAULTY_DISK": str(control)}
    with zitd(directory / "slow", env=env) as daemon:
        request = BODY.encode() + b"\n"
        load = subprocess.Popen([PUMP, daemon.socket_path, "8", str(LATENCY_S), '"error"'], stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE)
        load.stdin.write(request)
        load.stdin.close()
        connection, times = Connection(daemon.socket_path), []
        due = time.perf_counter()
        while load.poll() is None:
            begin = time.perf_counter()
            connection.call("status")
            times.append(time.perf_counter() - begin)
            due = max(due + 0.001, time.perf_counter())
            time.sleep(max(0.0, due - time.perf_counter()))
        answered, refused, _took = load.stdout.read().split()
        assert int(refused) == 0
        connection.close()
        return times, int(answered) / LATENCY_S


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--seconds", type=float, default=2.0)
    p.add_argument("--directory", help="on the disk to be measured; default: that of temporary files")
    options = p.parse_args()
    if not shutil.which("redis-server"):
        sys.exit("bench-durable: there is no redis-server to compare with; apt-get install redis-server")
    rates = {f"{name}_{c}": [] for name in ("zitd", "floor", "redis") for c in (1, 64)}
    raw = []
    with tempfile.TemporaryDirectory(prefix="zit-durable-", dir=options.directory) as name:
        directory = Path(name)
        for i in range(options.rounds):
            before = fdatasync_s(directory)
            one_round(directory / f"round{i}", options.seconds, rates)
            after = fdatasync_s(directory)
            raw += before + after
            print(f"round {i + 1}: fdatasync p50 {percentile(before, 50) * 1e3:.3f} ms before, "
                  f"{percentile(after, 50) * 1e3:.3f} ms after;",
                  ", ".join(f"{key} {values[-1]:.0f}/s" for key, values in rates.items()), flush=True)
        latencies = {ms: loop_latency(directory / f"slow{ms}", ms) for ms in (0, SLOW_MS)}
    show("fdatasync of 4 KiB", raw)
    for ms, (times, load) in latencies.items():
        show(f"status, syncs {ms} ms slower, {load:.0f} submits/s", times)
    middle = {key: statistics.median(values) for key, values in rates.items()}
    print("the floor by Redis, then zitd by the floor:", "; ".join(
        f"{middle[f'floor_{c}'] / middle[f'redis_{c}']:.2f}, {middle[f'zitd_{c}'] / middle[f'floor_{c}']:.2f} on {c}"
        for c in (1, 64)))
    print(f"zitd_1={middle['zitd_1']:.0f} redis_1={middle['redis_1']:.0f} "
          f"ratio_1={middle['zitd_1'] / middle['redis_1']:.2f}")
    print(f"zitd_64={middle['zitd_64']:.0f} redis_64={middle['redis_64']:.0f} "
          f"ratio={middle['zitd_64'] / middle['redis_64']:.2f}")


if __name__ == "__main__":
    main()
