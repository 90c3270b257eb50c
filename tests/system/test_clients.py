"""Clients that break the rules or go away: each gets its own error, nobody else notices."""
import json
import socket
import time

import pytest

from harness import SANITIZED, SLACK_S, Connection, RpcError, until

BAD_LINES = [
    (b"{\n", "parse_error"),
    (b"[1,2,3]\n", "invalid_request"),
    (b"42\n", "invalid_request"),
    (b'{"id":1}\n', "invalid_request"),
    (b'{"id":1,"method":5}\n', "invalid_request"),
    (b'{"id":1,"method":"nosuch"}\n', "unknown_method"),
    (b'{"id":1,"method":"submit"}\n', "invalid_param"),
    (b'{"id":1,"method":"submit","params":{"prompt":5}}\n', "invalid_param"),
    (b'{"id":1,"method":"submit","params":{"prompt":"x","colour":"red"}}\n', "invalid_param"),
    (b'{"id":1,"method":"submit","params":{"prompt":"x","width":300}}\n', "invalid_param"),
    (b'{"id":1,"method":"submit","params":{"prompt":"x","width":1e99}}\n', "invalid_param"),
    (b'{"id":1,"method":"submit","params":{"prompt":"x","seed":-1}}\n', "invalid_param"),
    (b'{"id":1,"method":"submit","params":{"prompt":"x","priority":"urgent"}}\n', "invalid_param"),
    (b'{"id":1,"method":"submit","params":{"prompt":"\xff\xfe"}}\n', "parse_error"),
    (b'{"id":1,"method":"submit","params":{"prompt":"\xed\xa0\x80"}}\n', "parse_error"),
    (b'{"id":1,"method":"submit","params":{"prompt":"a\\u0000b"}}\n', None),
    (b'{"id":1,"method":"submit","params":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n", "parse_error"),
    (b'{"id":1,"method":"get","params":{"job":"' + b"x" * 1000 + b'"}}\n', "invalid_param"),
]


def test_bad_lines_get_their_error_and_the_connection_goes_on(zitd):
    daemon = zitd("step 0")
    for line, name in BAD_LINES:
        connection = Connection(daemon.socket_path)
        connection.send_raw(line)
        reply = connection.read_line()
        assert "error" in reply, (line[:60], reply)
        assert isinstance(reply["error"]["code"], int) and reply["error"]["message"]
        if name:
            assert reply["error"]["data"]["name"] == name, (line[:60], reply)
        assert connection.call("status")["state"] == "ready", line[:60]
        connection.close()
    assert daemon.records() == []


def test_unknown_member_is_named_with_the_nearest_known(zitd):
    with pytest.raises(RpcError) as e:
        zitd("step 0").call("submit", prompt="x", widht=256)
    assert e.value.data["param"] == "widht"
    assert "width" in e.value.message


def test_line_of_two_mebibytes_ends_the_connection(zitd):
    daemon = zitd("step 0")
    connection = daemon.connect()
    try:
        connection.send_raw(b'{"id":1,"method":"submit","params":{"prompt":"' + b"x" * (2 << 20) + b'"}}\n')
    except (BrokenPipeError, ConnectionResetError):
        pass
    reply = connection.read_line()
    assert reply["error"]["data"]["name"] == "frame_too_large"
    with pytest.raises((EOFError, ConnectionResetError, BrokenPipeError)):
        connection.call("status")
    assert daemon.generate()["state"] == "done"


def test_half_a_line_then_gone(zitd):
    daemon = zitd("step 0")
    for _ in range(20):
        connection = Connection(daemon.socket_path)
        connection.send_raw(b'{"id":1,"method":"sub')
        connection.close()
    assert daemon.generate()["state"] == "done"
    assert len(daemon.records()) == 1


def test_half_close_is_not_gone(zitd):
    daemon = zitd("step 0.05")
    connection = daemon.connect()
    connection.send("submit", prompt="a cat", wait=True, steps=5)
    connection.socket.shutdown(socket.SHUT_WR)
    reply = connection.read_line()
    daemon.accepted.add(reply["result"]["job"])
    assert reply["result"]["state"] == "done"
    assert connection.read_line() is None


def test_client_gone_while_waiting_cancels_its_job(zitd):
    daemon = zitd("step 0.05")
    connection = Connection(daemon.socket_path)
    connection.send("submit", prompt="a cat", wait=True, steps=100)
    job = until(daemon.records, what="job accepted")[0]["job"]
    daemon.wait_running(job)
    connection.close()
    daemon.wait_state(job, "cancelled")


def test_client_gone_with_keep_leaves_its_job(zitd):
    daemon = zitd("step 0.05")
    connection = Connection(daemon.socket_path)
    connection.send("submit", prompt="a cat", wait=True, steps=10, on_disconnect="keep")
    job = until(daemon.records, what="job accepted")[0]["job"]
    connection.close()
    assert daemon.wait(job)["state"] == "done"


@pytest.mark.parametrize("job, order", [({}, "hold"), ({"durable": False}, "cancel")])
def test_client_gone_while_its_order_is_carried_out(zitd, job, order):
    """The order tells the same client of the job that it waits for, which finds that it has gone: nobody else is hurt."""
    daemon = zitd("step 0")
    for i in range(10):
        connection = daemon.connect()
        connection.send("submit", prompt="a cat", wait=True, events=True, on_disconnect="keep", not_before=600,
                        group=f"g{i}", **job)
        own = connection.read_line()["params"]["job"]
        connection.send(order, **({"group": f"g{i}"} if order == "cancel" else {"job": own}))
        connection.close()
        until(lambda own=own: daemon.job(own)["state"] == ("cancelled" if order == "cancel" else "held"), what=order)
        daemon.call("cancel", job=own)
    assert daemon.generate(steps=1)["state"] == "done"


def test_a_notification_is_not_answered(zitd):
    """It is done, whatever it waits for, and descriptors that its answer would have had are not left open."""
    daemon = zitd("step 0")
    connection = daemon.connect()
    for params in ({}, {"wait": True}, {"wait": True, "deliver": "fd"}):
        connection.send_raw(json.dumps({"method": "submit", "params": {"prompt": "a cat", **params}}).encode() + b"\n")
    done = until(lambda: [r for r in daemon.records() if r["state"] == "done"][2:], what="three jobs done")
    assert len(done) == 1
    connection.call("status")
    assert connection.strays == []


def test_silent_connection_is_closed_by_the_connect_clock(zitd):
    daemon = zitd("step 0", zitd={"connect_timeout": 1})
    connection = daemon.connect()
    start = time.monotonic()
    assert connection.read_line() is None
    assert 0.9 <= time.monotonic() - start <= 1.0 + SLACK_S


def test_half_a_line_is_closed_by_the_read_clock(zitd):
    daemon = zitd("step 0", zitd={"connect_timeout": 1, "read_timeout": 1})
    connection = daemon.connect()
    connection.call("status")
    connection.send_raw(b'{"id":1,')
    start = time.monotonic()
    while connection.read_line() is not None:
        pass
    assert 0.9 <= time.monotonic() - start <= 1.0 + SLACK_S


def test_waiting_for_a_picture_is_no_stall(zitd):
    daemon = zitd("step 0.1", zitd={"connect_timeout": 1, "read_timeout": 1})
    connection = daemon.connect()
    record = connection.call("submit", prompt="slow", wait=True, steps=30)
    daemon.accepted.add(record["job"])
    assert record["state"] == "done"


def test_client_that_never_reads_does_not_disturb(zitd):
    daemon = zitd("step 0", zitd={"read_timeout": 1})
    deaf = daemon.connect()
    deaf.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.socket.settimeout(5)
    line = json.dumps({"id": 1, "method": "status"}).encode() + b"\n"
    try:
        for _ in range(5000):
            deaf.send_raw(line)
    except (TimeoutError, BrokenPipeError, ConnectionResetError):
        pass
    assert daemon.generate()["state"] == "done"


def test_waits_for_long_prompts_are_bounded(zitd):
    """What their answers will be counts before they are made; each wait is answered in the end."""
    daemon = zitd("step 0")
    job = daemon.submit("a " * 32000, not_before=600)
    connection = daemon.connect()
    connection.socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        for _ in range(100_000):
            connection.send_raw(b'{"id":1,"method":"wait","params":{"job":"%s"}}\n' % job.encode())
    daemon.call("cancel", job=job)
    time.sleep(1)  # nobody reads the answers
    assert daemon.rss_kib() < (200_000 if SANITIZED else 20_000)
    connection.close()


def test_many_notifications_at_once(zitd):
    """More than may be pending: they are taken when others are done."""
    daemon = zitd("step 0")
    connection = daemon.connect()
    connection.send_raw(b'{"method":"submit","params":{"prompt":"a cat","steps":1,"wait":true}}\n' * 3000)
    assert connection.call("status")["state"] == "ready"


def test_full_queue(zitd):
    daemon = zitd("step 0.05", queue={"max_size": 3, "client_cap": 100})
    daemon.wait_running(daemon.submit("running", steps=60))
    for i in range(3):
        daemon.submit(f"queued {i}", steps=1)
    with pytest.raises(RpcError) as e:
        daemon.call("submit", prompt="one too many")
    assert e.value.name == "queue_full"
    assert e.value.data["retry_after_s"] >= 1
    assert "retry" in e.value.message or "again" in e.value.message


def test_one_client_cannot_have_all_places(zitd):
    """Ten places, four a client: the fifth is refused by name, others still come in; a full queue makes room for who has
    less, and who must go for it is told so."""
    daemon = zitd("step 0.05", queue={"max_size": 10, "client_cap": 40, "reserved_high": 10},
                  runner={"preemption": "false"})
    daemon.wait_running(daemon.submit("running", steps=100, client="busy"))
    greedy = [daemon.submit(f"greedy {i}", steps=1, client="greedy") for i in range(4)]
    with pytest.raises(RpcError) as e:
        daemon.submit("one more", client="greedy")
    assert e.value.name == "client_cap" and e.value.data["client_cap"] == 4
    for name in ("b", "c", "c", "d", "d"):
        daemon.submit("modest", steps=1, client=name)
    newcomer = daemon.submit("newcomer", steps=1, client="e")  # nine places, the tenth is for high jobs
    record = daemon.job(greedy[3])
    assert record["state"] == "evicted" and record["error"]["name"] == "evicted"
    assert daemon.job(newcomer)["state"] == "queued"
    assert daemon.job(daemon.submit("urgent", steps=1, priority="high", client="f"))["position"] == 1
    for job in (r["job"] for r in daemon.records() if r["state"] in ("queued", "running")):
        daemon.call("cancel", job=job)


def test_clients_take_turns(zitd):
    """One client has twelve jobs waiting; another's first comes after one of them, not after all."""
    daemon = zitd("step 0.02", queue={"client_cap": 100})
    daemon.wait_running(daemon.submit("running", steps=30, client="a"))
    flood = [daemon.submit(f"flood {i}", steps=2, client="a") for i in range(12)]
    light = daemon.submit("light", steps=2, client="b")
    assert daemon.job(light)["position"] <= 2
    records = [daemon.wait(job) for job in (light, *flood)]
    assert {r["state"] for r in records} == {"done"}
    starts = [r["submitted_at"] + r["queued_s"] for r in records]
    assert sum(start < starts[0] for start in starts[1:]) <= 1


def test_connections_dropped_by_the_hundred(zitd):
    daemon = zitd("step 0")
    for _ in range(300):
        batch = [Connection(daemon.socket_path) for _ in range(5)]
        for connection in batch:
            connection.close()
    assert daemon.generate()["state"] == "done"


def test_out_of_descriptors_neither_spins_nor_stays(zitd):
    import resource
    daemon = zitd("step 0")
    soft = daemon.fd_count() + 6
    resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (soft, 4096))
    held = []
    for _ in range(40):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(5)
        connection.connect(str(daemon.socket_path))
        held.append(connection)
    before = cpu_seconds(daemon.process.pid)
    time.sleep(1.0)
    assert cpu_seconds(daemon.process.pid) - before < 0.2
    for connection in held:
        connection.close()
    resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (4096, 4096))
    assert daemon.generate()["state"] == "done"


def cpu_seconds(pid):
    import os
    fields = open(f"/proc/{pid}/stat", encoding="ascii").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_waiting_jobs_know_when_they_will_be_done(zitd):
    """Before there is any job zitd goes by the configured costs; after some it knows what such jobs cost: what it foretells
    is what happens, to a third."""
    daemon = zitd("step 0.02", queue={"client_cap": 100}, runner={"cost_base": 7, "cost_step": 0, "cost_picture": 0})
    first = daemon.submit("first", steps=10)
    unknown = daemon.submit("second", steps=10)
    record = daemon.job(unknown)
    assert 7 <= record["eta_s"] <= 14 < record["eta_p95_s"] and record["position"] == 1
    daemon.wait(first), daemon.wait(unknown)
    for _ in range(5):
        daemon.generate(steps=10)
    daemon.submit("running", steps=10)
    waiting = [daemon.submit(f"job {i}", steps=10) for i in range(10)]
    begin = time.monotonic()
    records = [daemon.job(job) for job in waiting]
    etas = [r["eta_s"] for r in sorted(records, key=lambda r: r["position"])]
    assert etas == sorted(etas) and all(r["eta_p95_s"] > r["eta_s"] for r in records)
    daemon.wait(waiting[-1])
    took = time.monotonic() - begin
    print(f"foretold {etas[-1]:.2f} s, took {took:.2f} s")
    assert took / 1.33 - 0.2 <= etas[-1] <= took * 1.33 + 0.2


def test_deadlines(zitd):
    """One that cannot be met is refused with the time that it would take; one that passes ends the job, waiting or at
    work, under its own name; one that is kept says nothing."""
    daemon = zitd("step 0.02", queue={"client_cap": 100})
    for _ in range(3):
        daemon.generate(steps=10)
    running = daemon.submit("running", steps=100)  # two seconds
    daemon.wait_running(running)
    with pytest.raises(RpcError) as e:
        daemon.submit("late", steps=10, deadline=0.5)
    assert e.value.name == "deadline_unreachable" and e.value.data["eta_s"] > 0.5
    assert daemon.status()["queue"]["normal"] == 0
    kept = daemon.submit("kept", steps=5, deadline=30)
    assert daemon.wait(kept)["state"] == "done"
    waiting = zitd("step 0.02")  # it knows no costs yet, and lets everybody try
    waiting.submit("running", steps=100)
    record = waiting.generate("waits too long", steps=1, deadline=0.4)
    assert record["state"] == "expired" and record["error"]["name"] == "deadline_unreachable"
    assert 0.4 <= record["total_s"] <= 0.4 + SLACK_S / 3
    record = waiting.generate("works too long", steps=100, deadline=3)
    assert record["state"] in ("timed_out", "expired") and record["error"]["name"] == "deadline_unreachable"
    with pytest.raises(RpcError) as e:
        waiting.submit(deadline=-1)
    assert e.value.name == "invalid_param"


def test_what_is_to_blame_is_named(zitd):
    """data.param, also of what zitd finds wrong beyond a parameter's own bounds; nothing is queued."""
    daemon = zitd("step 0")
    done = daemon.generate(steps=1)["job"]
    for method, params, name, param in [
            ("submit", {"group": "two words"}, "invalid_param", "group"),
            ("submit", {"durable": False}, "invalid_param", "durable"),
            ("submit", {"seed": 2**63 - 1, "n": 2}, "invalid_param", "seed"),
            ("submit", {"not_before": 10, "deadline": 5}, "deadline_unreachable", "deadline"),
            ("submit", {"client": "a b"}, "invalid_param", "client"),
            ("submit", {"client": "a\nb"}, "invalid_param", "client"),
            ("submit", {"client": "a/b"}, "invalid_param", "client"),
            ("submit", {"not_before": 2592001}, "invalid_param", "not_before"),
            ("submit", {"on_disconnect": "cancel"}, "invalid_param", "on_disconnect"),
            ("pause", {"runner": "nobody"}, "invalid_param", "runner"),
            ("subscribe", {"seq": 10**15}, "invalid_param", "seq"),
            ("retry", {"job": done}, "invalid_param", "job"),
            ("drop", {"job": done}, "invalid_param", "job"),
            ("result", {"job": done, "picture": 1}, "invalid_param", "picture")]:
        with pytest.raises(RpcError) as e:
            daemon.call(method, **({"prompt": "x"} if method == "submit" else {}), **params)
        assert (e.value.name, e.value.data["param"]) == (name, param), (method, params, e.value)
    with pytest.raises(RpcError, match="from 0 to 2592000;"):
        daemon.call("submit", prompt="x", not_before=-1)
    assert daemon.submit(client="令牌:7", steps=1)
    assert len(daemon.records()) == 2
