#!/usr/bin/env python3
"""A whole service at full size on a card: the real zitd and the real runner with a checkpoint as large as the real one.

  bench_full_size.py [--runner PROGRAM] [--device cuda:0] [--dir DIR] [--pictures N] [--small]

Prints how long a start takes, what a client waits for a picture (with a prompt that is new, and with one that was kept), how long
the device rests between two jobs (P12), how long it takes from a runner's death in the middle of a forward to its successor's first
one (R1), and the device's memory beside the plan. --dir has room for 33 GB, a tmpfs unless told; --small is the tiny model, to see that this
program works. Nothing here fails on a time.
"""
import argparse
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import full_size_model
from bench_jobs import report, rests, run

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "system"))
from harness import BUILD, RpcError, Zitd, until  # noqa: E402

START_S = 300


def is_free(event):
    """The device has done its part of a picture."""
    return event.get("stage") == "encode"


def next_steps(connection, more_than=-1):
    """Waits until it is told of more steps than that; how many."""
    return until(lambda: (e := connection.read_line()["params"]).get("stage") == "denoise" and e["step"] > more_than and [e["step"]],
                 START_S, "a step")[0]


def picture(daemon, prompt, **params):
    """Seconds from a submission to its last pixel on the host, and to the answer; and the record."""
    connection, begin, free = daemon.connect(timeout=START_S), time.perf_counter(), None
    request = connection.send("submit", prompt=prompt, wait=True, events=True, **params)
    while True:
        message = connection.read_line()
        if is_free(message.get("params", {})) and free is None:
            free = time.perf_counter() - begin
        if message.get("id") == request:
            if "error" in message:
                raise RpcError(message["error"])
            connection.close()
            return free, time.perf_counter() - begin, message["result"]


def pictures(daemon, name, count, kept=False, **params):
    """Pictures one after the other, of prompts that are new or the same."""
    if kept:
        picture(daemon, f"a red circle {name}", **params)
    took = [picture(daemon, f"a red circle {name}{'' if kept else f' {i}'}", **params) for i in range(count)]
    report(f"{name}-pixels", (1e3 * free for free, _, _ in took), "from submit to the last pixel; P2: 740 at 1024x1024")
    report(f"{name}-answer", (1e3 * answer for _, answer, _ in took), "PNG on the disk too")
    for part in ("text_s", "denoise_s", "decode_s"):
        report(f"{name}-{part[:-2]}", (1e3 * record[part] for _, _, record in took), "of the device")


def seconds_until_ready(daemon):
    begin = time.perf_counter()
    daemon.start(ready=False)
    daemon.wait_listening()
    daemon.wait_ready(START_S)
    return time.perf_counter() - begin


def recovery_s(daemon, **params):
    """From SIGKILL in the middle of a forward to the end of the next process's first one; the job goes on from its checkpoint."""
    connection = daemon.connect(timeout=START_S)
    connection.send("submit", prompt="a blue star", wait=True, events=True, **params)
    next_steps(connection, 0)
    time.sleep(0.03)
    begin = time.perf_counter()
    os.kill(daemon.runner()["pid"], signal.SIGKILL)
    until(lambda: connection.read_line()["params"].get("stage") == "text_encode", START_S, "another attempt")
    next_steps(connection, next_steps(connection))
    return time.perf_counter() - begin


def measure(daemon, options, side, others):
    print(f"start-first                  {seconds_until_ready(daemon):9.1f} s  (ways of products are tried)")
    daemon.stop()
    print(f"start                        {seconds_until_ready(daemon):9.1f} s", flush=True)
    print(f"# {daemon.runner()['device']}")
    size = dict(width=side, height=side, steps=8)
    pictures(daemon, str(side), options.pictures, **size)
    pictures(daemon, f"{side}-kept", options.pictures, kept=True, **size)
    for other in others:
        pictures(daemon, str(other), max(options.pictures // 3, 1), width=other, height=other, steps=8)
    report(f"device-rest-{side}", rests(run(daemon, options.pictures + 1, 8, width=side, height=side)), "with 8 checkpoints; P12: 1")
    report("recovery", [1e3 * recovery_s(daemon, **size) for _ in range(2)], "SIGKILL to the next process's first forward; R1: 1000")
    daemon.stop()
    for line in re.findall(r"runner 0: .* MiB .*", daemon.log())[-2:]:  # the plan, and what the device had left
        print(f"# {line}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runner", default=BUILD / "zit-runner-cuda")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--dir", default="/dev/shm")
    parser.add_argument("--pictures", type=int, default=9)
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    if not options.small and shutil.disk_usage(options.dir).free < 36e9:
        print(f"skipped: {options.dir} has not 36 GB of room; --dir names another place")
        sys.exit(77)
    with tempfile.TemporaryDirectory(dir=options.dir) as model, tempfile.TemporaryDirectory() as state:
        begin = time.perf_counter()
        size = full_size_model.write(model, options.small)
        print(f"# {size / 1e9:.1f} GB written in {time.perf_counter() - begin:.0f} s", flush=True)
        runner = {"command": Path(options.runner).resolve(), "device": options.device, "model": model, "canary_interval": 0,
                  "max_pixels": 256 * 256 if options.small else 2048 * 2048}
        daemon = Zitd(state, runner=runner, queue={"max_size": 100, "client_cap": 100, "quarantine": 0})
        try:
            measure(daemon, options, *((64, [128]) if options.small else (1024, [512, 2048])))
        except BaseException:
            print(daemon.log()[-4000:])
            raise
        finally:
            daemon.clean_up()


main()
