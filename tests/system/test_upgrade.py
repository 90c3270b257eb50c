"""
Hot upgrade (issue 6; faults 27): zitd executes another program in its own process, and nobody notices. A new program
that cannot take over leaves the old one running, and says why.
"""
import base64
import fcntl
import json
import os
import shutil
import socket
import subprocess
import time

import pytest

from harness import BUILD, FINAL, SLACK_S, RpcError, pixels, until
from systemd import Systemd

PICTURE_HEAD = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def upgradable(zitd, tmp_path):
    """A daemon whose program is a copy of its own, which a test may replace."""
    def start(script="", **options):
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        shutil.copy(BUILD / "zitd", folder / "zitd")
        if not (folder / "zit-runner").exists():
            (folder / "zit-runner").symlink_to(BUILD / "zit-runner")
        return zitd(script, program=folder / "zitd", **options)
    return start


def install(daemon, content, mode=0o755):
    """Puts another file in the program's place, as a package does: by rename."""
    fresh = daemon.program.with_suffix(".new")
    fresh.write_bytes(content if isinstance(content, bytes) else content.encode())
    fresh.chmod(mode)
    fresh.rename(daemon.program)


def refusal(daemon, connection=None):
    with pytest.raises(RpcError) as caught:
        connection.call("upgrade") if connection else daemon.call("upgrade")
    assert caught.value.name == "upgrade_refused", caught.value
    return caught.value.message


def lives(daemon):
    """What an upgrade must not change."""
    return daemon.status()["pid"], [(r["pid"], r["generation"]) for r in daemon.status()["runners"]]


def picture_of(record, connection, deliver):
    picture = record["result"]["pictures"][0]
    if deliver == "base64":
        return base64.b64decode(picture["base64"])
    return os.pread(connection.fds[picture["fd"]], picture["bytes"] + 1, 0)


# ---- nobody notices

def test_idle(upgradable):
    """Same process, same runner, same connection; the counts and the clock of its uptime go on."""
    daemon = upgradable()
    daemon.generate("before", steps=1)
    connection = daemon.connect()
    before, status = lives(daemon), connection.call("status")
    answer = connection.call("upgrade")
    assert answer["build"] == status["build"] and answer["pid"] == before[0] and answer["pause_ms"] > 0
    after = connection.call("status")
    assert lives(daemon) == before
    assert after["counters"] == status["counters"] and after["uptime_s"] > status["uptime_s"]
    assert after["runners"][0]["cost"] == status["runners"][0]["cost"]
    assert daemon.generate("after", steps=1)["state"] == "done"
    assert daemon.log().count("is process") == 1, daemon.log()  # one runner in all


def test_jobs_and_who_waits(upgradable):
    """Running, suspended, queued and held jobs; waits with fd and base64, events, a subscriber: all as if nothing was."""
    daemon = upgradable("step 0.1", runner={"concurrency": 1})
    waits = {}
    subscriber = daemon.connect()
    subscriber.call("subscribe")
    for name, priority, deliver, steps in (("suspended", "low", "base64", 12), ("running", "high", "fd", 30),
                                           ("queued", "normal", "base64", 2), ("loose", "low", "fd", 2)):
        connection = daemon.connect()
        request = connection.send("submit", prompt=name, priority=priority, deliver=deliver, steps=steps, wait=True,
                                  events=True, durable=name != "loose")
        waits[name] = connection, request, deliver
        until(lambda: name in {job_name(daemon, r) for r in daemon.records()}, what=name)
        if name in ("suspended", "running"):
            until(lambda: any(r["state"] == "running" and r.get("progress", {}).get("step", 0) >= 2 and
                              r["priority"] == priority for r in daemon.records()), what=f"{name} running")
    held = daemon.submit("held")
    daemon.call("hold", job=held)
    states = {r["job"]: (r["state"], r["attempts"]) for r in daemon.records()}
    assert sorted(s for s, _ in states.values()) == ["held", "queued", "queued", "running", "suspended"], states
    order = [r["job"] for r in daemon.call("queue")["jobs"]]
    before = lives(daemon)
    daemon.call("upgrade")
    assert lives(daemon) == before
    assert {r["job"]: (r["state"], r["attempts"]) for r in daemon.records()} == states
    assert [r["job"] for r in daemon.call("queue")["jobs"]] == order
    pictures = set()
    for name, (connection, request, deliver) in waits.items():
        record = connection.reply(request)
        assert record["state"] == "done" and record["attempts"] == 1, record
        pictures.add(picture_of(record, connection, deliver))
        assert connection.events[-1]["state"] in ("running", "stored"), connection.events[-1]
    assert len(pictures) == 1 and pictures.pop().startswith(PICTURE_HEAD)
    daemon.call("release", job=held)
    assert daemon.wait(held)["state"] == "done"
    ends = set()
    numbers = []
    while len(ends) < 5:
        event = subscriber.read_line()["params"]
        numbers.append(event["seq"])
        ends |= {event["job"]} if event["state"] in FINAL else set()
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), "events lost or told twice"
    assert daemon.log().count("is process") == 1, daemon.log()


def job_name(daemon, record):
    return daemon.job(record["job"]).get("prompt", record.get("prompt"))


@pytest.mark.parametrize("moment", [0.0, 0.35, 0.8])
def test_picture_of_the_real_runner(upgradable, moment):
    """A job that is upgraded under draws what it would have drawn."""
    daemon = upgradable("real")
    options = {"steps": 6, "seed": 7, "width": 64, "height": 64, "wait": True, "deliver": "base64"}
    plain = daemon.call("submit", prompt="a cat", **options)
    connection = daemon.connect()
    request = connection.send("submit", prompt="a cat", **options)
    time.sleep(moment * plain["timings"]["total_s"] if "timings" in plain else moment * 0.2)
    daemon.call("upgrade")
    record = connection.reply(request)
    assert record["attempts"] == 1
    # Metadata has times and the job's id in it; what is drawn is told by the rows.
    assert rows_of(picture_of(record, None, "base64"), daemon) == rows_of(picture_of(plain, None, "base64"), daemon)


def rows_of(data, daemon):
    path = daemon.directory / "picture.png"
    path.write_bytes(data)
    return pixels(path)


def test_half_a_line(upgradable):
    """What has come of a request, and requests behind the one for the upgrade, are not lost."""
    daemon = upgradable()
    half, whole = daemon.connect(), daemon.connect()
    text = json.dumps({"id": 1, "method": "submit", "params": {"prompt": "\u00e4" * 5000, "wait": True}}).encode()
    half.send_raw(text[:7001])
    time.sleep(0.1)
    upgrade = whole.send("upgrade")
    others = list(range(100, 500))  # some are served by the old one, some by the new one
    whole.send_raw(b"".join(b'{"id": %d, "method": "status"}\n' % i for i in others))
    answers = [whole.read_line() for _ in range(1 + len(others))]
    assert sorted(a["id"] for a in answers) == [upgrade] + others and all("result" in a for a in answers)
    half.send_raw(text[7001:] + b"\n")
    assert half.reply(1)["state"] == "done"


def test_answers_that_are_not_read(upgradable):
    """What does not fit into the socket is handed over: text, and pictures of which a part has left."""
    daemon = upgradable("", zitd={"read_timeout": 60})
    job = daemon.generate("a", n=16, steps=1)["job"]
    lazy = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    lazy.connect(str(daemon.socket_path))
    lazy.settimeout(30)
    request = json.dumps({"id": 1, "method": "wait", "params": {"job": job, "deliver": "base64"}}) + "\n"
    count = 120
    lazy.sendall(request.encode() * count)
    time.sleep(0.5)
    for _ in range(3):
        daemon.call("upgrade")
    data = b""
    while data.count(b"\n") < count:
        part = lazy.recv(65536)
        assert part, "closed"
        data += part
    answers = {line for line in data.split(b"\n") if line}
    assert len(answers) == 1 and b'"done"' in data
    lazy.close()


def test_client_gone_meanwhile(upgradable):
    """Who asked for the upgrade hangs up, and so does one whose job ends with it."""
    daemon = upgradable("step 0.1")
    owner, asker = daemon.connect(), daemon.connect()
    owner.send("submit", prompt="a", wait=True, steps=100)
    job = until(daemon.records, what="the job")[0]["job"]
    asker.send("upgrade")
    asker.socket.close()
    owner.socket.close()
    assert daemon.wait_state(job, "cancelled", timeout=10 + SLACK_S)
    until(lambda: "takes over" in daemon.log(), what="the upgrade")


def test_runner_that_still_loads(upgradable):
    """A start that is under way goes on."""
    daemon = upgradable("loading 1", ready=False)
    daemon.wait_listening()
    until(lambda: daemon.runner()["state"] == "loading", what="loading")
    pid = daemon.runner()["pid"]
    daemon.call("upgrade")
    daemon.wait_ready()
    assert daemon.runner()["pid"] == pid and daemon.runner()["generation"] == 1


def test_runner_dies_meanwhile(upgradable):
    """The end of one that died between the programs is seen, and its job goes on."""
    daemon = upgradable("step 0.05")
    job = daemon.submit("a", steps=20)
    daemon.wait_running(job)
    pid = daemon.runner()["pid"]
    connection = daemon.connect()
    request = connection.send("upgrade")
    os.kill(pid, 9)
    connection.reply(request)
    record = daemon.wait(job)
    assert record["state"] == "done" and record["attempts"] == 2
    assert not daemon.zombies()


def test_clocks_go_on(upgradable):
    """An upgrade gives a job no time: its exec_timeout ends when it would have."""
    daemon = upgradable("step 0.2")
    begin = time.monotonic()
    connection = daemon.connect()
    request = connection.send("submit", prompt="a", steps=100, exec_timeout=2, wait=True)
    for _ in range(4):
        time.sleep(0.3)
        daemon.call("upgrade")
    record = connection.reply(request)
    assert record["state"] == "timed_out"
    assert 2.0 <= time.monotonic() - begin < 2.0 + SLACK_S


def test_what_scheduling_knows(upgradable):
    """Pauses, usage, what is predicted and the limits of clients are as they were."""
    daemon = upgradable("step 0.01;@long;step 0.1", clients={"max_running": 1}, runner={"concurrency": 2})
    daemon.generate("a", steps=3)
    daemon.call("pause", **{"class": "low"})
    jobs = [daemon.submit("@long", steps=30) for _ in range(2)]
    daemon.wait_running(jobs[0])
    before = daemon.call("usage"), daemon.status()["queue"], daemon.call("why", job=jobs[1])["held_back"]
    daemon.call("upgrade")
    after = daemon.call("usage"), daemon.status()["queue"], daemon.call("why", job=jobs[1])["held_back"]
    assert after == before and before[0]["clients"][0]["pending_s"] > 0
    time.sleep(0.3)
    assert daemon.job(jobs[1])["state"] == "queued"  # max_running counts the one that was handed over
    assert all(daemon.wait(job)["state"] == "done" for job in jobs)


def test_restart_after_an_upgrade(upgradable):
    """What was handed over and not written anew is still in the store."""
    daemon = upgradable("step 0.2")
    jobs = [daemon.submit(str(i), steps=5) for i in range(3)]
    daemon.wait_running(jobs[0])
    daemon.call("upgrade")
    jobs.append(daemon.submit("after", steps=1))
    daemon.kill()
    daemon.start()
    records = [daemon.wait(job) for job in jobs]
    assert all(r["state"] == "done" for r in records), records


# ---- another program

def test_another_build(upgradable):
    """The runner of the build before goes on, one that says HELLO only now too; the answer names the new build."""
    daemon = upgradable("hello 2.5; step 0.1", ready=False)
    old = daemon.wait_listening()["build"]
    new = old[:-1] + ("0" if old[-1] != "0" else "1")
    install(daemon, (BUILD / "zitd").read_bytes().replace(old.encode(), new.encode()))
    assert daemon.runner()["state"] == "spawning"
    pid = daemon.runner()["pid"]
    assert daemon.call("upgrade")["build"] == new
    daemon.wait_ready()
    assert daemon.status()["build"] == new and daemon.runner()["pid"] == pid
    assert daemon.generate("a", steps=2)["state"] == "done"
    daemon.audited = False  # a fresh runner of that zitd would be of another build


def test_moved_away(upgradable):
    """A package's update removes the file that runs: what stands at the path counts."""
    daemon = upgradable()
    content = daemon.program.read_bytes()
    daemon.program.unlink()
    assert "No such file" in refusal(daemon)
    install(daemon, content)
    daemon.call("upgrade")
    daemon.call("upgrade")


BROKEN = [
    ("exits", "#!/bin/sh\nexit 3\n", 0o755, "exit status 3"),
    ("says why", "#!/bin/sh\necho first >&2\necho 'zitd: the moon is full' >&2\nexit 1\n", 0o755, "the moon is full"),
    ("not executable", "#!/bin/sh\n", 0o644, "Permission denied"),
    ("no program", b"\x00\x01\x02", 0o755, "Exec format error"),
    ("crashes", "#!/bin/sh\nkill -SEGV $$\n", 0o755, "signal 11"),
    ("no zitd", "#!/bin/sh\nexit 0\n", 0o755, "is it a zitd?"),
    ("talks without end", "#!/bin/sh\nyes | head -c 60000\nexit 1\n", 0o755, "y"),
]


@pytest.mark.parametrize("content,mode,reason", [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_broken_program(upgradable, content, mode, reason):
    """27: the old one goes on, with the job that runs; the reason is told, and a good program then takes over."""
    daemon = upgradable("step 0.1")
    connection = daemon.connect()
    request = connection.send("submit", prompt="a", steps=10, wait=True)
    until(daemon.records, what="the job")
    good, before = daemon.program.read_bytes(), lives(daemon)
    install(daemon, content, mode)
    for _ in range(2):
        assert reason in refusal(daemon)
    assert lives(daemon) == before and "not upgraded" in daemon.log()
    install(daemon, good)
    daemon.call("upgrade")
    assert connection.reply(request)["state"] == "done"
    assert until(lambda: not daemon.zombies(), 2 + SLACK_S, "no zombie")


def test_program_that_does_not_answer(upgradable):
    """It has 10 s; meanwhile everybody is served, and a second upgrade is refused."""
    daemon = upgradable("")
    good = daemon.program.read_bytes()
    install(daemon, "#!/bin/sh\nexec sleep 100\n")
    first, second = daemon.connect(), daemon.connect()
    begin = time.monotonic()
    request = first.send("upgrade")
    until(lambda: "was asked for" in daemon.log(), what="the trial")
    assert "under way" in refusal(daemon, second)
    assert daemon.generate("a", steps=1)["state"] == "done"
    with pytest.raises(RpcError, match="within 10 s"):
        first.reply(request)
    assert 10.0 <= time.monotonic() - begin < 10.0 + SLACK_S
    assert until(lambda: not daemon.zombies() and len(daemon.processes()) == 2, 2 + SLACK_S, "the trial is gone")
    install(daemon, good)
    daemon.call("upgrade")


def test_stopped_while_it_is_tried(upgradable):
    """SIGTERM counts: the upgrade is given up, and the one that asked hears it."""
    daemon = upgradable("")
    daemon.audited = False
    install(daemon, "#!/bin/sh\nexec sleep 100\n")
    connection = daemon.connect()
    request = connection.send("upgrade")
    until(lambda: "was asked for" in daemon.log(), what="the trial")
    daemon.process.terminate()
    with pytest.raises(RpcError, match="stopping"):
        connection.reply(request)
    assert daemon.process.wait(10 + SLACK_S) == 0
    assert until(lambda: not daemon.processes(), 2 + SLACK_S, "nobody is left")


def test_terminated_right_after(upgradable):
    """A SIGTERM that comes at any moment of an upgrade stops zitd in order, by the one program or the other."""
    for delay in (0.0, 0.004, 0.008, 0.012, 0.016, 0.02, 0.03):
        daemon = upgradable("")
        daemon.audited = False
        connection = daemon.connect()
        connection.send("upgrade")
        time.sleep(delay)
        daemon.process.terminate()
        assert daemon.process.wait(20 + SLACK_S) == 0, f"after {delay} s: {daemon.log()[-2000:]}"
        daemon.audit_leftovers()


def test_configuration_that_does_not_fit(upgradable):
    """It is read again: a broken one, or one without a runner that is here, is refused."""
    daemon = upgradable("")
    good = daemon.config.read_text()
    daemon.config.write_text(good + "[queue]\nmax_size = many\n")
    assert "max_size" in refusal(daemon)
    daemon.config.write_text(good.replace("[runner]", "[runner:other]"))
    assert "not in the configuration" in refusal(daemon)
    daemon.config.write_text(good + "[queue]\nmax_size = 7\n")
    daemon.call("upgrade")
    assert daemon.status()["queue"]["max_size"] == 7


def check_handover(daemon, document):
    fd = os.memfd_create("zit-handover", os.MFD_ALLOW_SEALING)
    os.write(fd, document.encode())
    fcntl.fcntl(fd, 1033, 15)  # F_ADD_SEALS: all of them
    run = subprocess.run(daemon.command() + ["--check-handover", str(fd)], pass_fds=[fd], capture_output=True, text=True,
                         timeout=60, check=False)
    os.close(fd)
    return run


@pytest.mark.parametrize("document,reason", [
    ('{"handover": 2, "store": 1}', "newer zitd"), ('{"handover": 1, "store": 99}', "newer zitd"),
    ('{"handover": 1, "store": 1}', "state_dir"), ("{}", "no state of a zitd"), ("[", "no state of a zitd")])
def test_document_that_is_refused(upgradable, document, reason):
    """A state that it does not know is refused, by version or by what is missing."""
    run = check_handover(upgradable(""), document)
    assert run.returncode == 1 and reason in run.stderr and run.stdout == "", run


def test_two_at_once(upgradable):
    """One of them is done, the other is told that there is one."""
    daemon = upgradable("")
    connections = [daemon.connect() for _ in range(2)]
    requests = [c.send("upgrade") for c in connections]
    outcomes = []
    for connection, request in zip(connections, requests):
        try:
            outcomes.append(connection.reply(request)["pid"])
        except RpcError as e:
            outcomes.append(e.name)
    # Which is heard first is open, and the later one may be heard only by the new program.
    assert set(outcomes) <= {daemon.process.pid, "upgrade_refused"} and daemon.process.pid in outcomes, outcomes


# ---- what is left behind

def test_fifty(upgradable):
    """Descriptors, processes and the runner are what they were."""
    daemon = upgradable("")
    daemon.generate("a", steps=1)  # the store has its log open
    connection = daemon.connect()
    fds, before = daemon.fd_count() + 1, lives(daemon)
    for _ in range(50):
        connection.call("upgrade")
    assert lives(daemon) == before
    until(lambda: daemon.fd_count() <= fds, what=f"descriptors back to {fds}: {daemon.fd_count()}")
    assert not daemon.zombies() and len(daemon.processes()) == 2


def test_systemd(upgradable, tmp_path):
    """RELOADING and READY around it, and the watchdog's pings go on."""
    systemd = Systemd(tmp_path)
    daemon = upgradable("", notify=systemd.environment)
    systemd.wait_for("READY=1")
    for upgrades in (1, 2):
        daemon.call("upgrade")
        systemd.wait_for("READY=1", 1 + upgrades)
        assert systemd.order() == ["FDSTORE", "READY"] + ["RELOADING", "READY"] * upgrades
    systemd.wait_for("WATCHDOG=1", systemd.pings + 2)


def test_zitctl(upgradable):
    daemon = upgradable("")
    good = daemon.ctl("upgrade")
    assert good.returncode == 0 and "took over" in good.stdout, good
    install(daemon, "#!/bin/sh\necho no >&2\nexit 1\n")
    bad = daemon.ctl("upgrade")
    assert bad.returncode == 1 and "cannot take over: no" in bad.stderr, bad
