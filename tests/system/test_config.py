"""
The configuration of a running zitd: what a reload changes and what it leaves for a restart, where values come from, and
what is said of files that are wrong.
"""
import json
import shutil
import signal
import subprocess

import pytest

from harness import BUILD, RpcError, until
from test_hostile import connect_as, needs_root, tmp_path  # noqa: F401, tmp_path is a fixture that all users can enter


def changes(answer):
    """{key: (before, after, when)}"""
    return {c["key"]: (c["before"], c["after"], c["when"]) for c in answer["changed"]}


def rewrite(daemon, section, **options):
    daemon.sections.setdefault(section, {}).update(options)
    daemon.write_config()


def in_use(daemon):
    return {o["key"]: (o["value"], o["origin"]) for o in daemon.call("config")["options"]}


def line_of(daemon, text):
    """Where the files have it: "FILE:LINE"."""
    lines = daemon.config.read_text().splitlines()
    return f"{daemon.config}:{lines.index(text) + 1}"


def test_a_reload_tells_what_it_changes(zitd):
    """Old and new value of each key, which runners have to be restarted for it, and whether zitd has to be."""
    daemon = zitd("step 0", queue={"max_size": 10})
    rewrite(daemon, "queue", max_size=20)
    rewrite(daemon, "runner", threads=2, exec_timeout=7.5)
    rewrite(daemon, "zitd", state_dir="/elsewhere")  # the command line's counts
    rewrite(daemon, "runner:more", autostart="false")
    expected = {"queue.max_size": (10, 20, "at_once"), "runner:more": ("absent", "present", "restart"),
                "runner:0": ("present", "absent", "restart")}
    diff = daemon.call("config", what="diff")
    assert changes(diff) == expected and diff["restart_runners"] == [] and diff["restart_zitd"] is True
    assert daemon.status()["queue"]["max_size"] == 10  # it was asked, not done
    assert daemon.call("reload") == diff
    assert daemon.status()["queue"]["max_size"] == 20
    assert changes(daemon.call("reload")) == {k: v for k, v in expected.items() if k != "queue.max_size"}
    rewrite(daemon, "runner:0")
    del daemon.sections["runner:more"]
    daemon.write_config()
    answer = daemon.call("reload")
    assert changes(answer) == {"runner:0.threads": (1, 2, "respawn"), "runner:0.exec_timeout": (120, 7.5, "at_once")}
    assert answer["restart_runners"] == ["0"] and answer["restart_zitd"] is False


def test_what_a_runner_was_started_with(zitd):
    """It stays in use, and is told, until the runner is restarted; an upgrade does not forget it."""
    daemon = zitd("step 0")
    rewrite(daemon, "runner", threads=3)
    daemon.call("reload")
    daemon.call("upgrade")
    assert in_use(daemon)["runner:0.threads"] == (1, "read earlier")
    again = daemon.call("reload")
    assert changes(again) == {"runner:0.threads": (1, 3, "respawn")} and again["restart_runners"] == ["0"]
    daemon.call("restart")
    daemon.wait_ready()
    assert in_use(daemon)["runner:0.threads"] == (3, line_of(daemon, "threads = 3"))
    assert daemon.call("config", what="diff") == {"changed": [], "restart_runners": [], "restart_zitd": False}


def test_sighup_is_a_reload(zitd):
    daemon = zitd("step 0", queue={"max_size": 10})
    rewrite(daemon, "queue", max_size=11)
    daemon.process.send_signal(signal.SIGHUP)
    until(lambda: daemon.status()["queue"]["max_size"] == 11, what="the new max_size")
    assert "queue.max_size: 10 -> 11" in daemon.log()
    assert daemon.call("reload")["changed"] == []


def test_a_wrong_file_changes_nothing(zitd):
    """Method, signal and command say file, line and what is wrong, and the old configuration stays."""
    daemon = zitd("step 0", queue={"max_size": 10})
    rewrite(daemon, "queue", max_size=20)
    with open(daemon.config, "a", encoding="utf-8") as file:
        file.write("[results]\nretentoin = 5\n")
    where = line_of(daemon, "retentoin = 5")
    with pytest.raises(RpcError) as e:
        daemon.call("reload")
    assert e.value.name == "bad_config" and f"{where}: " in e.value.message and "mean retention?" in e.value.message
    with pytest.raises(RpcError) as e:
        daemon.call("config", what="diff")
    assert where in e.value.message
    result = daemon.ctl("reload")
    assert result.returncode == 78 and where in result.stderr
    before = daemon.log().count("not reloaded")
    daemon.process.send_signal(signal.SIGHUP)
    until(lambda: daemon.log().count("not reloaded") == before + 1, what="the signal's complaint")
    assert daemon.log().count(where) == before + 1
    assert daemon.status()["queue"]["max_size"] == 10
    assert in_use(daemon)["queue.max_size"][0] == 10


def test_where_values_come_from(zitd):
    """The last file that names a key counts, in the order of names; show says file and line."""
    daemon = zitd("step 0", ready=False, queue={"max_size": 10}, **{"client:web": {"weight": 3}})
    directory = daemon.directory / "conf.d"
    directory.mkdir()
    (directory / "20-late.conf").write_text("\n[queue]\nmax_size = 12\n")
    (directory / "10-early.conf").write_text("[queue]\nmax_size = 11\nreserved_high = 0\n")
    (directory / "30-not.conf.bak").write_text("[nonsense\n")
    daemon.wait_ready()
    daemon.call("reload")
    options = in_use(daemon)
    assert options["queue.max_size"] == (12, f"{directory}/20-late.conf:3")
    assert options["queue.reserved_high"] == (0, f"{directory}/10-early.conf:3")
    assert options["runner:0.device"] == ("cpu", line_of(daemon, "device = cpu"))
    assert options["runner:0.exec_timeout"] == (120, "default")
    assert options["client:web.weight"] == (3, line_of(daemon, "weight = 3"))
    assert options["zitd.state_dir"] == (str(daemon.state), "command line")
    assert daemon.call("config")["files"] == [str(daemon.config), f"{directory}/10-early.conf", f"{directory}/20-late.conf"]
    table = [line.split() for line in daemon.ctl("config", "show", "--origin").stdout.splitlines()]
    assert ["queue.max_size", "12", f"{directory}/20-late.conf:3"] in table
    assert ["queue.queue_timeout", "300", "default"] in table
    plain = [line.split() for line in daemon.ctl("config", "show").stdout.splitlines()]
    assert ["queue.max_size", "12"] in plain and len(plain) == len(options) + 1
    as_json = json.loads(daemon.ctl("config", "show", "-o", "json").stdout)
    assert as_json == {"schema": "zitctl/1", **daemon.call("config")}


def test_zitctl_tells_changes_and_what_to_do(zitd):
    daemon = zitd("step 0")
    assert daemon.ctl("config", "diff").stdout == "The files say what is in use.\n"
    rewrite(daemon, "runner", threads=2, hang_timeout=0.25 + 1)
    for command in (["config", "diff"], ["reload"]):
        result = daemon.ctl(*command)
        rows = [line.split(maxsplit=3) for line in result.stdout.splitlines()]
        assert result.returncode == 0
        assert ["runner:0.threads", "1", "2", "when the runner is restarted"] in rows
        assert ["runner:0.hang_timeout", "10", "1.25", "at a reload"] in rows
        assert "to use it all: zitctl restart 0\n" in result.stdout and "systemctl" not in result.stdout
    rewrite(daemon, "runner", autostart="false")
    result = daemon.ctl("config", "diff", "-o", "json")
    assert changes(json.loads(result.stdout))["runner:0.autostart"] == ("true", "false", "restart")
    assert daemon.ctl("config", "diff", "-o", "name").stdout.split() == ["runner:0.threads", "runner:0.autostart"]
    assert "systemctl restart zitd" in daemon.ctl("reload").stdout
    for wrong in (["config"], ["config", "edit"], ["config", "show", "x"], ["status", "--origin"]):
        assert daemon.ctl(*wrong).returncode == 2, wrong


@needs_root
def test_environments_are_for_administrators(zitd):
    """They may hold secrets: others see the names, and so do logs."""
    daemon = zitd("step 0", runner={"environment": "TOKEN=secret,FLAG"})
    assert in_use(daemon)["runner:0.environment"][0] == "TOKEN=secret,FLAG"
    alice = connect_as(daemon, 1234)
    seen = {o["key"]: o["value"] for o in alice.call("config")["options"]}
    assert seen["runner:0.environment"] == "TOKEN=...,FLAG"
    rewrite(daemon, "runner", environment="TOKEN=geheim")
    assert changes(alice.call("config", what="diff")) == {"runner:0.environment": ("TOKEN=...,FLAG", "TOKEN=...", "respawn")}
    daemon.call("reload")
    assert "runner:0.environment" in daemon.log() and "geheim" not in daemon.log()


# ---- without a zitd

def ctl(*arguments, program=BUILD / "zitctl", **options):
    return subprocess.run([str(program), *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False,
                          **options)


def test_config_check(tmp_path):
    good, bad = tmp_path / "good.conf", tmp_path / "bad.conf"
    good.write_text("[runner]\nmodel = /m\n")
    bad.write_text("[runner]\nmodel = /m\n\n[queue]\nmax_size = many\n")
    result = ctl("config", "check", good)
    assert (result.returncode, result.stdout, result.stderr) == (0, f"{good}: good\n", "")
    result = ctl("config", "check", bad)
    assert (result.returncode, result.stdout) == (78, "")
    assert result.stderr == f"zitctl: {bad}:5: max_size must be an integer from 1 to 100000\n"
    verdict = json.loads(ctl("config", "check", bad, "-o", "json").stdout)
    assert verdict["good"] is False and verdict["file"] == str(bad) and f"{bad}:5" in verdict["error"]
    assert json.loads(ctl("config", "check", good, "-o", "json").stdout) == {"schema": "zitctl/1", "file": str(good), "good": True, "error": None}
    result = ctl("config", "check", tmp_path / "missing.conf")
    assert result.returncode == 78 and "missing.conf: No such file" in result.stderr


def test_config_check_finds_its_zitd(tmp_path):
    """Beside zitctl, else on the PATH; and it says so when there is none."""
    alone = tmp_path / "bin" / "zitctl"
    alone.parent.mkdir()
    shutil.copy(BUILD / "zitctl", alone)
    good = tmp_path / "good.conf"
    good.write_text("[runner]\nmodel = /m\n")
    result = ctl("config", "check", good, program=alone, env={"PATH": str(tmp_path)})
    assert result.returncode == 1 and "cannot be started" in result.stderr
    assert ctl("config", "check", good, program=alone, env={"PATH": str(BUILD)}).returncode == 0


def test_print_options():
    """One object for each row of conf.def, as JSON."""
    result = subprocess.run([str(BUILD / "zitd"), "--print-options"], capture_output=True, text=True, timeout=60, check=True)
    options = {(o["sections"][0], o["key"]): o for o in json.loads(result.stdout)}
    assert options["queue", "max_size"] | {"help": ""} == {
        "sections": ["queue"], "key": "max_size", "type": "integer", "default": "50", "min": 1, "max": 100000,
        "when": "at_once", "help": ""}
    assert options["runner", "model"]["sections"] == ["runner", "runner:NAME"] and options["runner", "model"]["when"] == "respawn"
    assert options["clients", "ceiling"]["words"] == ["high", "normal", "low"]
