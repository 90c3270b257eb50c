"""
What monitoring is told: in a form that promtool takes, and true after a known set of jobs.
"""
import re
import shutil
import signal
import subprocess
import time

import pytest

from harness import Connection, RpcError, until

PROMTOOL = shutil.which("promtool")
CLASSES = ("high", "normal", "low")
STAGES = ("tokenize", "text_encode", "denoise", "vae_decode", "encode")


def values(daemon):
    """{(name, frozenset of (label, value))): number}"""
    found = {}
    for line in daemon.call("metrics")["text"].splitlines():
        if line.startswith("#"):
            continue
        name, labels, value = re.fullmatch(r"([a-z_]+)(?:{(.*)})? (\S+)", line).groups()
        pairs = frozenset(re.findall(r'([a-z_]+)="((?:[^"\\]|\\.)*)"', labels or ""))
        assert (name, pairs) not in found, line
        found[name, pairs] = float(value)
    return found


def get(found, name, **labels):
    return found[name, frozenset(labels.items())]


def nonzero(found, name, *labels):
    """What is not 0, by the values of those labels."""
    return {tuple(dict(pairs)[x] for x in labels): value for (n, pairs), value in found.items() if n == name and value}


def check_histogram(found, name, **labels):
    """Each bucket has all that the one before has, the last one all; count and sum."""
    buckets = sorted((float(dict(pairs)["le"]), value) for (n, pairs), value in found.items()
                     if n == name + "_bucket" and set(labels.items()) <= pairs)
    counts = [value for _le, value in buckets]
    assert counts == sorted(counts) and buckets[-1][0] == float("inf")
    assert counts[-1] == get(found, name + "_count", **labels)
    return counts[-1], get(found, name + "_sum", **labels)


def refused(call):
    with pytest.raises(RpcError) as e:
        call()
    return e.value.name


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not here; scripts/setup takes it from Debian's package prometheus")
def test_promtool_takes_it(zitd):
    daemon = zitd("step 0", **{'runner:a"b\\c': {"model": "/m"}})
    daemon.generate(steps=1)
    result = daemon.ctl("metrics")
    assert result.returncode == 0 and result.stdout.startswith("# HELP zit_build_info ")
    lint = subprocess.run([PROMTOOL, "check", "metrics"], input=result.stdout, capture_output=True, text=True, timeout=60,
                          check=False)
    assert (lint.returncode, lint.stdout + lint.stderr) == (0, ""), result.stdout


def test_all_labels_are_there_from_the_start(zitd):
    """A rate or an alert on something that has not happened yet finds 0, not nothing."""
    daemon = zitd("")
    assert daemon.call("metrics")["content_type"] == "text/plain; version=0.0.4"
    found = values(daemon)
    for k in CLASSES:
        for outcome in ("done", "failed", "cancelled", "expired", "evicted", "timed_out", "dead"):
            assert get(found, "zit_jobs_completed_total", priority=k, outcome=outcome) == 0
        assert get(found, "zit_jobs_submitted_total", priority=k, source="unix") == 0
        assert get(found, "zit_queue_jobs", priority=k) == 0
    assert [get(found, "zit_queue_capacity_jobs", priority=k) for k in CLASSES] == [50, 45, 45]
    for reason in ("queue_full", "invalid_param", "other"):
        assert get(found, "zit_jobs_rejected_total", reason=reason) == 0
    for stage in STAGES:
        assert check_histogram(found, "zit_job_stage_duration_seconds", stage=stage) == (0, 0)
    assert check_histogram(found, "zit_job_queue_wait_seconds") == (0, 0)
    assert nonzero(found, "zit_runner_state", "runner", "state") == {("0", "idle"): 1}
    assert not nonzero(found, "zit_runner_restarts_total", "runner") and not nonzero(found, "zit_timeouts_total", "kind")
    assert get(found, "zit_job_last_success_timestamp_seconds") == 0
    connection = daemon.connect()
    until(lambda: f"process_open_fds {daemon.fd_count()}\n" in connection.call("metrics")["text"], what="as many descriptors as there are")
    assert abs(get(found, "process_resident_memory_bytes") / 1024 - daemon.rss_kib()) <= 1024  # it breathes
    assert abs(get(found, "process_start_time_seconds") - time.time()) < 60


def test_it_is_true_of_a_known_set_of_jobs(zitd):
    """Each end and each refusal is counted once, and so is each first start's wait."""
    daemon = zitd("step 0.05;@x;step 1 fail internal;@slow;step 0.02;@crash;step 1 kill 9",
                  queue={"max_size": 4, "client_cap": 100, "reserved_high": 25}, runner={"startretries": 9})
    first = daemon.submit("busy", steps=100)
    daemon.wait_running(first)
    waiting = [daemon.submit("waits", steps=1, queue_timeout=1.5), daemon.submit("waits", steps=1),
               daemon.submit("waits", steps=1)]
    assert refused(lambda: daemon.submit("too many", steps=1)) == "queue_full"
    assert refused(lambda: daemon.submit("too many", steps=1, priority="low")) == "queue_full"
    assert refused(lambda: daemon.call("submit", prompt="no such", colour="red")) == "invalid_param"
    assert refused(lambda: daemon.call("submit", wait=True)) == "invalid_param"
    assert refused(lambda: daemon.call("get", job="nobody")) == "unknown_job"  # no submission
    found = values(daemon)
    assert nonzero(found, "zit_queue_jobs", "priority") == {("normal",): 3}
    assert [get(found, "zit_queue_capacity_jobs", priority=k) for k in CLASSES] == [4, 3, 3]
    assert nonzero(found, "zit_runner_state", "runner", "state") == {("0", "busy"): 1}
    assert daemon.wait(waiting[0])["state"] == "expired"
    daemon.call("cancel", job=[first] + waiting[1:])

    begin = time.time()
    records = [daemon.generate("good", steps=1, priority=k) for k in ("high", "normal", "normal", "low")]
    records += [daemon.generate("@x", steps=1), daemon.generate("@slow", steps=100, exec_timeout=0.2),
                daemon.generate("@crash", steps=2)]
    assert [r["state"] for r in records] == ["done"] * 4 + ["failed", "timed_out", "dead"]
    again = daemon.call("retry", job=records[-1]["job"])["job"]
    assert daemon.wait(again)["state"] == "dead"
    assert refused(lambda: daemon.call("submit", prompt="@crash", steps=2)) == "poisoned"
    until(lambda: daemon.runner()["state"] == "idle", what="the runner is back")

    found = values(daemon)
    assert not nonzero(found, "zit_queue_jobs", "priority")
    assert nonzero(found, "zit_jobs_submitted_total", "priority", "source") == {
        ("high", "unix"): 1, ("normal", "unix"): 9, ("low", "unix"): 1, ("normal", "retry"): 1}
    assert nonzero(found, "zit_jobs_completed_total", "priority", "outcome") == {
        ("high", "done"): 1, ("normal", "done"): 2, ("low", "done"): 1, ("normal", "failed"): 1, ("normal", "timed_out"): 1,
        ("normal", "dead"): 2, ("normal", "expired"): 1, ("normal", "cancelled"): 3}
    assert nonzero(found, "zit_jobs_rejected_total", "reason") == {
        ("queue_full",): 2, ("invalid_param",): 2, ("poisoned",): 1}
    timeouts = nonzero(found, "zit_timeouts_total", "kind")
    assert timeouts.pop(("queue",)) == 1 and timeouts.pop(("execution",)) == 1
    assert set(timeouts) <= {("cancel",)}  # of the runner, if it is slow to let go
    restarts = nonzero(found, "zit_runner_restarts_total", "runner", "reason")  # each letter killed two
    assert restarts["0", "crash"] == 4 and sum(restarts.values()) == daemon.runner()["restarts"]
    assert begin <= get(found, "zit_job_last_success_timestamp_seconds") <= time.time()

    count, _total = check_histogram(found, "zit_job_queue_wait_seconds")
    assert count == 4 + 1 + 1 + 1 + 1 + 1  # done, failed, timed out, dead, its retry, busy: the first start of each
    for stage in STAGES:
        assert check_histogram(found, "zit_job_stage_duration_seconds", stage=stage)[0] == 4


def test_stages_are_as_long_as_records_say(zitd):
    """Of the real runner: the sums are those of the jobs' records."""
    daemon = zitd("real")
    records = [daemon.generate(steps=2, n=n, width=64, height=64) for n in (1, 2)]
    found = values(daemon)
    for stage, member in zip(STAGES, ("tokenize_s", "text_s", "denoise_s", "decode_s", "png_s")):
        count, total = check_histogram(found, "zit_job_stage_duration_seconds", stage=stage)
        assert count == 2
        assert total == pytest.approx(sum(r[member] for r in records), abs=2e-6)  # records have whole microseconds
    assert get(found, "zit_job_stage_duration_seconds_sum", stage="denoise") > 0


@pytest.mark.parametrize("seconds", ["nan", "inf", "-1", "1e9"])
def test_times_that_cannot_be(zitd, seconds):
    """A runner that tells such is a liar, and nothing of it is counted; one that tells others is believed."""
    daemon = zitd(f"step 0;@long;done times 2.5;@liar;done times {seconds}", runner={"startretries": 9})
    daemon.generate("@long", steps=1)
    record = daemon.generate("@liar", steps=1)
    assert "times that cannot be" in daemon.log() and daemon.runner()["deaths"] >= 1
    found = values(daemon)
    for stage in STAGES:
        assert check_histogram(found, "zit_job_stage_duration_seconds", stage=stage) == (1, 2.5)
    assert record["attempts"] <= 2


def test_a_reload_is_seen(zitd):
    daemon = zitd("")
    first = get(values(daemon), "zit_config_last_reload_success_timestamp_seconds")
    assert get(values(daemon), "zit_config_last_reload_successful") == 1
    good = daemon.config.read_text()
    daemon.config.write_text("[nonsense]\n")
    daemon.process.send_signal(signal.SIGHUP)
    until(lambda: get(values(daemon), "zit_config_last_reload_successful") == 0, what="a reload that failed")
    assert get(values(daemon), "zit_config_last_reload_success_timestamp_seconds") == first
    daemon.config.write_text(good)
    daemon.call("reload")
    assert get(values(daemon), "zit_config_last_reload_successful") == 1
    assert first < get(values(daemon), "zit_config_last_reload_success_timestamp_seconds") <= time.time()


def test_counts_go_on_over_an_upgrade(zitd):
    """The process is the same, so they may not fall; a new process begins anew."""
    daemon = zitd("try 1 after exit 3", runner={"startretries": 9})
    daemon.generate(steps=1)
    until(lambda: daemon.runner()["generation"] == 2 and daemon.runner()["state"] == "idle", what="a second process")
    kept = ("zit_jobs_", "zit_job_", "zit_timeouts", "zit_runner_restarts", "process_start")
    before = {k: v for k, v in values(daemon).items() if k[0].startswith(kept)}
    assert nonzero(before, "zit_runner_restarts_total", "reason") == {("crash",): 1}
    daemon.call("upgrade")
    assert {k: v for k, v in values(daemon).items() if k[0].startswith(kept)} == before
    daemon.restart()
    assert not nonzero(values(daemon), "zit_jobs_completed_total", "outcome")


def test_clients_that_say_nothing(zitd):
    daemon = zitd("", zitd={"connect_timeout": 0.2, "read_timeout": 0.3})
    silent, halting = Connection(daemon.socket_path), Connection(daemon.socket_path)
    halting.call("status")
    halting.send_raw(b'{"id": 1, ')
    assert silent.read_line() is None and halting.read_line() is None
    assert nonzero(values(daemon), "zit_timeouts_total", "kind") == {("connect",): 1, ("stall",): 1}
    silent.close()
    halting.close()
