"""Orders about jobs and pauses are answered when they are on disk: what was acknowledged survives SIGKILL at once."""
import json
import select
import socket
import threading
import time

import pytest
from harness import SANITIZED, until
from test_durable import disk_by, faulty_disk, refused  # noqa: F401, a fixture

SYNC_MS = 150
SECTIONS = {"queue": {"hold_timeout": 3600, "queue_timeout": 3600, "quarantine": 0}}


def order(daemon):
    return [r["job"] for r in daemon.call("queue")["jobs"] if r["state"] == "queued"]


def paused(daemon):
    return daemon.status()["queue"]["paused"]


def is_unknown(daemon, job):
    try:
        daemon.job(job)
    except Exception as e:
        assert e.name == "unknown_job", e
        return True
    return False


# What is ordered of three waiting jobs a, b and c, a held job h and a dead letter d, and what is so then.
ORDERS = {
    "hold": ({"job": "b"}, lambda d, j: d.job(j["b"])["state"] == "held"),
    "release": ({"job": "h"}, lambda d, j: d.job(j["h"])["state"] == "queued"),
    "move": ({"job": "c"}, lambda d, j: order(d)[0] == j["c"]),
    "move held": ({"job": "h"}, lambda d, j: d.call("release", job=j["h"]) and order(d)[0] == j["h"]),
    "priority": ({"job": "b", "priority": "high"}, lambda d, j: d.job(j["b"])["priority"] == "high"),
    "priority held": ({"job": "h", "priority": "low"}, lambda d, j: d.job(j["h"])["priority"] == "low"),
    "cancel": ({"job": "b"}, lambda d, j: d.job(j["b"])["state"] == "cancelled"),
    "cancel group": ({"group": "g"}, lambda d, j: {d.job(j[n])["state"] for n in "abc"} == {"cancelled"}),
    "drop": ({"job": "d"}, lambda d, j: is_unknown(d, j["d"])),
    "pause": ({"class": "low"}, lambda d, j: paused(d)["classes"] == ["low"]),
    "pause client": ({"client": "x"}, lambda d, j: paused(d)["clients"] == ["x"]),
    "resume": ({}, lambda d, j: not paused(d)["all"]),
}


@pytest.fixture
def slow(tmp_path, zitd):
    """A daemon with its jobs; make_slow(): its disk is so from now on, and has something to do."""
    control = tmp_path / "disk"
    daemon = zitd("step 0.02; @dies; step 1 kill 6", env=disk_by(control), runner={"startretries": 20}, **SECTIONS)
    jobs = {"d": daemon.submit("@dies", steps=2)}
    assert daemon.wait(jobs["d"])["state"] == "dead"
    daemon.call("pause")
    jobs |= {name: daemon.submit(name, steps=1, group="g") for name in "abc"}
    jobs["h"] = daemon.submit("h", steps=1)
    daemon.call("hold", job=jobs["h"])

    def make_slow():
        control.write_text(f"slow {SYNC_MS}")
        daemon.connect().send("submit", prompt="a cat", steps=1)
        time.sleep(SYNC_MS / 3000)  # it is being synced, and what comes now is not in its transaction

    def make_good():
        control.unlink()

    yield daemon, jobs, make_slow, make_good
    if daemon.process.poll() is None:
        daemon.call("cancel", job=[r["job"] for r in daemon.records() if r["state"] in ("queued", "held")])
        daemon.accepted.discard(jobs["d"])
        daemon.call("resume")


@pytest.mark.parametrize("name", ORDERS)
def test_what_is_acknowledged_survives(slow, name):
    daemon, jobs, make_slow, make_good = slow
    params, holds = ORDERS[name]
    make_slow()
    daemon.call(name.split()[0], **{k: jobs.get(v, v) for k, v in params.items()})
    daemon.kill()
    make_good()
    daemon.start()
    assert holds(daemon, jobs)


def test_what_is_so_already_waits_for_who_made_it_so(slow):
    """A hold of a job that another has just held is no less of a promise."""
    daemon, jobs, make_slow, make_good = slow
    make_slow()
    first = daemon.connect()
    first.send("hold", job=jobs["b"])
    daemon.wait_state(jobs["b"], "held")
    daemon.call("hold", job=jobs["b"])
    daemon.kill()
    make_good()
    daemon.start()
    assert daemon.job(jobs["b"])["state"] == "held"


def test_an_upgrade_comes_between(slow):
    """The order is answered once, and kept, whoever answers it."""
    daemon, jobs, make_slow, make_good = slow
    make_slow()
    connection, other = daemon.connect(), daemon.connect()
    hold, upgrade = connection.send("hold", job=jobs["b"]), other.send("upgrade")
    assert connection.reply(hold)["jobs"][0]["state"] == "held"
    assert other.reply(upgrade)["pid"] == daemon.process.pid
    assert connection.call("status")["queue"]["held"] == 2 and not connection.strays
    daemon.kill()
    make_good()
    daemon.start()
    assert daemon.job(jobs["b"])["state"] == "held"


@pytest.mark.skipif(SANITIZED, reason="wants a slow disk: a sanitizer's runtime wants to be loaded first")
def test_who_only_looks_does_not_wait(slow):
    """Nor does an error; and on the connection that waits all is answered in its turn."""
    daemon, jobs, make_slow, make_good = slow
    make_slow()
    connection = daemon.connect()
    hold, status = connection.send("hold", job=jobs["b"]), connection.send("status")
    daemon.wait_state(jobs["b"], "held")
    assert daemon.status()["queue"]["held"] == 2
    assert refused(daemon.call, "pause", runner="nobody").name == "invalid_param"
    assert not select.select([connection.socket], [], [], 0)[0], "answered before it is on disk"
    assert connection.read_line()["id"] == hold and connection.read_line()["id"] == status
    make_good()


def pipeline(connection, requests):
    """The answers to (method, parameters) that are sent at once, by their ids: result or error."""
    lines = [json.dumps({"id": i, "method": method, "params": params}) if isinstance(method, str) else method.decode()
             for i, (method, params) in enumerate(requests)]
    connection.socket.sendall("".join(line + "\n" for line in lines).encode())
    return [connection.read_line() for _ in requests]


@pytest.mark.skipif(SANITIZED, reason="wants a slow disk: a sanitizer's runtime wants to be loaded first")
@pytest.mark.parametrize("between", [None, "get"])
def test_orders_that_follow_one_another_share_a_sync(zitd, tmp_path, between):
    """One that is sent alone waits for one; were it so for each of those, there were as many."""
    control, syncs = tmp_path / "disk", tmp_path / "disk.syncs"
    daemon = zitd("step 0.02", env=disk_by(control), **SECTIONS)
    daemon.call("pause")
    *jobs, other = [daemon.submit(f"job {i}", steps=1) for i in range(11)]
    requests = [(method, {"job": job}) for method in ("hold", "release", "hold", "release", "cancel") for job in jobs]
    if between:
        requests = [pair for request in requests for pair in (request, (between, {"job": other}))]
    control.write_text("slow 100")
    syncs.write_bytes(b"")
    answers = pipeline(daemon.connect(), requests)
    count = len(syncs.read_bytes())
    control.unlink()
    assert [answer["id"] for answer in answers] == list(range(len(requests))) and all("result" in answer for answer in answers)
    assert count <= 10, f"{count} syncs for 50 orders"  # 1 to 4 seen; a machine that is slower than its disk takes some more
    daemon.kill()
    daemon.start()
    assert {daemon.job(job)["state"] for job in jobs} == {"cancelled"}
    daemon.call("cancel", job=other)
    daemon.call("resume")


def test_what_is_sent_at_once_is_answered_in_turn(slow):
    """Orders, looks, a job, nonsense, one of a job that only the disk knows; each sees what those before it did."""
    daemon, jobs, make_slow, _ = slow
    ended = daemon.submit("ended")
    daemon.call("cancel", job=ended)
    make_slow()
    states = {"queue": ("get", {"job": jobs["b"]}), "held": ("get", {"job": jobs["b"]})}
    answers = pipeline(daemon.connect(), [
        ("hold", {"job": jobs["b"]}), states["held"], ("release", {"job": jobs["b"]}), states["queue"], ("hold", {"job": "job_nobody"}),
        ("cancel", {"job": ended}), (b'{"id": 6, "method": "hold"}', None), (b'{"id": 7, "method": "hodl"}', None), ("status", {}),
        ("priority", {"job": jobs["c"], "priority": "high"}), ("submit", {"prompt": "new", "steps": 1}), ("cancel", {"job": [jobs["a"], ended]}),
        ("drop", {"job": jobs["d"]}), ("get", {"job": jobs["d"]}), ("pause", {"runner": "nobody"}), ("cancel", {"job": jobs["b"]})])
    assert [answer["id"] for answer in answers] == list(range(len(answers)))
    daemon.accepted.add(answers[10]["result"]["job"])
    told = [answer.get("result", answer.get("error")) for answer in answers]
    assert [(t["data"]["name"] if "data" in t else t["jobs"][0]["state"] if "jobs" in t else t.get("state")) for t in told] == [
        "held", "held", "queued", "queued", "unknown_job", "cancelled", "invalid_param", "unknown_method", daemon.status()["state"],
        "queued", "queued", "cancelled", "dead", "unknown_job", "invalid_param", "cancelled"]


def test_many_more_than_may_wait_at_once(zitd):
    """More answers than zitd keeps for one connection, and more bytes of them; then half of the connection is closed."""
    daemon = zitd("step 0.02", **SECTIONS)
    daemon.call("pause")
    jobs = [daemon.submit(f"job {i} {'x' * 20000}", steps=1) for i in range(10)]
    requests = [("hold" if i % 2 == 0 else "release", {"job": jobs}) for i in range(40)] + [("pause", {"class": "low"})] * 2500
    connection = daemon.connect()
    sending = threading.Thread(target=lambda: connection.socket.sendall(b"".join(
        json.dumps({"id": i, "method": m, "params": p}).encode() + b"\n" for i, (m, p) in enumerate(requests))) or connection.socket.shutdown(socket.SHUT_WR))
    sending.start()
    assert [connection.read_line()["id"] for _ in requests] == list(range(len(requests)))
    sending.join()
    assert connection.read_line() is None
    daemon.call("cancel", job=jobs)
    daemon.call("resume")


def test_who_is_cut_off_hears_of_what_was_done(slow):
    """A line that is too long ends the connection, not what was ordered before it."""
    daemon, jobs, make_slow, _ = slow
    make_slow()
    connection = daemon.connect()
    connection.socket.sendall(json.dumps({"id": 0, "method": "hold", "params": {"job": jobs["b"]}}).encode() + b"\n" + b"x" * (1 << 20) + b"xx")
    answers = [connection.read_line(), connection.read_line()]
    assert sorted("frame_too_large" if "error" in answer else answer["result"]["jobs"][0]["state"] for answer in answers) == ["frame_too_large", "held"]
    assert connection.read_line() is None


def test_a_disk_that_fails(faulty_disk, zitd):  # noqa: F811
    """Orders are done and promised to nobody, cancelled is cancelled; afterwards all is as it was."""
    control, env = faulty_disk
    daemon = zitd("step 0.02", env=env, **SECTIONS)
    daemon.call("pause")
    jobs = [daemon.submit(f"job {i}", steps=1) for i in range(3)]
    control.write_text("fail")
    for method, job in (("hold", jobs[0]), ("move", jobs[2])):  # by its own transaction, and when it is known
        error = refused(daemon.call, method, job=job)
        assert error.name == "disk_full" and error.message.startswith(f"{method} is done, but"), error
    assert daemon.job(jobs[0])["state"] == "held" and order(daemon) == [jobs[2], jobs[1]]
    assert daemon.call("cancel", job=jobs[1])["jobs"][0]["state"] == "cancelled"
    control.unlink()
    until(lambda: "store_error" not in daemon.status(), what="the disk takes writes again")
    daemon.call("hold", job=jobs[0])
    daemon.kill()
    daemon.start()
    assert daemon.job(jobs[0])["state"] == "held" and daemon.job(jobs[1])["state"] == "cancelled"
    daemon.call("release", job=jobs[0])
    assert order(daemon) == [jobs[2], jobs[0]]
    daemon.call("resume")
