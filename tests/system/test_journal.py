"""
What zitd logs: the table, its catalogs and its manual page; fields in a journal that the test plays; JSON and text.
scripts/test-systemd has the real journald.
"""
import hashlib
import json
import os
import re
import shutil
import subprocess
import time

import pytest

from harness import BUILD, ROOT, SANITIZED, SLACK_S, RpcError, Zitd, until
from journal import Journal, needs_namespace
from test_durable import faulty_disk  # noqa: F401, a fixture
from test_hostile import connect_as, needs_root, tmp_path  # noqa: F401, tmp_path is a fixture that all users can enter


# ---- the table

def table():
    printed = subprocess.run([BUILD / "zitd", "--print-events"], capture_output=True, text=True, check=True)
    return json.loads(printed.stdout)


EVENTS = {event["name"]: event for event in table()}
PRIORITIES = {"err": "3", "warning": "4", "notice": "5", "info": "6", "debug": "7"}


def test_rows_are_whole():
    ids = [event["message_id"] for event in table()]
    assert len(set(ids)) == len(ids) == len(EVENTS)
    for event in EVENTS.values():
        assert re.fullmatch(r"[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}", event["message_id"]), event
        assert re.fullmatch(r"[a-z_]+", event["name"]) and event["level"] in PRIORITIES
        used = re.findall(r"@([A-Z0-9_]+)@", event["message"])
        assert set(used) <= set(event["fields"]), f"{event['name']} says what it does not carry"
        # brackets pair without nesting, at signs around names only
        assert re.fullmatch(r"([^@\[\]]|@[A-Z0-9_]+@|\[([^@\[\]]|@[A-Z0-9_]+@)+\])+", event["message"]), event["message"]


def test_every_row_is_used():
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "supervisor").rglob("*.c"))
    assert [name for name in EVENTS if not re.search(rf"\bEVENT_{name.upper()}\b", code)] == []


def test_the_manual_has_every_event():
    page = (BUILD / "man" / "zit-log.7").read_text(encoding="utf-8")
    for event in EVENTS.values():
        assert f".It Sy {event['name']} Pq {event['level']}" in page and event["message_id"] in page
        assert all(field in page for field in event["fields"])


@pytest.mark.skipif(shutil.which("journalctl") is None, reason="journalctl (Debian package systemd) is not here")
@pytest.mark.parametrize("name", ["zitd.catalog", "zitd.zh_CN.catalog"])
def test_catalogs_have_every_event_and_no_other(tmp_path, name):
    """Compiled and read back by journalctl; the Chinese one under the other's name, for it is read whatever the locale is."""
    root = tmp_path / "root"
    (root / "usr/lib/systemd/catalog").mkdir(parents=True)
    (root / "var/lib/systemd/catalog").mkdir(parents=True)
    shutil.copy(BUILD / "conf" / name, root / "usr/lib/systemd/catalog/zitd.catalog")
    subprocess.run(["journalctl", "--update-catalog", f"--root={root}"], check=True, timeout=30)
    dump = subprocess.run(["journalctl", "--dump-catalog", f"--root={root}"], check=True, capture_output=True, text=True,
                          encoding="utf-8", timeout=30).stdout
    entries = dict(re.findall(r"^-- ([0-9a-f]{32})\n(.*?)(?=^-- |\Z)", dump, re.MULTILINE | re.DOTALL))
    assert set(entries) == {event["message_id"] for event in EVENTS.values()}
    for message_id, text in entries.items():
        head, _, body = text.partition("\n\n")
        assert {line.split(":")[0] for line in head.split("\n")} == {"Subject", "Defined-By", "Support", "Documentation"}, text
        assert len(body.strip()) > 20 or "zh_CN" in name, text
        assert ("zh_CN" in name) == bool(re.search(r"[\u4e00-\u9fff]", head) and re.search(r"[\u4e00-\u9fff]", body)), text
        row = next(event for event in EVENTS.values() if event["message_id"] == message_id)
        assert set(re.findall(r"@(\w+)@", text)) <= set(row["fields"]), f"{row['name']}: {text}"


# ---- the journal

@pytest.fixture
def journal(tmp_path):  # noqa: F811
    return Journal(tmp_path, depth=1000)


def check_entry(entry):
    """An event is as its row says."""
    row = EVENTS[entry["ZIT_EVENT"]]
    assert entry["MESSAGE_ID"] == row["message_id"] and entry["PRIORITY"] == PRIORITIES[row["level"]]
    assert entry["SYSLOG_IDENTIFIER"] == "zitd" and entry["DOCUMENTATION"] == "man:zit-log(7)"
    assert entry["CODE_FILE"].startswith("supervisor/") and int(entry["CODE_LINE"]) > 0 and entry["CODE_FUNC"]
    own = {name for name in entry if name.startswith("ZIT_")} - {"ZIT_EVENT"}
    assert own <= set(row["fields"]) and "\n" not in entry["MESSAGE"]
    for name in re.findall(r"@(\w+)@", re.sub(r"\[.*?\]", "", row["message"])):
        assert entry.get(name), f"{name} of {entry}"


def start(make, journal, script, **options):
    options["zitd"] = {"log_format": "journal", **options.get("zitd", {})}
    return make(script, prefix=journal.read().prefix, **options)


@needs_namespace
def test_a_job_that_is_done(zitd, journal):
    daemon = start(zitd, journal, "step 0.01", audited=False)
    for name in ("started", "runner_started", "runner_ready", "ready"):
        journal.wait_for(name)
    assert journal.wait_for("started")["ZIT_PATH"] == str(daemon.socket_path)
    record = daemon.generate("a secret prompt", seed=7, steps=3, group="g1", priority="high")
    done = journal.wait_for("job_finished", ZIT_JOB_ID=record["job"])
    accepted, started = (journal.events(name, ZIT_JOB_ID=record["job"])[0] for name in ("job_accepted", "job_started"))
    for entry in (accepted, started, done):
        assert (entry["ZIT_PRINCIPAL"], entry["ZIT_CLIENT"]) == (f"uid:{os.geteuid()}",) * 2
        assert (entry["ZIT_PRIORITY"], entry["ZIT_GROUP"], entry["ZIT_STEPS"], entry["ZIT_SEED"]) == ("high", "g1", "3", "7")
    assert accepted["ZIT_PROMPT_SHA256"] == hashlib.sha256(b"a secret prompt").hexdigest()
    assert "ZIT_SIZE" not in accepted and re.fullmatch(r"\d+x\d+", started["ZIT_SIZE"])
    assert (started["ZIT_RUNNER"], started["ZIT_ATTEMPT"], started["ZIT_GENERATION"]) == ("0", "1", "1")
    assert done["ZIT_OUTCOME"] == "done" and done["ZIT_RUNNER"] == "0" and "ZIT_ERROR" not in done
    assert 30e3 <= int(done["ZIT_RUN_USEC"]) <= record["total_s"] * 1e6 and int(done["ZIT_QUEUE_USEC"]) >= 0
    assert daemon.stop() == 0
    journal.wait_for("stopped")
    assert [e["ZIT_EVENT"] for e in journal.events()][-3:] == ["stopping", "runner_ended", "stopped"]
    for entry in journal.entries:
        check_entry(entry)
        assert "secret" not in str(entry)
    assert "secret" not in daemon.log()


@needs_namespace
def test_how_jobs_end(zitd, journal):
    daemon = start(zitd, journal, "step 0.05;@fail;step 1 fail out_of_memory")
    failed = daemon.generate("@fail now")["job"]
    late = daemon.generate("late", steps=100, exec_timeout=0.3)["job"]
    slow = daemon.submit("slow", steps=100)
    daemon.wait_running(slow)
    expired = daemon.submit("b", queue_timeout=0.05)
    daemon.wait(expired)
    cancelled = daemon.submit("c")
    daemon.call("cancel", job=cancelled)
    daemon.call("cancel", job=slow)
    entry = journal.wait_for("job_failed", ZIT_JOB_ID=failed)
    assert entry["ZIT_ERROR"] == "out_of_memory" and entry["ZIT_OUTCOME"] == "failed" and entry["ZIT_DETAIL"] in entry["MESSAGE"]
    assert entry["ZIT_PROMPT_SHA256"] == hashlib.sha256(b"@fail now").hexdigest()
    entry = journal.wait_for("job_timed_out", ZIT_JOB_ID=late)
    assert entry["ZIT_TIMEOUT_KIND"] == "execution" and entry["ZIT_ERROR"] == "execution_timeout" and "ZIT_STEP" in entry
    assert journal.wait_for("job_cancelled", ZIT_JOB_ID=cancelled)["ZIT_OUTCOME"] == "cancelled"
    entry = journal.wait_for("job_expired", ZIT_JOB_ID=expired)
    assert entry["ZIT_TIMEOUT_KIND"] == "queue" and "ZIT_RUN_USEC" not in entry
    with pytest.raises(RpcError):
        daemon.call("submit", prompt="d", seed=2**63 - 1, n=2)
    entry = journal.wait_for("job_rejected")
    assert entry["ZIT_ERROR"] == "invalid_param" and "ZIT_JOB_ID" not in entry
    for entry in journal.events():
        check_entry(entry)


@needs_namespace
def test_a_runner_that_dies_under_its_job(zitd, journal):
    """Requeued, dead, quarantined; and what the runner said is its own, with its job's id."""
    daemon = start(zitd, journal, "step 0;@die;step 1 words Gurgle;step 1 kill 11")
    dead = daemon.generate("@die")["job"]
    journal.wait_for("job_dead", ZIT_JOB_ID=dead)
    died = journal.events("runner_died")
    assert [(e["ZIT_JOB_ID"], e["ZIT_CAUSE"], e["ZIT_SIGNAL"], e["ZIT_RUNNER"]) for e in died] == [(dead, "crash", "11", "0")] * 2
    assert "ZIT_EXIT_CODE" not in died[0] and died[0]["ZIT_GENERATION"] == "1" and int(died[0]["ZIT_PID"]) > 1
    requeued = journal.events("job_requeued")
    assert [(e["ZIT_JOB_ID"], e["ZIT_ATTEMPT"]) for e in requeued] == [(dead, "1")]
    journal.wait_for("job_quarantined", ZIT_JOB_ID=dead)
    with pytest.raises(RpcError):
        daemon.call("submit", prompt="@die")
    assert journal.wait_for("job_rejected")["ZIT_ERROR"] == "poisoned"
    for entry in journal.events():
        if "ZIT_EVENT" in entry:
            check_entry(entry)


@needs_namespace
def test_lines_of_a_runner(zitd, journal):
    daemon = start(zitd, journal, "@loud; step 0.05; step 1 flood 3000")
    job = daemon.generate("@loud")["job"]
    lines = until(lambda: journal.events(None, SYSLOG_IDENTIFIER="zit-runner"), what="a line of the runner")
    assert {(e["ZIT_RUNNER"], e["ZIT_JOB_ID"], e["PRIORITY"], "MESSAGE_ID" in e) for e in lines} == {("0", job, "4", False)}
    assert "runner 0: says: " in lines[0]["MESSAGE"]


@needs_namespace
def test_runners_that_must_be_killed_or_fail(zitd, journal):
    daemon = start(zitd, journal, "@hang;try 1 step 1 hang;@gpu;try 1 step 1 exit 71;@fatal;try 1 step 1 fatal 70",
                   runner={"hang_timeout": 1, "startretries": 9})
    for prompt in ("@hang", "@gpu", "@fatal"):
        daemon.generate(prompt)
    killed = journal.wait_for("runner_killed")
    clock = journal.wait_for("runner_timeout")
    assert clock["ZIT_TIMEOUT_KIND"] == "hang" and clock["ZIT_PID"] == killed["ZIT_PID"]
    fault = journal.wait_for("gpu_fault")
    assert fault["ZIT_EXIT_CODE"] == "71" and fault["PRIORITY"] == "3"
    assert journal.wait_for("runner_died", ZIT_EXIT_CODE="71")["ZIT_PID"] == fault["ZIT_PID"]
    assert journal.wait_for("runner_fatal")["ZIT_DETAIL"]
    for entry in journal.events():
        if "ZIT_EVENT" in entry:
            check_entry(entry)


@needs_namespace
def test_a_runner_that_does_not_start(zitd, journal):
    daemon = start(zitd, journal, "hello exit 78", ready=False, audited=False)
    failed = journal.wait_for("runner_failed")
    assert "ZIT_LIMIT_USEC" not in failed and "zitctl restart 0" in failed["MESSAGE"]
    assert journal.wait_for("runner_died")["ZIT_CAUSE"] == "start"
    daemon.stop()


@needs_root
@needs_namespace
def test_orders(zitd, journal):
    """Reload, good and bad; what changed; who ordered, and who may not."""
    daemon = start(zitd, journal, "step 0", queue={"max_size": 20})
    daemon.sections["queue"]["max_size"] = 21
    daemon.write_config()
    daemon.call("reload")
    changed = journal.wait_for("config_changed")
    assert (changed["ZIT_KEY"], changed["ZIT_BEFORE"], changed["ZIT_AFTER"]) == ("queue.max_size", "20", "21")
    assert journal.wait_for("reloaded")["ZIT_COUNT"] == "1"
    daemon.config.write_text("[queue]\nmax_size = many\n")
    with pytest.raises(RpcError):
        daemon.call("reload")
    assert "zitd.conf:2" in journal.wait_for("reload_failed")["ZIT_DETAIL"]
    daemon.call("restart", runner="0")
    assert journal.wait_for("admin_action", ZIT_ACTION="restart")["ZIT_RUNNER"] == "0"
    assert [e["ZIT_PRINCIPAL"] for e in journal.events("admin_action", ZIT_ACTION="reload")] == ["uid:0"] * 2
    other = connect_as(daemon, 54321)
    with pytest.raises(RpcError):
        other.call("restart")
    theirs = other.call("submit", prompt="theirs", not_before=100)["job"]
    daemon.call("cancel", job=theirs)
    assert journal.wait_for("admin_action", ZIT_JOB_ID=theirs)["ZIT_ACTION"] == "cancel"
    refused = journal.wait_for("admin_refused")
    assert (refused["ZIT_PRINCIPAL"], refused["ZIT_ACTION"], refused["PRIORITY"]) == ("uid:54321", "restart", "4")
    daemon.write_config()
    for entry in journal.events():
        check_entry(entry)


@needs_namespace
def test_a_disk_that_fails(faulty_disk, zitd, journal):
    control, env = faulty_disk
    daemon = start(zitd, journal, "step 0", env=env)
    control.write_text("fail")
    with pytest.raises(RpcError):
        daemon.submit()
    failed = journal.wait_for("store_failed")
    assert failed["ERRNO"].isdigit() and failed["PRIORITY"] == "3" and failed["ZIT_PATH"] == str(daemon.state)
    assert journal.wait_for("job_failed")["ZIT_ERROR"] == "disk_full"
    control.unlink()
    journal.wait_for("store_recovered")
    for entry in journal.events():
        check_entry(entry)


@needs_namespace
def test_each_move_at_debug(zitd, journal):
    daemon = start(zitd, journal, "step 0", zitd={"log_level": "debug"})
    job = daemon.generate()["job"]
    journal.wait_for("job_moved", ZIT_JOB_ID=job, ZIT_STATE="done")
    moves = [(e["ZIT_STATE_BEFORE"], e["ZIT_STATE"]) for e in journal.events("job_moved", ZIT_JOB_ID=job)]
    assert [before for before, _ in moves[1:]] == [after for _, after in moves[:-1]] and moves[0][0] == "queued"
    assert ("idle", "busy") in [(e["ZIT_STATE_BEFORE"], e["ZIT_STATE"]) for e in journal.events("runner_moved")]


@needs_namespace
def test_log_prompts(zitd, journal):
    daemon = start(zitd, journal, "step 0", zitd={"log_prompts": "full"})
    job = daemon.generate("a \"red\"\ncat 猫")["job"]
    entry = journal.wait_for("job_accepted", ZIT_JOB_ID=job)
    assert entry["ZIT_PROMPT"] == 'a "red"?cat 猫' and "ZIT_PROMPT_SHA256" not in entry
    daemon.sections["zitd"]["log_prompts"] = "none"
    daemon.write_config()
    daemon.call("reload")
    entry = journal.wait_for("job_accepted", ZIT_JOB_ID=daemon.generate("a dog")["job"])
    assert "ZIT_PROMPT" not in entry and "ZIT_PROMPT_SHA256" not in entry


@needs_namespace
def test_auto_is_the_journal_when_stderr_is(zitd, journal):
    """JOURNAL_STREAM names it; a name that was inherited and is another file's does not count."""
    daemon = start(zitd, journal, "step 0", ready=False, audited=False, zitd={"log_format": "auto"})
    daemon.wait_ready()
    assert "listens at" in daemon.log() and journal.entries == []
    daemon.stop()
    stat = os.stat(daemon.log_path)
    daemon.env["JOURNAL_STREAM"] = f"{stat.st_dev}:{stat.st_ino}"
    size = stat.st_size
    daemon.start()
    journal.wait_for("runner_ready")
    assert os.stat(daemon.log_path).st_size == size
    daemon.stop()


@needs_namespace
def test_a_journal_that_nobody_reads(zitd, tmp_path):  # noqa: F811
    """Its queue is full after a few lines: zitd goes on as ever, and says later how many it could not tell."""
    journal = Journal(tmp_path)
    daemon = zitd("step 0", prefix=journal.prefix, zitd={"log_format": "journal"})
    slowest = 0.0
    for _ in range(100):
        begin = time.monotonic()
        daemon.generate("a cat")
        slowest = max(slowest, time.monotonic() - begin)
    print(f"slowest of 100 jobs {slowest * 1e3:.1f} ms")
    assert slowest < SLACK_S and (SANITIZED or daemon.rss_kib() < 8192)
    journal.read()
    until(lambda: len(journal.entries) >= 5, what="what was in the queue")
    daemon.generate("a dog")
    lost = journal.wait_for("lines_lost")
    assert 200 < int(lost["ZIT_COUNT"]) <= 305
    assert len(journal.events("job_finished")) < 50
    check_entry(lost)


@needs_namespace
def test_errors_pass_a_full_journal_by(zitd, tmp_path):  # noqa: F811
    """stderr is the journal's too, and has a queue of its own: what somebody must see goes there, all else is counted."""
    journal = Journal(tmp_path)
    daemon = zitd("step 0;@die;step 1 kill 11", ready=False, audited=False, prefix=journal.prefix)
    daemon.stop()
    stat = os.stat(daemon.log_path)
    daemon.env["JOURNAL_STREAM"] = f"{stat.st_dev}:{stat.st_ino}"
    daemon.start()
    for _ in range(20):
        daemon.generate("a cat")
    dead = daemon.generate("@die")["job"]
    daemon.stop()
    lines = daemon.log()[stat.st_size:].splitlines()
    assert any(line.startswith(f"<3>zitd: job {dead}: dead") for line in lines), lines
    assert all(line[:3] in ("<3>", "<4>") and "were lost" not in line for line in lines), lines


@needs_namespace
def test_without_a_journal_lines_go_to_stderr(zitd, tmp_path):  # noqa: F811
    journal = Journal(tmp_path)
    (journal.directory / "socket").unlink()
    daemon = zitd("step 0", prefix=journal.prefix, zitd={"log_format": "journal"})
    assert "listens at" in daemon.log()


@needs_namespace
def test_many_rejections_are_not_many_lines(zitd, journal):
    """A client that asks for what it may not have as fast as it can: 50 lines, then 5 a second, and how many were not told."""
    daemon = start(zitd, journal, "step 0")
    connection, begin = daemon.connect(), time.monotonic()
    for _ in range(300):
        with pytest.raises(RpcError):
            connection.call("submit", prompt="x", durable=False)
    time.sleep(0.3)
    with pytest.raises(RpcError):
        connection.call("submit", prompt="x", durable=False)
    took = time.monotonic() - begin

    def spared():
        return [int(e["ZIT_COUNT"]) for e in journal.events("lines_spared", ZIT_DETAIL="job_rejected")]
    until(lambda: len(journal.events("job_rejected")) + sum(spared()) == 301, what="each refusal is told or counted")
    assert spared() and 50 <= len(journal.events("job_rejected")) <= 50 + 5 * (took + 1)


# ---- JSON and text

def test_json_lines(zitd):
    daemon = zitd("step 0;@die;step 1 kill 9", audited=False, zitd={"log_format": "json"})
    before = time.time()
    assert daemon.call("upgrade")["pid"] == daemon.process.pid  # and it goes on in the same form
    done, dead = daemon.generate('"quoted" \\ 猫 ' + "x" * 3000)["job"], daemon.generate("@die")["job"]
    daemon.stop()
    lines = [json.loads(line) for line in daemon.log().splitlines()]
    assert all(isinstance(value, str) for line in lines for value in line.values())
    events = [(line["ZIT_EVENT"], line.get("ZIT_JOB_ID")) for line in lines if "ZIT_EVENT" in line]
    for line in lines:
        if "ZIT_EVENT" in line:
            check_entry(line)
    for event in (("job_finished", done), ("job_dead", dead), ("upgraded", None), ("stopped", None)):
        assert event in events
    assert before - 60 < int(lines[0]["__REALTIME_TIMESTAMP"]) * 1e-6 < time.time()


def test_json_lines_are_at_most_a_pipes_piece(zitd):
    """So that lines of several writers do not mix, and none waits: what is too long is cut, and is JSON all the same."""
    daemon = zitd("step 0", audited=False, zitd={"log_format": "json", "log_prompts": "full"})
    for prompt in ('"' * 4000, "猫" * 2000, "\\猫" * 1500):
        daemon.generate(prompt)
    daemon.stop()
    lines = daemon.log_path.read_bytes().splitlines(keepends=True)
    accepted = [json.loads(line) for line in lines if b"job_accepted" in line]
    assert max(map(len, lines)) <= 4096 and len(accepted) == 3
    assert set(accepted[0]["ZIT_PROMPT"]) == {'"'} and set(accepted[1]["ZIT_PROMPT"]) == {"猫"}


def pattern(message):
    """A regular expression for what a message of that template looks like."""
    def field(name):
        return r"-?\d+\.\d{3} s" if name.endswith("_USEC") else r".*?"
    parts = re.split(r"(\[|\]|@\w+@)", message)
    shown = {"[": "(", "]": ")?"}
    return "".join(shown.get(p) or (field(p[1:-1]) if p.startswith("@") else re.escape(p)) for p in parts)


def test_text_lines(zitd):
    """Each line is a time, zitd, and what a row says."""
    daemon = zitd("step 0;@die;step 1 kill 9;@fail;step 1 fail internal", audited=False)
    for prompt in ("x", "@die", "@fail"):
        daemon.generate(prompt)
    daemon.call("restart")
    daemon.stop()
    rows = [re.compile(pattern(event["message"])) for event in EVENTS.values()]
    for line in daemon.log().splitlines():
        head = re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z zitd: ", line)
        assert head and any(row.fullmatch(line[head.end():]) for row in rows), line
    assert re.search(r"job job_\w{26}: done\n", daemon.log())


def test_a_format_that_is_none(tmp_path):  # noqa: F811
    daemon = Zitd(tmp_path / "d")
    wrong = subprocess.run(daemon.command() + ["--log-format", "xml"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 64 and "there is no log format 'xml'" in wrong.stderr
    daemon.sections["zitd"] = {"log_format": "xml"}
    daemon.write_config()
    wrong = subprocess.run(daemon.command(), capture_output=True, text=True, check=False, env=daemon.env)
    assert wrong.returncode == 78 and "not started: " in wrong.stderr and "auto|journal|json|text" in wrong.stderr
