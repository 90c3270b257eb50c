"""Cancels in every state, clients that die, lie, dawdle or flood, descriptors and processes that run out, programs
that cannot be started, and garbage. Nobody else may notice: another client's latency is measured while it goes on."""
import array
import base64
import contextlib
import json
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

import harness
from harness import BUILD, FINAL, SANITIZED, SLACK_S, Connection, RpcError, until

LIVE_S = SLACK_S / 3  # the longest that another client may ever wait for its answer
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user takes root")


@pytest.fixture
def tmp_path():
    """Open to all users, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="zit-hostile-") as name:
        os.chmod(name, 0o755)
        yield Path(name)


@contextlib.contextmanager
def as_user(uid):
    """This process's effective user, which is whom a socket's other end sees."""
    os.setegid(uid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@contextlib.contextmanager
def limited(what, soft):
    """A limit that processes started inside inherit."""
    before = resource.getrlimit(what)
    resource.setrlimit(what, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(what, before)


def connect_as(daemon, uid):
    os.chmod(daemon.runtime, 0o755)
    os.chmod(daemon.socket_path, 0o666)
    with as_user(uid):
        return daemon.connect()


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cpu_share(daemon, seconds):
    before = cpu_seconds(daemon.process.pid)
    time.sleep(seconds)
    return (cpu_seconds(daemon.process.pid) - before) / seconds


def name_of(call):
    """The name of the error that it ends with, or None."""
    try:
        call()
    except RpcError as e:
        return e.name
    return None


def request(method, number=1, **params):
    return json.dumps({"id": number, "method": method, "params": params}).encode() + b"\n"


def send_some(connection, data):
    """As much as the socket takes without waiting."""
    connection.socket.setblocking(False)
    try:
        while data:
            data = data[connection.socket.send(data):]
    except (BlockingIOError, BrokenPipeError, ConnectionResetError):
        pass


def send_fds(connection, data, count):
    """With `count` descriptors attached."""
    fds = array.array("i", [connection.socket.fileno()] * count)
    connection.socket.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])


def is_cut(connection, timeout=60.0):
    """Whether the other end closes it, whatever it says before."""
    connection.socket.settimeout(timeout)
    try:
        while connection.socket.recv(65536):
            pass
    except (ConnectionResetError, BrokenPipeError):
        pass
    except TimeoutError:
        return False
    return True


def welcome(daemon):
    """A connection that zitd has accepted."""
    connection = daemon.connect()
    connection.call("status")
    return connection


def settle_fds(daemon, wanted):
    until(lambda: daemon.fd_count() <= wanted, 5.0 + SLACK_S,
          f"descriptors back to {wanted}, now {daemon.fd_count()}")


class Bystander:
    """Another client: each of its requests is answered soon."""

    def __init__(self, daemon):
        self.connection = daemon.connect()
        self.seconds = []
        self.ask()

    def ask(self):
        start = time.perf_counter()
        status = self.connection.call("status")
        self.seconds.append(time.perf_counter() - start)
        assert self.seconds[-1] < LIVE_S, f"waited {self.seconds[-1]:.3f} s for its answer"
        return status

    def report(self, when):
        times = sorted(self.seconds)
        p50, p99 = times[len(times) // 2], times[int(len(times) * 0.99)]
        print(f"{when}: another client waited p50 {p50 * 1e3:.2f} ms, p99 {p99 * 1e3:.2f} ms, "
              f"max {times[-1] * 1e3:.2f} ms, n={len(times)}")


def become(uid):
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]


@pytest.fixture
def zitd_of_a_user(zitd, tmp_path, monkeypatch):
    """zitd_of_a_user(script, ...) starts one as a user who has nothing else: (the daemon, the uid)."""
    uid = 20_000 + os.getpid() % 40_000
    for name in ("d0/run", "d0/state"):
        (tmp_path / name).mkdir(parents=True)
        os.chown(tmp_path / name, uid, uid)
    for name in ("zitd", "tests/fake_runner"):
        shutil.copy(BUILD / name, tmp_path)
    own = harness.Zitd.command
    monkeypatch.setattr(harness.Zitd, "command",
                        lambda self: [*become(uid), str(tmp_path / "zitd"), *own(self)[1:]])

    def start(script, runner=None, **options):
        return zitd(script, runner={"command": tmp_path / "fake_runner", **(runner or {})}, **options), uid
    return start


# ---- 18: cancel

def test_cancel_of_a_queued_job_frees_its_place(zitd):
    daemon = zitd("step 0.05", queue={"max_size": 2})
    running = daemon.submit("running", steps=100)
    daemon.wait_running(running)
    first, second = daemon.submit("first", steps=1), daemon.submit("second", steps=1)
    assert name_of(lambda: daemon.submit("third")) == "queue_full"
    record = daemon.call("cancel", job=first)["jobs"][0]
    assert (record["state"], record["error"]["name"], record["attempts"]) == ("cancelled", "cancelled", 0)
    status = daemon.status()
    assert status["queue"]["normal"] == 1
    assert status["counters"] == {"accepted": 3, "ended": 1, "done": 0}
    third = daemon.submit("third", steps=1)
    daemon.call("cancel", job=running)
    assert [daemon.wait(job)["state"] for job in (second, third)] == ["done", "done"]
    assert daemon.job(first) == record
    assert daemon.status()["counters"] == {"accepted": 4, "ended": 4, "done": 2}


def test_cancel_of_a_dispatched_job(zitd):
    """Before the runner has acknowledged it: what the runner says of it afterwards is dropped."""
    daemon = zitd("step 0")
    pid = daemon.runner()["pid"]
    os.kill(pid, signal.SIGSTOP)
    job = daemon.submit("slow")
    daemon.wait_state(job, "dispatched")
    record = daemon.call("cancel", job=job)["jobs"][0]
    os.kill(pid, signal.SIGCONT)
    assert (record["state"], record["error"]["name"]) == ("cancelled", "cancelled")
    assert daemon.generate()["state"] == "done"
    runner = daemon.runner()
    assert (runner["generation"], runner["deaths"], runner["jobs"]) == (1, 0, [])
    assert daemon.job(job) == record


def test_cancel_of_a_running_job_answers_all_who_wait(zitd):
    daemon = zitd("step 0.05")
    owner, other, third = daemon.connect(), daemon.connect(), daemon.connect()
    number = owner.send("submit", prompt="long", wait=True, steps=100)
    job = until(daemon.records, what="job accepted")[0]["job"]
    daemon.wait_running(job)
    others = [(c, c.send("wait", job=job)) for c in (other, third)]
    until(lambda: daemon.status()["clients"] >= 4, what="all connected")
    time.sleep(0.05)
    other.call("cancel", job=job)
    answers = [owner.reply(number)] + [c.reply(n) for c, n in others[1:]]
    assert [(a["state"], a["error"]["name"]) for a in answers] == [("cancelled", "cancelled")] * len(answers)
    assert daemon.generate(steps=1)["state"] == "done"
    assert daemon.runner()["generation"] == 1
    assert daemon.status()["counters"] == {"accepted": 2, "ended": 2, "done": 1}


def test_cancel_when_a_job_just_ends(zitd):
    """At random moments around its end: one final state, the same for ever, and the counters know it."""
    daemon = zitd("step 0.001")
    dice, connection, ends = random.Random(18), daemon.connect(), {}
    for i in range(80):
        job = connection.call("submit", prompt=f"job {i}", steps=3)["job"]
        daemon.accepted.add(job)
        time.sleep(dice.uniform(0, 0.012))
        answer = connection.call("cancel", job=job)["jobs"][0]["state"]
        ends[job] = connection.call("wait", job=job)["state"]
        assert answer == ends[job] or answer == "stored"
        assert connection.call("cancel", job=job)["jobs"][0]["state"] == ends[job]
    found = {state: list(ends.values()).count(state) for state in set(ends.values())}
    print(f"cancelled around the end: {found}")
    assert set(found) == {"done", "cancelled"}
    assert {r["job"]: r["state"] for r in daemon.records()} == ends
    assert daemon.status()["counters"] == {"accepted": 80, "ended": 80, "done": found["done"]}


def test_cancel_twice_counts_once(zitd):
    daemon = zitd("step 0.05")
    running, queued = daemon.submit("running", steps=100), daemon.submit("queued")
    daemon.wait_running(running)
    first = daemon.call("cancel", job=[queued, running, queued])["jobs"]
    again = daemon.call("cancel", job=[queued, running, queued])["jobs"]
    assert first == again
    assert [r["job"] for r in first] == [queued, running, queued]
    assert {r["state"] for r in first} == {"cancelled"}
    assert daemon.status()["counters"] == {"accepted": 2, "ended": 2, "done": 0}


@pytest.mark.parametrize("job, name", [
    ("job_00000000000000000000000000", "unknown_job"), ("../../etc/passwd", "unknown_job"), ("%s%n", "unknown_job"),
    ("猫" * 5000, "unknown_job"), ("", "unknown_job"), ([], "invalid_param"), ([1], "invalid_param"),
    (None, "invalid_param"), ({"a": 1}, "invalid_param"), (["x"] * 1001, "invalid_param"),
    (["x"] * 5000, "parse_error")])
def test_cancel_of_what_is_no_job(one_zitd, job, name):
    with pytest.raises(RpcError) as e:
        one_zitd.call("cancel", job=job)
    assert e.value.name == name
    assert len(e.value.message) < 300


@pytest.fixture(scope="module")
def one_zitd(tmp_path_factory):
    """For what changes nothing: started once."""
    daemon = harness.Zitd(tmp_path_factory.mktemp("one"), "step 0").start()
    try:
        yield daemon
        daemon.audit()
    finally:
        daemon.clean_up()


def test_one_unknown_among_several_changes_nothing(zitd):
    daemon = zitd("step 0.02")
    running, queued = daemon.submit("running", steps=75), daemon.submit("queued", steps=1)
    daemon.wait_running(running)
    unknown = "job_00000000000000000000000000"
    assert name_of(lambda: daemon.call("cancel", job=[queued, running, unknown])) == "unknown_job"
    assert [daemon.job(job)["state"] for job in (queued, running)] == ["queued", "running"]
    assert [daemon.wait(job)["state"] for job in (running, queued)] == ["done", "done"]


ADMIN_METHODS = ["start", "stop", "restart", "drain", "pause", "resume", "reload", "upgrade"]


@needs_root
def test_another_user_cancels_only_his_own(zitd):
    daemon = zitd("step 0.02")
    running, queued = daemon.submit("running", steps=100), daemon.submit("queued", steps=1)
    daemon.wait_running(running)
    alice, bob = connect_as(daemon, 54321), connect_as(daemon, 54322)
    own = alice.call("submit", prompt="alice's", steps=1)
    daemon.accepted.add(own["job"])
    assert daemon.job(own["job"])["client"]["uid"] == 54321
    for job in (running, queued, own["job"]):
        assert name_of(lambda j=job: bob.call("cancel", job=j)) == "not_permitted"
    assert name_of(lambda: alice.call("cancel", job=[own["job"], queued])) == "not_permitted"
    assert name_of(lambda: alice.call("cancel", job="job_00000000000000000000000000")) == "unknown_job"
    assert {name_of(lambda m=method: alice.call(m)) for method in ADMIN_METHODS} == {"not_permitted"}
    assert [daemon.job(j)["state"] for j in (running, queued, own["job"])] == ["running", "queued", "queued"]
    assert alice.call("cancel", job=own["job"])["jobs"][0]["state"] == "cancelled"
    theirs = bob.call("submit", prompt="bob's", steps=1)["job"]
    daemon.accepted.add(theirs)
    assert daemon.call("cancel", job=theirs)["jobs"][0]["state"] == "cancelled"
    assert [daemon.wait(job)["state"] for job in (running, queued)] == ["done", "done"]
    assert daemon.status()["counters"] == {"accepted": 4, "ended": 4, "done": 2}


# ---- 19: clients that die, dawdle, or do not listen

def test_client_dies_at_each_byte_of_a_frame(zitd):
    daemon = zitd("step 0")
    other = Bystander(daemon)
    line = request("submit", prompt="一只猫", wait=True, steps=1)
    for cut in range(len(line)):
        connection = Connection(daemon.socket_path)
        connection.send_raw(request("status") * (cut % 3) + line[:cut])
        connection.close()
        other.ask()
    until(lambda: other.ask()["clients"] == 1, what="the dead are gone")
    other.report(f"{len(line)} clients that died in a frame")
    assert daemon.records() == []


def test_killed_client_ends_its_own_job_and_nobody_elses(zitd):
    """A whole process, by SIGKILL, with a job of its own and a wait for another's."""
    daemon = zitd("step 0.02")
    owner = daemon.connect()
    kept = owner.send("submit", prompt="another's", wait=True, steps=100)
    theirs = until(daemon.records, what="job accepted")[0]["job"]
    process = subprocess.Popen([str(BUILD / "zitctl"), "-H", str(daemon.socket_path), "generate", "mine", "-o",
                                "/dev/null"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=daemon.env)
    waiting = subprocess.Popen([str(BUILD / "zitctl"), "-H", str(daemon.socket_path), "wait", theirs],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=daemon.env)
    mine = until(lambda: [r["job"] for r in daemon.records() if r["prompt"] == "mine"], what="job accepted")[0]
    other = daemon.connect()
    number = other.send("wait", job=mine)
    until(lambda: daemon.status()["clients"] >= 5, what="all are there")
    time.sleep(0.05)
    for child in (process, waiting):
        child.kill()
        child.wait()
    assert other.reply(number)["error"]["name"] == "cancelled"
    assert owner.reply(kept)["state"] == "done"


def test_client_dies_while_it_receives_much(zitd):
    """Several pictures of the real runner as base64: the dead leave no descriptor, others get every byte."""
    daemon = zitd()
    record = daemon.generate("a cat", n=8, steps=1, width=128, height=128)
    files = [Path(p["path"]).read_bytes() for p in record["result"]["pictures"]]
    total = sum(map(len, files)) * 4 // 3
    ask = request("wait", job=record["job"], deliver="base64")
    other, slow, before = Bystander(daemon), welcome(daemon), daemon.fd_count()
    slow.send_raw(ask)
    for i in range(20):
        dying = Connection(daemon.socket_path)
        dying.send_raw(ask)
        left = 1 + i * total // 20
        while left > 0 and (data := dying.socket.recv(min(left, 65536))):
            left -= len(data)
        other.ask()
        dying.close()
        other.ask()
    assert daemon.fd_count() <= before + len(files) + 20
    pictures = slow.reply(1)["result"]["pictures"]
    assert [base64.b64decode(p["base64"], validate=True) for p in pictures] == files
    other.report(f"answers of {total} bytes, broken off")
    settle_fds(daemon, before)


def test_half_close_gets_a_late_answer_and_a_big_one(zitd):
    """One answer lies there unread for longer than a closed end goes unnoticed; the other comes later."""
    daemon = zitd("step 0.02", zitd={"read_timeout": 30})
    done = daemon.generate(n=16, steps=1)["job"]
    connection = daemon.connect()
    lines = [request("get", i, job=done) for i in range(2, 130)]
    connection.send_raw(request("submit", 1, prompt="late", wait=True, steps=75))
    job = until(lambda: [r["job"] for r in daemon.records() if r["prompt"] == "late"], what="job accepted")[0]
    daemon.accepted.add(job)
    connection.send_raw(b"".join(lines))
    connection.socket.shutdown(socket.SHUT_WR)
    time.sleep(1.3)
    replies = {}
    while (line := connection.read_line()) is not None:
        replies[line["id"]] = line["result"]
    assert set(replies) == set(range(1, 130))
    assert replies[1]["state"] == "done"


def test_half_closed_client_that_dies_ends_its_job(zitd):
    daemon = zitd("step 0.05")
    connection = Connection(daemon.socket_path)
    connection.send("submit", prompt="long", wait=True, steps=100)
    connection.socket.shutdown(socket.SHUT_WR)
    job = until(daemon.records, what="job accepted")[0]["job"]
    daemon.wait_running(job)
    connection.close()
    assert daemon.wait_state(job, "cancelled", timeout=1.0 + SLACK_S)["error"]["name"] == "cancelled"


def test_one_byte_at_a_time(zitd):
    """Before the first whole line the connect clock counts and bytes do not help; after it each byte does."""
    daemon = zitd("step 0", zitd={"connect_timeout": 1.5, "read_timeout": 1.5})
    other, start, cut_at = Bystander(daemon), time.monotonic(), None
    new, old, lazy = daemon.connect(), daemon.connect(), daemon.connect()
    old.call("status")
    lazy.call("status")
    lazy.send_raw(b"{")
    line, sent = request("get", job="x" * 50), 0
    while sent < len(line):
        old.send_raw(line[sent:sent + 2])
        sent += 2
        try:
            new.send_raw(b"{")
        except (BrokenPipeError, ConnectionResetError):
            cut_at = cut_at or time.monotonic() - start
        time.sleep(0.08)
        other.ask()
    assert 1.5 <= cut_at <= 1.5 + SLACK_S
    assert time.monotonic() - start > 2 * 1.5
    assert old.read_line()["error"]["data"]["name"] == "unknown_job"
    assert is_cut(lazy)
    other.report("three writers of a byte now and then")


@pytest.fixture
def historic(zitd):
    """A daemon with 300 records of ended jobs, and one of 16 pictures."""
    daemon = zitd("step 0; @long; step 0.01; @longer; step 0.05", zitd={"read_timeout": 1})
    connection = daemon.connect()
    for i in range(300):
        connection.call("submit", prompt=f"job {i}", wait=True, steps=1)
    daemon.sixteen = connection.call("submit", prompt="sixteen", wait=True, n=16, steps=1)["job"]
    connection.close()
    until(lambda: daemon.fd_count() <= daemon.baseline_fds, what="descriptors of the history")
    return daemon


def test_clients_that_never_read_get_their_share(historic):
    """Hundreds of requests with big answers, none of them read: bounded memory, few descriptors, and the end."""
    other = Bystander(historic)
    lines = {deliver: request("wait", job=historic.sixteen, deliver=deliver) for deliver in ("path", "base64", "fd")}
    for name, line in {"list": request("list", limit=1000), **lines}.items():
        deaf, before, rss = welcome(historic), historic.fd_count(), historic.rss_kib()
        send_some(deaf, line * 400)
        for _ in range(50):
            other.ask()
        used, grown = historic.fd_count() - before, historic.rss_kib() - rss
        print(f"{name}: {used} descriptors, {grown} KiB for a deaf client")
        assert used <= 2 * 16
        assert SANITIZED or grown < 6 * 1024
    until(lambda: other.ask()["clients"] == 1, 1.0 + SLACK_S, "all of them cut off")
    other.report("clients that do not read")


def test_waits_of_one_deaf_client_are_bounded(historic):
    """As many waits as it likes for a running job of 16 pictures: those beyond the bound are not read before."""
    other, deaf, before, rss = Bystander(historic), welcome(historic), historic.fd_count(), historic.rss_kib()
    job = other.connection.call("submit", prompt="@long", n=16, steps=2)["job"]
    historic.accepted.add(job)
    send_some(deaf, request("wait", job=job, deliver="base64", events=True) * 900)
    most = 0
    while other.connection.call("get", job=job)["state"] not in FINAL:
        other.ask()
        most = max(most, historic.fd_count() - before)
    other.ask()
    most, grown = max(most, historic.fd_count() - before), historic.rss_kib() - rss
    print(f"900 waits for 16 pictures: {most} descriptors, {grown} KiB")
    assert most <= 128 + 3 * 16
    assert SANITIZED or grown < 8 * 1024
    picture = other.connection.call("result", job=job, picture=15, deliver="base64")
    assert len(base64.b64decode(picture["base64"])) == picture["bytes"]


def test_progress_that_nobody_reads_is_not_kept(historic):
    other, deaf, rss = Bystander(historic), historic.connect(), historic.rss_kib()
    job = other.connection.call("submit", prompt="@long", steps=60)["job"]
    historic.accepted.add(job)
    send_some(deaf, request("wait", job=job, events=True) * 900)
    while other.connection.call("get", job=job)["state"] not in FINAL:
        other.ask()
    grown = historic.rss_kib() - rss
    print(f"900 waits with progress of 60 steps: {grown} KiB")
    assert SANITIZED or grown < 6 * 1024
    other.report("progress for a client that does not read")


@needs_root
def test_descriptors_that_nobody_takes(zitd_of_a_user):
    """The kernel lets a user have only so many on their way: those for runners must pass all the same, and a client
    that reads at last gets all of its own."""
    with limited(resource.RLIMIT_NOFILE, 512):
        daemon, _uid = zitd_of_a_user("step 0")
    other = Bystander(daemon)
    job = other.connection.call("submit", prompt="sixteen", wait=True, n=16, steps=1)["job"]
    daemon.accepted.add(job)
    deaf = [welcome(daemon) for _ in range(4)]
    for connection in deaf:
        send_some(connection, request("wait", job=job, deliver="fd") * 60)
    for _ in range(50):
        other.ask()
    share = cpu_share(daemon, 0.3)
    print(f"descriptors that nobody takes: {share:.3f} of a processor")
    assert share < 0.1
    record = other.connection.call("submit", prompt="a cat", wait=True, deliver="fd")
    daemon.accepted.add(record["job"])
    assert (record["state"], record["attempts"], len(other.connection.fds)) == ("done", 1, 1)
    deaf[0].socket.settimeout(60.0)
    taken = 0
    for _ in range(60):
        pictures = deaf[0].reply(1)["result"]["pictures"]
        assert [p["fd"] for p in pictures] == list(range(16))
        taken += len(deaf[0].fds)
        while deaf[0].fds:
            os.close(deaf[0].fds.pop())
    assert taken == 60 * 16


def test_waiting_on_the_bound_is_no_stall(zitd):
    """More waits than are taken at once, for longer than read_timeout: all are answered."""
    daemon = zitd("step 0.02", zitd={"read_timeout": 0.3})
    job = daemon.submit("long", steps=45)
    connection = daemon.connect()
    connection.send_raw(b"".join(request("wait", i, job=job) for i in range(1200)))
    seen = sorted(connection.read_line()["id"] for _ in range(1200))
    assert seen == list(range(1200))


def test_no_client_makes_it_spin(historic):
    """Each in a state where the loop is told of it again and again, or not at all."""
    job = historic.submit("@longer", steps=100)
    clients = [historic.connect() for _ in range(6)]
    deaf, waits, closed, line, silent, oob = clients
    send_some(deaf, request("list", limit=1000) * 400)
    send_some(waits, request("wait", job=job) * 1500)
    closed.send_raw(request("wait", job=job))
    closed.socket.shutdown(socket.SHUT_WR)
    send_some(line, b"x" * (1 << 20) + b"x" * 50_000)
    silent.send_raw(b"{")
    oob.call("status")
    with contextlib.suppress(OSError):
        oob.socket.send(b"x", socket.MSG_OOB)
    time.sleep(0.1)
    share = cpu_share(historic, 0.7)
    print(f"six odd clients: {share:.3f} of a processor")
    assert share < 0.2
    assert historic.job(job)["state"] == "running"
    historic.call("cancel", job=job)


# ---- 20: connections and descriptors without number

def test_ten_thousand_connections(zitd):
    daemon = zitd("step 0")
    other, dice = Bystander(daemon), random.Random(20)
    words = [b"", b"{", b"\n", request("status"), request("status")[:-1], request("list") * 3, b"\xff\xfe\n"]
    before, rss = daemon.fd_count(), daemon.rss_kib()
    for i in range(10_000):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(daemon.socket_path))
        if i % 4 == 0:
            connection.send(dice.choice(words))
        connection.close()
        if i % 50 == 0:
            other.ask()
    until(lambda: other.ask()["clients"] == 1, what="all gone")
    other.report("10000 connections")
    grown = daemon.rss_kib() - rss
    assert SANITIZED or grown < 4 * 1024, f"{grown} KiB more"
    settle_fds(daemon, before)
    assert cpu_share(daemon, 0.3) < 0.1
    assert daemon.generate()["state"] == "done"


def test_clients_do_not_take_the_last_descriptors(zitd):
    """Started with few: clients wait in the backlog while a killed runner still gets its successor."""
    with limited(resource.RLIMIT_NOFILE, 96):
        daemon = zitd("step 0")
    other = Bystander(daemon)
    held = [Connection(daemon.socket_path) for _ in range(150)]
    until(lambda: other.ask()["clients"] >= 40, what="clients")
    share = cpu_share(daemon, 2.0)
    clients = other.ask()["clients"]
    print(f"{clients} of 150 clients accepted with 96 descriptors; {share:.3f} of a processor")
    assert share < 0.1
    assert clients < 96
    old = other.ask()["runners"][0]["pid"]
    os.kill(old, 9)
    until(lambda: other.ask()["runners"][0]["state"] == "idle" and other.ask()["runners"][0]["pid"] != old, what="a new runner")
    record = other.connection.call("submit", prompt="a cat", wait=True, deliver="fd")
    daemon.accepted.add(record["job"])
    assert record["state"] == "done" and len(other.connection.fds) == 1
    other.report("descriptors short")
    for connection in held[:100]:
        connection.close()
    assert held[149].call("status")["state"] == "ready"
    for connection in held[100:]:
        connection.close()
    assert daemon.generate()["state"] == "done"
    assert daemon.log().count("no further client") == 1


def test_no_descriptor_at_all(zitd):
    """The limit falls below what is open: nothing can be opened, nothing spins, and all comes back."""
    daemon = zitd("step 0", runner={"startretries": 20})
    other, pid = Bystander(daemon), daemon.runner()["pid"]
    limit = resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (daemon.fd_count() - 2, limit[1]))
    held = [Connection(daemon.socket_path) for _ in range(20)]
    os.kill(pid, 9)
    runner = until(lambda: (r := other.ask()["runners"][0])["state"] == "backoff" and r["deaths"] >= 2 and r, what="a start that failed")
    assert "Too many open files" in runner["last_error"]
    share = cpu_share(daemon, 1.0)
    print(f"no descriptors: {share:.3f} of a processor")
    assert share < 0.1
    resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, limit)
    assert {connection.call("status")["pid"] for connection in held} == {daemon.process.pid}
    for connection in held:
        connection.close()
    daemon.call("restart")
    until(lambda: other.ask()["runners"][0]["state"] == "idle", 10.0 + SLACK_S, "a runner again")
    assert daemon.generate()["state"] == "done"
    other.report("no descriptors")


def test_max_clients(zitd):
    """Those beyond it wait, and each gets its turn when another goes."""
    daemon = zitd("step 0", zitd={"max_clients": 5})
    all_of_them = [daemon.connect() for _ in range(60)]
    until(lambda: all_of_them[0].call("status")["clients"] == 5, what="as many as may be")
    assert cpu_share(daemon, 0.5) < 0.1
    for i, connection in enumerate(all_of_them):
        assert connection.call("status")["clients"] <= 5, i
        connection.close()
    daemon.connections = []


# ---- 21: programs that cannot be started

def make_broken(path, how):
    """A file that cannot be started for the reason `how`; its text."""
    if how == "missing":
        return "No such file or directory"
    if how == "not executable":
        path.write_bytes((BUILD / "tests" / "fake_runner").read_bytes())
        path.chmod(0o644)
        return "Permission denied"
    if how == "not a program":
        path.write_bytes(b"\x7fELF and then nothing that a kernel knows")
        path.chmod(0o755)
        return "Exec format error"
    if how == "a directory":
        path.mkdir()
        return "Permission denied"
    path.symlink_to(path)
    return "Too many levels of symbolic links"


def mend(path):
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)
    path.symlink_to(BUILD / "tests" / "fake_runner")


@pytest.mark.parametrize("how, tries", [("missing", 4), ("not executable", 3), ("not a program", 3), ("a directory", 3),
                                        ("a loop", 3)])
def test_program_that_cannot_be_started(zitd, tmp_path, how, tries):
    """Tried a few times with pauses, then given up, with the reason; an order starts it when that is gone."""
    program = tmp_path / "runner"
    text = make_broken(program, how)
    start = time.monotonic()
    daemon = zitd("step 0", ready=False, runner={"command": program, "startretries": tries})
    daemon.wait_listening()
    job = daemon.submit("early")
    assert daemon.runner()["state"] == "backoff"
    until(lambda: daemon.runner()["state"] == "failed", what="given up")
    assert time.monotonic() - start >= 0.8 * 0.25 * (2 ** (tries - 1) - 1)
    runner = daemon.runner()
    assert text in runner["last_error"] and str(program) in runner["last_error"], runner
    assert (runner["deaths"], runner.get("pid") or 0) == (tries, 0)
    assert name_of(lambda: daemon.call("submit", prompt="late")) == "no_runner"
    fds = daemon.fd_count()
    daemon.call("restart")
    until(lambda: (r := daemon.runner())["state"] == "failed" and r["deaths"] > tries, what="given up again")
    settle_fds(daemon, fds)
    mend(program)
    daemon.call("restart")
    assert daemon.wait(job)["state"] == "done"
    assert daemon.generate()["state"] == "done"


def limit_processes(pid, uid, soft):
    """Of that user, by that user: root may not everywhere. `soft` is a number or "" for as many as it may have."""
    hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    hard = "unlimited" if hard == resource.RLIM_INFINITY else str(hard)
    subprocess.run([*become(uid), "prlimit", "--pid", str(pid), f"--nproc={soft or hard}:{hard}"], check=True)


@needs_root
def test_no_process_can_be_made(zitd_of_a_user):
    """As a user who may have no more processes: EAGAIN is said, the runner waits, and comes when there is room."""
    daemon, uid = zitd_of_a_user("step 0", runner={"startretries": 20})
    pid = daemon.process.pid
    limit_processes(pid, uid, len(os.listdir(f"/proc/{pid}/task")))
    os.kill(daemon.runner()["pid"], 9)
    job = daemon.submit("patient")
    runner = until(lambda: (r := daemon.runner())["deaths"] >= 3 and r["state"] == "backoff" and r, what="starts that failed")
    assert os.strerror(11) in runner["last_error"], runner
    assert daemon.job(job)["state"] == "queued"
    fds = daemon.fd_count()
    until(lambda: daemon.runner()["deaths"] >= 4, what="one more")
    settle_fds(daemon, fds)
    assert daemon.zombies() == []
    limit_processes(pid, uid, "")
    daemon.call("restart")
    assert daemon.wait(job)["state"] == "done"


# ---- 25: garbage

VALID = [
    request("status"), request("runners"), request("queue"), request("list", state="final", limit=3),
    request("submit", prompt="一只猫 a cat", width=256, height=512, steps=2, seed=7, n=2, priority="low"),
    request("submit", prompt="x", negative_prompt="y", guidance=5.5, queue_timeout=1.5, exec_timeout=2, wait=True,
            events=True, deliver="base64", on_disconnect="keep", truncate=False),
    request("get", job="job_00000000000000000000000000"), request("wait", job="job_00000000000000000000000000"),
    request("result", job="job_00000000000000000000000000", picture=3, deliver="fd"),
    request("cancel", job=["job_00000000000000000000000000", "x"]), request("dead"), request("retry", job="x"),
    request("drop", job="x"), request("restart", runner="all"), request("reload"), b"\n", b"{}\n", b"[]\n", b"null\n",
]
WORDS = [
    b"{", b"}", b"[", b"]", b'"', b"\\", b",", b":", b"\0", b"\xff", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\\ud800",
    b"\\u0000", b"1e999", b"-1", b"9223372036854775808", b"1e308", b"0" * 400, b"null", b"true", b"\n", b"\r",
    b'"id":', b'"method":"submit"', b'"params":', b'"prompt":', b"[" * 40, b'{"a":' * 40, b"\xef\xbb\xbf", b"\xe7\x8c",
    b"\x7f", b"%s%n", b"//", b"NaN", b"-0", b"1e-400", "\u202e".encode(),
]


def mutate(dice, line):
    """One to six changes: bytes flipped, cut out, doubled, put in."""
    line = bytearray(line)
    for _ in range(dice.randint(1, 6)):
        at, size = dice.randrange(len(line) + 1), dice.randint(0, 20)
        how = dice.randrange(5)
        if how == 0 and at < len(line):
            line[at] ^= 1 << dice.randrange(8)
        elif how == 1:
            del line[at:at + size]
        elif how == 2:
            line[at:at] = line[at:at + size]
        elif how == 3:
            line[at:at] = dice.choice(WORDS)
        else:
            line[at:at + size] = dice.randbytes(size)
    return bytes(line)


def garbage(dice):
    """One to some lines; mostly nearly right ones."""
    if dice.random() < 0.15:
        return dice.randbytes(dice.randint(1, 300)) + b"\n"
    return mutate(dice, dice.choice(VALID)) + b"\n"


def read_until(connection, number):
    """Its replies up to that of the request `number`; every line is whole JSON with what a reply has."""
    replies = []
    while True:
        line = connection.read_line()
        assert line is not None, "the connection was closed"
        if line.get("method") == "event":
            continue
        assert line["jsonrpc"] == "2.0" and ("result" in line) != ("error" in line), line
        if "error" in line:
            assert line["error"]["code"] < 0 and line["error"]["message"] and line["error"]["data"]["name"], line
        replies.append(line)
        if line["id"] == number:
            return replies


@needs_root
def test_fuzzed_lines(zitd):
    """Thousands of lines that are nearly right, by a user who may stop nothing."""
    daemon = zitd("step 0", queue={"history": 20})
    other, dice, before, sent, names = Bystander(daemon), random.Random(25), daemon.fd_count(), 0, {}
    rss = daemon.rss_kib()
    for i in range(100):
        fuzzer = connect_as(daemon, 54321)
        for k in range(3):
            lines = [garbage(dice) for _ in range(25)]
            fuzzer.send_raw(b"".join(lines) + request("status", f"end {k}"))
            for line in read_until(fuzzer, f"end {k}"):
                name = line["error"]["data"]["name"] if "error" in line else "result"
                names[name] = names.get(name, 0) + 1
            sent += len(lines)
            other.ask()
        if i % 2 == 0:
            fuzzer.send_raw(dice.randbytes(100))
        daemon.connections.remove(fuzzer)
        fuzzer.close()
    print(f"{sent} lines: {names}")
    other.report("fuzzed lines")
    wanted = {"result", "parse_error", "invalid_request", "unknown_method", "invalid_param", "not_permitted"}
    assert wanted <= set(names)
    grown = daemon.rss_kib() - rss
    assert SANITIZED or grown < 4 * 1024, f"{grown} KiB more"
    settle_fds(daemon, before)
    assert daemon.runner()["generation"] == 1
    assert daemon.generate()["state"] == "done"


MIB = 1 << 20
ODD = [
    ("deep", b'{"id":1,"method":"status","params":' + b"[" * 100_000, "parse_error"),
    ("deep objects", b'{"a":' * 100_000, "parse_error"),
    ("closing", b"]" * 100_000, "parse_error"),
    ("many values", b'{"id":1,"method":"cancel","params":{"job":[' + b'"",' * 300_000 + b'""]}}', "parse_error"),
    ("many objects", b'{"id":1,"method":"cancel","params":{"job":[' + b"{}," * 340_000 + b"0]}}", "parse_error"),
    ("a long number", b'{"id":1,"method":"submit","params":{"prompt":"x","seed":' + b"9" * MIB, "frame_too_large"),
    ("a long integer", b'{"id":1,"method":"submit","params":{"prompt":"x","seed":' + b"9" * 900_000 + b"}}",
     "parse_error"),
    ("a long real", b'{"id":1,"method":"submit","params":{"prompt":"x","guidance":100.' + b"9" * 900_000 + b"}}",
     "invalid_param"),
    ("infinite", b'{"id":1,"method":"submit","params":{"prompt":"x","guidance":1e309}}', "parse_error"),
    ("NaN", b'{"id":1,"method":"submit","params":{"prompt":"x","guidance":NaN}}', "parse_error"),
    ("a NUL", b'{"id":1,"method":"sta\0tus"}', "parse_error"),
    ("NULs", b"\0" * 100_000, "parse_error"),
    ("bad UTF-8", b'{"id":1,"method":"submit","params":{"prompt":"' + b"\xff" * 60_000 + b'"}}', "parse_error"),
    ("a long name", b'{"id":1,"method":"' + b"m" * 1_000_000 + b'"}', "unknown_method"),
    ("a long member", b'{"id":1,"method":"status","params":{"' + "猫".encode() * 300_000 + b'":1}}', "invalid_param"),
    ("a long id", b'{"id":"' + b"i" * 1_000_000 + b'","method":"nosuch"}', "unknown_method"),
    ("a long prompt", b'{"id":1,"method":"submit","params":{"prompt":"' + b"p" * 1_000_000 + b'"}}', "invalid_param"),
    ("escapes", b'{"id":1,"method":"submit","params":{"prompt":"' + b"\\u0001" * 170_000 + b'"}}', "invalid_param"),
    ("exactly a mebibyte", b"{" + b" " * (MIB - 2) + b"}", "invalid_request"),
    ("a byte more", b"{" + b" " * (MIB + 40_000) + b"}", "frame_too_large"),
]


def test_odd_lines(one_zitd):
    """Each gets its error's name; the longest took so long; memory does not grow by their size."""
    other, rss, slowest = Bystander(one_zitd), one_zitd.rss_kib(), (0.0, "")
    for name, line, wanted in ODD:
        odd = Connection(one_zitd.socket_path)
        start = time.perf_counter()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            odd.send_raw(line + b"\n")
        other.ask()
        reply = odd.read_line()
        slowest = max(slowest, (time.perf_counter() - start, name))
        assert reply["error"]["data"]["name"] == wanted, (name, str(reply)[:200])
        assert len(reply["error"]["message"]) < 300, name
        if wanted != "frame_too_large":
            assert odd.call("status")["state"] == "ready", name
        odd.close()
    grown = one_zitd.rss_kib() - rss
    print(f"odd lines: slowest {slowest[0] * 1e3:.1f} ms ({slowest[1]}), {grown} KiB more")
    assert SANITIZED or grown < 12 * 1024
    other.report("odd lines")


def test_descriptors_that_nobody_asked_for(one_zitd):
    """With whole lines, halves and blanks, up to 253 at a time: none is kept, the requests are answered."""
    other, before = Bystander(one_zitd), one_zitd.fd_count()
    sender = one_zitd.connect()
    for i in range(300):
        count = (1, 3, 16, 253)[i % 4]
        line = request("status", i)
        send_fds(sender, line[:i % len(line)] or b"\n", count)
        send_fds(sender, line[i % len(line):], count)
        assert sender.reply(i)["state"] == "ready"
        if i % 10 == 0:
            assert one_zitd.fd_count() <= before + 1
            other.ask()
    for _ in range(40):
        dying = Connection(one_zitd.socket_path)
        send_fds(dying, b"{", 253)
        dying.close()
    other.report("descriptors by the hundred")
    one_zitd.connections.remove(sender)
    sender.close()
    settle_fds(one_zitd, before)


# ---- a kernel that interrupts, and has no room

@pytest.mark.skipif(SANITIZED, reason="a sanitizer's runtime wants to be loaded first")
def test_calls_that_are_interrupted_or_have_no_room(zitd):
    """20: of all calls on sockets three in ten end with EINTR, EAGAIN or ENOMEM: everything is slower and nothing else."""
    shim = {"LD_PRELOAD": str(BUILD / "tests" / "faulty_calls.so"), "FAULTY_CALLS": "300"}
    daemon = zitd("step 0.001", env=shim, queue={"client_cap": 100}, **{"runner:a": {"concurrency": 2}, "runner:b": {}})
    other = Bystander(daemon)
    connections = [daemon.connect() for _ in range(8)]
    for i, connection in enumerate(connections):
        for _ in range(5):
            connection.send("submit", prompt=f"cat {i}", wait=True, steps=4, n=2, deliver="base64")
    for connection in connections:
        for record in (connection.read_line()["result"] for _ in range(5)):  # in any order
            daemon.accepted.add(record["job"])
            assert record["state"] == "done" and record["attempts"] == 1, record
            assert all(p["base64"] for p in record["result"]["pictures"])
        other.ask()
    other.report("while calls fail")
    for _ in range(200):
        daemon.connect().close()
    assert cpu_share(daemon, 1.0) < 0.05
    assert [r["deaths"] for r in daemon.status()["runners"]] == [0, 0]
