"""zitctl as operators and their scripts meet it: exit codes row by row, one screen of status, trying again."""
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import threading

import pytest

from harness import BUILD, ROOT, SANITIZED, until

SCHEMA = "zitctl/1"


def run(*arguments, **options):
    return subprocess.run([str(BUILD / "zitctl"), *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False, **options)


def as_json(result):
    answer = json.loads(result.stdout)
    assert answer["schema"] == SCHEMA
    return answer


# ---- exit codes: a test for each row of exits.def

EXIT_ROWS = {int(n): name for name, n in re.findall(r"^EXIT\((\w+), (\d+),", (ROOT / "ctl/exits.def").read_text(), re.M)}


def test_every_error_ends_with_an_exit_code_that_has_a_row():
    used = {int(n) for n in re.findall(r"^ERR\(\w+, \d+, \d+, \w+, (\d+),", (ROOT / "ipc/err.def").read_text(), re.M)}
    assert used and used <= set(EXIT_ROWS), used - set(EXIT_ROWS)


def exit_ok(zitd, tmp_path):
    return zitd("step 0").ctl("queue")


def exit_failed(zitd, tmp_path):
    return zitd("@x; step 1 fail out_of_memory").ctl("generate", "@x", "-o", tmp_path / "x.png")


def exit_usage(zitd, tmp_path):
    assert "did you mean 'status'" in run("stauts").stderr
    return run("generate", "a", "--steps", "many")


def exit_not_ready(zitd, tmp_path):
    daemon = zitd("step 0", runner={"autostart": "false"}, ready=False)
    daemon.wait_listening()
    result = daemon.ctl("generate", "a", "-o", tmp_path / "x.png")
    assert "'zitctl start 0'" in result.stderr
    daemon.ctl("start", "0")
    return result


def exit_unknown(zitd, tmp_path):
    return zitd("step 0").ctl("job", "job_00000000000000000000000000")


def exit_no_weights(zitd, tmp_path):
    daemon = zitd("loading fatal 65", ready=False)
    daemon.wait_listening()
    until(lambda: daemon.runner()["state"] == "failed", what="the runner has given up")
    result = daemon.ctl("generate", "a", "-o", tmp_path / "x.png")
    assert "model's files" in result.stderr and "'zitctl restart 0'" in result.stderr
    return result


def exit_unreachable(zitd, tmp_path):
    result = run("-H", tmp_path, "queue")
    assert str(tmp_path) in result.stderr and "start it with" in result.stderr
    return result


def exit_internal(zitd, tmp_path):
    """What listens there is no zitd."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "zitd.sock"))
    listener.listen()

    def answer():
        peer, _address = listener.accept()
        peer.makefile("rb").readline()
        peer.sendall(b"220 ready\n")
        peer.close()

    thread = threading.Thread(target=answer)
    thread.start()
    result = run("-H", tmp_path, "queue")
    thread.join()
    listener.close()
    return result


def exit_try_later(zitd, tmp_path):
    daemon = zitd("step 0", clients={"rate_jobs": 1, "burst_jobs": 1})
    daemon.submit("a", steps=1)
    return daemon.ctl("submit", "b")


def exit_not_permitted(zitd, tmp_path):
    return zitd("step 0", **{f"client:uid:{os.getuid()}": {"ceiling": "low"}}).ctl("submit", "a", "--priority", "high")


def exit_bad_config(zitd, tmp_path):
    daemon = zitd("step 0")
    good = daemon.config.read_text()
    daemon.config.write_text(good + "[queue]\nmax_sise = 3\n")
    result = daemon.ctl("reload")
    assert "max_sise" in result.stderr
    daemon.config.write_text(good)
    return result


def exit_timed_out(zitd, tmp_path):
    return zitd("step 0.05").ctl("generate", "slow", "--steps", "100", "--timeout", "0.3")


def exit_interrupted(zitd, tmp_path):
    daemon = zitd("step 0.05")
    process = subprocess.Popen([str(BUILD / "zitctl"), "-H", str(daemon.socket_path), "generate", "slow", "--steps", "100"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=daemon.env)
    until(lambda: any(r["state"] == "running" for r in daemon.records()), what="the job runs")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@pytest.mark.parametrize("code", EXIT_ROWS, ids=lambda code: f"{code}-{EXIT_ROWS[code].lower()}")
def test_exit_code(zitd, tmp_path, code):
    result = globals()["exit_" + EXIT_ROWS[code].lower()](zitd, tmp_path)
    assert result.returncode == code, result.stderr
    assert (code == 0) == (result.stderr == ""), result.stderr
    if code not in (0, 1, 2):
        assert result.stdout == ""


@pytest.mark.skipif(SANITIZED, reason="a sanitizer's runtime wants to be loaded first")
@pytest.mark.parametrize("before", [1, 2, 3])
def test_an_interrupt_right_before_a_wait_is_heeded(zitd, before):
    """To send the two pieces of the request, and for the answer of a job that waits itself."""
    daemon = zitd("step 0")
    job = daemon.submit("a", not_before=600)
    shim = {"LD_PRELOAD": str(BUILD / "tests" / "faulty_calls.so"), "SIGNAL_BEFORE": str(before)}
    result = run("-H", daemon.socket_path, "wait", job, env={**daemon.env, **shim})
    assert result.returncode == 130, result.stderr
    daemon.call("cancel", job=job)


# ---- options that are several

def test_n_is_pictures_where_pictures_are_drawn(zitd, tmp_path):
    """And lines of logs: it says which, wherever it stands."""
    daemon = zitd("step 0")
    for arguments in (("generate", "-n", "2", "a"), ("-n2", "generate", "a"), ("generate", "--n=2", "--", "a")):
        result = daemon.ctl("--save", tmp_path / "x.png", *arguments)
        assert (result.returncode, result.stdout) == (0, f"{tmp_path}/x-1.png\n{tmp_path}/x-2.png\n"), result.stderr
    job = daemon.ctl("submit", "a", "-n", "3").stdout.strip()
    assert len(daemon.wait(job)["result"]["pictures"]) == 3
    daemon.accepted.add(job)
    for arguments, code, message in (
            (("generate", "a", "-n", "two"), 2, "--n does not take 'two'"),
            (("generate", "a", "-n", "17"), 2, "n must be an integer from 1 to 16"),
            (("logs", "-n", "0"), 2, "--lines wants a number from 1 to"),
            (("queue", "-n", "2"), 2, "queue does not take --lines"),
            (("-n", "2"), 2, "no command was given"),
            (("-n", "2", "genrate", "a"), 2, "did you mean 'generate'")):
        result = daemon.ctl(*arguments)
        assert result.returncode == code and message in result.stderr, (arguments, result.stderr)


def test_o_is_the_picture_of_generate_wherever_it_stands(zitd, tmp_path):
    daemon = zitd("step 0")
    result = daemon.ctl("-o", tmp_path / "x.png", "generate", "a")
    assert (result.returncode, result.stdout) == (0, f"{tmp_path}/x.png\n"), result.stderr


@pytest.mark.parametrize("arguments", [("stop",), ("pause",), ("usage",), ("queue",), ("cancel", "--group"), ("submit", "a", "--group"),
                                       ("generate",), ("info",), ("generate", "a", "-o")], ids=" ".join)
def test_what_is_no_text_stands_for_nothing(zitd, arguments):
    """Least of all for all runners."""
    daemon = zitd("step 0")
    result = daemon.ctl(*arguments, os.fsdecode(b"caf\xe9"), errors="surrogateescape")
    assert result.returncode == 2 and "is not valid UTF-8" in result.stderr and result.stdout == "", result
    assert daemon.runner()["state"] == "idle" and not daemon.status()["queue"]["paused"]["all"] and daemon.records() == []


# ---- what is printed

def test_quiet_leaves_out_what_no_program_asked_for(zitd):
    daemon = zitd("step 0")
    job = daemon.submit("a", not_before=600)
    for command in (("hold",), ("release",), ("move",), ("priority", "low"), ("cancel",)):
        assert daemon.ctl(*command, job, "-q").stdout == "", command
        assert daemon.ctl(*command, job, "-q", "-o", "name").stdout == f"{job}\n", command
        assert as_json(daemon.ctl(*command, job, "-q", "--json"))["jobs"][0]["job"] == job, command
    again = daemon.ctl("retry", job, "-q", "-o", "name").stdout.strip()
    assert daemon.job(again)["retry_of"] == job
    assert daemon.job(daemon.ctl("retry", job, "-q").stdout.splitlines()[1].split()[0])["retry_of"] == job
    daemon.accepted |= {r["job"] for r in daemon.records()}
    daemon.ctl("cancel", *daemon.accepted)


@pytest.mark.parametrize("arguments", [("status",), ("top", "-o", "jsonl"), ("batch", "-", "--out", "out", "-o", "jsonl"), ("events", "0")],
                         ids=lambda arguments: arguments[0])
def test_a_full_standard_output_is_told(zitd, tmp_path, arguments):
    """Whether it is the last of what is printed that is lost, or all before it."""
    daemon = zitd("step 0")
    daemon.submit("a", steps=1)
    with open("/dev/full", "wb") as full:
        result = subprocess.run([str(BUILD / "zitctl"), "-H", str(daemon.socket_path), *arguments], stdout=full, stderr=subprocess.PIPE, text=True,
                                input='"a"\n', cwd=tmp_path, timeout=60, check=False)
    assert result.returncode == 1 and "standard output" in result.stderr, result
    daemon.accepted |= {r["job"] for r in daemon.records()}


# ---- status

def test_status_of_a_good_service_is_one_screen(zitd):
    daemon = zitd("step 0")
    result = daemon.ctl("status")
    assert result.returncode == 0
    lines = result.stdout.splitlines()
    assert len(lines) <= 24 and lines[0].startswith("zitd ") and ": ready, up 0:0" in lines[0]
    assert "next: nothing needs to be done" in lines
    status = as_json(daemon.ctl("status", "-o", "json"))
    assert status["advice"] == [] and status["paths"]["config"] == str(daemon.config)
    assert daemon.ctl("status", "-o", "name").stdout == "ready\n"


def test_status_says_what_is_wrong_and_what_to_do(zitd):
    daemon = zitd("try 1 step 1 words Gurgle; try 1 step 1 kill 11; step 0.02", runner={"autorestart": "false"})
    job = daemon.submit("a", steps=2)
    until(lambda: daemon.runner()["state"] == "stopped", what="the runner died for good")
    result = daemon.ctl("status")
    assert result.returncode == 3
    assert "last error: runner 0: killed by signal 11" in result.stdout and "Gurgle" in result.stdout
    assert "next: 'zitctl start 0' starts it" in result.stdout
    runner = as_json(daemon.ctl("status", "-o", "json"))["runners"][0]
    assert runner["signal"] == 11 and runner["state_s"] >= 0
    assert daemon.ctl("pause", "class:low").returncode == 0
    assert "next: 'zitctl resume class:low' goes on" in daemon.ctl("status").stdout
    daemon.ctl("resume", "class:low")
    daemon.ctl("start", "0")
    assert daemon.wait(job)["state"] == "done"
    assert daemon.ctl("status").returncode == 0


def test_status_of_a_zitd_that_is_not_there_or_does_not_answer(zitd, tmp_path):
    away = run("-H", tmp_path / "nowhere", "status")
    assert away.returncode == 3 and "not running" in away.stdout and "next: " in away.stdout
    assert as_json(run("-H", tmp_path / "nowhere", "status", "-o", "json"))["state"] == "not running"
    daemon = zitd("step 0")
    daemon.process.send_signal(signal.SIGSTOP)
    silent = daemon.ctl("status", "--timeout", "0.3")
    daemon.process.send_signal(signal.SIGCONT)
    assert silent.returncode == 4 and "does not answer" in silent.stdout


def test_a_zitd_that_takes_no_connections_is_waited_for_as_long_as_is_said(zitd):
    """So many wait for it already that connecting does not end."""
    daemon = zitd("step 0")
    daemon.process.send_signal(signal.SIGSTOP)
    waiting = []
    with contextlib.suppress(BlockingIOError):
        while True:
            waiting.append(socket.socket(socket.AF_UNIX))
            waiting[-1].setblocking(False)
            waiting[-1].connect(str(daemon.socket_path))
    for arguments, code, words in ((["status"], 4, "does not answer"), (["doctor"], 1, "does not take the connections"), (["queue"], 124, ""),
                                   (["events"], 124, ""), (["generate", "a"], 124, "")):
        result = daemon.ctl(*arguments, "--timeout", "0.2")
        assert result.returncode == code and words in result.stdout, (arguments, result)
    daemon.process.send_signal(signal.SIGCONT)
    for one in waiting:
        one.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs two users")
def test_status_of_a_socket_that_may_not_be_opened(zitd):
    daemon = zitd("step 0")
    for parent in daemon.socket_path.parents:
        if os.stat(parent).st_mode & 0o001 == 0:
            os.chmod(parent, os.stat(parent).st_mode | 0o011)
    as_nobody = {"user": 65534, "group": 65534, "extra_groups": []}
    status = daemon.ctl("status", **as_nobody)
    assert status.returncode == 4 and "member of" in status.stdout
    other = daemon.ctl("queue", **as_nobody)
    assert other.returncode == 77 and other.stderr.startswith("zitctl: not_permitted: "), other.stderr


# ---- pictures that cannot be saved

def test_a_picture_that_cannot_be_saved_is_not_lost(zitd, tmp_path):
    daemon = zitd("step 0")
    result = daemon.ctl("generate", "a", "--steps", "1", "-o", tmp_path / "none" / "x.png")
    assert result.returncode == 70 and str(tmp_path / "none") in result.stderr
    command = re.search(r"'zitctl (wait job_\w+ --save) FILE'", result.stderr).group(1).split()
    assert daemon.ctl(*command, tmp_path / "x.png").returncode == 0
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_a_list_that_is_cut_off_says_so(zitd):
    daemon = zitd("step 0", queue={"max_size": 2000, "client_cap": 100})
    connection = daemon.connect()
    for _ in range(1000):
        daemon.accepted.add(connection.call("submit", prompt="a", not_before=3600)["job"])
    whole = daemon.ctl("queue", "final", "-o", "name")
    assert whole.returncode == 0 and "more" not in whole.stderr
    cut = daemon.ctl("queue", "waiting", "-o", "name")
    assert len(cut.stdout.split()) == 1000 and "more than these 1000" in cut.stderr
    assert daemon.ctl("queue", "waiting", "-o", "name", "--quiet").stderr == ""
    connection.call("cancel", job=sorted(daemon.accepted))


# ---- trying again

def test_what_ended_without_a_picture_is_tried_again(zitd):
    daemon = zitd("step 0.05;@x; try 1 step 1 fail internal")
    failed = daemon.generate("@x", steps=1, seed=7)["job"]
    cancelled = daemon.submit("slow", steps=50, seed=8)
    daemon.ctl("cancel", cancelled)
    done = daemon.generate("good", steps=1)["job"]
    ended = daemon.ctl("queue", "final", "-o", "name").stdout.split()
    assert ended == [done, cancelled, failed]
    result = daemon.ctl("retry", failed, done, cancelled, "-o", "json")
    assert result.returncode == 2 and "without a picture" in result.stderr  # of the one that is done
    again = as_json(result)["jobs"]
    daemon.accepted |= {r["job"] for r in again}
    assert [(r["retry_of"], r["seed"]) for r in again] == [(failed, 7), (cancelled, 8)]
    daemon.call("cancel", job=again[1]["job"])
    assert daemon.job(failed)["retried_as"] == again[0]["job"]
    assert daemon.ctl("retry", daemon.submit("waits", not_before=60)).returncode == 2
    for record in daemon.records():
        daemon.call("cancel", job=record["job"])
