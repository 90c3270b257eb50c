"""A high job that finds no room makes a lower one wait at its next step, once, with nothing lost."""
import os
import signal

import pytest

from duel import Duel, quantiles
from harness import ROOT, SMALL, RpcError, result_pixels, until

DEMO = {"model": ROOT / "conf" / "demo" / "model"}
ROUNDS = 12


# ---- the real runner and the demo model

def test_high_job_starts_within_a_step(zitd):
    """At its arrival the runner is in a step of the low job, and that is the last: mostly, for zitd may hear late of those
    before. The low job's picture is that of an undisturbed run."""
    seconds, between = {}, {}
    for preemption in ("true", "false"):
        daemon = zitd(runner=dict(DEMO, preemption=preemption))
        circle = dict(SMALL, prompt="a red circle", seed=1, steps=24)
        plain = daemon.generate(**circle)
        duels = [Duel(daemon, circle, dict(SMALL, prompt="a blue star", steps=1)) for _ in range(ROUNDS)]
        seconds[preemption] = [d.first_step_s for d in duels]
        between[preemption] = sorted(d.steps_between() for d in duels)
        for duel in duels:
            low, high = duel.records
            assert low["state"] == high["state"] == "done"
            assert result_pixels(low) == result_pixels(plain)
            assert ("suspended_s" in low) == (preemption == "true")
    for preemption, values in seconds.items():
        print(f"preemption = {preemption}: submit to first own step {quantiles(values)}, n {len(values)}; low steps "
              f"between {between[preemption]}")
    assert between["true"][ROUNDS // 2] <= 1 < between["false"][0]


def test_several_pictures_and_jobs_keep_their_bits(zitd):
    """Two lower jobs of several pictures take turns, high ones come in between: all have the bits of runs alone."""
    daemon = zitd(runner={"concurrency": 2})
    lower = [dict(SMALL, prompt=f"cat {i}", seed=i, steps=20, n=2, priority=p) for i, p in enumerate(("low", "normal"))]
    plain = [daemon.generate(**p) for p in lower]
    jobs = [daemon.submit(**p) for p in lower]
    for i in range(3):
        assert daemon.generate(f"dog {i}", steps=10, priority="high", **SMALL)["state"] == "done"
    records = [daemon.wait(j) for j in jobs]
    assert [result_pixels(r) for r in records] == [result_pixels(r) for r in plain]
    assert any("suspended_s" in r for r in records)


def test_runner_killed_while_one_is_suspended(zitd):
    """Both come back from their checkpoints, the suspended one too, and end with the bits of runs alone."""
    daemon = zitd()
    requests = [dict(SMALL, prompt=f"a {p} cat", seed=1, steps=100, priority=p) for p in ("low", "high")]
    plain = [daemon.generate(**p) for p in requests]
    low = daemon.submit(**requests[0])
    daemon.wait_running(low)
    high = daemon.submit(**requests[1])
    daemon.wait_state(low, "suspended")
    daemon.wait_running(high)
    os.kill(daemon.runner()["pid"], signal.SIGKILL)
    records = [daemon.wait(low), daemon.wait(high)]
    assert [r["state"] for r in records] == ["done", "done"]
    assert [r["attempts"] for r in records] == [2, 2]
    assert records[0]["resumed"] == 1 and records[0]["steps_saved"] >= 1, records[0]
    assert [result_pixels(r) for r in records] == [result_pixels(r) for r in plain]


# ---- a runner whose steps take 50 ms

def suspend(daemon, low, high=None):
    """A low job that is suspended by a high one; both ids."""
    job = daemon.submit("@low", priority="low", **low)
    daemon.wait_running(job)
    interrupter = daemon.submit("@high", priority="high", **(high or {"steps": 40}))
    daemon.wait_state(job, "suspended")
    return job, interrupter


SCRIPT = "@low;step 0.05;@high;step 0.05;@normal;step 0.05;@slow;job 1.0;step 0.05"


def test_execution_clock_counts_running_alone(zitd):
    """It runs 0.6 s, is suspended for 2 s, and may run for 2; the other may run for 1 s, and needs 3. That no step of
    its is made for longer than hang_timeout is no hang."""
    daemon = zitd(SCRIPT, runner={"hang_timeout": 1.0})
    low, high = suspend(daemon, {"steps": 12, "exec_timeout": 2.0})
    record = daemon.wait(low)
    assert record["state"] == "done", record
    assert 0.6 <= record["run_s"] < 2.0 <= record["run_s"] + record["suspended_s"]
    assert daemon.wait(high)["state"] == "done"
    assert daemon.runner()["generation"] == 1
    low, high = suspend(daemon, {"steps": 60, "exec_timeout": 1.0}, {"steps": 10})
    record = daemon.wait(low)
    assert record["error"]["name"] == "execution_timeout"
    assert record["run_s"] >= 1.0 and record["suspended_s"] > 0


def test_suspended_is_told(zitd):
    daemon = zitd(SCRIPT)
    low, high = suspend(daemon, {"steps": 20}, {"steps": 100})
    rows = [line.split() for line in daemon.ctl("queue").stdout.splitlines()]
    assert any(low in row and "suspended" in row for row in rows)
    assert daemon.ctl("job", low, "-o", "json").stdout.count('"suspended"') == 1
    assert daemon.runner()["job"] == high and daemon.runner()["jobs"] == [high, low]
    record, other = daemon.job(low), daemon.job(high)
    assert record["eta_s"] > other["eta_s"] and record["eta_p95_s"] > other["eta_p95_s"]  # it goes on after that one
    why = daemon.call("why", job=low)
    assert why["held_back"] == record["held_back"] == "made way for a high job" and high in [r["job"] for r in why["running"]]
    assert why["eta"]["starts_s"] + why["eta"]["own_s"] == pytest.approx(why["eta"]["eta_s"], abs=0.01)
    assert high in daemon.ctl("why", low).stdout and "held back" not in daemon.ctl("why", high).stdout
    with pytest.raises(RpcError) as e:
        daemon.call("result", job=low)
    assert e.value.name == "not_ready"
    connection = daemon.connect()
    request = connection.send("wait", job=low, events=True)
    connection.call("status")  # so the wait has been heard
    daemon.call("cancel", job=high)
    assert connection.reply(request)["state"] == "done"
    assert "running" in [e["state"] for e in connection.events]


def test_cancel_while_suspended(zitd):
    daemon = zitd(SCRIPT)
    low, high = suspend(daemon, {"steps": 40})
    daemon.call("cancel", job=low)
    assert daemon.job(low)["state"] == "cancelled"
    record = daemon.wait(high)
    assert record["state"] == "done" and record["attempts"] == 1
    assert daemon.generate("@low", steps=2)["state"] == "done"  # there is room again
    assert daemon.runner()["generation"] == 1


def test_cancel_of_the_interrupter(zitd):
    daemon = zitd(SCRIPT)
    low, high = suspend(daemon, {"steps": 20})
    daemon.call("cancel", job=high)
    record = daemon.wait(low)
    assert record["state"] == "done" and record["attempts"] == 1


def test_deadline_while_suspended(zitd):
    daemon = zitd(SCRIPT)
    low, high = suspend(daemon, {"steps": 40, "deadline": 2.0}, {"steps": 100})
    record = daemon.wait(low)
    assert record["state"] == "timed_out" and record["error"]["name"] == "deadline_unreachable", record
    assert daemon.job(high)["state"] == "running"
    daemon.call("cancel", job=high)


def test_suspension_has_an_end(zitd):
    """The other acknowledges after a second, so that its execution clock ends a second after this suspension."""
    daemon = zitd(SCRIPT, runner={"exec_timeout": 2.0})
    low = daemon.submit("@low", priority="low", steps=20)
    daemon.wait_running(low)
    daemon.submit("@slow", priority="high", steps=40)
    record = daemon.wait(low)
    assert record["state"] == "done" and record["suspended_s"] >= 2.0


def test_never_twice(zitd):
    """The second high job waits for the low one's end."""
    daemon = zitd(SCRIPT)
    low, _ = suspend(daemon, {"steps": 40}, {"steps": 20})
    daemon.wait_state(low, "running")
    second = daemon.submit("@high", priority="high", steps=2)
    assert daemon.wait(second)["state"] == "done"
    assert daemon.job(low)["state"] == "done"
    assert daemon.log().count("makes way") == 1


@pytest.mark.parametrize("first, second", [("high", "high"), ("normal", "normal"), ("low", "low"), ("low", "normal")])
def test_never_between_equals_nor_for_a_normal_one(zitd, first, second):
    daemon = zitd(SCRIPT)
    job = daemon.submit("@low", priority=first, steps=10)
    daemon.wait_running(job)
    assert daemon.generate("@low", priority=second, steps=1)["state"] == "done"
    assert "suspended_s" not in daemon.job(job) and daemon.job(job)["state"] == "done"


def test_reload_takes_it_over(zitd):
    daemon = zitd(SCRIPT, runner={"preemption": "false"})
    for wanted in (False, True):
        daemon.sections["runner"]["preemption"] = str(wanted).lower()
        daemon.write_config()
        daemon.call("reload")
        low = daemon.submit("@low", priority="low", steps=30)
        daemon.wait_running(low)
        assert daemon.generate("@high", priority="high", steps=1)["state"] == "done"
        assert ("suspended_s" in daemon.wait(low)) == wanted


def test_who_makes_way(zitd):
    """The low one before the normal one; of two low ones the one with more to do."""
    daemon = zitd("@low;step 0.03;@high;step 0.03", runner={"concurrency": 2})
    for first, second in ((("low", 40), ("normal", 60)), (("low", 60), ("low", 20))):
        jobs = [daemon.submit("@low", priority=p, steps=s) for p, s in (first, second)]
        until(lambda jobs=jobs: set(daemon.runner().get("jobs", ())) == set(jobs), what="both held")
        assert daemon.generate("@high", priority="high", steps=1)["state"] == "done"
        assert ["suspended_s" in daemon.wait(j) for j in jobs] == [True, False]


def test_deadline_that_only_preemption_meets(zitd):
    """Admission knows that a high job does not wait for the low one: 5 s of steps, and a deadline in 2 s."""
    daemon = zitd(SCRIPT)
    for steps in (5, 10, 5, 10, 5, 10):  # what a step costs is known then
        daemon.generate("@low", steps=steps)
    low = daemon.submit("@low", priority="low", steps=100)
    daemon.wait_running(low)
    record = daemon.generate("@high", priority="high", steps=5, deadline=2.0)
    assert record["state"] == "done", record
    with pytest.raises(RpcError) as e:
        daemon.generate("@high", priority="high", steps=5, deadline=2.0)  # the low one has made way once
    assert e.value.name == "deadline_unreachable"
    daemon.call("cancel", job=low)


@pytest.mark.parametrize("order", ["restart", "stop"])
def test_orders_while_suspended(zitd, order):
    daemon = zitd(SCRIPT)
    low, high = suspend(daemon, {"steps": 30}, {"steps": 30})
    daemon.call(order)
    daemon.call("start")
    assert [daemon.wait(j)["state"] for j in (high, low)] == ["done", "done"]


def test_end_of_zitd_waits_for_both(zitd):
    daemon = zitd(SCRIPT, audited=False)
    connection = daemon.connect()
    low, high = suspend(daemon, {"steps": 30}, {"steps": 30})
    requests = [connection.send("wait", job=j) for j in (low, high)]
    daemon.process.send_signal(signal.SIGTERM)
    answers = [connection.read_line() for _ in requests]
    assert {a["id"]: a["result"]["state"] for a in answers} == dict.fromkeys(requests, "done")
    assert daemon.process.wait(60) == 0


# ---- runners that do not play by the rules

@pytest.mark.parametrize("script", ["@low;step 0.05;try 1 step 3 send_suspended",
                                    "@low;step 0.05;try 1 suspend progress 5;@high;step 0.05",
                                    "@low;step 0.05;try 1 suspend send_suspended;@high;step 0.05",
                                    "@low;step 0.05;try 1 suspend send_done;@high;step 0.05"])
def test_liars_are_killed(zitd, script):
    """SUSPENDED unasked or twice; a step, a DONE of what is suspended."""
    if "progress" in script or "send_done" in script:
        script = script.replace("suspend ", "suspend send_suspended;try 1 suspend ")
    daemon = zitd(script)
    low = daemon.submit("@low", priority="low", steps=20)
    daemon.wait_running(low)
    if "@high" in script:
        assert daemon.generate("@high", priority="high", steps=1)["state"] == "done"
    record = daemon.wait(low)
    assert record["state"] == "done" and record["attempts"] == 2
    assert "it broke the protocol" in daemon.log()


def test_runner_that_never_says_suspended(zitd):
    """It makes no steps of a job that it never said to have suspended, so nobody tells it to go on: that is a hang."""
    daemon = zitd("@low;step 0.05;try 1 suspend skip;@high;step 0.05", runner={"hang_timeout": 1.0})
    low = daemon.submit("@low", priority="low", steps=20)
    daemon.wait_running(low)
    assert daemon.generate("@high", priority="high", steps=1)["state"] == "done"
    record = daemon.wait(low)
    assert record["state"] == "done" and record["attempts"] == 2
