"""What zitd has accepted survives it: SIGKILL, a stop, a full disk, a disk that fails, and damaged files."""
import contextlib
import os
import re
import shutil
import sqlite3
import subprocess
import time

import pytest

from harness import BUILD, FINAL, SANITIZED, RpcError, until

LARGE_QUEUE = {"max_size": 2000, "client_cap": 100, "queue_timeout": 3600}
SLOW = "step 0.05"


def refused(call, *arguments, **params):
    """The error with which a call is refused."""
    with pytest.raises(RpcError) as e:
        call(*arguments, **params)
    return e.value


def order(daemon):
    """Open jobs as they stand in line, running ones first."""
    return [r["job"] for r in daemon.call("queue")["jobs"]]


def all_final(daemon, jobs, timeout=60.0):
    for job in jobs:
        daemon.wait_state(job, *FINAL, timeout=timeout)
    return {job: daemon.job(job) for job in jobs}


def no_longer(record):
    """What of a record does not change once its job has ended."""
    return {k: v for k, v in record.items() if k != "warnings"}


# ---- ended without a word, and begun again


def test_sigkill_leaves_every_job_in_its_place(zitd):
    daemon = zitd(SLOW, queue=LARGE_QUEUE, runner={"preemption": "false"})  # who waits shall wait
    done = daemon.generate("done", steps=1)
    running = daemon.submit("running", steps=40)
    daemon.wait_running(running)
    queued = [daemon.submit(f"cat {i}", steps=1, priority=p) for i, p in
              enumerate(("normal", "low", "high", "normal", "high"))]
    before = order(daemon)
    daemon.kill()
    daemon.start(ready=False)
    daemon.wait_listening()
    after = order(daemon)
    assert set(after) == set(before)
    assert after.index(running) < min(after.index(queued[0]), after.index(queued[3]))  # first of its class
    assert [j for j in after if j != running] == [j for j in before if j != running]
    records = all_final(daemon, [running, *queued])
    assert {r["state"] for r in records.values()} == {"done"}
    assert records[running]["attempts"] == 2
    assert {records[j]["attempts"] for j in queued} == {1}
    assert no_longer(daemon.job(done["job"])) == no_longer(done)
    assert os.path.getsize(daemon.call("result", job=done["job"])["path"]) == done["result"]["bytes"]


def test_what_jobs_cost_is_remembered(zitd):
    """A waiting job's eta is there at once after a restart, from what earlier ones took."""
    daemon = zitd("step 0.1", runner={"preemption": "false", "cost_base": 0, "cost_step": 0.001})
    for steps in (1, 3, 2, 1, 3, 2):
        daemon.generate(steps=steps)
    daemon.stop()
    daemon.start()
    busy = daemon.submit(steps=30)
    eta = daemon.job(daemon.submit(steps=30))["eta_s"]
    daemon.call("cancel", job=busy)
    assert 3.0 < eta < 9.0, eta  # of twice 3 s of steps; the configured costs say 1 ms a megapixel's step


def test_what_clients_had_is_remembered(zitd):
    """Accounts go with transactions, not with each: what a burst leaves out is written in the rest after it."""
    daemon = zitd("step 0.01")
    for _ in range(3):
        daemon.generate(steps=5)
    used = daemon.call("usage")
    time.sleep(10.5)  # housekeeping comes each ten seconds
    daemon.kill()
    daemon.start()
    assert daemon.call("usage") == used


def test_a_pause_survives(zitd):
    """SIGKILL, and its end a stop: though there was no job to write it with."""
    daemon = zitd("step 0")
    daemon.generate()  # what scheduling remembers has just been written
    daemon.call("pause")
    daemon.kill()
    daemon.start()
    assert daemon.status()["queue"]["paused"]["all"]
    daemon.call("resume")
    daemon.restart()
    assert not daemon.status()["queue"]["paused"]["all"]


def test_held_jobs_stay_held(zitd):
    """Over as many ends of zitd as would be the end of one that runs; its place and its clock are kept too."""
    daemon = zitd(SLOW, queue={"hold_timeout": 3600})
    daemon.call("pause")
    jobs = [daemon.submit(f"cat {i}", steps=1) for i in range(3)]
    daemon.call("hold", job=jobs[0])
    for end in (daemon.kill, daemon.kill, daemon.kill, daemon.stop):
        end()
        daemon.start()
        record = daemon.job(jobs[0])
        assert record["state"] == record["held_back"] == "held" and record["attempts"] == 0, record
        assert daemon.status()["queue"]["held"] == 1
    daemon.call("release", job=jobs[0])
    assert order(daemon) == jobs
    daemon.call("resume")
    assert [(r["state"], r["attempts"]) for r in all_final(daemon, jobs).values()] == [("done", 1)] * 3


def test_a_client_comes_back_for_its_job(zitd):
    daemon = zitd(SLOW)
    connection = daemon.connect()
    connection.send("submit", prompt="a cat", wait=True, events=True, on_disconnect="keep", steps=40,
                    idempotency_key="mine")
    job = connection.read_line()["params"]["job"]
    daemon.accepted.add(job)
    daemon.wait_running(job)
    daemon.kill()
    daemon.start()
    again = daemon.connect()
    by_key = again.send("submit", prompt="a cat", wait=True, steps=40, idempotency_key="mine")
    record = daemon.wait(job)
    assert record["state"] == "done" and record["attempts"] == 2
    assert again.reply(by_key)["job"] == job
    assert len(daemon.records()) == 1


@pytest.mark.parametrize("deliver", ["base64", "fd"])
def test_pictures_that_need_no_file(zitd, deliver):
    """Nobody but its waiters wants them, and they take the bytes: no file, and a later visitor is told so."""
    daemon = zitd("step 0")
    connection = daemon.connect()
    record = connection.call("submit", prompt="a cat", steps=1, n=2, wait=True, durable=False, deliver=deliver)
    daemon.accepted.add(record["job"])
    pictures = record["result"]["pictures"]
    assert record["state"] == "done" and all("path" not in p and deliver in p for p in pictures)
    if deliver == "fd":
        assert [os.fstat(fd).st_size for fd in connection.fds] == [p["bytes"] for p in pictures]
    assert not list((daemon.state / "results").iterdir())
    until(lambda: daemon.job(record["job"])["state"] == "done", what="its record")
    assert refused(lambda: daemon.call("result", job=record["job"])).name == "expired_job"


def test_waited_for_and_not_durable(zitd):
    """Such a job goes with zitd, and nobody was told otherwise."""
    daemon = zitd(SLOW)
    connection = daemon.connect()
    connection.send("submit", prompt="a cat", wait=True, events=True, durable=False, steps=100)
    gone = connection.read_line()["params"]["job"]
    daemon.kill()
    daemon.start()
    assert refused(daemon.job, gone).name == "unknown_job"
    assert daemon.generate(durable=False, steps=1)["state"] == "done"


def test_ends_that_need_not_survive_are_written_all_the_same(zitd):
    """Many go together and wait a little for that; not when somebody asks for them, and not past an orderly end."""
    daemon = zitd("step 0")
    first = daemon.generate(durable=False, steps=1)["job"]
    assert first in [r["job"] for r in daemon.records()]
    last = daemon.generate(durable=False, steps=1)["job"]
    daemon.stop()
    daemon.start()
    assert daemon.job(first)["state"] == daemon.job(last)["state"] == "done"


def test_one_key_is_one_job(zitd):
    daemon = zitd(SLOW, queue=LARGE_QUEUE)
    connections = [daemon.connect() for _ in range(100)]
    numbers = [c.send("submit", prompt="a cat", steps=2, idempotency_key="k") for c in connections]
    jobs = {c.reply(n)["job"] for c, n in zip(connections, numbers)}
    assert len(jobs) == 1 and len(daemon.records()) == 1
    job = daemon.submit(steps=2, idempotency_key="k")
    assert {job} == jobs
    for ended in (False, True):
        if ended:
            daemon.wait(job)
        for restart in (lambda: None, lambda: (daemon.kill(), daemon.start())):
            restart()
            assert daemon.submit(steps=2, idempotency_key="k") == job
            assert daemon.submit(steps=2, negative_prompt=None, idempotency_key="k") == job  # null is nothing
            conflict = refused(daemon.submit, "a dog", idempotency_key="k")
            assert conflict.name == "id_conflict" and conflict.data["job"] == job
    assert len(daemon.records()) == 1


def test_one_key_keeps_all_promises(zitd):
    """A job that does not survive zitd is none for a request that does, nor one whose record is damaged for any; one
    that ends with its client does so with the last who submitted it, and not when somebody wants it kept."""
    daemon = zitd(SLOW, queue=LARGE_QUEUE)

    def begin(**params):
        connection = daemon.connect()
        connection.send("submit", prompt="a cat", wait=True, events=True, steps=100, **params)
        return connection, connection.read_line()["params"]["job"]
    _, fleeting = begin(idempotency_key="fleeting", durable=False)
    error = refused(daemon.submit, steps=100, idempotency_key="fleeting")
    assert error.name == "id_conflict" and error.data["job"] == fleeting and "durable" in error.message
    assert begin(idempotency_key="fleeting", durable=False)[1] == fleeting
    daemon.call("cancel", job=fleeting)
    until(lambda: daemon.submit(steps=100, idempotency_key="fleeting") == fleeting, what="its end")

    owners, jobs = zip(*(begin(idempotency_key="mine") for _ in range(3)), strict=True)
    assert len(set(jobs)) == 1
    for connection in owners[:2]:
        connection.close()
        daemon.call("status")
    assert daemon.job(jobs[0])["state"] not in FINAL
    owners[2].close()
    daemon.wait_state(jobs[0], "cancelled")

    owner, job = begin(idempotency_key="ours")
    assert daemon.submit(steps=100, idempotency_key="ours") == job
    owner.close()
    daemon.call("status")
    assert daemon.job(job)["state"] not in FINAL
    daemon.kill()
    daemon.start(ready=False)  # the runner is soon busy with it again
    daemon.wait_listening()
    again, same = begin(idempotency_key="ours")
    assert same == job
    again.close()
    daemon.call("status")
    assert daemon.job(job)["state"] not in FINAL
    daemon.call("cancel", job=job)


def test_a_damaged_job_is_not_done_again_by_its_key(zitd):
    daemon = zitd("step 0", audited=False)
    job = daemon.submit(steps=1, idempotency_key="k")
    daemon.wait(job)
    with stopped(daemon) as db:
        db.execute("UPDATE final_job SET body = replace(body, '\"seed\"', '\"sEEd\"')")
    daemon.start()
    assert refused(daemon.submit, steps=1, idempotency_key="k").name == "damaged_job"


def test_stopping_puts_the_queue_off(zitd):
    daemon = zitd(SLOW)
    running = daemon.submit(steps=40)
    daemon.wait_running(running)
    connection = daemon.connect()
    number = connection.send("submit", prompt="a cat", wait=True, events=True, steps=1)
    job = connection.read_line()["params"]["job"]
    daemon.accepted |= {running, job}
    late = daemon.connect()
    late.call("status")
    daemon.process.terminate()
    error = refused(connection.reply, number)
    assert error.name == "draining" and error.data["job"] == job
    error = refused(late.call, "wait", job=job)  # who asks only now is told the same
    assert error.name == "draining" and error.data["job"] == job
    assert daemon.process.wait(60) == 0
    daemon.start()
    assert daemon.job(running)["state"] == "done"
    assert daemon.wait(job)["state"] == "done"


def test_a_job_that_kills_zitd(zitd):
    """Three lives are enough; the others get their turn."""
    daemon = zitd(f"{SLOW}\n@poison; step 0.05; step 1 kill_zitd 9")
    poison = daemon.submit("@poison")
    good, deaths = [], 0

    def is_over():
        """All have ended, or zitd has once more."""
        nonlocal deaths
        if daemon.process.poll() is not None:
            deaths += 1
            daemon.start(ready=False)
        with contextlib.suppress(OSError, EOFError):
            good.extend([daemon.submit(f"good {len(good)}", steps=1)] if len(good) < 3 else [])
            return deaths == 10 or all(r["state"] in FINAL for r in daemon.records())
    until(is_over, what="all jobs' ends")
    assert deaths == 3
    record = daemon.job(poison)
    assert record["state"] == "dead" and record["attempts"] == 3, record
    assert poison in [r["job"] for r in daemon.call("dead")["jobs"]]
    assert poison in daemon.ctl("dead", "list").stdout
    assert all(daemon.wait(j)["state"] == "done" for j in good) and good
    daemon.wait_ready()
    daemon.baseline_fds = daemon.fd_count()


# ---- what has ended


def test_pages_of_ended_jobs(zitd):
    daemon = zitd("step 0", queue=LARGE_QUEUE)
    jobs = [daemon.generate(f"cat {i}", steps=1)["job"] for i in range(25)]
    daemon.restart()
    seen, before = [], {}
    while page := daemon.call("list", state="final", limit=10, **before)["jobs"]:
        seen += [r["job"] for r in page]
        before = {"before": seen[-1]}
        assert len(page) <= 10
    assert seen == jobs[::-1]
    assert refused(daemon.call, "list", before="job_00000000000000000000000000").name == "unknown_job"


def test_pages_of_all_jobs(zitd):
    """Open ones, then ended ones: each once, though some end and some come meanwhile."""
    daemon = zitd(SLOW, queue=LARGE_QUEUE)
    ended = [daemon.generate(f"done {i}", steps=1)["job"] for i in range(5)]
    running = daemon.submit("running", steps=100)
    daemon.wait_running(running)
    waiting = [daemon.submit(f"cat {i}", steps=1, group="odd" if i % 2 else "even") for i in range(9)]
    daemon.call("hold", job=waiting[0])
    listed = [running, *waiting[1:], waiting[0]]

    def pages(limit, between=lambda: None, **params):
        seen = []
        while page := daemon.call("list", limit=limit, **params)["jobs"]:
            assert len(page) <= limit
            seen += [r["job"] for r in page]
            params["before"] = seen[-1]
            between()
        return seen
    for limit in (1, 3, 5, 100):
        assert pages(limit) == listed + ended[::-1]
        assert pages(limit, state="waiting") == listed[1:] and pages(limit, state="running") == [running]
        assert pages(limit, group="odd") == waiting[1::2]
    assert daemon.call("list", state="running", before=waiting[1])["jobs"] == []
    assert daemon.call("list", state="waiting", before=running)["jobs"][0]["job"] == waiting[1]
    seen = pages(3, lambda: daemon.submit("late", steps=1))
    assert [j for j in seen if j in listed] == listed and [j for j in seen if j in ended] == ended[::-1]
    error = refused(daemon.call, "list", state="waiting", before=ended[0])
    assert error.name == "invalid_param" and error.data["param"] == "before" and "begin again" in error.message
    daemon.call("cancel", job=[r["job"] for r in daemon.call("queue")["jobs"]])


def test_expired_is_not_unknown(zitd):
    daemon = zitd("step 0", results={"retention_waited": 1})
    record = daemon.generate("a cat", steps=1)
    job, path = record["job"], record["result"]["path"]
    until(lambda: not os.path.exists(path), what="the picture removed")
    for _ in range(2):
        error = refused(daemon.call, "result", job=job)
        assert error.name == "expired_job" and error.data["record"]["prompt"] == "a cat"
        assert daemon.job(job)["state"] == "done"
        assert refused(daemon.call, "result", job=job[:-1] + "!").name in ("unknown_job", "invalid_param")
        daemon.restart()


def test_a_picture_that_somebody_removed_is_missed(zitd):
    """By name, whatever way it was to come: not an answer without it."""
    daemon = zitd("step 0")
    record = daemon.generate(steps=1, n=2)
    os.unlink(record["result"]["pictures"][1]["path"])
    for deliver in ("path", "base64", "fd"):
        error = refused(daemon.call, "result", job=record["job"], picture=1, deliver=deliver)
        assert error.name == "expired_job" and "not there any more" in error.message
        assert daemon.call("result", job=record["job"], picture=0, deliver=deliver)["bytes"] > 0


def test_a_picture_that_is_another_thing_is_not_given_away(zitd):
    """Nor does zitd wait for it."""
    daemon = zitd("step 0")
    record = daemon.generate(steps=1)
    path, other = record["result"]["path"], daemon.directory / "other"
    other.write_bytes(bytes(record["result"]["bytes"]))

    def cut_short():
        os.truncate(path, record["result"]["bytes"] - 1)
    for change in (cut_short, lambda: os.symlink(other, path), lambda: os.mkdir(path), lambda: os.mkfifo(path)):
        if change is not cut_short:
            os.rmdir(path) if os.path.isdir(path) else os.unlink(path)
        change()
        for deliver in ("path", "base64", "fd"):
            error = refused(daemon.call, "result", job=record["job"], deliver=deliver)
            assert error.name == "damaged_job" and "its seed" in error.message
    assert "base64" not in daemon.call("wait", job=record["job"], deliver="base64")["result"]["pictures"][0]


def test_the_directory_of_results_is_removed(zitd):
    """To make room, say: the next picture finds its place all the same."""
    daemon = zitd("step 0")
    daemon.generate(steps=1)
    shutil.rmtree(daemon.state / "results")
    for _ in range(2):
        record = daemon.generate(steps=1)
        assert record["state"] == "done" and os.path.exists(record["result"]["path"])


def test_leftovers_of_pictures_are_removed(zitd):
    daemon = zitd("step 0")
    record = daemon.generate(steps=1)
    results = os.path.dirname(record["result"]["path"])
    daemon.stop()
    left = [f"{results}/.tmp-job_{'0' * 26}-0.png", f"{results}/job_{'0' * 26}-0.png"]
    for path in left:
        with open(path, "wb") as f:
            f.write(b"half a picture")
    daemon.start()
    until(lambda: not any(map(os.path.exists, left)), what="leftovers removed")
    assert os.path.exists(record["result"]["path"])


# ---- damaged files


@contextlib.contextmanager
def stopped(daemon):
    """The store's file, open for whoever wants to do it harm, while zitd is down."""
    daemon.stop()
    db = sqlite3.connect(daemon.state / "queue.db", isolation_level=None)
    yield db
    db.close()


def test_a_newer_store_is_not_touched(zitd):
    daemon = zitd("step 0", audited=False)
    daemon.generate(steps=1)
    with stopped(daemon) as db:
        db.execute("PRAGMA user_version = 99")
    content = (daemon.state / "queue.db").read_bytes()
    daemon.start(ready=False)
    assert daemon.process.wait(60) == 78
    assert "newer" in daemon.log() and "99" in daemon.log()
    assert (daemon.state / "queue.db").read_bytes() == content


def test_a_damaged_header_costs_nothing(zitd):
    daemon = zitd(SLOW)
    done = daemon.generate("done", steps=1)["job"]
    running = daemon.submit("running", steps=20)
    daemon.wait_running(running)
    queued = daemon.submit("queued", steps=1)
    daemon.kill()
    with open(daemon.state / "queue.db", "r+b") as f:
        f.write(b"\0" * 100)
    (daemon.state / "queue.db-wal").unlink(missing_ok=True)
    daemon.start()
    assert "was damaged" in daemon.log()
    aside = list(daemon.state.glob("queue.db.damaged-*"))
    assert aside
    for path in aside:
        path.unlink()
    known = {r["job"] for r in daemon.records()}
    if {done, running, queued} - known:  # what lay in the log alone went with it
        daemon.accepted &= known
    assert daemon.generate(steps=1)["state"] == "done"


def test_a_damaged_row_is_one_job(zitd):
    daemon = zitd("step 0", audited=False)
    jobs = [daemon.generate(f"cat {i}", steps=1)["job"] for i in range(3)]
    with stopped(daemon) as db:
        db.execute("UPDATE final_job SET body = replace(body, 'cat 1', 'cat 2') WHERE id = ?", (jobs[1],))
    daemon.start()
    assert refused(daemon.job, jobs[1]).name == "damaged_job"
    assert refused(daemon.wait, jobs[1]).name == "damaged_job"
    assert [r["job"] for r in daemon.records()] == [jobs[2], jobs[0]]
    assert daemon.job(jobs[2])["prompt"] == "cat 2"
    assert daemon.generate(steps=1)["state"] == "done"


def test_a_damaged_open_job_is_one_job(zitd):
    daemon = zitd(SLOW, audited=False)
    running = daemon.submit("running", steps=100)
    daemon.wait_running(running)
    queued = [daemon.submit(f"cat {i}", steps=1) for i in range(3)]
    daemon.kill()
    db = sqlite3.connect(daemon.state / "queue.db", isolation_level=None)
    db.execute("UPDATE open_job SET body = replace(body, 'cat 1', 'cat 2')")
    db.close()
    daemon.start(ready=False)
    daemon.wait_listening()
    assert {r["job"] for r in daemon.records()} == {running, queued[0], queued[2]}
    assert "was damaged" in daemon.log()


def test_pages_damaged_under_a_running_zitd(zitd):
    """What it has in memory is written again: open jobs are not lost with the pages that held them."""
    daemon = zitd("step 0", queue=LARGE_QUEUE)
    for i in range(60):  # more than SQLite keeps in memory
        daemon.generate("x" * 10000 + str(i), steps=1)
    daemon.call("pause")
    waiting = [daemon.submit("w" * 10000 + str(i), steps=1) for i in range(5)]
    daemon.restart()  # all that was in its log is in the file
    with open(daemon.state / "queue.db", "r+b") as f:
        f.seek(4096 * 20)
        f.write(b"\xff" * (os.path.getsize(f.name) - 4096 * 20))

    def is_noticed():
        daemon.call("cancel", job=daemon.submit("y" * 100, steps=1))
        return "was damaged" in daemon.log()
    until(is_noticed, what="the damage noticed")
    until(lambda: not daemon.status().get("store_error"), what="a new file")
    daemon.submit("written with all that is open", steps=1)
    daemon.kill()
    daemon.accepted = set(waiting)  # of those that had ended, pages are gone
    for path in daemon.state.glob("queue.db.damaged-*"):
        path.unlink()
    daemon.start()
    assert daemon.call("queue")["jobs"][0]["job"] == waiting[0]
    daemon.call("resume")
    assert all(daemon.wait(j)["state"] == "done" for j in waiting)


def test_a_store_that_is_taken_away(zitd):
    """Nothing is promised that the next life would not find; all goes on when it is back."""
    daemon = zitd("step 0")
    done = daemon.generate(steps=1)["job"]
    for name in ("queue.db", "queue.db-wal"):
        os.rename(daemon.state / name, daemon.state / f"{name}.away")
        error = refused(daemon.submit)
        assert error.name == "disk_full" and "No such file" in error.message
        assert "No such file" in daemon.status()["store_error"]
        (daemon.state / name).write_bytes(b"")  # another one in its place
        until(lambda: "Stale" in daemon.status()["store_error"], what="another file noticed")
        assert refused(daemon.submit).name == "disk_full"
        os.rename(daemon.state / f"{name}.away", daemon.state / name)
        until(lambda: not daemon.status().get("store_error"), what="the store is back")
    job = daemon.submit(steps=1)
    daemon.kill()
    daemon.start()
    assert daemon.wait(job)["state"] == daemon.job(done)["state"] == "done"


def test_a_store_that_may_not_be_opened(zitd):
    """The reason is the same wherever it is told."""
    daemon = zitd("step 0", audited=False)
    daemon.stop()
    (daemon.state / "queue.db").unlink()
    (daemon.state / "queue.db").mkdir()
    daemon.start(ready=False)
    daemon.wait_listening()
    assert "queue.db cannot be used: Is a directory" in daemon.log()
    assert "Is a directory" in daemon.status()["store_error"]
    (daemon.state / "queue.db").rmdir()
    until(lambda: not daemon.status().get("store_error"), what="a new store")


# ---- a disk that is full


@pytest.fixture
def small_disk(tmp_path):
    """A state directory of 1 MiB."""
    place = tmp_path / "d0" / "state"
    place.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a tmpfs of 1 MiB needs privileges")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(daemon):
    """Submits until it is refused; the ids that were accepted, and the refusal."""
    jobs = []
    for i in range(1000):
        try:
            jobs.append(daemon.submit("x" * 20000 + str(i), steps=1))
        except RpcError as e:
            return jobs, e
    raise AssertionError("1 MiB took 1000 jobs of 20 kB")


def test_a_disk_that_is_read_only(small_disk, zitd):
    """Nothing can be kept: what needs not be is served, and the rest goes on by itself when the disk takes writes again."""
    daemon = zitd("step 0.02")
    daemon.call("pause")
    waiting = daemon.submit("waits", steps=1)
    daemon.stop()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    daemon.start()
    daemon.baseline_fds += 2  # a store that is open: its file and its log
    assert refused(daemon.submit).name == "disk_full"
    assert "Read-only" in daemon.status()["store_error"] and "takes no writes" in daemon.ctl("status").stdout
    assert daemon.generate(durable=False, steps=1, deliver="base64")["result"]["pictures"][0]["base64"]
    daemon.accepted = {waiting}
    assert refused(daemon.call, "resume").name == "disk_full"  # it is done, and not kept
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    assert until(lambda: known(daemon, waiting), what="the queue is back")["job"] == waiting
    daemon.call("resume")  # the pause was kept with it
    assert daemon.wait(waiting)["state"] == "done"
    assert daemon.generate(steps=1)["state"] == "done"


def known(daemon, job):
    try:
        return daemon.job(job)
    except RpcError as e:
        assert e.name == "system" and "cannot be read" in e.message, e  # not: unknown
        return None


def end_is_written(daemon, job):
    """Looked for in the file, which zitd keeps to itself."""
    row = re.compile(rb'"state":"cancelled"[^{}]*"id":"%s"' % job.encode())
    return any(row.search(path.read_bytes()) for path in daemon.state.glob("queue.db*"))


def test_a_full_disk(small_disk, zitd):
    others = small_disk / "others"
    others.write_bytes(bytes(600 * 1024))
    daemon = zitd("step 0.02", queue=LARGE_QUEUE)
    running = daemon.submit("running", steps=100)
    daemon.wait_running(running)
    jobs, error = fill(daemon)
    assert error.name == "disk_full", error
    assert daemon.status()["queue"], "zitd answers"
    assert daemon.wait(running)["state"] in FINAL  # what runs is finished, or says why it could not be
    daemon.call("cancel", job=jobs[-1])
    assert daemon.job(jobs[-1])["state"] == "cancelled"
    assert daemon.generate("not kept", durable=False, steps=1)["state"] in FINAL
    until(lambda: end_is_written(daemon, jobs[-1]), what="its end in the space that is kept for ends")
    time.sleep(0.2)  # of its transaction, too
    with contextlib.suppress(OSError), open(others, "ab", buffering=0) as f:
        while True:
            f.write(bytes(4096))
    daemon.kill()
    daemon.start()  # though it is full
    assert not set(jobs) - {r["job"] for r in daemon.records()}
    assert daemon.job(jobs[-1])["state"] == "cancelled"
    assert daemon.generate("not kept", durable=False, steps=1)["state"] in FINAL
    others.unlink()

    def takes_jobs():
        try:
            return daemon.submit("at last", steps=1)
        except RpcError as e:
            assert e.name == "disk_full"
            return None
    job = until(takes_jobs, what="a job is accepted again")
    assert daemon.wait(job)["state"] == "done"


def test_ends_on_a_full_disk_are_events_later(small_disk, zitd):
    """What went into the space kept for ends has no number there; it is told when the disk takes all again."""
    others = small_disk / "others"
    others.write_bytes(bytes(600 * 1024))
    daemon = zitd("step 0.02", queue=LARGE_QUEUE)
    daemon.call("pause")
    subscriber = daemon.connect()
    seq = subscriber.call("subscribe")["after"]
    jobs, _error = fill(daemon)
    daemon.call("cancel", job=jobs[-1])
    until(lambda: end_is_written(daemon, jobs[-1]), what="its end in the space that is kept for ends")
    assert daemon.job(jobs[-1])["state"] == "cancelled"
    others.unlink()
    seen = {}
    while "cancelled" not in seen.get(jobs[-1], []):
        event = subscriber.read_line()["params"]
        assert event["seq"] == seq + 1, event
        seq += 1
        seen.setdefault(event["job"], []).append(event["state"])
    assert set(jobs) <= set(seen)
    assert daemon.job(jobs[-1])["state"] == "cancelled"
    daemon.call("resume")


# ---- a disk that fails


def disk_by(control):
    """The environment of a disk that is as the file says: "slow MS", "fail"; a sanitizer's runtime wants to be loaded first."""
    return {} if SANITIZED else {"LD_PRELOAD": str(BUILD / "tests" / "faulty_disk.so"), "FAULTY_DISK": str(control)}


@pytest.fixture
def faulty_disk(tmp_path):
    """How the disk is: write "slow MS" or "fail" into the file; and the environment that makes it so."""
    if SANITIZED:
        pytest.skip("a sanitizer's runtime wants to be loaded first")
    control = tmp_path / "disk"
    return control, disk_by(control)


def test_fsync_fails(faulty_disk, zitd):
    control, env = faulty_disk
    daemon = zitd(SLOW, env=env)
    running = daemon.submit(steps=10)
    daemon.wait_running(running)
    control.write_text("fail")
    error = refused(daemon.submit)
    assert error.name == "disk_full"
    assert daemon.wait(running)["state"] in FINAL
    assert daemon.generate(durable=False, steps=1)["state"] in FINAL
    assert refused(daemon.submit).name == "disk_full"
    control.unlink()

    def takes_jobs():
        try:
            return daemon.submit(steps=1)
        except RpcError as e:
            assert e.name == "disk_full"
            return None
    job = until(takes_jobs, what="a job is accepted again")
    daemon.kill()
    daemon.start()
    assert daemon.wait(job)["state"] == "done"
    assert len(daemon.records()) <= 3  # nothing that was refused
    assert daemon.job(running)["state"] in FINAL
