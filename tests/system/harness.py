"""
A private zitd for one test: its directories, its processes, its socket, and the auditor that looks at what is left.

Faults are injected from outside only: signals, limits, broken files, hostile peers.
"""
import array
import contextlib
import json
import os
import re
import signal
import socket
import struct
import subprocess
import time
import uuid
import zlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("ZIT_BUILD_DIR", ROOT / "build"))
MODEL = Path(os.environ.get("ZIT_TEST_MODEL", ROOT / "build" / "golden"))
SANITIZED = "build-san" in BUILD.name
# Clocks are checked from below exactly and from above with this much for a busy machine of two cores.
SLACK_S = 6.0 if SANITIZED else 3.0
SMALL = {"width": 64, "height": 64}  # for the real runner, where the size of a picture is of no matter: it takes a tenth of the time
FINAL = {"done", "failed", "cancelled", "expired", "timed_out", "dead", "evicted"}


def until(condition, timeout=60.0, what="condition"):
    """The first true value of condition(), looked at every 10 ms."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {timeout} s")
        time.sleep(0.01)


def pixels(path):
    """A PNG's picture without its metadata: the header and the unpacked rows."""
    data = Path(path).read_bytes()
    at, rows, head = 8, b"", b""
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + size]
        head = body if kind == b"IHDR" else head
        rows += body if kind == b"IDAT" else b""
        at += size + 12
    return head + zlib.decompress(rows)


def result_pixels(record):
    """Of all pictures of a job that is done."""
    return [pixels(p["path"]) for p in record["result"]["pictures"]]


class RpcError(Exception):
    def __init__(self, error):
        super().__init__(f"{error.get('data', {}).get('name')}: {error.get('message')}")
        self.code = error["code"]
        self.data = error.get("data", {})
        self.name = self.data.get("name")
        self.message = error["message"]


class Connection:
    """One connection to the public socket; replies are matched by id, events and descriptors collected."""

    def __init__(self, path, timeout=120.0):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(str(path))  # blocking: a full backlog makes it wait
        self.socket.settimeout(timeout)
        self.buffer = b""
        self.last_id = 0
        self.events = []
        self.strays = []  # answers that nobody asked for
        self.fds = []

    def close(self):
        for fd in self.fds:
            os.close(fd)
        self.fds = []
        self.socket.close()

    def send_raw(self, data):
        self.socket.sendall(data)

    def send(self, method, **params):
        self.last_id += 1
        self.send_raw(json.dumps({"id": self.last_id, "method": method, "params": params}).encode() + b"\n")
        return self.last_id

    def read_line(self):
        """The next line as an object; None at the end of the stream."""
        while b"\n" not in self.buffer:
            data, ancillary, _flags, _address = self.socket.recvmsg(65536, socket.CMSG_SPACE(16 * 4))
            for level, kind, content in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    fds = array.array("i")
                    fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
                    self.fds.extend(fds)
            if not data:
                return None
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        return json.loads(line)

    def reply(self, wanted):
        while True:
            line = self.read_line()
            if line is None:
                raise EOFError("zitd closed the connection")
            if line.get("method") == "event":
                self.events.append(line["params"])
            elif line.get("id") == wanted or (line.get("id") is None and "error" in line):
                if "error" in line:
                    raise RpcError(line["error"])
                return line["result"]
            else:
                self.strays.append(line)

    def call(self, method, **params):
        return self.reply(self.send(method, **params))


class Zitd:
    """A running daemon with the real runner, or fake_runner by a script. Sections: queue={"max_size": 2}."""

    def __init__(self, directory, script="real", env=None, notify=None, prefix=(), program=BUILD / "zitd", **sections):
        self.directory = Path(directory)
        self.marker = "ZIT_TEST_MARKER=" + uuid.uuid4().hex
        self.runtime = self.directory / "run"
        self.state = self.directory / "state"
        self.log_path = self.directory / "zitd.log"
        self.config = self.directory / "zitd.conf"
        self.socket_path = self.runtime / "zitd.sock"
        self.sections = sections
        self.fake = script != "real"
        self.accepted = set()
        self.process = None
        self.prefix = list(prefix)  # of its command line
        self.pass_fds = ()
        self.program = program
        self.connections = []
        self.env = dict(os.environ, **(env or {}))
        self.env["ASAN_OPTIONS"] = "detect_leaks=1"
        key, value = self.marker.split("=")
        self.env[key] = value
        if self.fake:
            self.env["ZIT_FAKE"] = script
        if notify:
            self.env.update(notify)
        self.runtime.mkdir(parents=True, exist_ok=True)
        self.state.mkdir(parents=True, exist_ok=True)
        self.write_config()

    def write_config(self):
        runner = {"model": MODEL, "device": "cpu", "threads": 1}
        if self.fake:
            runner["command"] = BUILD / "tests" / "fake_runner"
        runner.update(self.sections.get("runner", {}))
        sections = dict(self.sections, runner=runner)
        text = ""
        for name, options in sections.items():
            text += f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in options.items())
        self.config.write_text(text)

    def command(self):
        return self.prefix + [str(self.program), "--config", str(self.config), "--runtime-dir", str(self.runtime),
                "--state-dir", str(self.state)]

    def start(self, ready=True):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.command(), env=self.env, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, start_new_session=True, pass_fds=self.pass_fds)
        if ready:
            self.wait_ready()
            self.baseline_fds = self.fd_count()
        return self

    def wait_listening(self):
        """Its status once it answers: the socket is there a moment before anybody may connect to it."""
        def answer():
            assert self.process.poll() is None, f"zitd ended with {self.process.returncode}:\n{self.log()[-3000:]}"
            with contextlib.suppress(OSError, EOFError):
                return self.status()
        return until(answer, what="zitd listening")

    def wait_ready(self, timeout=60.0):
        def is_ready():
            assert self.process.poll() is None, f"zitd ended with {self.process.returncode}:\n{self.log()[-3000:]}"
            try:
                return all(r["state"] == "idle" for r in self.status()["runners"])
            except (OSError, EOFError):
                return False
        until(is_ready, timeout, "all runners idle")

    # ---- talking

    def connect(self, timeout=120.0):
        connection = Connection(self.socket_path, timeout)
        self.connections.append(connection)
        return connection

    def call(self, method, **params):
        connection = Connection(self.socket_path)
        try:
            return connection.call(method, **params)
        finally:
            connection.close()

    def submit(self, prompt="a cat", **params):
        """Queues a job without waiting; its id."""
        result = self.call("submit", prompt=prompt, **params)
        self.accepted.add(result["job"])
        return result["job"]

    def generate(self, prompt="a cat", **params):
        """The final record of a new job."""
        record = self.call("submit", prompt=prompt, wait=True, **params)
        self.accepted.add(record["job"])
        return record

    def job(self, job):
        return self.call("get", job=job)

    def wait(self, job):
        return self.call("wait", job=job)

    def status(self):
        return self.call("status")

    def runner(self, index=0):
        return self.status()["runners"][index]

    def wait_state(self, job, *states, timeout=60.0):
        return until(lambda: (r := self.job(job))["state"] in states and r, timeout, f"{job} in {states}")

    def wait_running(self, job, timeout=60.0):
        """The job has made at least one step."""
        return until(lambda: (r := self.job(job))["state"] == "running" and r.get("progress", {}).get("step", 0) >= 1
                     and r, timeout, f"{job} running")

    def ctl(self, *arguments, timeout=60.0, **options):
        return subprocess.run([str(BUILD / "zitctl"), "-H", str(self.socket_path), *map(str, arguments)],
                              capture_output=True, text=True, timeout=timeout, env=self.env, check=False, **options)

    # ---- looking

    def log(self):
        return self.log_path.read_text(errors="replace")

    def fd_count(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def rss_kib(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status).group(1))

    def processes(self):
        """Every live process that this daemon started or is, by the marker in its environment."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                if self.marker.encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                continue
        return found

    def zombies(self):
        found = []
        for entry in Path("/proc").iterdir():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split() if entry.name.isdigit() else []
            except OSError:
                continue
            if fields and fields[0] == "Z" and int(fields[1]) == self.process.pid:
                found.append(int(entry.name))
        return found

    # ---- ending

    def stop(self, timeout=60.0):
        for connection in self.connections:
            connection.close()
        self.connections = []
        if self.process is None or self.process.poll() is not None:
            return self.process.returncode if self.process else None
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"zitd did not stop within {timeout} s of SIGTERM:\n{self.log()[-3000:]}") from None

    def kill(self):
        """SIGKILL, without a word; its runners are gone within a second."""
        for connection in self.connections:
            connection.close()
        self.connections = []
        self.process.kill()
        self.process.wait()
        assert until_empty(self.processes, 1.0 + SLACK_S) == [], "runners outlived their zitd"

    def restart(self, ready=True):
        """Another life with the same files."""
        self.stop()
        return self.start(ready)

    def clean_up(self):
        """Leaves nothing behind, whatever the test did."""
        for connection in self.connections:
            connection.close()
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if self.process is not None:
            self.process.wait()

    # ---- the auditor

    def audit(self):
        """What must hold after every scenario, with the daemon still running and then stopped."""
        for connection in self.connections:
            connection.close()
        self.connections = []
        self.audit_jobs()
        self.audit_processes()
        self.audit_fds()
        code = self.stop()
        assert code == 0, f"zitd ended with {code}:\n{self.log()[-3000:]}"
        self.audit_leftovers()

    def audit_jobs(self):
        """Every accepted job has exactly one record, and it becomes final."""
        until(lambda: all(r["state"] in FINAL for r in self.records()), 60.0 + SLACK_S, "all jobs final")
        records = self.records()
        ids = [r["job"] for r in records]
        assert len(ids) == len(set(ids)), f"a job has two records: {ids}"
        missing = self.accepted - set(ids)
        assert not missing, f"accepted jobs without a record: {missing}"

    def records(self):
        result = self.call("list", limit=1000)
        return result["jobs"] if isinstance(result, dict) else result

    def audit_processes(self):
        assert until_empty(self.zombies) == []  # zitd buries strays a moment after they died
        alive = {r["pid"] for r in self.status()["runners"] if r.get("pid")}
        strays = set(self.processes()) - alive - {self.process.pid}
        assert not until_empty(lambda: set(self.processes()) - {self.process.pid} - {
            r["pid"] for r in self.status()["runners"] if r.get("pid")}), f"stray processes: {strays}"

    def audit_fds(self):
        """As many descriptors as when it was new, and one status page per live runner."""
        until(lambda: all(r["state"] in ("idle", "failed", "backoff") for r in self.status()["runners"]), 60.0,
              "runners at rest")
        idle = all(r["state"] == "idle" for r in self.status()["runners"])
        if idle and hasattr(self, "baseline_fds"):
            until(lambda: self.fd_count() <= self.baseline_fds, 5.0 + SLACK_S,
                  f"descriptors back to {self.baseline_fds} (now {os.listdir(f'/proc/{self.process.pid}/fd')})")
        for runner in self.status()["runners"]:
            if runner["state"] == "idle":
                self.audit_runner_fds(runner["pid"])
        maps = Path(f"/proc/{self.process.pid}/maps").read_text()
        assert maps.count("memfd:") <= len(self.status()["runners"])

    @staticmethod
    def audit_runner_fds(pid):
        """A runner has stdin, stdout, stderr, its socket, its page, what it made for itself (events and memory), and the files that it streams."""
        for fd in os.listdir(f"/proc/{pid}/fd"):
            try:
                target = os.readlink(f"/proc/{pid}/fd/{fd}")
            except FileNotFoundError:
                continue
            own = target.startswith(("anon_inode:", "/memfd:")) or target.endswith(".safetensors")
            assert int(fd) <= 5 or own, f"runner {pid} holds {fd}: {target}"

    def audit_leftovers(self):
        assert until_empty(self.processes) == [], "processes left after the end"
        if "NOTIFY_SOCKET" not in self.env:  # else systemd keeps it
            assert not self.socket_path.exists(), "the socket was left behind"
        left = [p for p in self.state.rglob("*") if p.is_file() and not re.fullmatch(r"zitd\.lock|queue\.(db|reserve)|job_\w{26}-\d+\.png", p.name)]
        assert not left, f"files left that are no results: {left}"
        if SANITIZED:
            assert "Sanitizer" not in self.log() and "runtime error:" not in self.log(), self.log()[-5000:]


def until_empty(look, timeout=2.0 + SLACK_S):
    """look() once it is empty, or as it is when the time is over."""
    end = time.monotonic() + timeout
    while True:
        value = look()
        if not value or time.monotonic() > end:
            return value
        time.sleep(0.02)
