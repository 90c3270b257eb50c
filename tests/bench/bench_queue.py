#!/usr/bin/env python3
"""The queue's figures, beside beanstalkd (Debian package beanstalkd) with the same client program, in interleaved rounds.

  make bench-queue          prints them; nothing here fails on a time

The runner is fake_runner with steps that take no time. What zitd does beyond beanstalkd for each job is measured with it:
JSON, the job's record, its ETA, a process of its own for the work, the picture's file. Neither keeps its jobs on disk here:
zitd's are submitted with durable false, beanstalkd runs without a log. The acknowledgement is the first event.

The floor is queue_floor: the same bytes between the same processes, with nothing done about them. Its rate is what this
machine has for anything built this way. Its time to an acknowledgement is mostly that of waking a processor: who does
less sleeps more, and may take longer than zitd where that is slow.
"""
import contextlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "system"))
from harness import BUILD, Zitd, until  # noqa: E402

ROUNDS, ACKS, CYCLES, CONNECTIONS, TIMEOUTS = 5, 2000, 2000, 64, 200
CLIENT = BUILD / "tests" / "bench" / "queue_client"
Q1_P50_US, Q1_P99_US, Q2_PER_S, Q5_P99_MS = 15, 40, 35000, 10


def client(name, path, load, count, connections=1):
    out = subprocess.run([CLIENT, name, path, load, str(count), str(connections)], capture_output=True, text=True, check=True)
    return [float(word) for word in out.stdout.split()]


class Server:
    """One of the others: a program that serves at a socket until it is ended."""
    def __init__(self, socket_path, *command):
        self.socket_path = socket_path
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        until(socket_path.exists, 10, f"{command[0]}'s socket")

    def clean_up(self):
        self.process.terminate()
        self.process.wait()


def percentile(values, p):
    return sorted(values)[min(len(values) - 1, int(len(values) * p / 100))]


def timeouts(directory):
    """Lateness of the queue timeout while the runner is busy, by zitd's own clock, in ms; 20 wait at a time."""
    late = []
    daemon = Zitd(directory / "timeouts", "step 0.02", queue={"client_cap": 100, "max_size": 100}).start()
    busy = daemon.submit("busy", steps=100, exec_timeout=100)
    daemon.wait_running(busy)
    while len(late) < TIMEOUTS:
        if daemon.job(busy)["state"] != "running":
            busy = daemon.submit("busy", steps=100)
            daemon.wait_running(busy)
        connection = daemon.connect()
        for i in range(20):
            connection.send("submit", prompt="a", wait=True, steps=1, queue_timeout=0.1 + i * 0.001)
        for i in range(20):
            reply = connection.read_line()
            record = reply.get("result")
            if record and record["state"] == "expired":
                late.append((record["total_s"] - 0.1 - (reply["id"] - 1) % 20 * 0.001) * 1e3)
        connection.close()
        daemon.connections.clear()
    daemon.stop()
    return late


@contextlib.contextmanager
def servers(directory):
    """[(name, socket for acknowledgements, socket for cycles)]"""
    quiet = {"zitd": {"log_level": "warning"}}  # beanstalkd does not say anything about jobs either
    paused = Zitd(directory / "paused", "step 0", queue={"client_cap": 100}, **quiet).start()
    paused.call("pause")
    serving = Zitd(directory / "serving", "step 0", queue={"client_cap": 100, "max_size": 200}, runner={"concurrency": 4},
                   **quiet).start()
    socket = directory / "floor.sock"
    others = {"floor": Server(socket, BUILD / "tests" / "bench" / "queue_floor", socket)}
    if shutil.which("beanstalkd"):
        socket = directory / "beanstalkd.sock"
        others["beanstalkd"] = Server(socket, "beanstalkd", "-l", f"unix:{socket}")
    who = [("zitd", paused.socket_path, serving.socket_path)]
    who += [(name, server.socket_path, server.socket_path) for name, server in others.items()]
    try:
        yield who
    finally:
        for server in (paused, serving, *others.values()):
            server.clean_up()


def compare(directory):
    """Rounds in turn: {who: [(ack seconds, p50, p99)]}, {who: [cycles per second]}."""
    acks, cycles = {}, {}
    with servers(directory) as who:
        for _ in range(ROUNDS):
            for name, for_acks, for_cycles in who:
                acks.setdefault(name, []).append(client(name, for_acks, "ack", ACKS))
                seconds = client(name, for_cycles, "cycle", CYCLES, CONNECTIONS)[0]
                cycles.setdefault(name, []).append(CYCLES / seconds)
    return acks, cycles


def main():
    subprocess.run([BUILD / "tests" / "bench" / "bench_turns"], check=True)
    with tempfile.TemporaryDirectory(prefix="zit-bench-") as name:
        acks, cycles = compare(Path(name))
        late = timeouts(Path(name))
    for who in acks:
        print(f"{who:10s} ack p50 {statistics.median(a[1] for a in acks[who]):7.1f} us  p99 "
              f"{statistics.median(a[2] for a in acks[who]):7.1f} us  cycle {statistics.median(cycles[who]):8.0f}/s  "
              f"rounds {ROUNDS}, {ACKS} acks and {CYCLES} cycles each")
    p50, p99 = ({who: statistics.median(a[i] for a in acks[who]) for who in acks} for i in (1, 2))
    per_s = {who: statistics.median(cycles[who]) for who in cycles}
    others = [who for who in acks if who != "zitd"]
    print(f"Q1 acknowledgement: {p50['zitd'] / Q1_P50_US:.2f} of {Q1_P50_US} us at p50, {p99['zitd'] / Q1_P99_US:.2f} of "
          f"{Q1_P99_US} us at p99" + "".join(f"; {p50['zitd'] / p50[who]:.2f} of {who}'s time" for who in others))
    print(f"Q2 submit to result, {CONNECTIONS} connections: {per_s['zitd'] / Q2_PER_S:.3f} of {Q2_PER_S}/s" +
          "".join(f"; {per_s['zitd'] / per_s[who]:.3f} of {who}'s rate" for who in others))
    print(f"Q5 queue timeout: {percentile(late, 99) / Q5_P99_MS:.2f} of {Q5_P99_MS} ms at p99 (n {len(late)})")


if __name__ == "__main__":
    begin = time.monotonic()
    main()
    print(f"took {time.monotonic() - begin:.0f} s", file=sys.stderr)
