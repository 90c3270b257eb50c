"""A file of prompts becomes a directory of pictures, whatever happens on the way; and groups, which it stands on."""
import fcntl
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from harness import BUILD, SANITIZED, SMALL, RpcError, pixels, until
from test_ctl_restart import sleeps
from test_durable import disk_by


def write_lines(path, *lines):
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line, ensure_ascii=False)) + "\n" for line in lines))
    return path


def items(directory):
    """The record: {line: item}, and the batch's own line."""
    lines = [json.loads(line) for line in (directory / "batch.jsonl").read_text().splitlines()]
    return {r["line"]: r for r in lines[1:]}, lines[0]


def pictures(directory):
    return sorted(p.name for p in directory.iterdir() if p.name != "batch.jsonl")


def note_accepted(daemon, directory):
    """For the auditor: what the record says was accepted."""
    daemon.accepted |= {item["job"] for item in items(directory)[0].values() if "job" in item}


def start_batch(daemon, *arguments, **options):
    return subprocess.Popen([str(BUILD / "zitctl"), "-H", str(daemon.socket_path), "batch", *map(str, arguments)],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=daemon.env, **options)


# ---- groups

def test_a_group_is_listed_and_cancelled_together(zitd):
    daemon = zitd("step 0.05")
    running = daemon.submit("a", steps=100, group="cats-1")
    daemon.wait_running(running)
    waiting = daemon.submit("b", group="cats-1")
    other = daemon.submit("c", group="cats_2.x", steps=1)
    alone = daemon.submit("d", steps=1)
    assert daemon.job(waiting)["group"] == "cats-1"
    assert "group" not in daemon.job(alone)
    listed = {r["job"] for r in daemon.call("list", group="cats-1")["jobs"]}
    assert listed == {running, waiting}
    assert [r["job"] for r in daemon.call("list", group="cats-1", state="waiting")["jobs"]] == [waiting]
    cancelled = {r["job"]: r["state"] for r in daemon.call("cancel", group="cats-1")["jobs"]}
    assert cancelled == {running: "cancelled", waiting: "cancelled"}
    assert daemon.call("cancel", group="cats-1")["jobs"] == []  # all have ended
    assert daemon.wait(other)["state"] == daemon.wait(alone)["state"] == "done"
    assert daemon.call("list", group="nobody")["jobs"] == []


def test_bad_groups_have_their_errors(zitd):
    daemon = zitd("step 0")
    for group, name in (("", "invalid_param"), ("two words", "invalid_param"), ("x" * 65, "invalid_param"), ("猫", "invalid_param")):
        with pytest.raises(RpcError) as e:
            daemon.call("submit", prompt="a", group=group)
        assert e.value.name == name, group
    assert daemon.job(daemon.submit(group="x" * 64))["group"] == "x" * 64
    for params, name in (({"group": "nobody"}, "unknown_group"), ({}, "invalid_param"), ({"group": "a", "job": "b"}, "invalid_param")):
        with pytest.raises(RpcError) as e:
            daemon.call("cancel", **params)
        assert e.value.name == name, params


@pytest.mark.skipif(os.geteuid() != 0, reason="needs two users")
def test_a_group_is_cancelled_as_far_as_it_is_ones_own(zitd):
    daemon = zitd("step 0.05")
    os.chmod(daemon.socket_path, 0o666)
    mine = daemon.submit("mine", steps=100, group="shared")
    theirs = daemon.submit("theirs", group="theirs")
    code = ("import json,os,socket,sys; os.setgid(65534); os.setuid(65534); s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); "
            "f=s.makefile('rw'); "
            "[print(f.write(json.dumps(r)+'\\n') and f.flush() or f.readline(), end='') for r in json.loads(sys.argv[2])]")
    requests = [{"id": 1, "method": "submit", "params": {"prompt": "b", "group": "shared"}},
                {"id": 2, "method": "cancel", "params": {"group": "shared"}},
                {"id": 3, "method": "cancel", "params": {"group": "theirs"}}]
    for parent in [daemon.socket_path.parent, *daemon.socket_path.parent.parents]:
        if os.stat(parent).st_mode & 0o001 == 0:
            os.chmod(parent, os.stat(parent).st_mode | 0o011)
    out = subprocess.run(["/usr/bin/python3", "-c", code, str(daemon.socket_path), json.dumps(requests)], capture_output=True,
                         text=True, check=True, timeout=30).stdout
    submitted, cancelled, refused = (json.loads(line) for line in out.splitlines())
    daemon.accepted.add(submitted["result"]["job"])
    assert [r["job"] for r in cancelled["result"]["jobs"]] == [submitted["result"]["job"]]
    assert refused["error"]["data"]["name"] == "not_permitted"
    assert daemon.job(mine)["state"] != "cancelled" and daemon.job(theirs)["state"] != "cancelled"
    assert daemon.ctl("cancel", "--group", "shared").returncode == 0
    assert daemon.wait(mine)["state"] == "cancelled"


# ---- a batch

def test_a_picture_for_each_line(zitd, tmp_path):
    daemon = zitd()
    out = tmp_path / "out"
    prompts = write_lines(tmp_path / "p.jsonl", '"一只猫 a cat"', "", {"prompt": "two", "n": 2, "out": "two.png", "seed": 5},
                          {"prompt": "a dog", "steps": 1, "seed": 2 ** 63 - 1})
    result = daemon.ctl("batch", prompts, "--out", out, "--priority", "low", "--steps", "2", "--size", "64x64")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("3 of 3 done, 0 failed, 0 missing")
    assert pictures(out) == ["0001.png", "0004.png", "two-1.png", "two-2.png"]
    record, head = items(out)
    note_accepted(daemon, out)
    jobs = {line: daemon.job(item["job"]) for line, item in record.items()}
    assert [jobs[line]["steps"] for line in (1, 3, 4)] == [2, 2, 1]
    assert all(r["priority"] == "low" and r["group"] == head["group"] for r in jobs.values())
    assert record[4]["seed"] == 2 ** 63 - 1 and record[1]["seed"] == jobs[1]["seed"]
    for line, names in ((1, ["0001.png"]), (3, ["two-1.png", "two-2.png"]), (4, ["0004.png"])):
        for name, made in zip(names, jobs[line]["result"]["pictures"]):
            assert (out / name).read_bytes() == open(made["path"], "rb").read()


def test_more_lines_than_one_client_may_queue(zitd, tmp_path):
    """client_cap and queue_full mean later, not failure; --jobs bounds how many are with zitd."""
    daemon = zitd("step 0.005", queue={"max_size": 8})
    prompts = write_lines(tmp_path / "p.jsonl", *({"prompt": f"cat {i}", "steps": 2} for i in range(30)))
    for jobs in ((), ("--jobs", "1")):
        out = tmp_path / f"out{len(jobs)}"
        result = daemon.ctl("batch", prompts, "--out", out, *jobs)
        assert result.returncode == 0, result.stderr
        assert len(pictures(out)) == 30
        assert {item["tries"] for item in items(out)[0].values()} == {0}
        note_accepted(daemon, out)
    assert len(daemon.accepted) == 60


def test_what_failed_is_told_and_tried_again(zitd, tmp_path):
    daemon = zitd("step 0; @bad; job fail prompt_too_long")
    out = tmp_path / "out"
    prompts = write_lines(tmp_path / "p.jsonl", '"good one"', '"@bad one"', '"good two"')
    result = daemon.ctl("batch", prompts, "--out", out)
    assert result.returncode == 1
    assert "p.jsonl:2: prompt_too_long: " in result.stderr and "the same command with --resume" in result.stderr
    record, _ = items(out)
    assert {line: item["state"] for line, item in record.items()} == {1: "done", 2: "failed", 3: "done"}
    assert record[2]["error"]["name"] == "prompt_too_long"
    stamps = {name: (out / name).stat().st_mtime_ns for name in pictures(out)}
    note_accepted(daemon, out)
    result = daemon.ctl("batch", prompts, "--out", out, "--resume")
    assert result.returncode == 1 and "the same command again" in result.stderr
    again, _ = items(out)
    note_accepted(daemon, out)
    assert again[2]["job"] != record[2]["job"] and again[2]["tries"] == 1
    assert again[1] == record[1] and {name: (out / name).stat().st_mtime_ns for name in pictures(out)} == stamps
    write_lines(prompts, '"good one"', '"good instead"', '"good two"')
    result = daemon.ctl("batch", prompts, "--out", out, "--resume", "-o", "json")
    assert result.returncode == 0, result.stderr
    summary = json.loads(result.stdout)
    assert (summary["items"], summary["done"], summary["before"], summary["failed"], summary["missing"]) == (3, 3, 2, 0, 0)
    note_accepted(daemon, out)
    assert {name: (out / name).stat().st_mtime_ns for name in stamps} == stamps


def test_only_what_is_missing_is_drawn(zitd, tmp_path):
    daemon = zitd()
    out = tmp_path / "out"
    prompts = write_lines(tmp_path / "p.jsonl", *({"prompt": f"cat {i}", "steps": 1, **SMALL} for i in range(3)))
    assert daemon.ctl("batch", prompts, "--out", out).returncode == 0
    note_accepted(daemon, out)
    before = {name: (pixels(out / name), (out / name).stat().st_ino) for name in pictures(out)}
    (out / "0002.png").unlink()
    result = daemon.ctl("batch", prompts, "--out", out, "--resume", "-o", "name")
    assert (result.returncode, result.stdout) == (0, f"{out}/0002.png\n"), result.stderr
    note_accepted(daemon, out)
    assert {name: pixels(out / name) for name in before} == {name: made[0] for name, made in before.items()}  # by the same seed
    assert [name for name in before if (out / name).stat().st_ino != before[name][1]] in (["0002.png"], [])
    assert len(daemon.records()) == 4


def test_a_cut_record_is_taken_as_far_as_it_goes(zitd, tmp_path):
    """As after a power failure: the last line is half there."""
    daemon = zitd("step 0")
    out = tmp_path / "out"
    prompts = write_lines(tmp_path / "p.jsonl", '"a"', '"b"')
    assert daemon.ctl("batch", prompts, "--out", out).returncode == 0
    note_accepted(daemon, out)
    book = out / "batch.jsonl"
    book.write_bytes(book.read_bytes()[:-20])
    result = daemon.ctl("batch", prompts, "--out", out, "--resume", "-o", "json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["before"] == 1
    note_accepted(daemon, out)


def test_another_line_is_another_picture(zitd, tmp_path):
    """A line that is a string, too; the others keep theirs."""
    daemon = zitd("step 0")
    out = tmp_path / "out"
    lines = ['"a cat"', {"prompt": "a dog"}, '"一只猫"', {"prompt": "a cow"}]
    prompts = write_lines(tmp_path / "p.jsonl", *lines)
    assert daemon.ctl("batch", prompts, "--out", out).returncode == 0
    note_accepted(daemon, out)
    before, _ = items(out)
    write_lines(prompts, '"a horse"', {"prompt": "a pig"}, *lines[2:])
    result = daemon.ctl("batch", prompts, "--out", out, "--resume", "-o", "json")
    assert json.loads(result.stdout)["before"] == 2, result.stderr
    note_accepted(daemon, out)
    after, _ = items(out)
    assert {line: daemon.job(item["job"])["prompt"] for line, item in after.items()} == {1: "a horse", 2: "a pig", 3: "一只猫", 4: "a cow"}
    assert all((after[line]["job"] == before[line]["job"]) == (line > 2) for line in after)


def test_a_picture_that_was_cut_off_is_missing(zitd, tmp_path):
    """Half of it, or none, as others' programs and file systems leave them behind."""
    daemon = zitd("step 0")
    out = tmp_path / "out"
    prompts = write_lines(tmp_path / "p.jsonl", '"a"', {"prompt": "b", "n": 2}, '"c"')
    assert daemon.ctl("batch", prompts, "--out", out).returncode == 0
    note_accepted(daemon, out)
    whole = {name: (out / name).read_bytes() for name in pictures(out)}
    (out / "0001.png").write_bytes(whole["0001.png"][:-1])
    (out / "0002-2.png").write_bytes(b"")
    result = daemon.ctl("batch", prompts, "--out", out, "--resume", "-o", "json")
    assert json.loads(result.stdout)["before"] == 1, result.stderr
    note_accepted(daemon, out)
    assert {name: (out / name).read_bytes() for name in pictures(out)} == whole


@pytest.mark.parametrize("data", [b'\xef\xbb\xbf"a"\r\n\r\n{"prompt": "\xe7\x8c\xab"}\r\n', b'\xef\xbb\xbf\n\n"\xe7\x8c\xab"'], ids=["lines", "an empty first"])
def test_a_byte_order_mark_is_no_part_of_it(zitd, tmp_path, data):
    daemon = zitd("step 0")
    (tmp_path / "p.jsonl").write_bytes(data)
    result = daemon.ctl("batch", tmp_path / "p.jsonl", "--out", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    note_accepted(daemon, tmp_path / "out")
    record, _ = items(tmp_path / "out")
    assert daemon.job(record[3]["job"])["prompt"] == "猫" and set(record) <= {1, 3}


def test_a_record_that_cannot_be_read_is_left_alone(zitd, tmp_path):
    daemon = zitd("step 0")
    out = tmp_path / "out"
    (out / "batch.jsonl").mkdir(parents=True)
    result = daemon.ctl("batch", write_lines(tmp_path / "p.jsonl", '"a"'), "--out", out, "--resume")
    assert result.returncode == 1 and "batch.jsonl cannot be read: Is a directory" in result.stderr, result.stderr
    assert daemon.records() == [] and [path.name for path in out.iterdir()] == ["batch.jsonl"]


# ---- ended early

def test_an_interrupt_while_it_reads_begins_nothing(zitd, tmp_path):
    daemon = zitd("step 0")
    process = start_batch(daemon, "-", "--out", tmp_path / "out", stdin=subprocess.PIPE)
    process.stdin.write('"a"\n')
    process.stdin.flush()
    caught = re.compile(r"SigCgt:\s+(\w+)")
    until(lambda: int(caught.search(Path(f"/proc/{process.pid}/status").read_text()).group(1), 16) & 1 << signal.SIGINT - 1 and sleeps(process.pid),
          what="it reads")
    process.send_signal(signal.SIGINT)
    process.wait(60)
    assert process.returncode == 130 and "interrupted" in process.stderr.read()
    process.stdin.close()
    assert daemon.records() == [] and not (tmp_path / "out").exists()

def test_interrupted_it_cancels_the_rest(zitd, tmp_path):
    daemon = zitd("step 0.05")
    out = tmp_path / "out"
    prompts = write_lines(tmp_path / "p.jsonl", {"prompt": "quick", "steps": 1}, *({"prompt": f"slow {i}", "steps": 100} for i in range(4)))
    process = start_batch(daemon, prompts, "--out", out)
    until(lambda: (out / "0001.png").exists() and any(r["state"] == "running" for r in daemon.records()), what="one done, one running")
    until(lambda: len(daemon.records()) == 5, what="all submitted")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    note_accepted(daemon, out)
    assert sorted(r["state"] for r in daemon.records()) == ["cancelled"] * 4 + ["done"]
    assert sorted(item["state"] for item in items(out)[0].values()) == ["cancelled"] * 4 + ["done"]
    assert daemon.ctl("batch", prompts, "--out", out, "--resume", "--timeout", "0.3").returncode == 124
    until(lambda: all(r["state"] in ("cancelled", "done") for r in daemon.records()), what="the rest cancelled")


def test_killed_it_goes_on_with_the_same_jobs(zitd, tmp_path):
    daemon = zitd("step 0.05")
    out = tmp_path / "out"
    prompts = write_lines(tmp_path / "p.jsonl", *({"prompt": f"cat {i}", "steps": 10} for i in range(4)))
    process = start_batch(daemon, prompts, "--out", out)
    until(lambda: len(daemon.records()) == 4, what="all submitted")
    until(lambda: sum(1 for item in items(out)[0].values() if item["state"] == "submitted") == 4, what="all recorded")
    process.kill()
    process.communicate()
    result = daemon.ctl("batch", prompts, "--out", out, "--resume")
    assert result.returncode == 0, result.stderr
    note_accepted(daemon, out)
    assert len(daemon.records()) == 4 and len(pictures(out)) == 4


@pytest.mark.parametrize("noted", [True, False], ids=["noted", "not noted"])
def test_what_was_cancelled_behind_its_back_is_missing(zitd, tmp_path, noted):
    """As by the command that an interrupted batch advises when zitd does not answer it, of jobs whose ids it never heard too."""
    daemon = zitd("step 0.05")
    out = tmp_path / "out"
    prompts = write_lines(tmp_path / "p.jsonl", *({"prompt": f"cat {i}", "steps": 20} for i in range(3)))
    process = start_batch(daemon, prompts, "--out", out)
    until(lambda: (out / "batch.jsonl").exists() and all("job" in item for item in items(out)[0].values()), what="all recorded")
    daemon.process.send_signal(signal.SIGSTOP)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    daemon.process.send_signal(signal.SIGCONT)
    command = re.search(r"'zitctl (cancel --group \S+)' does it", errors).group(1).split()
    assert process.returncode == 130 and daemon.ctl(*command).returncode == 0
    note_accepted(daemon, out)
    if not noted:
        (out / "batch.jsonl").write_text((out / "batch.jsonl").read_text().splitlines(True)[0])
    result = daemon.ctl("batch", prompts, "--out", out, "--resume")
    assert result.returncode == 0, result.stderr
    note_accepted(daemon, out)
    assert len(pictures(out)) == 3 and max(item["tries"] for item in items(out)[0].values()) == 1


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_it_outlives_zitd(zitd, tmp_path, how):
    daemon = zitd("step 0.02", queue={"max_size": 40})
    out = tmp_path / "out"
    prompts = write_lines(tmp_path / "p.jsonl", *({"prompt": f"cat {i}", "steps": 5, "seed": i} for i in range(20)))
    process = start_batch(daemon, prompts, "--out", out)
    until(lambda: len(list(out.glob("*.png"))) >= 3, what="three pictures")
    daemon.process.send_signal(how)
    daemon.process.wait(60)
    errors = ""
    while "waiting for it" not in errors:
        line = process.stderr.readline()
        assert line, errors
        errors += line
    for pid in daemon.processes():  # but not the batch, which has the same environment
        if pid != process.pid:
            os.kill(pid, signal.SIGKILL)
    daemon.start()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert len(pictures(out)) == 20
    record, _ = items(out)
    assert {item["seed"] for item in record.values()} == set(range(20))
    assert len(daemon.records()) == 20, "a job that zitd keeps is not submitted anew"


# ---- what is wrong with its input

GOOD = {"prompt": "a cat"}
BAD_FILES = [
    ([], "p.jsonl:0: there is nothing in it"),
    (["", "  "], "p.jsonl:2: there is nothing in it"),
    ([GOOD] * 6 + ['{"prompt": "a cat"'] + [GOOD], "p.jsonl:7: it is not JSON: "),
    ([GOOD, {"prompt": "a", "widht": 512}], "p.jsonl:2: submit has no parameter 'widht'; did you mean width"),
    ([GOOD, {"steps": 2}], "p.jsonl:2: prompt is required"),
    ([{"prompt": "a", "width": 300}], "p.jsonl:1: width must be an integer from 64 to 2048, a multiple of 16; 300 is not"),
    (["7"], "p.jsonl:1: a line is an object with the parameters of submit, or a string"),
    (['{"prompt": "a", "prompt": "b"}'], "p.jsonl:1: it is not JSON: duplicate object key"),
    ([{"prompt": "a", "wait": True}], "p.jsonl:1: batch sets wait itself; leave it out"),
    ([{"prompt": "a", "out": "../a.png"}], "p.jsonl:1: out must be a file name"),
    ([{"prompt": "a", "out": ".a"}], "p.jsonl:1: out must be a file name"),
    ([{"prompt": "a", "out": 7}], "p.jsonl:1: out must be a string"),
    ([{"prompt": "a", "out": "batch.jsonl"}], "p.jsonl:1: out cannot be batch.jsonl, "),
    ([{"prompt": "a", "out": "batch.jsonl.new"}], "p.jsonl:1: out cannot be batch.jsonl.new, "),
    ([{"prompt": "a", "out": "x.png"}, GOOD, {"prompt": "b", "out": "x.png"}], "p.jsonl:3: its picture x.png is also that of line 1"),
    ([{"prompt": "a", "out": "0002.png"}, GOOD], "p.jsonl:2: its picture 0002.png is also that of line 1"),
    ([{"prompt": "a", "out": "x.png", "n": 2}, {"prompt": "b", "out": "x-2.png"}], "p.jsonl:2: its picture x-2.png is also that of line 1"),
    ([{"prompt": "x" * 65537}], "p.jsonl:1: prompt must be a string of 1 to 65536 bytes"),
]


def test_bad_files_are_refused_whole(zitd, tmp_path):
    daemon = zitd("step 0")
    for lines, message in BAD_FILES:
        result = daemon.ctl("batch", write_lines(tmp_path / "p.jsonl", *lines), "--out", tmp_path / "out")
        assert result.returncode == 2, (lines, result.stderr)
        assert message in result.stderr, (message, result.stderr)
    (tmp_path / "p.jsonl").write_bytes(b'"a cat"\n"\xff"\n')
    assert "p.jsonl:2: it is not JSON" in daemon.ctl("batch", tmp_path / "p.jsonl", "--out", tmp_path / "out").stderr
    many = write_lines(tmp_path / "p.jsonl", *(["{"] * 30))
    errors = daemon.ctl("batch", many, "--out", tmp_path / "out").stderr
    assert errors.count("it is not JSON") == 20 and "and 10 more" in errors
    assert daemon.records() == [] and not (tmp_path / "out").exists()


def test_bad_places_and_options_are_refused(zitd, tmp_path):
    daemon = zitd("step 0")
    prompts = write_lines(tmp_path / "p.jsonl", GOOD)
    (tmp_path / "file").write_text("")
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "0001.png").write_text("a picture of somebody's")
    held = tmp_path / "held"
    held.mkdir()
    lock = os.open(held, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    for arguments, code, message in [
            ((prompts,), 2, "batch wants --out DIR"),
            ((tmp_path / "nosuch", "--out", tmp_path / "o"), 2, "nosuch cannot be opened: No such file"),
            ((prompts, "--out", tmp_path / "file"), 1, "file cannot be used: Not a directory"),
            ((prompts, "--out", tmp_path / "a" / "b"), 1, "b cannot be made: No such file or directory"),
            ((prompts, "--out", "/proc/self"), 1, "/proc/self cannot be written to: "),
            ((prompts, "--out", taken), 1, "0001.png is there already, and not from a batch"),
            ((prompts, "--out", held), 1, "another batch is at work in"),
            ((prompts, "--out", tmp_path / "o", "--jobs", "0"), 2, "--jobs wants a number from 1 to 100"),
            ((prompts, "--out", tmp_path / "o", "--width", "300"), 2, "width must be an integer"),
            ((prompts, "--out", tmp_path / "o", "--group", "two words"), 2, "group must be a name"),
            ((prompts, "--out", tmp_path / "o", "--save", "x.png"), 2, "batch has no picture to save")]:
        result = daemon.ctl("batch", *arguments)
        assert result.returncode == code, (arguments, result.stderr)
        assert message in result.stderr, (message, result.stderr)
    os.close(lock)
    for arguments in (("queue", "--out", "x"), ("submit", "x", "--resume"), ("cancel",), ("cancel", "job_x", "--group", "y")):
        assert daemon.ctl(*arguments).returncode == 2, arguments
    assert daemon.records() == []
    assert (taken / "0001.png").read_text() == "a picture of somebody's"
    assert daemon.ctl("cancel", "--group", "nobody").returncode == 4


def test_a_finished_directory_is_refused_without_resume(zitd, tmp_path):
    daemon = zitd("step 0")
    prompts = write_lines(tmp_path / "p.jsonl", GOOD)
    assert daemon.ctl("batch", prompts, "--out", tmp_path / "o", "--resume").returncode == 0  # nothing to go on with: it begins
    note_accepted(daemon, tmp_path / "o")
    result = daemon.ctl("batch", prompts, "--out", tmp_path / "o")
    assert result.returncode == 2 and "--resume" in result.stderr
    assert len(daemon.records()) == 1


def test_a_picture_that_cannot_be_written_ends_it(zitd, tmp_path):
    """Its job keeps the picture; the next run fetches it."""
    daemon = zitd("step 0.02")
    out = tmp_path / "out"
    prompts = write_lines(tmp_path / "p.jsonl", {"prompt": "a", "steps": 100})
    process = start_batch(daemon, prompts, "--out", out)
    until(lambda: out.exists() and any(r["state"] == "running" for r in daemon.records()), what="running")
    (out / "0001.png").mkdir()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 70 and "the picture cannot be written to" in errors, errors
    (out / "0001.png").rmdir()
    assert daemon.ctl("batch", prompts, "--out", out, "--resume").returncode == 0
    note_accepted(daemon, out)
    assert len(daemon.records()) == 1 and pictures(out) == ["0001.png"]


@pytest.mark.skipif(SANITIZED, reason="a sanitizer's runtime wants to be loaded first")
def test_a_record_that_does_not_get_to_the_disk_begins_nothing(zitd, tmp_path):
    daemon = zitd("step 0")
    (tmp_path / "disk").write_text("fail")
    result = subprocess.run([str(BUILD / "zitctl"), "-H", str(daemon.socket_path), "batch", str(write_lines(tmp_path / "p.jsonl", GOOD)),
                             "--out", str(tmp_path / "out")], env={**daemon.env, **disk_by(tmp_path / "disk")}, capture_output=True,
                            text=True, timeout=60, check=False)
    assert result.returncode == 1 and "out cannot be written to: Input/output error" in result.stderr, result.stderr
    assert daemon.records() == [] and list((tmp_path / "out").iterdir()) == []


def test_progress_as_it_is_wanted(zitd, tmp_path):
    daemon = zitd("step 0")
    prompts = write_lines(tmp_path / "p.jsonl", '"a"', '"b"')
    plain = daemon.ctl("batch", prompts, "--out", tmp_path / "1", "--jobs", "1")
    assert plain.stderr.splitlines() == [f"zitctl: {i}/2: {tmp_path}/1/000{i}.png" for i in (1, 2)]
    as_json = daemon.ctl("batch", prompts, "--out", tmp_path / "2", "--progress", "json", "--jobs", "1")
    assert [json.loads(line)["state"] for line in as_json.stderr.splitlines()] == ["submitted", "done"] * 2
    silent = daemon.ctl("batch", prompts, "--out", tmp_path / "3", "-q")
    assert (silent.stdout, silent.stderr) == ("", "")
    bar = daemon.ctl("batch", prompts, "--out", tmp_path / "4", "--progress", "bar")
    assert "[########################] 2/2" in bar.stderr and bar.stderr.endswith("\x1b[K") and "zitctl" not in bar.stderr
    for i in "1234":
        note_accepted(daemon, tmp_path / i)
