"""Pictures from a running zitd: one connection to its public socket, a JSON object per line each way."""

import json
import socket

import numpy as np
from PIL import Image

TIMEOUT = 600  # seconds for one picture


class ServiceError(Exception):
    pass


class Service:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(TIMEOUT)
        self.socket.connect(path)
        self.lines = self.socket.makefile("r", encoding="utf-8")
        self.id = 0

    def call(self, method, **params):
        self.id += 1
        request = {"jsonrpc": "2.0", "id": self.id, "method": method, "params": params}
        self.socket.sendall((json.dumps(request, ensure_ascii=False) + "\n").encode())
        for line in self.lines:
            reply = json.loads(line)
            if reply.get("id") == self.id:
                return result_of(reply)
        raise ServiceError("zitd closed the connection")

    def picture(self, prompt, seed, width=256, height=256):
        """(height, width, 3) uint8."""
        record = self.call("submit", prompt=prompt, seed=seed, width=width, height=height, wait=True, deliver="path")
        pictures = (record.get("result") or {}).get("pictures")
        if not pictures:
            raise ServiceError(f"no picture of {prompt!r}: {record.get('state')} {record.get('error', '')}")
        return read_png(pictures[0]["path"])


def result_of(reply):
    if "error" in reply:
        raise ServiceError(f"zitd answered: {reply['error'].get('message')}")
    return reply["result"]


def read_png(path):
    return np.asarray(Image.open(path).convert("RGB"))
