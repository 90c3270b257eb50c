"""subscribe and zitctl events: what becomes of jobs, by number, over connections and restarts."""
import contextlib
import json
import signal
import sqlite3
import subprocess
import time

import pytest

from harness import BUILD, RpcError, until


def listen(daemon, **params):
    connection = daemon.connect()
    connection.call("subscribe", **params)
    return connection


def events_until(connection, job, state):
    """All that comes until the job is in that state, with it."""
    seen = []
    while not (seen and seen[-1].get("job") == job and seen[-1]["state"] == state):
        seen.append(connection.read_line()["params"])
    return seen


def states_of(events, job):
    return [e["state"] for e in events if e.get("job") == job]


def test_a_jobs_life_is_told_in_order(zitd):
    daemon = zitd("step 0")
    listener = listen(daemon)
    job = daemon.submit(steps=1, priority="high", group="mine")
    seen = events_until(listener, job, "done")
    assert states_of(seen, job) == ["queued", "claimed", "done"]
    assert [e["seq"] for e in seen] == list(range(seen[0]["seq"], seen[0]["seq"] + len(seen)))
    assert seen[0]["priority"] == "high" and seen[0]["group"] == "mine" and seen[1]["runner"] == "0"


def test_an_end_says_why(zitd):
    daemon = zitd("step 0.05")
    listener = listen(daemon)
    job = daemon.submit(steps=100)
    daemon.wait_running(job)
    daemon.call("cancel", job=job)
    assert events_until(listener, job, "cancelled")[-1]["error"] == "cancelled"


def test_who_was_away_gets_what_was_missed(zitd):
    """The last number that was seen leads on, over a SIGKILL of zitd too, and nothing is told twice."""
    daemon = zitd("step 0")
    listener = listen(daemon)
    first = daemon.submit(steps=1)
    last = events_until(listener, first, "done")[-1]["seq"]
    listener.close()
    missed = [daemon.generate(steps=1)["job"] for _ in range(3)]
    daemon.kill()
    daemon.start()
    listener = listen(daemon, seq=last)
    after = daemon.submit(steps=1)
    seen = events_until(listener, after, "done")
    assert [e["seq"] for e in seen] == list(range(last + 1, last + 1 + len(seen)))
    assert [states_of(seen, job) for job in (first, *missed, after)] == [[]] + [["queued", "claimed", "done"]] * 4


def test_one_job_only(zitd):
    daemon = zitd("step 0")
    daemon.call("pause")
    mine, other = daemon.submit(steps=1), daemon.submit(steps=1)
    listener = listen(daemon, seq=0, job=mine)
    daemon.call("resume")
    assert states_of(events_until(listener, mine, "done"), other) == []
    daemon.wait(other)


def test_a_job_that_there_is_not(zitd):
    """It has no events, and never will: not one whose id another's begins with, either."""
    daemon = zitd("step 0")
    job = daemon.generate(steps=1)["job"]
    for other in (job + "0", job[:-1], "x" * 64):
        with pytest.raises(RpcError) as e:
            daemon.call("subscribe", seq=0, job=other)
        assert e.value.name == "unknown_job"


def test_a_number_that_was_never_given(zitd):
    daemon = zitd("step 0")
    with pytest.raises(RpcError) as e:
        daemon.call("subscribe", seq=10**6)
    assert e.value.name == "invalid_param" and "newest" in e.value.message


def test_many_events_for_one_who_comes_late(zitd):
    """More than a page of them, while others come."""
    daemon = zitd("step 0", queue={"client_cap": 100})
    connection = daemon.connect()
    for _ in range(20):
        for number in [connection.send("submit", prompt="a", steps=1, wait=True) for _ in range(20)]:
            connection.read_line()
    listener = listen(daemon, seq=0)
    job = daemon.submit(steps=1)
    seen = events_until(listener, job, "done")
    assert [e["seq"] for e in seen] == list(range(1, len(seen) + 1)) and len(seen) >= 401 * 3


def test_who_reads_late_gets_all(zitd):
    """More than zitd keeps for one who does not read; the rest comes when he does, though nothing else happens."""
    daemon = zitd("step 0", queue={"max_size": 200, "client_cap": 100})
    connection = daemon.connect()
    for _ in range(25):
        jobs = [connection.call("submit", prompt="a", group="g" * 64, not_before=600)["job"] for _ in range(40)]
        connection.call("cancel", job=jobs)
    listener = daemon.connect(timeout=20)
    newest = listener.call("subscribe", seq=0)["newest"]
    time.sleep(1)
    seen = [listener.read_line()["params"]["seq"] for _ in range(newest)]
    assert seen == list(range(1, newest + 1)) and newest == 2000


def test_a_damaged_event_is_not_told(zitd):
    """One whose text is no JSON any more is left out; those before and behind it are whole."""
    daemon = zitd("step 0")
    daemon.generate(steps=1)
    daemon.stop()
    with contextlib.closing(sqlite3.connect(daemon.state / "queue.db", isolation_level=None)) as db:
        last = db.execute("SELECT max(seq) FROM event").fetchone()[0]
        db.execute("UPDATE event SET body = replace(body, ',', ';') WHERE seq = 2")
    daemon.start()
    listener = listen(daemon, seq=0)
    job = daemon.submit(steps=1)
    seen = [e["seq"] for e in events_until(listener, job, "done")]
    assert last >= 3 and seen == [1, *range(3, seen[-1] + 1)]


def test_zitctl_events_gives_up_in_time_while_zitd_is_away(zitd):
    """--timeout is of all connections together, and of the time without one."""
    daemon = zitd("step 0")
    daemon.generate(steps=1)
    process = subprocess.Popen([str(BUILD / "zitctl"), "-H", str(daemon.socket_path), "events", "0", "--timeout", "3"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline()
    daemon.kill()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 124 and "--timeout" in errors, errors
    daemon.start()


def test_zitctl_events_goes_on_over_a_restart(zitd, tmp_path):
    def told():
        return [json.loads(line) for line in (tmp_path / "events").read_text().splitlines()]

    def ends():
        return [e["job"] for e in told() if e["state"] == "done"]

    daemon = zitd("step 0")
    out = open(tmp_path / "events", "w", encoding="utf-8")
    command = [str(BUILD / "zitctl"), "-H", str(daemon.socket_path), "events", "0", "-o", "jsonl"]
    with subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE, text=True) as ctl:
        jobs = [daemon.generate(steps=1)["job"]]
        until(lambda: ends() == jobs, what="zitctl is there")
        daemon.kill()
        daemon.start()
        jobs.append(daemon.generate(steps=1)["job"])
        until(lambda: ends() == jobs, what="both ends are told")
        ctl.send_signal(signal.SIGINT)
        assert ctl.wait(60) == 0
    assert [e["seq"] for e in told()] == list(range(1, len(told()) + 1))
