"""zitctl's JSON against ctl/schema.def, and what zitctl/1 has promised to be there always."""
import json
import re
import subprocess

from harness import BUILD, ROOT, until

TYPES = {"TEXT": str, "INTEGER": int, "NUMBER": (int, float), "FLAG": bool, "ANY": object}

# What zitctl/1 promised. A row may be added here; one that has to be taken away or changed makes zitctl/2.
PROMISED = {
    "job": "job state priority prompt width height steps seed n attempts client.name client.uid client.pid submitted_at queued_s total_s",
    "status": "state",
    "runner": "name state state_s pid generation restarts deaths device model_dir cost.samples cost.base_s cost.step_s cost.picture_s "
              "cost.error",
    "order": "",
    "upgrade": "version build pid pause_ms",
    "changes": "restart_zitd",
    "config": "",
    "check": "file good",
    "why": "job state priority client",
    "usage": "client pending_s today.jobs today.pixels today.device_s today.refused month.jobs month.pixels month.device_s month.refused "
             "ever.jobs ever.pixels ever.device_s ever.refused",
    "event": "",
    "metrics": "content_type text",
    "batch": "items done before failed missing group record",
    "item": "line out n state digest tries",
    "finding": "check level found",
    "picture": "file width height keys texts",
    "verdict": "file job same",
}


def rows():
    """{object: {path: (type, always)}} of schema.def."""
    objects, members = {}, None
    for line in (ROOT / "ctl/schema.def").read_text().splitlines():
        if m := re.match(r'OBJECT\((\w+), ".*"\)$', line):
            members = objects.setdefault(m.group(1), {})
        elif m := re.match(r'MEMBER\("([\w.\[\]]+)", (\w+), (ALWAYS|MAYBE), ".*"\)$', line):
            assert m.group(1) not in members, line
            members[m.group(1)] = (TYPES[m.group(2)], m.group(3) == "ALWAYS")
        else:
            assert not re.match(r"OBJECT|MEMBER", line), line
    return objects


ROWS = rows()


def leaves(value, members, path=""):
    """(path, value) of all that is in an object, down to where the rows go."""
    if path in members or (not isinstance(value, (dict, list))):
        yield path, value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from leaves(each, members, f"{path}.{key}" if path else key)
    else:
        for each in value:
            yield from leaves(each, members, path + "[]")


def check(kind, value, besides=()):
    """Everything in it has its row and its type; everything that is always there is."""
    members = ROWS[kind]
    seen = set()
    for path, leaf in leaves({k: v for k, v in value.items() if k not in ("schema", *besides)}, members):
        assert path in members, f"{kind} has a member {path} that schema.def does not know"
        kind_of = members[path][0]
        assert leaf is None or (isinstance(leaf, kind_of) and (kind_of is bool or kind_of is object or not isinstance(leaf, bool))), \
            f"{kind}: {path} is {leaf!r}"
        seen.add(path)
    missing = {path for path, (_, always) in members.items() if always} - seen
    assert not missing, f"{kind} has no {missing}"
    return value


def test_what_was_promised_stays():
    assert set(PROMISED) <= set(ROWS)
    for kind, paths in PROMISED.items():
        always = {path for path, (_, always) in ROWS[kind].items() if always}
        assert set(paths.split()) == always, kind


def test_every_command_prints_what_its_rows_say(zitd, tmp_path):
    daemon = zitd("step 0.05;@x; step 1 kill 11;@f; step 1 fail out_of_memory", runner={"startretries": 20})

    def ask(*arguments, fails=False):
        result = daemon.ctl(*arguments, "--json")
        assert (result.returncode != 0) == fails, result.stderr
        answer = json.loads(result.stdout)
        assert answer["schema"] == "zitctl/1"
        return answer

    def jobs(*arguments, count=1):
        answer = ask(*arguments)
        assert set(answer) == {"schema", "jobs"} and len(answer["jobs"]) == count
        for job in answer["jobs"]:
            check("job", job)

    check("job", ask("generate", "@x", "--steps", 2, fails=True))
    check("job", ask("generate", "a", "--steps", 1, "--save", tmp_path / "a.png", "--negative-prompt", "b"))
    failed = check("job", ask("generate", "@f", fails=True))["job"]
    running = check("job", ask("submit", "a", "--steps", 100))["job"]
    daemon.wait_running(running)
    waiting = check("job", ask("submit", "b", "--steps", 100, "--group", "g"))["job"]
    check("job", ask("job", running))
    jobs("queue", count=2)
    jobs("queue", "final", count=3)
    jobs("dead")
    check("why", ask("why", waiting))
    for answer in (ask("hold", waiting), ask("release", waiting), ask("move", waiting), ask("priority", "low", waiting)):
        check("job", answer["jobs"][0])
    for client in ask("usage")["clients"]:
        check("usage", client)
    status = check("status", ask("status"))
    for runner in status["runners"] + ask("runners")["runners"]:
        check("runner", runner)
    for arguments in (("pause", "class:low"), ("resume", "all"), ("drain", "0"), ("resume", "0"), ("start", "0")):
        check("order", ask(*arguments))
    jobs("cancel", running, waiting, count=2)
    jobs("retry", failed)
    check("metrics", ask("metrics"))
    daemon.sections["queue"] = {"max_size": 9}
    daemon.write_config()
    check("changes", ask("config", "diff"))
    check("changes", ask("reload"))
    check("config", ask("config", "show"))
    check("check", ask("config", "check", daemon.config))
    answer = ask("doctor", fails=daemon.ctl("doctor").returncode != 0)
    for finding in answer["findings"]:
        check("finding", finding)
    (tmp_path / "p").write_text('"a"\n"@f"\n')
    check("batch", ask("batch", tmp_path / "p", "--out", tmp_path / "o", fails=True))
    items = daemon.ctl("batch", tmp_path / "p", "--out", tmp_path / "q", "-o", "jsonl").stdout.splitlines()
    assert len(items) == 2
    for item in items:
        check("item", json.loads(item))
    events = subprocess.Popen([str(BUILD / "zitctl"), "-H", str(daemon.socket_path), "events", "0", "--json"], stdout=subprocess.PIPE,
                              text=True, env=daemon.env)
    for _ in range(10):
        check("event", json.loads(events.stdout.readline()))
    events.terminate()
    events.wait(30)
    events.stdout.close()
    check("order", ask("restart", "0"))
    until(lambda: daemon.runner()["state"] == "idle", what="the runner is back")
    check("upgrade", ask("upgrade"))


def test_every_command_knows_every_format(zitd):
    """jsonl: an object on each line; name: words; table and wide: something for people."""
    daemon = zitd("step 0.05")
    job = daemon.submit("a", steps=100)
    daemon.wait_running(job)
    for arguments in (("queue",), ("queue", "running"), ("job", job), ("why", job), ("status",), ("runners",), ("usage",), ("dead",),
                      ("config", "show"), ("config", "diff"), ("config", "check", daemon.config), ("drain", "0"), ("resume", "0"),
                      ("pause", "class:low"), ("resume", "all"), ("reload",), ("hold", job), ("release", job), ("move", job),
                      ("priority", "low", job), ("cancel", job)):
        outputs = {}
        for form in ("jsonl", "name", "table", "wide"):
            result = daemon.ctl(*arguments, "-o", form)
            assert result.returncode == 0, (arguments, form, result.stderr)
            outputs[form] = result.stdout
        for line in outputs["jsonl"].splitlines():
            assert json.loads(line)["schema"] == "zitctl/1", arguments
        assert not re.search(r"[ {}]", outputs["name"]), (arguments, outputs["name"])
        assert "{" not in outputs["table"] + outputs["wide"] and len(outputs["wide"]) >= len(outputs["table"]), arguments


def test_pictures_and_verdicts(zitd, tmp_path):
    daemon = zitd()
    picture = tmp_path / "a.png"
    daemon.ctl("generate", "a", "--steps", 1, "--size", "64x64", "-o", picture)
    check("picture", json.loads(daemon.ctl("info", picture, "--json").stdout)["pictures"][0])
    check("verdict", json.loads(daemon.ctl("replay", picture, "--json", "--save", tmp_path / "b.png").stdout))
    check("verdict", json.loads(daemon.ctl("replay", picture, "--json", "--seed", 1).stdout))


def test_a_status_that_cannot_be_had(tmp_path):
    result = subprocess.run([str(BUILD / "zitctl"), "-H", str(tmp_path), "status", "--json"], capture_output=True, text=True, check=False)
    assert result.returncode == 3
    check("status", json.loads(result.stdout))
