"""
A text encoder that is streamed: its matrices stay in the checkpoint's files and are brought for each new prompt, a layer at a time.
"""
import json
import math
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from harness import FINAL, MODEL, SMALL, result_pixels, until


@pytest.mark.parametrize("where", ["resident", "streamed"])
def test_status_says_where_it_is(zitd, where):
    """In the status document and on the screen; over an upgrade too, whose zitd does not hear READY again."""
    daemon = zitd("real", runner={"text_encoder": where})
    for _ in range(2):
        assert daemon.runner()["text_encoder"] == where
        screen = daemon.ctl("status").stdout.splitlines()
        titles = next(line for line in screen if line.startswith("RUNNER"))
        row = screen[screen.index(titles) + 1]
        assert row[titles.index("TEXT ENCODER"):].startswith(where), screen
        assert daemon.ctl("upgrade").returncode == 0
    assert daemon.generate(**SMALL)["state"] == "done" and daemon.runner()["generation"] == 1


def test_status_does_not_guess(zitd):
    """Before the runner was ready, nobody knows."""
    daemon = zitd("loading exit 65", ready=False)
    daemon.wait_listening()
    assert "text_encoder" not in daemon.runner()


# ---- a prompt that takes long: many layers, whose MLPs are wide and zero, and mostly holes on disk

LAYERS, WIDE = 24, 4096
LONG = "a cat sitting on a mat, " * 18  # some 450 tokens


def read_tensors(directory):
    """{name: (dtype, shape, bytes)} of a part's files, and the path of each."""
    tensors = {}
    for path in sorted(directory.glob("*.safetensors")):
        data = path.read_bytes()
        end = 8 + int.from_bytes(data[:8], "little")
        for name, entry in json.loads(data[8:end]).items():
            if name != "__metadata__":
                first, last = entry["data_offsets"]
                tensors[name] = (entry["dtype"], entry["shape"], data[end + first : end + last])
        path.unlink()
    return tensors


def widened(name, dtype, shape):
    """A layer's tensor in the new model: those of the MLP have WIDE in the place of the old width, and only zeros."""
    wide = {"mlp.gate_proj.weight": (WIDE, shape[-1]), "mlp.up_proj.weight": (WIDE, shape[-1]), "mlp.down_proj.weight": (shape[0], WIDE)}
    return dtype, list(next((s for end, s in wide.items() if name.endswith(end)), shape))


def write_tensors(path, tensors):
    """tensors: {name: (dtype, shape, bytes, or None for a hole of zeros)}"""
    header, at = {}, 0
    for name, (dtype, shape, _data) in tensors.items():
        size = math.prod(shape) * {"BF16": 2, "F32": 4}[dtype]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + at)
        for name, (_dtype, _shape, data) in tensors.items():
            if data is not None:
                file.seek(8 + len(text) + header[name]["data_offsets"][0])
                file.write(data)


def deepened(directory):
    """The tiny model with LAYERS layers in its text encoder, all like its first: what takes a millisecond takes seconds."""
    shutil.copytree(MODEL, directory, ignore=shutil.ignore_patterns("golden", "values.txt"))
    part = directory / "text_encoder"
    config = json.loads((part / "config.json").read_text())
    config.update(num_hidden_layers=LAYERS, intermediate_size=WIDE)
    (part / "config.json").write_text(json.dumps(config))
    old = read_tensors(part)
    (part / "model.safetensors.index.json").unlink()
    new = {name: tensor for name, tensor in old.items() if ".layers." not in name}
    for name, (dtype, shape, data) in old.items():
        if name.startswith("model.layers.0."):
            kind, size = widened(name, dtype, shape)
            for layer in range(LAYERS):
                new[name.replace(".0.", f".{layer}.", 1)] = (kind, size, data if size == shape else None)
    write_tensors(part / "model.safetensors", new)
    return directory


@pytest.fixture
def deep(zitd, tmp_path):
    """A daemon with that model, streamed."""
    return zitd("real", runner={"model": deepened(tmp_path / "deep"), "text_encoder": "streamed"})


def drawn(daemon, prompt, **params):
    record = daemon.generate(prompt, seed=3, steps=2, **SMALL, **params)
    assert record["state"] == "done", record
    return result_pixels(record)


class Encoding:
    """A job in the middle of it, its runner stopped so that it stays there, and what it has been through at its end."""

    def __init__(self, daemon, **params):
        self.connection = daemon.connect()
        self.asked = self.connection.send("submit", prompt=LONG, wait=True, events=True, seed=3, steps=2, **SMALL, **params)
        while (event := self.connection.read_line()["params"]).get("stage") != "text_encode":
            pass
        self.runner = daemon.runner()["pid"]
        os.kill(self.runner, signal.SIGSTOP)
        self.job = event["job"]
        daemon.accepted.add(self.job)

    def go_on(self):
        os.kill(self.runner, signal.SIGCONT)

    def end(self):
        """Its record, and the stages that it has been in since."""
        record = self.connection.reply(self.asked)
        return record, {event["stage"] for event in self.connection.events if "stage" in event}


def test_cancel_between_layers(deep):
    """The process goes on, and the next prompt has the picture that it has alone."""
    alone = drawn(deep, "a dog")
    deep.call("restart")
    until(lambda: deep.runner()["generation"] == 2 and deep.runner()["state"] == "idle", what="a process that has kept no caption")
    encoding = Encoding(deep)
    deep.call("cancel", job=encoding.job)
    encoding.go_on()
    record, stages = encoding.end()
    assert record["state"] == "cancelled" and not stages, (record, stages)
    assert drawn(deep, "a dog") == alone and deep.runner()["generation"] == 2


def test_timeout_between_layers(deep):
    """At the next layer; where the machine is too busy for that, the process ends. The next prompt is drawn in any case."""
    encoding = Encoding(deep, exec_timeout=0.5)
    until(lambda: deep.runner()["state"] != "busy", what="the end of its time")
    encoding.go_on()
    record, stages = encoding.end()
    assert record["state"] == "timed_out" and not stages, (record, stages)
    assert drawn(deep, "a dog")


def test_high_job_between_layers(deep):
    """A low prompt makes way in the middle, and goes on: its picture is the one that it has alone."""
    encoding = Encoding(deep, priority="low")
    high = deep.submit("a dog", priority="high", seed=3, steps=2, **SMALL)
    encoding.go_on()
    high, low = deep.wait(high), deep.job(encoding.job)
    assert high["state"] == "done" and low["state"] not in FINAL and low["progress"]["stage"] == "text_encode", (high, low)
    beside, _stages = encoding.end()
    assert beside["state"] == "done" and deep.runner()["generation"] == 1
    deep.call("restart")
    until(lambda: deep.runner()["generation"] == 2 and deep.runner()["state"] == "idle", what="a process that has kept no caption")
    assert drawn(deep, LONG) == result_pixels(beside)


def test_file_cut_while_it_is_read(deep):
    """The runner says which; no job is blamed; with the file back, and a restart, the prompt is drawn."""
    part = Path(deep.sections["runner"]["model"]) / "text_encoder"
    whole, kept = part / "model.safetensors", part / "kept"
    subprocess.run(["cp", "--sparse=always", whole, kept], check=True)
    encoding = Encoding(deep)
    job = encoding.job
    os.truncate(whole, 5000)
    encoding.go_on()
    until(lambda: deep.runner()["state"] == "failed", what="a runner that cannot start again")
    record, runner = deep.job(job), deep.runner()
    assert runner["exit_status"] == 65 and str(whole) in runner["last_error"], runner
    assert "for its model's files: exit status 65" in deep.log()
    assert record["state"] == "queued" and record["attempts"] == 1, record
    kept.rename(whole)
    deep.call("restart")
    record = deep.wait(job)
    assert record["state"] == "done" and record["attempts"] == 2, record
    assert result_pixels(record) == drawn(deep, LONG)
