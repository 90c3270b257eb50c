"""
What zitd tells systemd, and in which order; sockets that systemd holds while zitd is away. PID 1 is played by the test;
scripts/test-systemd has the real one.
"""
import shutil
import signal
import subprocess
import time

import pytest

from harness import SLACK_S, Connection, Zitd, until
from systemd import Systemd, listening, pass_socket, stopped_for


@pytest.fixture
def systemd(tmp_path):
    return Systemd(tmp_path)


@pytest.fixture
def unstarted(tmp_path):
    """unstarted("script", …) is a daemon that the test starts as it likes; it is gone when the test is."""
    made = []

    def make(script="step 0", **options):
        made.append(Zitd(tmp_path / f"d{len(made)}", script, **options))
        return made[-1]

    yield make
    for daemon in made:
        daemon.clean_up()


# ---- the order of messages

def test_a_life(zitd, systemd):
    """Start, reload, a reload that fails, stop."""
    daemon = zitd("step 0.01", audited=False, notify=systemd.environment)
    systemd.wait_for("READY=1")
    assert systemd.messages[0][0] == "FDSTORE=1"
    assert systemd.messages[1] == ["STATUS=starting: 0/1 runners ready, 0 queued (h0 n0 l0)"]
    ready = next(m for m in systemd.messages if "READY=1" in m)
    assert ready == ["READY=1", "STATUS=ready: 1/1 runners ready, 0 queued (h0 n0 l0)"]
    daemon.process.send_signal(signal.SIGHUP)
    systemd.wait_for("READY=1", 2)
    daemon.config.write_text("[queue]\nmax_size = many\n")
    daemon.process.send_signal(signal.SIGHUP)
    systemd.wait_for("READY=1", 3)
    for message in systemd.messages:
        if message[0] == "RELOADING=1":  # what a later systemd compares with its own clock
            assert abs(int(message[1].removeprefix("MONOTONIC_USEC=")) * 1e-6 - time.monotonic()) < 60
    assert daemon.stop() == 0
    assert systemd.order() == ["FDSTORE", "READY", "RELOADING", "READY", "RELOADING", "READY", "STOPPING", "BARRIER"]


def test_loading_takes_its_time(zitd, systemd):
    """EXTEND_TIMEOUT_USEC while a model is loaded, and not after that."""
    daemon = zitd("real", notify=systemd.environment)
    systemd.wait_for("READY=1")
    kinds = [m[0].split("=")[0] for m in systemd.messages]
    extensions = [i for i, kind in enumerate(kinds) if kind == "EXTEND_TIMEOUT_USEC"]
    assert extensions and max(extensions) < kinds.index("READY")
    daemon.call("restart")
    until(lambda: daemon.runner()["generation"] == 2 and daemon.runner()["state"] == "idle", what="second runner")
    assert sum(m[0].startswith("EXTEND_TIMEOUT_USEC") for m in systemd.messages) == len(extensions)


SILENCE_S = 60 + 10 + 72 + 5  # at most, of a runner on its way: until it is taken for hung, is reaped, has a successor, and that says hello


def test_a_start_longer_than_the_unit_allows(zitd, systemd):
    """TimeoutStartSec is carried on by every sign of progress, each time by more than zitd itself would be silent for."""
    zitd("loading load 40; loading skip; warming work 1", notify=systemd.environment)
    systemd.wait_for("READY=1")
    extensions = [int(line.split("=")[1]) for message in systemd.messages for line in message if line.startswith("EXTEND_TIMEOUT_USEC=")]
    assert len(extensions) == 40 + 1, systemd.messages  # and when it warms up
    assert min(extensions) > SILENCE_S * 1e6


def test_stopping_says_how_long(zitd, systemd):
    daemon = zitd("step 0.01", audited=False, notify=systemd.environment, zitd={"drain_timeout": 1000})
    systemd.wait_for("READY=1")
    assert daemon.stop() == 0
    stopping = next(m for m in systemd.messages if m[0] == "STOPPING=1")
    assert int(stopping[1].removeprefix("EXTEND_TIMEOUT_USEC=")) > 1000 * 1000000


def fails_to_start(daemon, systemd, error):
    daemon.start(ready=False)
    assert daemon.process.wait(60) != 0
    systemd.wait_for(f"ERRNO={error}")
    assert [m[0] for m in systemd.messages if m[0] in ("READY=1", "STOPPING=1")] == []
    return systemd.statuses()[-1]


def test_a_start_that_fails(unstarted, systemd):
    """ERRNO and the reason; no READY."""
    daemon = unstarted("", notify=systemd.environment)
    daemon.state.rmdir()
    daemon.state.write_text("not a directory")
    assert "cannot start" in fails_to_start(daemon, systemd, 13) and systemd.order()[-1] == "BARRIER"


def test_a_configuration_that_is_wrong(unstarted, systemd):
    daemon = unstarted("", notify=systemd.environment)
    daemon.config.write_text("[queue]\nmax_size = many\n")
    assert "max_size" in fails_to_start(daemon, systemd, 22)


def test_no_runner_is_coming(zitd, systemd):
    """Without a model nothing will ever be ready; systemctl start does not wait for it, and the STATUS tells why."""
    daemon = zitd("loading exit 65", ready=False, notify=systemd.environment)
    systemd.wait_for("READY=1")
    assert systemd.statuses()[-1].startswith("failed: 0/1 runners ready") and "weights" in systemd.statuses()[-1]
    assert daemon.status()["state"] == "failed"


def test_status_at_most_once_a_second(zitd, systemd):
    """And the last one is true."""
    begin = time.monotonic()
    daemon = zitd("step 0.05", audited=False, notify=systemd.environment)
    daemon.wait_running(daemon.submit("first", steps=100))
    for n in range(10):
        daemon.submit(f"a {n}", steps=100, priority="low" if n % 2 else "normal")
        time.sleep(0.1)
    until(lambda: "10 queued (h0 n5 l5)" in systemd.statuses()[-1], 5.0 + SLACK_S, "the last status")
    assert 2 < len(systemd.statuses()) <= 2 + time.monotonic() - begin
    for record in daemon.records():
        daemon.call("cancel", job=record["job"])
    assert daemon.stop() == 0


# ---- the watchdog

def test_pings_go_on_with_a_sick_runner(zitd, systemd):
    daemon = zitd("step 0", audited=False, notify=systemd.environment, runner={"stopwaitsecs": 1})
    systemd.wait_for("WATCHDOG=1", 3)
    daemon.call("restart")
    subprocess.run(["kill", "-STOP", str(daemon.runner()["pid"])], check=False)
    systemd.wait_for("WATCHDOG=1", systemd.pings + 3)
    assert systemd.count("WATCHDOG=trigger") == 0


def test_a_loop_that_lags_is_told_by_silence(zitd, systemd):
    """Two seconds in which it did not run: the ping that was due is left out, and they go on when all is well again."""
    daemon = zitd("step 0", audited=False, notify=systemd.environment)
    systemd.wait_for("WATCHDOG=1")
    stopped_for(daemon.process, 2.5)
    until(lambda: "the loop lags" in daemon.log(), what="the lag in the log")
    systemd.wait_for("WATCHDOG=1", systemd.pings + 3)


# ---- sockets that outlive zitd

def test_socket_activation(unstarted, systemd, tmp_path):
    """Who connects before zitd is there waits in the backlog, before the first start and between two."""
    path = tmp_path / "zit.sock"
    listener = listening(path)
    daemon = unstarted(notify=systemd.environment)
    pass_socket(daemon, listener.fileno(), "zitd.socket")
    for _ in range(2):
        early = Connection(path)
        asked = early.send("status")
        daemon.start(ready=False)
        assert early.reply(asked)["pid"] == daemon.process.pid
        early.close()
        assert daemon.stop() == 0
        assert path.exists() and not daemon.socket_path.exists()
    assert not systemd.store  # its owner keeps it


def connected(path):
    """None while there is no socket, or one that nobody listens on yet."""
    try:
        return Connection(path)
    except (FileNotFoundError, ConnectionRefusedError):
        return None


def test_systemd_socket_activate(unstarted, tmp_path):
    """The tool that comes with systemd: it starts zitd when the first client has come."""
    tool = shutil.which("systemd-socket-activate")
    if tool is None:
        pytest.skip("there is no systemd-socket-activate here")
    path = tmp_path / "zit.sock"
    daemon = unstarted(prefix=[tool, "-l", str(path), "--fdname=zitd.socket", "-E", "ZIT_FAKE"])
    daemon.prefix += [f"-E{name}" for name in (daemon.marker.split("=")[0], "ASAN_OPTIONS")]
    daemon.start(ready=False)
    connection = until(lambda: connected(path), what="the tool's socket")
    assert connection.call("submit", prompt="a cat", wait=True)["state"] == "done"
    connection.close()
    assert daemon.stop() == 0


def test_a_listener_of_its_own_is_kept(unstarted, systemd):
    """Without zitd.socket systemd is given zitd's own; it comes back after a stop and after SIGKILL."""
    daemon = unstarted(notify=systemd.environment).start()
    for end in (daemon.kill, daemon.stop):
        pid = daemon.process.pid
        end()
        early = Connection(daemon.socket_path)
        asked = early.send("status")
        pass_socket(daemon, systemd.store["listener"], "listener")
        daemon.start(ready=False)
        assert early.reply(asked)["pid"] == daemon.process.pid != pid
        early.close()
    assert systemd.order().count("FDSTORE") == 1


def test_a_kept_listener_that_nobody_can_reach(unstarted, systemd):
    """Its path is gone: a new one is made, and systemd forgets the old."""
    daemon = unstarted(notify=systemd.environment).start()
    daemon.stop()
    daemon.socket_path.unlink()
    pass_socket(daemon, systemd.store["listener"], "listener")
    daemon.start()
    assert daemon.generate()["state"] == "done"
    assert systemd.order().count("FDSTOREREMOVE") == 1 and list(systemd.store) == ["listener"]


def test_what_is_no_socket_is_not_used(unstarted):
    """A file where the socket should be: said, and a socket of its own serves."""
    daemon = unstarted()
    with open("/dev/null", "rb") as null:
        pass_socket(daemon, null.fileno(), "zitd.socket")
        daemon.start()
    assert daemon.generate()["state"] == "done"
    assert "(zitd.socket) that systemd passed is not used" in daemon.log()


def test_socket_may_be_used_by_its_group(unstarted):
    daemon = unstarted().start()
    assert daemon.socket_path.stat().st_mode & 0o777 == 0o660
