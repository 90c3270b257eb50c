"""zitctl doctor, with faults made from outside; and logs, which asks journalctl."""
import json
import os
import re
import shutil
import signal
import subprocess
import time

import pytest

from harness import BUILD, ROOT, until

CHECKS = re.findall(r"^CHECK\((\w+),", (ROOT / "ctl/doctor.def").read_text(), re.M)


def doctor(daemon, *arguments, **options):
    """{check: [(level, found, do)]}, and the exit code."""
    result = daemon.ctl("doctor", "-o", "json", *arguments, **options)
    assert result.stderr == "", result.stderr
    answer = json.loads(result.stdout)
    found = {}
    for f in answer["findings"]:
        found.setdefault(f["check"], []).append((f["level"], f["found"], f.get("do", "")))
    assert list(found) == CHECKS  # each has something to say
    wrong = sum(f["level"] == "wrong" for f in answer["findings"])
    assert answer["wrong"] == wrong and result.returncode == (1 if wrong else 0)
    assert all(f.get("do") for f in answer["findings"] if f["level"] == "wrong"), "a finding without a cure"
    return found


def levels(found):
    return {check: {f[0] for f in findings} for check, findings in found.items()}


def wrong(found):
    return {check for check, findings in found.items() if any(f[0] == "wrong" for f in findings)}


def test_nothing_is_wrong(zitd):
    daemon = zitd()
    found = doctor(daemon)
    assert wrong(found) == set()
    assert {c for c, l in levels(found).items() if l == {"ok"}} >= {"socket", "answer", "version", "config", "runners", "service",
                                                                    "model", "memory", "memfd"}
    table = daemon.ctl("doctor")
    assert table.returncode == 0 and len(table.stdout.splitlines()) <= 24
    assert daemon.ctl("doctor", "-q").stdout == "" and daemon.ctl("doctor", "-o", "name").stdout == ""


def test_a_zitd_that_is_gone_stopped_or_was_killed(zitd, tmp_path):
    daemon = zitd("step 0")
    daemon.process.send_signal(signal.SIGSTOP)
    silent = doctor(daemon, "--timeout", "0.3")
    daemon.process.send_signal(signal.SIGCONT)
    assert wrong(silent) == {"answer"} and "no answer" in silent["answer"][0][1]
    daemon.kill()
    killed = doctor(daemon, daemon.config)
    assert wrong(killed) == {"socket"} and "left it behind" in killed["socket"][0][1]
    assert killed["config"][0][0] == "ok"
    daemon.start()
    daemon.stop()
    gone = doctor(daemon, daemon.config)
    assert wrong(gone) == {"socket"} and "there is no socket" in gone["socket"][0][1]
    assert str(daemon.config) in gone["socket"][0][2] or "systemctl" in gone["socket"][0][2]
    assert "config" in wrong(doctor(daemon, tmp_path / "none.conf"))
    daemon.start()


def test_the_configuration(zitd):
    daemon = zitd("step 0")
    good = daemon.config.read_text()
    daemon.config.write_text(good.replace("[runner]", "[runner]\nexec_timeout = 5"))
    level, found, cure = doctor(daemon)["config"][0]
    assert level == "note" and "1 of its keys" in found and "zitctl reload" in cure
    daemon.config.write_text(good + "[queue]\nmax_sise = 3\n")
    found = doctor(daemon)
    assert wrong(found) == {"config"} and "max_sise" in found["config"][0][1]


def test_runners_and_pauses(zitd):
    daemon = zitd("loading words Gurgle; loading fatal 65", ready=False)
    daemon.wait_listening()
    until(lambda: daemon.runner()["state"] == "failed", what="the runner has given up")
    found = doctor(daemon)
    assert "runners" in wrong(found)
    assert "Gurgle" in found["runners"][0][1] or "exit status 65" in found["runners"][0][1]
    assert "'zitctl restart 0'" in found["runners"][0][2]
    daemon.call("pause")
    level, what, cure = doctor(daemon)["service"][0]
    assert level == "note" and "paused" in what and "'zitctl resume all'" in cure
    daemon.call("resume")


def test_model_files_that_are_not_whole(zitd, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(ROOT / "conf" / "demo" / "model", model, ignore=shutil.ignore_patterns("training"))
    daemon = zitd("step 0", runner={"model": model})
    whole = doctor(daemon)["model"]
    assert whole[0][0] == "ok" and len(whole) == 1
    weights = model / "vae" / "diffusion_pytorch_model.safetensors"
    size = weights.stat().st_size
    os.truncate(weights, size - 1000)
    cut = doctor(daemon)
    assert wrong(cut) == {"model"}
    assert f"{weights} has {size - 1000} bytes instead of {size}" in cut["model"][0][1]
    weights.write_bytes(b"\xff" * 8 + bytes(1000))
    (model / "tokenizer" / "tokenizer.json").unlink()
    found = doctor(daemon)["model"]
    assert [f[0] for f in found] == ["wrong", "wrong"]
    assert "tokenizer.json" in found[0][1] and "is no safetensors file" in found[1][1]
    weights.unlink()
    (model / "vae" / "diffusion_pytorch_model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "part-1.safetensors", "b": "part-2.safetensors", "c": "part-1.safetensors"}}))
    assert sum("part-" in f[1] for f in doctor(daemon)["model"]) == 2
    shutil.rmtree(model)
    assert str(model) in doctor(daemon)["model"][0][1]


def test_limits_of_open_files(zitd):
    daemon = zitd("step 0", prefix=("prlimit", "--nofile=300:300"))
    level, found, cure = doctor(daemon)["files"][0]
    assert level == "note" and "zitd may open 300 files" in found and "LimitNOFILE" in cure


def test_a_full_disk(zitd, tmp_path):
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,nr_inodes=60", "tmpfs", str(place)], check=False, capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("no file system may be mounted here")
    try:
        daemon = zitd("step 0", audited=False)
        command = daemon.command()
        daemon.stop()
        daemon.command = lambda: [a if a != str(daemon.state) else str(place / "state") for a in command]
        daemon.start()
        found = doctor(daemon)
        assert wrong(found) == {"disk"} and str(place) in found["disk"][0][1] and "inodes free" in found["disk"][0][1]
        daemon.stop()
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False)


def test_another_zitd_is_installed(zitd, tmp_path):
    program = tmp_path / "bin" / "zitd"
    program.parent.mkdir()
    shutil.copy(BUILD / "zitd", program)
    daemon = zitd("step 0", program=program)
    program.unlink()
    program.write_text("#!/bin/sh\necho zitd 9.9+deadbeef\n")
    program.chmod(0o755)
    level, found, cure = doctor(daemon)["version"][0]
    assert level == "note" and "9.9+deadbeef is installed" in found and "zitctl upgrade" in cure


# ---- logs

@pytest.fixture
def journal(tmp_path):
    """A journalctl that notes how it was called and then does what a script says."""
    directory = tmp_path / "bin"
    directory.mkdir()

    def install(script="echo a line of the journal"):
        program = directory / "journalctl"
        program.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" >{directory}/called\n{script}\n")
        program.chmod(0o755)
        return dict(os.environ, PATH=f"{directory}:{os.environ['PATH']}")

    install.called = lambda: (directory / "called").read_text().split("\n")[:-1]
    return install


def logs(env, *arguments):
    return subprocess.run([str(BUILD / "zitctl"), "logs", *arguments], capture_output=True, text=True, env=env, timeout=60, check=False)


@pytest.mark.parametrize("arguments,words", [
    ([], ["--output=short-precise"]),
    (["-n", "20", "-o", "json"], ["--output=json", "--lines=20"]),
    (["--job", "job_x", "--runner", "gpu 0", "-f", "-o", "wide"], ["--output=verbose", "--follow", "ZIT_JOB_ID=job_x", "ZIT_RUNNER=gpu 0"]),
    (["-o", "name"], ["--output=cat"]),
])
def test_logs_asks_the_journal(journal, arguments, words):
    result = logs(journal(), *arguments)
    assert (result.returncode, result.stdout, result.stderr) == (0, "a line of the journal\n", "")
    assert journal.called() == ["--unit=zitd"] + words


def test_logs_without_a_journal(journal, tmp_path):
    for env in (journal("echo No journal files were found. >&2; exec sleep 60"), dict(os.environ, PATH=str(tmp_path))):
        result = logs(env, "-f")
        assert result.returncode == 69 and result.stdout == ""
        assert "there is no journal" in result.stderr and "standard error" in result.stderr
    failing = logs(journal("echo 'Failed to add match: Invalid argument' >&2; exit 1"))
    assert failing.returncode == 1 and "Failed to add match" in failing.stderr


def test_logs_goes_on_until_somebody_has_enough(journal, tmp_path):
    env = journal(f"echo one; touch {tmp_path}/up; exec sleep 60")
    process = subprocess.Popen([str(BUILD / "zitctl"), "logs", "-f"], env=env, stdout=subprocess.PIPE, text=True)
    until((tmp_path / "up").exists, what="journalctl runs")
    assert process.stdout.readline() == "one\n"
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0 and time.monotonic() - begin < 30
    assert process.stdout.read() == ""  # journalctl has ended too
