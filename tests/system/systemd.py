"""What PID 1 is to a service: it reads NOTIFY_SOCKET, keeps descriptors, and passes sockets to the next process."""
import array
import os
import socket
import threading
import time

from harness import until


class Systemd(threading.Thread):
    """Reads what zitd notifies, in order. zitd("…", notify=systemd.environment)."""

    def __init__(self, directory, watchdog_s=1.0):
        super().__init__(daemon=True)
        self.path = directory / "notify"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.path))
        self.messages = []  # each a list of lines
        self.store = {}  # descriptors by name
        self.environment = {"NOTIFY_SOCKET": str(self.path)}
        if watchdog_s:
            self.environment["WATCHDOG_USEC"] = str(int(watchdog_s * 1e6))
        self.start()

    def run(self):
        while True:
            data, ancillary, _flags, _address = self.socket.recvmsg(4096, socket.CMSG_SPACE(16 * 4))
            fds = array.array("i")
            for _level, _kind, content in ancillary:
                fds.frombytes(content)
            self.take(data.decode().strip().split("\n"), list(fds))

    def take(self, lines, fds):
        fields = dict(line.split("=", 1) for line in lines)
        if "FDSTORE" in fields:
            self.store[fields["FDNAME"]] = fds.pop()
        if "FDSTOREREMOVE" in fields:
            os.close(self.store.pop(fields["FDNAME"]))
        self.messages.append(lines)
        for fd in fds:  # a barrier's: it is over when this is closed
            os.close(fd)

    def count(self, line):
        return sum(line in message for message in list(self.messages))

    @property
    def pings(self):
        return self.count("WATCHDOG=1")

    def wait_for(self, line, times=1, timeout=60.0):
        until(lambda: self.count(line) >= times, timeout, f"{line}, {times} times, in {self.messages}")

    def order(self):
        """The first word of each message, without the watchdog's and what may come at any time."""
        kinds = [message[0].split("=")[0] for message in self.messages]
        return [kind for kind in kinds if kind not in ("WATCHDOG", "STATUS", "EXTEND_TIMEOUT_USEC")]

    def statuses(self):
        return [line.split("=", 1)[1] for message in list(self.messages) for line in message if line.startswith("STATUS=")]


def listening(path):
    """A socket as zitd.socket makes it."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen()
    return listener


def pass_socket(daemon, fd, name):
    """The daemon's next life gets the descriptor as systemd passes it."""
    daemon.pass_fds = (fd,)
    daemon.prefix = ["bash", "-c", f'LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES={name} exec "$@" 3<&{fd} {fd}<&-', "bash"]


def stopped_for(process, seconds):
    """SIGSTOP, then SIGCONT."""
    process.send_signal(19)
    time.sleep(seconds)
    process.send_signal(18)
