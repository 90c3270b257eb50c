"""What journald is to a service: it reads /run/systemd/journal/socket, which zitd sees in a mount namespace of its own."""
import ctypes
import os
import shutil
import socket
import struct
import subprocess
import threading
from pathlib import Path

import pytest

from harness import until

CLONE_NEWNET = 0x40000000
# Over /run, for there may be no /run/systemd to mount on; "$1" is the test's directory with the socket.
MOUNT = ('mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/journal && mount --bind "$1" /run/systemd/journal '
         '&& shift && exec "$@"')


NAMESPACE = ["unshare", "--mount"]


def may_have_namespaces():
    """Of mounts; of the network too, which takes the same right."""
    trial = NAMESPACE + ["--net", "mount", "-t", "tmpfs", "none", "/run"]
    return shutil.which("unshare") is not None and subprocess.run(trial, check=False, capture_output=True).returncode == 0


needs_namespace = pytest.mark.skipif(not may_have_namespaces(), reason="a mount namespace of its own takes root and CAP_SYS_ADMIN")


def parse(datagram):
    """Fields of journald's protocol: NAME=value, or NAME, a 64-bit length and the value."""
    fields = {}
    while datagram:
        line, datagram = datagram.split(b"\n", 1)
        name, equals, value = line.partition(b"=")
        if not equals:
            size, = struct.unpack("<Q", datagram[:8])
            value, datagram = datagram[8:8 + size], datagram[8 + size + 1:]
        fields[name.decode()] = value.decode()
    return fields


class Journal:
    """zitd("...", prefix=journal.prefix, zitd={"log_format": "journal"}). Nothing is read before read() is called."""

    def __init__(self, directory, depth=None):
        self.directory = Path(directory) / "journal"
        self.directory.mkdir()
        self.prefix = NAMESPACE + ["sh", "-c", MOUNT, "sh", str(self.directory)]
        self.entries = []
        maker = threading.Thread(target=self.make_socket, args=(depth,))
        maker.start()
        maker.join()

    def make_socket(self, depth):
        """As many datagrams may wait as systemd has the kernel allow at boot: a setting of each network namespace, this thread's."""
        if depth:
            assert ctypes.CDLL(None).unshare(CLONE_NEWNET) == 0
            Path("/proc/sys/net/unix/max_dgram_qlen").write_text(str(depth), encoding="ascii")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.directory / "socket"))

    def read(self):
        threading.Thread(target=self.run, daemon=True).start()
        return self

    def run(self):
        while True:
            self.entries.append(parse(self.socket.recv(65536)))

    def events(self, name=None, **fields):
        """Those of that kind and with these fields, oldest first."""
        return [e for e in list(self.entries) if (name is None or e.get("ZIT_EVENT") == name)
                and all(e.get(key) == value for key, value in fields.items())]

    def wait_for(self, name, timeout=60.0, **fields):
        return until(lambda: self.events(name, **fields), timeout,
                     f"{name} {fields} in {[e['MESSAGE'] for e in self.entries]}")[0]
