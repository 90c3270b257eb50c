"""zitctl top and the progress bar in a real terminal of several sizes, and what they leave of it."""
import json
import os
import re
import signal
import subprocess

import pytest

from harness import BUILD, until
from terminal import needs_tmux, terminal  # noqa: F401, terminal is a fixture

SHELL = ["bash", "--norc", "--noprofile", "-i"]


def env_of(daemon):
    return {"ZIT_SOCKET": str(daemon.socket_path)}


def pid_of(daemon, what):
    """Of the zitctl that runs in this daemon's terminal."""
    pattern = rf"zitctl\0{what}\0"

    def find():
        for entry in os.listdir("/proc"):
            try:
                if entry.isdigit() and re.search(pattern.encode(), open(f"/proc/{entry}/cmdline", "rb").read()) \
                        and str(daemon.socket_path).encode() in open(f"/proc/{entry}/environ", "rb").read():
                    return int(entry)
            except OSError:
                pass
        return None

    return until(find, what=f"zitctl {what}")


@needs_tmux
@pytest.mark.parametrize("columns,rows", [(80, 24), (40, 10)])
def test_what_top_shows_fits(zitd, terminal, columns, rows):  # noqa: F811
    daemon = zitd("step 0.05", queue={"client_cap": 100})
    jobs = [daemon.submit("一只猫在很长很长的提示词里面睡觉 " * 4, steps=100) for _ in range(30 if rows > 10 else 6)]
    t = terminal(SHELL, columns, rows, env_of(daemon))
    t.enter("zitctl top")
    screen = t.wait(rf"{jobs[0][-8:]} +running(.*\n)*q quit.*\Z")  # to its last line: a screen may be seen half drawn
    lines = screen.split("\n")
    assert len(lines) == rows and all(len(line) <= columns for line in lines)
    assert lines[0].startswith("zitd ready, up 0:0") and lines[-1].startswith("q quit") and "runner 0" in screen
    assert (jobs[1] in screen) == (columns >= 76) and jobs[1][-8:] in screen
    assert "#1" in screen and "猫" in screen
    t.key(*["Down"] * len(jobs))  # the last one comes into sight
    t.wait(jobs[-1][-8:])
    t.tmux("resize-window", "-x", 120 - columns, "-y", 34 - rows)
    shown = jobs[-1] if 120 - columns >= 76 else f"^{jobs[-1][-8:]}"
    resized = t.wait(rf"{shown}.*\n(.*\n)*q quit.*\Z")
    assert len(resized.split("\n")) == 34 - rows
    t.key("q")
    t.wait(r"^\$ $|\$\s*\Z")
    for job in jobs:
        daemon.call("cancel", job=job)


@needs_tmux
def test_keys_treat_what_is_selected(zitd, terminal):  # noqa: F811
    daemon = zitd("step 0.2;@x; step 1 fail out_of_memory")
    failed = daemon.generate("@x", steps=1)["job"]
    running, waiting = daemon.submit("a", steps=100), daemon.submit("b", steps=100)
    t = terminal(SHELL, env=env_of(daemon))
    t.enter("zitctl top")
    t.wait(rf"^{running} running")
    t.key("Down", "Down")  # runner 0, the running job, the waiting one
    t.type("p")
    t.wait(rf"class of {waiting}\? h high")
    t.type("h")
    t.wait(rf"^{waiting} is ")
    assert daemon.job(waiting)["priority"] == "high"
    t.wait(rf"^{waiting} \w+ +high")
    t.type("c")
    t.wait(rf"cancel {waiting}\? y/n")
    t.type("n")
    t.wait("nothing was done")
    assert daemon.job(waiting)["state"] != "cancelled"
    t.type("cy")
    t.wait(rf"^{waiting} cancelled")
    assert daemon.job(waiting)["state"] == "cancelled"
    t.key("k", "k", "k")
    t.type("c")
    t.wait("c: a job that has not ended")  # a runner is selected
    t.type("r")
    t.wait(r"restart runner 0\? y/n")
    t.type("y")
    until(lambda: daemon.runner()["generation"] == 2, what="the runner is another process")
    t.key("j", "j", "j", "j", "j")
    t.type("r")  # the one that failed is the last
    until(lambda: "retried_as" in daemon.job(failed), what="the failed job is tried again")
    daemon.accepted.add(daemon.job(failed)["retried_as"])
    t.type("q")
    daemon.call("cancel", job=running)


@needs_tmux
@pytest.mark.parametrize("end", ["q", "C-c", "TERM", "HUP", "QUIT"])
def test_top_leaves_the_terminal_as_it_was(zitd, terminal, tmp_path, end):  # noqa: F811
    daemon = zitd("step 0")
    t = terminal(SHELL, env=env_of(daemon))
    t.enter(f"cd {tmp_path}; clear; echo before; stty -a >a")
    t.wait("^before$")
    t.enter("zitctl top; echo status $?; stty -a >b; cmp a b && echo same")
    t.wait("q quit")
    assert (t.about("alternate_on"), t.about("cursor_flag")) == ("1", "0")
    if end in ("q", "C-c"):
        t.key(end)
    else:
        os.kill(pid_of(daemon, "top"), getattr(signal, "SIG" + end))
    screen = t.wait("^same$")
    assert (t.about("alternate_on"), t.about("cursor_flag")) == ("0", "1")
    assert "before" in screen and "status 0" in screen and "q quit" not in screen


@needs_tmux
def test_top_gives_the_terminal_back_while_it_is_stopped(zitd, terminal):  # noqa: F811
    daemon = zitd("step 0")
    t = terminal(SHELL, env=env_of(daemon))
    t.enter("zitctl top")
    t.wait("q quit")
    t.key("C-z")
    t.wait("Stopped")
    assert (t.about("alternate_on"), t.about("cursor_flag")) == ("0", "1")
    t.enter("fg")
    t.wait("q quit")
    assert t.about("alternate_on") == "1"
    t.key("q")
    until(lambda: t.about("alternate_on") == "0", what="the screen is left")


@needs_tmux
def test_top_waits_for_a_zitd_that_is_away(zitd, terminal):  # noqa: F811
    daemon = zitd("step 0")
    t = terminal(SHELL, env=env_of(daemon))
    t.enter("zitctl top")
    t.wait("zitd ready")
    daemon.stop()
    t.wait("zitd cannot be reached|zitd closed the connection")
    daemon.start()
    t.wait(r"\Azitd ready.*\n\n?runner 0")
    t.key("q")


@needs_tmux
@pytest.mark.parametrize("no_color", ["", "1"])
def test_colours_are_left_out_where_they_are_not_wanted(zitd, terminal, no_color):  # noqa: F811
    daemon = zitd("loading fatal 65", ready=False)
    daemon.wait_listening()
    until(lambda: daemon.runner()["state"] == "failed", what="the runner has given up")
    t = terminal(SHELL, env={**env_of(daemon), "NO_COLOR": no_color})
    t.enter("zitctl top")
    t.wait(r"runner 0 +failed(.*\n)*q quit.*\Z")
    assert ("[31m" in t.escapes() or "\x1b[1;31m" in t.escapes()) == (no_color == "")
    t.key("q")


def test_top_prints_plain_lines_where_there_is_no_terminal(zitd):
    daemon = zitd("step 0.05")
    job = daemon.submit("a", steps=100)
    daemon.wait_running(job)
    for arguments in ((), ("-o", "jsonl")):
        top = subprocess.Popen([str(BUILD / "zitctl"), "top", *arguments], env={**daemon.env, **env_of(daemon)}, stdout=subprocess.PIPE,
                               text=True)
        line = top.stdout.readline()
        top.send_signal(signal.SIGINT)
        rest, _ = top.communicate(timeout=60)
        assert top.returncode == 0 and "\x1b" not in line + rest
        if arguments:
            assert json.loads(line)["state"] == "ready"
        else:
            assert re.fullmatch(rf"\d\d:\d\d:\d\d ready, 0 high, 0 normal, 0 low wait, 0 done; 0 busy {job}\n", line), line
    daemon.call("cancel", job=job)


@needs_tmux
def test_top_ends_when_its_time_is_over(zitd, terminal):  # noqa: F811
    daemon = zitd("step 0")
    lines = daemon.ctl("top", "--timeout", "0.3")
    assert lines.returncode == 124 and "ready" in lines.stdout and "--timeout" in lines.stderr, lines
    t = terminal(SHELL, env=env_of(daemon))
    t.enter("zitctl top --timeout 0.3; echo ended $?")
    t.wait(r"--timeout is over\nended 124")


@needs_tmux
def test_a_dumb_terminal_gets_plain_lines_and_no_bar(zitd, terminal):  # noqa: F811
    daemon = zitd("step 0.01")
    t = terminal(SHELL, env={**env_of(daemon), "TERM_INSIDE": "dumb"})
    t.enter("zitctl top")
    t.wait(r"^\d\d:\d\d:\d\d ready, ")
    t.key("C-c")
    t.enter("clear; zitctl generate a --steps 20 -o /dev/null; echo ended $?")
    screen = t.wait("^ended 0")
    assert "[#" not in screen and "/20" not in screen


@needs_tmux
@pytest.mark.parametrize("columns,bar", [(80, 24), (40, 10)])
def test_the_bar_fits_and_is_taken_away(zitd, terminal, columns, bar):  # noqa: F811
    daemon = zitd("step 0.06")
    t = terminal(SHELL, columns, 10, {**env_of(daemon), "NO_COLOR": "1"})
    t.enter("clear; zitctl generate a --steps 40 -o /dev/null; echo ended $?")
    shown = t.wait(r"^\[#+\.*\] \d+/40 \w+")
    assert len(re.search(r"\[([#.]+)\]", shown).group(1)) == bar
    assert len(re.findall(r"^\[", shown, re.M)) == 1, "the bar takes one line"
    assert "\x1b[3" not in t.escapes()
    after = t.wait("^ended 0").split("\n")
    assert after[after.index("ended 0") - 1] == "/dev/null" and not any("[#" in line for line in after), after


@needs_tmux
def test_the_bar_of_a_batch_fits_too(zitd, terminal, tmp_path):  # noqa: F811
    daemon = zitd("step 0.1")
    (tmp_path / "p").write_text('"a"\n' * 6)
    t = terminal(SHELL, 40, 10, env_of(daemon))
    t.enter(f"clear; cd {tmp_path}; zitctl batch p --out o --steps 5; echo ended $?")
    shown = t.wait(r"^\[#*\.*\] \d/6, \d with zitd")
    assert len(re.findall(r"^\[", shown, re.M)) == 1, shown
    t.wait("^ended 0")


def test_progress_for_programs_comes_in_whole_lines(zitd):
    daemon = zitd("step 0.01")
    process = subprocess.Popen([str(BUILD / "zitctl"), "generate", "a", "--steps", "30", "--progress", "json", "-o", "/dev/null"],
                               env={**daemon.env, **env_of(daemon)}, stderr=subprocess.PIPE)
    pieces = list(iter(lambda: os.read(process.stderr.fileno(), 65536), b""))
    assert process.wait(60) == 0
    assert len(pieces) > 10 and [p for p in pieces if not p.endswith(b"\n")] == []
    assert len({json.loads(line)["job"] for line in b"".join(pieces).splitlines()}) == 1
    process.stderr.close()
