"""A prompt becomes a picture, by every way a user has."""
import json
import os
import shutil
import struct
import subprocess
import zlib

import pytest

from harness import BUILD, SMALL, RpcError, until


def png_info(data):
    """(width, height, {chunk type: [content]}) of a whole PNG; every checksum is verified."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at:at + 8])
        content = data[at + 8:at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length:at + 12 + length])[0] == zlib.crc32(kind + content)
        chunks.setdefault(kind, []).append(content)
        at += 12 + length
    width, height = struct.unpack(">II", chunks[b"IHDR"][0][:8])
    assert b"IEND" in chunks
    return width, height, chunks


def test_prompt_to_picture_with_nc(zitd):
    if not shutil.which("nc"):
        pytest.skip("nc (netcat-openbsd) is not installed")
    daemon = zitd()
    line = '{"id":1,"method":"submit","params":{"prompt":"一只猫 a cat","wait":true,"steps":2}}\n'
    out = subprocess.run(["nc", "-N", "-U", str(daemon.socket_path)], input=line.encode(), capture_output=True,
                         timeout=60, check=True).stdout
    reply = json.loads(out)
    assert reply["id"] == 1
    record = reply["result"]
    daemon.accepted.add(record["job"])
    assert record["state"] == "done"
    with open(record["result"]["path"], "rb") as f:
        width, height, chunks = png_info(f.read())
    assert (width, height) == (record["width"], record["height"])
    parameters = [c for c in chunks[b"iTXt"] if c.startswith(b"parameters\0")][0]
    assert "一只猫 a cat".encode() in parameters
    assert f"Seed: {record['seed']}".encode() in parameters


def test_one_seed_gives_one_picture(zitd):
    daemon = zitd()
    first = daemon.generate("a red circle", seed=7, steps=2, **SMALL)
    again = daemon.generate("a red circle", seed=7, steps=2, **SMALL)
    other = daemon.generate("a red circle", seed=8, steps=2, **SMALL)
    pixels = [png_info(open(r["result"]["path"], "rb").read())[2][b"IDAT"] for r in (first, again, other)]
    assert pixels[0] == pixels[1]
    assert pixels[0] != pixels[2]


def test_several_pictures_use_seed_plus_i(zitd):
    daemon = zitd()
    record = daemon.generate("a dog", seed=100, n=3, steps=1, **SMALL)
    assert [p["seed"] for p in record["result"]["pictures"]] == [100, 101, 102]
    single = daemon.generate("a dog", seed=102, steps=1, **SMALL)
    pixels = [png_info(open(p, "rb").read())[2][b"IDAT"]
              for p in (record["result"]["pictures"][2]["path"], single["result"]["path"])]
    assert pixels[0] == pixels[1]


@pytest.mark.parametrize("deliver", ["path", "base64", "fd"])
def test_delivery(zitd, deliver):
    import base64
    daemon = zitd()
    connection = daemon.connect()
    record = connection.call("submit", prompt="a cat", wait=True, steps=1, deliver=deliver, **SMALL)
    daemon.accepted.add(record["job"])
    picture = record["result"]["pictures"][0]
    if deliver == "path":
        data = open(picture["path"], "rb").read()
    elif deliver == "base64":
        data = base64.b64decode(picture["base64"], validate=True)
    else:
        assert len(connection.fds) == 1
        data = os.pread(connection.fds[0], picture["bytes"] + 1, 0)
    assert len(data) == picture["bytes"]
    assert png_info(data)[:2] == (record["width"], record["height"])


def test_submit_then_wait_from_another_connection(zitd):
    daemon = zitd()
    job = daemon.submit(steps=2, **SMALL)
    assert daemon.wait(job)["state"] == "done"
    assert daemon.wait(job)["state"] == "done"


def test_events_count_the_steps(zitd):
    daemon = zitd()
    connection = daemon.connect()
    record = connection.call("submit", prompt="a cat", wait=True, events=True, steps=4, **SMALL)
    daemon.accepted.add(record["job"])
    steps = [e["step"] for e in connection.events if e.get("stage") == "denoise" and "step" in e]
    assert sorted(set(steps))[-1] == 4
    assert steps == sorted(steps)


def test_many_requests_on_one_connection(zitd):
    daemon = zitd("step 0")
    connection = daemon.connect()
    ids = [connection.send("submit", prompt=f"cat {i}", wait=True) for i in range(10)]
    replies = {}
    while len(replies) < 10:
        line = connection.read_line()
        replies[line["id"]] = line["result"]
        daemon.accepted.add(line["result"]["job"])
    assert set(replies) == set(ids)
    assert all(r["state"] == "done" for r in replies.values())


def test_classes_run_in_order(zitd):
    daemon = zitd("step 0.05", runner={"preemption": "false"})
    running = daemon.submit("first", steps=40)
    daemon.wait_running(running)
    low, normal, high = (daemon.submit(p, priority=p, steps=1) for p in ("low", "normal", "high"))
    order = [r["job"] for r in daemon.call("queue")["jobs"] if r["state"] == "queued"]
    assert order == [high, low, normal]  # normal has just had its share, and nobody has had any of low's
    starts = []
    for job in order:
        record = daemon.wait(job)
        starts.append(record["submitted_at"] + record["queued_s"])
    assert starts == sorted(starts)


def test_negative_prompt_is_answered_with_a_warning(zitd):
    record = zitd("step 0").generate(negative_prompt="ugly", guidance=5)
    assert len(record["warnings"]) == 2


def test_prompt_of_600_tokens(zitd):
    daemon = zitd()
    record = daemon.generate("1 " * 600, steps=1)
    assert record["state"] == "failed"
    assert record["error"]["name"] == "prompt_too_long"
    record = daemon.generate("1 " * 600, steps=1, truncate=True, **SMALL)
    assert record["state"] == "done"


def test_cancel_in_every_state(zitd):
    daemon = zitd("step 0.05")
    running = daemon.submit("running", steps=100)
    daemon.wait_running(running)
    queued = daemon.submit("queued")
    daemon.call("cancel", job=queued)
    assert daemon.job(queued)["state"] == "cancelled"
    daemon.call("cancel", job=running)
    assert daemon.wait(running)["error"]["name"] == "cancelled"
    daemon.call("cancel", job=[running, queued])
    assert daemon.job(running)["state"] == "cancelled"
    done = daemon.generate(steps=1)["job"]
    daemon.call("cancel", job=done)
    assert daemon.job(done)["state"] == "done"
    with pytest.raises(RpcError) as e:
        daemon.call("cancel", job="job_00000000000000000000000000")
    assert e.value.name == "unknown_job"


def test_a_retry_that_is_under_way_is_not_done_twice(zitd):
    daemon = zitd("step 0")
    daemon.call("pause")
    job = daemon.submit(seed=7)
    daemon.call("cancel", job=job)
    connections = [daemon.connect() for _ in range(5)]
    numbers = [c.send("retry", job=job) for c in connections]
    again = {c.reply(n)["job"] for c, n in zip(connections, numbers)}
    assert len(again) == 1
    daemon.kill()
    daemon.start()
    assert daemon.call("retry", job=job)["job"] in again and daemon.job(job)["retried_as"] in again
    daemon.call("cancel", job=list(again))
    third = daemon.call("retry", job=job)
    assert third["job"] not in again and third["seed"] == 7
    daemon.call("cancel", job=third["job"])


def test_real_runner_stops_at_the_next_step_when_cancelled(zitd):
    daemon = zitd()
    pid = daemon.runner()["pid"]
    job = daemon.submit(steps=100, **SMALL)
    daemon.wait_running(job)
    daemon.call("cancel", job=job)
    assert daemon.wait(job)["state"] == "cancelled"
    until(lambda: daemon.runner()["state"] == "idle", what="runner idle again")
    assert daemon.runner()["pid"] == pid
    assert daemon.generate(steps=1, **SMALL)["state"] == "done"


def test_zitctl_generate(zitd, tmp_path):
    daemon = zitd()
    picture = tmp_path / "cat.png"
    result = daemon.ctl("generate", "一只猫 a cat", "-o", picture, "--steps", 2, "--seed", 5)
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"{picture}\n"
    assert png_info(picture.read_bytes())[:2] == (256, 256)
    several = daemon.ctl("generate", "two", "-o", picture, "--steps", 1, "--n", 2, "--size", "64x64")
    assert several.stdout.split() == [str(tmp_path / "cat-1.png"), str(tmp_path / "cat-2.png")]


def test_zitctl_job_as_json(zitd):
    daemon = zitd()
    job = daemon.ctl("submit", "a cat", "--steps", "2", "--seed", "9", "--size", "64x64").stdout.strip()
    assert daemon.ctl("wait", job, "-q").returncode == 0
    record = json.loads(daemon.ctl("job", job, "-o", "json").stdout)
    for member in ("job", "state", "seed", "attempts", "steps", "width", "height"):
        assert member in record, member
    assert record["seed"] == 9 and record["attempts"] == 1 and record["steps"] == 2
    assert os.path.getsize(record["result"]["path"]) == record["result"]["bytes"]
    status = json.loads(daemon.ctl("status", "-o", "json").stdout)
    for member in ("name", "state", "pid", "generation", "device"):
        assert member in status["runners"][0], member
    assert {"high", "normal", "low"} <= set(status["queue"])


EXITS = [
    (["generate"], 2),
    (["generate", "cat", "--width", "300"], 2),
    (["generate", "cat", "--width", "many"], 2),
    (["generate", "cat", "--nonsense"], 2),
    (["nonsense"], 2),
    (["queue", "--width", "256"], 2),
    (["job", "job_00000000000000000000000000"], 4),
    (["restart", "nosuch"], 2),
    (["status"], 0),
    (["queue"], 0),
    (["runners", "-o", "wide"], 0),
    (["--version"], 0),
    (["--help"], 0),
]


def test_zitctl_exit_codes(zitd):
    daemon = zitd("step 0.05")
    for arguments, code in EXITS:
        result = daemon.ctl(*arguments)
        assert result.returncode == code, (arguments, result.returncode, result.stderr)
        assert (code == 0) == (result.stderr == ""), (arguments, result.stderr)
    timed_out = daemon.ctl("generate", "slow", "--steps", "100", "--exec-timeout", "0.5", "-o", "/dev/null")
    assert timed_out.returncode == 124, timed_out.stderr


def test_zitctl_interrupted_cancels_its_job(zitd):
    import signal
    daemon = zitd("step 0.05")
    process = subprocess.Popen([str(BUILD / "zitctl"), "-H", str(daemon.socket_path), "generate", "slow", "--steps",
                                "100"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=daemon.env)
    record = until(lambda: [r for r in daemon.records() if r["state"] == "running"], what="job running")[0]
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert daemon.wait(record["job"])["state"] == "cancelled"
    process.communicate()
