"""A terminal of tmux for one test: what is typed into it, and what it shows."""
import os
import re
import shutil
import subprocess
import uuid

import pytest

from harness import BUILD, until

needs_tmux = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")


class Terminal:
    """A shell in a tmux server of its own."""

    def __init__(self, shell, columns=80, rows=24, env=None):
        self.server = "zit-" + uuid.uuid4().hex[:12]
        self.env = {k: v for k, v in os.environ.items() if k not in ("TMUX", "NO_COLOR")}
        self.env.update({"PATH": f"{BUILD}:{self.env['PATH']}", "PS1": "$ ", "LC_ALL": "C.UTF-8", "HISTFILE": "", **(env or {})})
        # The leak checker's own thread dies of the hangup at the end, and the program would wait for it for ever.
        self.env["ASAN_OPTIONS"] = "detect_leaks=0"
        term = self.env.pop("TERM_INSIDE", "tmux-256color")
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", columns, "-y", rows, "env", f"TERM={term}", *shell, env=self.env)
        self.tmux("set", "-g", "remain-on-exit", "on")

    def tmux(self, *words, env=None):
        return subprocess.run(["tmux", "-u", "-L", self.server, *map(str, words)], env=env or self.env, capture_output=True,
                              text=True, check=True, timeout=30).stdout

    def close(self):
        subprocess.run(["tmux", "-L", self.server, "kill-server"], env=self.env, capture_output=True, check=False)

    def type(self, text):
        self.tmux("send-keys", "-l", text)

    def key(self, *names):
        self.tmux("send-keys", *names)

    def enter(self, line):
        self.type(line)
        self.key("Enter")

    def screen(self):
        return self.tmux("capture-pane", "-p").rstrip("\n")

    def escapes(self):
        """The screen with its colours and attributes."""
        return self.tmux("capture-pane", "-p", "-e")

    def about(self, what):
        """A format of tmux: alternate_on, cursor_flag, pane_dead_status, ..."""
        return self.tmux("display", "-p", "#{" + what + "}").strip()

    def wait(self, pattern, timeout=60.0):
        """The screen once it shows that."""
        last = ""

        def shows():
            nonlocal last
            last = self.screen()
            return re.search(pattern, last, re.M) and last

        try:
            return until(shows, timeout, f"{pattern!r} on the screen")
        except AssertionError as e:
            raise AssertionError(f"{e}:\n{last}") from None


@pytest.fixture
def terminal():
    """terminal(shell, columns, rows, env) opens one."""
    terminals = []

    def start(*arguments, **options):
        terminals.append(Terminal(*arguments, **options))
        return terminals[-1]

    yield start
    for each in terminals:
        each.close()
