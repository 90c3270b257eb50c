"""Turns, ceilings, limits: who waits for whom, and who is told what."""
import json
import pwd
import time

import pytest

from harness import RpcError, until
from test_hostile import connect_as, needs_root, tmp_path  # noqa: F401, tmp_path is a fixture that all users can enter


def waiting(daemon):
    return [r["job"] for r in daemon.call("queue")["jobs"] if r["state"] == "queued"]


def refusal(call):
    with pytest.raises(RpcError) as e:
        call()
    return e.value


def busy(daemon, steps=100):
    """One job that keeps the only runner at work until it is cancelled."""
    job = daemon.submit("busy", steps=steps)
    daemon.wait_running(job)
    return job


# ---- hold, release, move, priority

def test_held_jobs_wait(zitd):
    daemon = zitd("step 0.05")
    first = busy(daemon)
    jobs = [daemon.submit(f"job {i}", steps=1) for i in range(3)]
    for _ in range(2):  # once more is no error
        records = daemon.call("hold", job=jobs[:2])["jobs"]
        assert [r["state"] for r in records] == ["held", "held"]
        assert all(r["held_back"] == "held" and "position" not in r for r in records)
    assert waiting(daemon) == [jobs[2]]
    assert daemon.status()["queue"]["held"] == 2
    daemon.call("cancel", job=first)
    assert daemon.wait(jobs[2])["state"] == "done"
    time.sleep(0.2)
    assert daemon.job(jobs[0])["state"] == "held"
    assert daemon.call("cancel", job=jobs[1])["jobs"][0]["state"] == "cancelled"
    for _ in range(2):
        assert daemon.call("release", job=jobs[0])["jobs"][0]["state"] != "held"
    assert daemon.wait(jobs[0])["state"] == "done"
    assert daemon.call("hold", job=jobs[0])["jobs"][0]["state"] == "done"


def test_a_hold_has_an_end(zitd):
    daemon = zitd("step 0.05", queue={"hold_timeout": 1})
    first = busy(daemon)
    job = daemon.submit(steps=1)
    daemon.call("hold", job=job)
    record = daemon.wait(job)
    assert record["state"] == "expired" and "hold_timeout" in record["error"]["message"]
    daemon.call("cancel", job=first)


def test_held_jobs_are_moved(zitd):
    """To where they will be when they are released, the last one first, over a restart too; and others before them later."""
    daemon = zitd("step 0.05", queue={"hold_timeout": 3600})
    daemon.call("pause")
    jobs = [daemon.submit(f"job {i}", steps=1) for i in range(4)]
    daemon.call("hold", job=jobs[2:])
    daemon.call("move", job=[jobs[3], jobs[2]])
    daemon.restart()
    daemon.call("release", job=jobs[2:])
    assert waiting(daemon) == [jobs[2], jobs[3], jobs[0], jobs[1]]
    daemon.call("move", job=jobs[1])
    assert waiting(daemon) == [jobs[1], jobs[2], jobs[3], jobs[0]]
    daemon.call("resume")


def test_move_and_priority(zitd):
    daemon = zitd("step 0.05", queue={"client_cap": 100}, runner={"preemption": "false"})
    first = busy(daemon)
    jobs = [daemon.submit(f"job {i}", steps=1) for i in range(4)]
    assert waiting(daemon) == jobs
    result = daemon.ctl("move", jobs[2], "--front", "-o", "json")
    assert result.returncode == 0, result.stderr
    assert waiting(daemon) == [jobs[2], jobs[0], jobs[1], jobs[3]]
    assert daemon.ctl("priority", "high", jobs[3]).returncode == 0
    assert waiting(daemon)[0] == jobs[3]
    assert daemon.job(jobs[3])["priority"] == "high" and daemon.job(jobs[3])["position"] == 1
    daemon.call("priority", job=[jobs[0]], priority="low")
    assert sorted(waiting(daemon)) == sorted(jobs)
    assert daemon.ctl("priority", "urgent", jobs[0]).returncode == 2
    assert refusal(lambda: daemon.call("priority", job=jobs[0], priority="urgent")).name == "invalid_param"
    daemon.call("cancel", job=first)
    order = [r["job"] for r in sorted((daemon.wait(job) for job in jobs), key=lambda r: r["submitted_at"] + r["queued_s"])]
    assert order[0] == jobs[3] and order.index(jobs[2]) < order.index(jobs[1])  # low has a share of its own


@needs_root
def test_a_wrong_id_changes_nothing(zitd):
    daemon = zitd("step 0.05")
    first = busy(daemon)
    job = daemon.submit(steps=1)
    for method, params in (("hold", {}), ("release", {}), ("move", {}), ("priority", {"priority": "high"})):
        assert refusal(lambda m=method, p=params: daemon.call(m, job=[job, "job_nobody"], **p)).name == "unknown_job"
    record = daemon.job(job)
    assert record["state"] == "queued" and record["priority"] == "normal"
    alice = connect_as(daemon, 1234)
    for method, params in (("hold", {}), ("release", {}), ("move", {}), ("priority", {"priority": "low"})):
        assert refusal(lambda m=method, p=params: alice.call(m, job=job, **p)).name == "not_permitted"
    daemon.call("cancel", job=[first, job])


# ---- pauses, windows, not_before

def test_pauses(zitd):
    daemon = zitd("step 0.02")
    for what, params in (("all", {}), ("class:low", {"priority": "low"}), ("client:x", {"client": "x"})):
        assert daemon.ctl("pause", what).returncode == 0
        job = daemon.submit(f"under {what}", steps=1, **params)
        other = daemon.submit("another", steps=1, priority="normal") if params else None
        if other:
            assert daemon.wait(other)["state"] == "done"
        time.sleep(0.1)
        record = daemon.job(job)
        assert record["state"] == "queued" and "paused" in record["held_back"] and "eta_s" not in record
        assert what.split(":")[-1] in daemon.ctl("status").stdout.replace("everything", "all")
        assert "paused" in daemon.ctl("why", job).stdout
        assert daemon.ctl("resume", what).returncode == 0
        assert daemon.wait(job)["state"] == "done"
    assert daemon.status()["queue"]["paused"] == {"all": False, "classes": [], "clients": []}
    assert daemon.ctl("pause", "class:urgent").returncode == 2
    assert daemon.ctl("pause", "nobody").returncode == 2
    assert daemon.ctl("pause", "0").returncode == 0  # the runner of that name
    assert daemon.runner()["draining"]
    assert daemon.ctl("resume", "all").returncode == 0
    assert "draining" not in daemon.runner()


def test_windows_of_the_day(zitd):
    hour = time.localtime(time.time()).tm_hour
    closed = f"{(hour + 2) % 24:02}:00-{(hour + 3) % 24:02}:00"
    opened = f"{hour:02}:00-{(hour + 2) % 24:02}:00"
    daemon = zitd("step 0", queue={"window_low": closed, "window_normal": opened, "queue_timeout": 86400})
    daemon.generate(steps=1)
    low = daemon.submit("for the night", priority="low", steps=1)
    assert daemon.wait(daemon.submit(steps=1))["state"] == "done"
    record = daemon.job(low)
    assert record["state"] == "queued" and record["held_back"].startswith("class low starts again in")
    assert 3600 < record["eta_s"] <= 2 * 3600 + 60
    hasty = refusal(lambda: daemon.submit("now", priority="low", steps=1, queue_timeout=5))
    assert hasty.name == "queue_timeout" and hasty.data["retry_after_s"] >= 1
    daemon.sections["queue"]["window_low"] = ""
    daemon.write_config()
    assert [change["key"] for change in daemon.call("reload")["changed"]] == ["queue.window_low"]
    assert daemon.wait(low)["state"] == "done"


def test_a_window_is_opened_by_the_clock_on_the_wall(zitd):
    """The clock is set forward by an hour between now and the window's beginning."""
    now = time.time()
    begin, end = (time.gmtime(now + s) for s in (1800, 100 * 86400))  # of a summer time of its own
    zone = f"STD0DST,{begin.tm_yday - 1}/{time.strftime('%T', begin)},{end.tm_yday - 1}/0"
    opens = time.strftime("%H:%M", time.gmtime(now + 9000))
    window = f"{opens}-{time.strftime('%H:%M', time.gmtime(now + 12600))}"
    daemon = zitd("step 0", env={"TZ": zone}, queue={"window_low": window, "queue_timeout": 86400})
    daemon.generate(steps=1)
    job = daemon.submit("for the night", priority="low", steps=1)
    record = daemon.job(job)
    told = int(record["held_back"].split()[-2])
    # the window's time has no seconds, and the test takes some
    assert 9000 - 3600 - 90 < told <= 9000 - 3600
    assert told - 1 <= record["eta_s"] <= told + 10
    daemon.call("cancel", job=job)


def test_not_before(zitd):
    daemon = zitd("step 0")
    begin = time.monotonic()
    job = daemon.submit(steps=1, not_before=1.0, queue_timeout=0.5)
    assert daemon.wait(daemon.submit(steps=1))["state"] == "done"  # others are not kept
    assert daemon.job(job)["held_back"].startswith("not before")
    assert daemon.wait(job)["state"] == "done"
    assert time.monotonic() - begin >= 1.0


# ---- what clients may have

@needs_root
def test_ceilings(zitd):
    daemon = zitd("step 0", clients={"ceiling": "normal"}, **{"client:web": {"ceiling": "low"}})
    alice = connect_as(daemon, 1234)
    refused = refusal(lambda: alice.call("submit", prompt="a", priority="high", steps=1))
    assert refused.name == "not_permitted" and "ceiling" in refused.message and "normal" in refused.message
    job = alice.call("submit", prompt="a", steps=1)["job"]
    daemon.accepted.add(job)
    alice.call("wait", job=job)
    daemon.generate(priority="high", steps=1)  # administrators have none
    assert refusal(lambda: daemon.submit(client="web", steps=1)).name == "not_permitted"
    daemon.call("pause")
    job = daemon.submit(client="web", priority="low", steps=1)
    assert refusal(lambda: daemon.call("priority", job=job, priority="normal")).name == "not_permitted"
    daemon.call("resume")
    assert daemon.wait(job)["state"] == "done"


@needs_root
def test_an_administrator_by_his_own_group_has_no_ceiling(zitd):
    """admin_group is the group of that user in passwd, which does not list him among its members."""
    daemon = zitd("step 0", clients={"ceiling": "low"}, zitd={"admin_group": "nogroup"})
    nobody = connect_as(daemon, pwd.getpwnam("nobody").pw_uid)
    job = nobody.call("submit", prompt="a", priority="high", steps=1, wait=True)
    daemon.accepted.add(job["job"])
    assert (job["state"], job["priority"]) == ("done", "high")


@needs_root
def test_a_group_has_a_ceiling(zitd):
    """A section of its group counts for a user, administrator or not; one of its own counts before that."""
    daemon = zitd("step 0", **{"client:group:root": {"ceiling": "low"}})
    assert refusal(lambda: daemon.submit(steps=1)).name == "not_permitted"
    assert daemon.generate(priority="low", steps=1)["state"] == "done"
    daemon.sections["client:uid:0"] = {"ceiling": "normal"}
    daemon.write_config()
    daemon.call("reload")
    assert daemon.generate(steps=1)["state"] == "done"
    assert refusal(lambda: daemon.submit(priority="high", steps=1)).name == "not_permitted"


def test_max_running(zitd):
    daemon = zitd("step 0.05", runner={"concurrency": 4}, **{"client:one": {"max_running": 1}})
    jobs = [daemon.submit(f"job {i}", client="one", steps=4) for i in range(3)]
    others = [daemon.submit(f"other {i}", client="many", steps=40) for i in range(2)]
    for job in others:
        daemon.wait_running(job)
    until(lambda: any("as many as it may" in r.get("held_back", "") for r in daemon.call("queue")["jobs"]),
          what="one waits for its own")
    seen = 0
    while any(daemon.job(j)["state"] != "done" for j in jobs):
        running = [r for r in daemon.call("queue")["jobs"] if r["client"]["name"] == "one" and r["state"] == "running"]
        seen = max(seen, len(running))
    assert seen == 1
    daemon.call("cancel", job=others)


def test_rate_limits(zitd):
    daemon = zitd("step 0", clients={"rate_jobs": 1, "burst_jobs": 3})
    for _ in range(3):
        daemon.generate(steps=1)
    refused = refusal(lambda: daemon.submit(steps=1))
    assert refused.name == "rate_limited" and 1 <= refused.data["retry_after_s"] <= 60
    assert daemon.ctl("submit", "a").returncode == 75
    assert daemon.generate(client="another", steps=1)["state"] == "done"
    usage = {u["client"]: u for u in daemon.call("usage")["clients"]}
    own = usage["uid:0"]["today"]
    assert own["jobs"] == 3 and own["refused"] == 2 and own["pixels"] == 3 * usage["another"]["today"]["pixels"]
    assert own["device_s"] > 0


def test_quotas(zitd):
    daemon = zitd("step 0.05", clients={"quota_day": 0.8}, **{"client:strict": {"over_quota": "refuse"}})
    daemon.generate(steps=10)
    record = daemon.generate(steps=10)
    assert record["priority"] == "low" and "quota" in record["warnings"][0]
    daemon.generate(client="strict", steps=10)
    refused = refusal(lambda: daemon.submit(client="strict", steps=10))
    assert refused.name == "rate_limited" and "quota_day" in refused.message
    assert 1 <= refused.data["retry_after_s"] <= 86400
    table = daemon.ctl("usage").stdout
    assert "strict" in table and "uid:0" in table
    assert daemon.ctl("usage", "stranger").stdout == "There is no such client, or it has used nothing.\n"
    only = json.loads(daemon.ctl("usage", "strict", "-o", "json").stdout)
    assert [u["client"] for u in (only if isinstance(only, list) else only["clients"])] == ["strict"]


@needs_root
def test_over_a_quota_low_is_where_jobs_stay(zitd):
    """Not by `priority` either; an administrator may."""
    daemon = zitd("step 0.05", **{"client:uid:1234": {"quota_day": 0.4}})
    alice = connect_as(daemon, 1234)
    daemon.accepted.add(alice.call("submit", prompt="a", steps=10, wait=True)["job"])
    first = busy(daemon)
    job = alice.call("submit", prompt="a", steps=1)["job"]
    daemon.accepted.add(job)
    assert daemon.job(job)["priority"] == "low"
    for priority in ("normal", "high"):
        refused = refusal(lambda p=priority: alice.call("priority", job=job, priority=p))
        assert refused.name == "rate_limited" and "quota_day" in refused.message and job in refused.message
        assert 1 <= refused.data["retry_after_s"] <= 86400
    assert alice.call("priority", job=job, priority="low")["jobs"][0]["priority"] == "low"
    assert daemon.call("priority", job=job, priority="normal")["jobs"][0]["priority"] == "normal"
    daemon.call("cancel", job=[first, job])


@needs_root
def test_usage_of_others_is_theirs(zitd):
    daemon = zitd("step 0")
    daemon.generate(steps=1)
    alice = connect_as(daemon, 1234)
    assert alice.call("usage")["clients"] == []
    assert refusal(lambda: alice.call("usage", client="uid:0")).name == "not_permitted"


# ---- the future

def test_who_would_expire_is_refused(zitd):
    """With a queue of some seconds a job that would wait half of one is told so at once, and when to try again."""
    daemon = zitd("step 0.05", queue={"client_cap": 100})
    for steps in (4, 20, 8, 16, 12, 20):
        daemon.generate(steps=steps)
    jobs = [daemon.submit(f"job {i}", steps=20) for i in range(6)]
    refused = refusal(lambda: daemon.submit(steps=1, queue_timeout=0.5))
    assert refused.name == "queue_timeout" and refused.data["retry_after_s"] >= 1 and refused.data["wait_s"] > 0.5
    assert daemon.ctl("submit", "a", "--queue-timeout", "0.5").returncode == 124
    assert daemon.submit(steps=1, queue_timeout=60) in waiting(daemon)
    daemon.call("cancel", job=jobs)


def test_events_tell_position_and_eta(zitd):
    daemon = zitd("step 0.05")
    first = busy(daemon)
    connection = daemon.connect()
    connection.send("submit", prompt="a", wait=True, events=True, steps=2)
    event = connection.read_line()["params"]
    daemon.accepted.add(event["job"])
    assert event["position"] == 1 and 0 < event["eta_s"] < event["eta_p95_s"]
    running = daemon.job(first)
    assert 0 < running["eta_s"] <= running["eta_p95_s"]
    daemon.call("hold", job=event["job"])
    assert connection.read_line()["params"]["state"] == "held"
    daemon.call("cancel", job=[first, event["job"]])


def test_why(zitd):
    daemon = zitd("step 0.05", queue={"client_cap": 100})
    first = busy(daemon)
    jobs = [daemon.submit(f"job {i}", steps=2) for i in range(3)]
    why = daemon.call("why", job=jobs[2])
    assert why["position"] == 3 and why["before_count"] == 2
    assert [b["job"] for b in why["before"]] == jobs[:2] and [r["job"] for r in why["running"]] == [first]
    eta = why["eta"]
    assert eta["starts_s"] + eta["own_s"] + eta["newcomers_s"] == pytest.approx(eta["eta_s"], abs=0.01)
    assert {c["priority"] for c in why["tags"]["classes"]} == {"high", "normal", "low"}
    text = daemon.ctl("why", jobs[2]).stdout
    assert jobs[0] in text and first in text
    daemon.call("cancel", job=first)
    ended = daemon.call("why", job=first)
    assert "before" not in ended and "eta" not in ended and ended["error"]["name"] == "cancelled"
    assert "cancelled" in daemon.ctl("why", first).stdout
    assert refusal(lambda: daemon.call("why", job="job_nobody")).name == "unknown_job"


def test_why_of_one_that_no_runner_takes(zitd):
    """It runs, with an eta; its runner is stopped, and it is told what is missing."""
    daemon = zitd("step 0.05")
    job = busy(daemon)
    why = daemon.call("why", job=job)
    assert why["eta"]["starts_s"] == 0 and why["eta"]["own_s"] > 0 and "held_back" not in why and "position" not in why
    daemon.call("stop")
    daemon.wait_state(job, "queued")
    why = daemon.call("why", job=job)
    assert why["held_back"] == daemon.job(job)["held_back"] == "no runner can take jobs" and why["runners"] == 0
    daemon.call("cancel", job=job)
    daemon.call("start")
    daemon.wait_ready()


def test_every_acknowledgement_tells_an_eta(zitd):
    """Of a job that waits, and of one that a free runner gets at once."""
    daemon = zitd("step 0.05")
    answers = [daemon.call("submit", prompt=f"cat {i}", steps=20) for i in range(2)]
    daemon.accepted |= {a["job"] for a in answers}
    assert all(0 < a["eta_s"] <= a["eta_p95_s"] for a in answers), answers
    assert "position" not in answers[0] and answers[1]["position"] == 1
    daemon.call("cancel", job=[a["job"] for a in answers])


def test_low_gives_way_under_load(zitd):
    """Jobs that are said to take minutes: ten seconds later low gives way, until the configuration says that it must not."""
    daemon = zitd("step 0.2", runner={"cost_base": 100}, queue={"adapt": "true"})
    first = busy(daemon)
    jobs = [daemon.submit(f"job {i}", steps=1) for i in range(2)]
    begin = time.monotonic()
    assert not daemon.status()["queue"]["low_gives_way"]
    until(lambda: daemon.status()["queue"]["low_gives_way"], what="low gives way")
    assert time.monotonic() - begin >= 10 - 1.1  # looked at each second
    low = daemon.submit("low", steps=1, priority="low")
    weights = {c["priority"]: c["weight"] for c in daemon.call("why", job=low)["tags"]["classes"]}
    assert weights == {"high": 16, "normal": 4, "low": 0.25}
    daemon.sections["queue"]["adapt"] = "false"
    daemon.write_config()
    daemon.call("reload")
    until(lambda: not daemon.status()["queue"]["low_gives_way"], what="low has its share again")
    daemon.call("cancel", job=[first, low, *jobs])


# ---- reload

def test_other_weights_keep_queue_and_accounts(zitd):
    """x has had a lot, y nothing; both have jobs waiting. A reload that gives x more weight forgets neither the jobs nor
    what x has had: y is still first."""
    daemon = zitd("step 0.05", queue={"client_cap": 100}, **{"client:x": {"weight": 1}})
    first = busy(daemon)
    for name in "xxxx":
        daemon.submit("had", client=name, steps=10)
    mine = [daemon.submit("more", client="x", steps=1) for _ in range(3)]
    daemon.call("cancel", job=first)
    until(lambda: len(waiting(daemon)) <= 4, what="x has had three")
    daemon.call("pause")
    others = [daemon.submit("other", client="y", steps=1) for _ in range(2)]
    before = waiting(daemon)
    tags = daemon.call("why", job=mine[0])["tags"]
    daemon.sections["client:x"]["weight"] = 5
    daemon.sections["queue"]["weight_low"] = 3
    daemon.write_config()
    assert {change["key"] for change in daemon.call("reload")["changed"]} == {"client:x.weight", "queue.weight_low"}
    assert set(waiting(daemon)) == set(before) and waiting(daemon)[0] == others[0]
    after = daemon.call("why", job=mine[0])["tags"]
    assert after["client"] == tags["client"] and after["virtual_time"] == tags["virtual_time"]
    assert after["client_weight"] == 5
    daemon.call("resume")
    for job in mine + others:
        assert daemon.wait(job)["state"] == "done"
