"""zitctl's command line, completed by real shells in a real terminal, with ids from a zitd that runs."""
import re
import shutil
import subprocess

import pytest

from harness import BUILD, ROOT
from terminal import needs_tmux, terminal  # noqa: F401, terminal is a fixture

COMMANDS = re.findall(r"^COMMAND\((\w+),", (ROOT / "ctl/commands.def").read_text(), re.M)
SHELLS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], "source <(zitctl completion bash)"),
    "zsh": (["zsh", "-f", "-i"], "PS1='$ '; autoload -U compinit && compinit -D; setopt no_auto_menu; source <(zitctl completion zsh)"),
    "fish": (["fish", "--no-config", "-i"], "function fish_prompt; echo '$ '; end; zitctl completion fish | source"),
}
each_shell = pytest.mark.parametrize("shell", SHELLS)


def script(shell):
    return subprocess.run([str(BUILD / "zitctl"), "completion", shell], capture_output=True, text=True, check=True).stdout


@each_shell
def test_the_script_is_good_and_knows_every_command(shell):
    text = script(shell)
    for command in COMMANDS:
        assert re.search(rf"\b{command}\b", text), command
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    subprocess.run([shell, "-n"], input=text, text=True, check=True, timeout=30)
    if shell == "bash" and shutil.which("shellcheck"):
        subprocess.run(["shellcheck", "-s", "bash", "-"], input=text, text=True, check=True, timeout=60)


def test_another_shell_is_refused():
    result = subprocess.run([str(BUILD / "zitctl"), "completion", "tcsh"], capture_output=True, text=True, check=False)
    assert result.returncode == 2 and "bash, zsh or fish" in result.stderr


@pytest.fixture
def shell_with_jobs(zitd, terminal, request):  # noqa: F811
    """A shell that completes, a running job, one that waits, one that was cancelled, and how to press Tab."""
    shell = request.param
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    daemon = zitd("step 0.05")
    jobs = [daemon.submit(name, steps=100, queue_timeout=3600) for name in ("runs", "waits")]
    ended = daemon.submit("ended")
    daemon.call("cancel", job=ended)
    command, setup = SHELLS[shell]
    t = terminal(command, columns=120, env={"ZIT_SOCKET": str(daemon.socket_path), "HOME": str(daemon.directory)})
    t.enter(f"{setup}; echo re''ady")
    t.wait("^ready", 30)
    t.key("C-l")
    yield t, jobs, ended
    for job in jobs:
        daemon.call("cancel", job=job)


def completed(t, typed, pattern):
    """Types, presses Tab and #, and waits for the command line to become that; then gives it up."""
    t.type(typed)
    t.key("Tab")
    t.type("#")  # shows where the completed word ends
    screen = t.wait(pattern)
    t.key("C-u", "C-l")
    t.wait(r"\A\$\s*\Z")
    return screen


@needs_tmux
@pytest.mark.parametrize("shell_with_jobs", SHELLS, indirect=True)
def test_words_and_live_ids(shell_with_jobs):
    t, jobs, ended = shell_with_jobs
    completed(t, "zitctl stat", r"zitctl status #")
    completed(t, "zitctl status --quie", r"--quiet #")
    completed(t, "zitctl queue -o jsonl wai", r"-o jsonl waiting #")
    completed(t, "zitctl status --output=wi", r"--output=wide #")
    completed(t, "zitctl submit x --priority lo", r"--priority low #")
    completed(t, "zitctl drain al", r"drain all #")
    prefix = jobs[1][: len(jobs[1]) - 3]
    completed(t, f"zitctl cancel {prefix}", rf"zitctl cancel {jobs[1]} #")
    completed(t, f"zitctl retry {ended[:-3]}", rf"zitctl retry {ended} #")
    completed(t, "zitctl retry job_", rf"zitctl retry {ended} #")  # the only one that has ended
