"""Orders about jobs and pauses are answered when they are on disk: what was acknowledged survives SIGKILL at once."""
import select
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
