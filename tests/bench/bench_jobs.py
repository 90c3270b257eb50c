#!/usr/bin/env python3
"""What a service leaves of its device: how long that rests between two jobs while more are waiting, what memory it takes
after it is ready, and whether a picture's PNG holds up the next job.

  bench_jobs.py [--runner PROGRAM] [--device cuda:0] [--model DIR] [--jobs N] [--threads N]

The real zitd and the real runner. The rest is the time from one job's "the device is free" to the next one's, without the
seconds that the runner was at work on the latter's prompt, steps and decoding; that a job has to be written to disk before it
begins is in it. Nothing here fails on a time.
"""
import argparse
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "system"))
from harness import BUILD, ROOT, Zitd  # noqa: E402


def run(daemon, count, steps, **params):
    """[(job's record, when its device was free)], one after the other on one runner, all submitted at once."""
    connection = daemon.connect(timeout=300)
    requests = [connection.send("submit", prompt="a red circle", seed=i, steps=steps, wait=True, events=True, **params) for i in range(count)]
    free, records = {}, {}
    while len(records) < count:
        line = connection.read_line()
        if line is None or "error" in line:
            raise SystemExit(f"bench_jobs: {line}")
        event = line.get("params", {})
        if event.get("stage") == "encode":
            free.setdefault(event["job"], time.perf_counter())
        elif line.get("id") in requests:
            records[line["result"]["job"]] = line["result"]
    return sorted(((records[job], at) for job, at in free.items()), key=lambda pair: pair[1])


def device_s(record):
    return record["text_s"] + record["denoise_s"] + record["decode_s"]


def rests(jobs):
    """Milliseconds that the device rested before each job but the first."""
    return [1e3 * (b[1] - a[1] - device_s(b[0])) for a, b in zip(jobs, jobs[1:])]


def report(name, milliseconds, limit):
    values = sorted(milliseconds)
    print(f"{name:24} p50 {statistics.median(values):8.3f} ms  p95 {values[int(len(values) * 0.95)]:8.3f} ms  n {len(values)}  ({limit})", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runner", default=BUILD / "zit-runner")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", default=ROOT / "conf" / "demo" / "model")
    parser.add_argument("--jobs", type=int, default=60)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        runner = {"command": Path(options.runner).resolve(), "device": options.device, "model": Path(options.model).resolve(),
                  "threads": options.threads, "canary_interval": 0}
        daemon = Zitd(name, runner=runner, queue={"max_size": options.jobs + 10, "client_cap": 100})
        try:
            daemon.start()
            print(f"# {daemon.runner()['device']}, {daemon.runner()['model']}")
            jobs = run(daemon, options.jobs, options.steps)
            report("device-rest", rests(jobs), "target 1 ms, P12")
            report("device-work", [1e3 * device_s(record) for record, _ in jobs], "of a job")
            report("png", [1e3 * record["png_s"] for record, _ in jobs], "beside the next job")
            daemon.stop()
            found = re.findall(r"(\d+) pieces of device memory before READY, (\d+) after; of the device (\d+) MiB were free, (\d+) are", daemon.log())
            for before, after, free_before, free_after in found:
                print(f"device-allocations       {before} before READY, {after} after {options.jobs} jobs  (target 0, R6)")
                print(f"device-free              {free_before} MiB at READY, {free_after} MiB after them  (the difference: the driver's own, and other processes')")
        finally:
            daemon.clean_up()


if __name__ == "__main__":
    main()
