#!/usr/bin/env python3
"""How long a high job waits for its first own step while a low one runs, with preemption and without.

  make bench-preempt          prints it; nothing here fails on a time

The real runner on the demo model at its own size, one thread. Rounds of all three kinds are interleaved, and a high job
comes anywhere in a step; on an idle runner the time is that of the prompt's encoding and of the first step alone. What
is above that is the wait.
"""
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "system"))
from duel import Duel, quantiles  # noqa: E402
from harness import ROOT, Zitd  # noqa: E402

ROUNDS, LOW, HIGH = 40, {"prompt": "a red circle", "seed": 1, "steps": 20}, {"prompt": "a blue star", "steps": 1}


def idle(daemon):
    """Submit to first own step with nothing else to do; and the record."""
    connection = daemon.connect()
    begin = time.perf_counter()
    request = connection.send("submit", wait=True, events=True, **HIGH)
    while connection.read_line().get("params", {}).get("step", 0) < 1:
        pass
    seconds = time.perf_counter() - begin
    connection.reply(request)
    return seconds


def main():
    with tempfile.TemporaryDirectory() as name:
        model = ROOT / "conf" / "demo" / "model"
        on, off = (Zitd(Path(name) / p, runner={"model": model, "preemption": p}).start() for p in ("true", "false"))
        times = {"on an idle runner": [], "while a low job runs, preemption = true": [], "... preemption = false": []}
        steps, rng = [], random.Random(1)
        for _ in range(ROUNDS):
            alone, interrupting, waiting = times.values()
            alone.append(idle(on))
            duel = Duel(on, LOW, HIGH, rng.random() * alone[-1])
            interrupting.append(duel.first_step_s)
            steps.append(duel.records[0]["denoise_s"] / LOW["steps"])
            waiting.append(Duel(off, LOW, HIGH, rng.random() * alone[-1]).first_step_s)
        print(f"a step of the low job: {quantiles(steps)}")
        print("submit of a high job -> its first own step")
        for what, seconds in times.items():
            print(f"  {what:42s} {quantiles(seconds)}  n {len(seconds)}")
        alone, interrupting, waiting = (sorted(s)[len(s) // 2] for s in times.values())
        print(f"preemption / without, p50: {interrupting / waiting:.3f}; wait above idle, in steps, p50: "
              f"{(interrupting - alone) / sorted(steps)[len(steps) // 2]:.2f}")
        for daemon in (on, off):
            daemon.stop()
            daemon.clean_up()


if __name__ == "__main__":
    main()
