"""Which program a runner is, by its device."""
import shutil

import pytest

from harness import BUILD, Zitd, until


def place(directory, name, word):
    """A program that sees one device, and leaves a word behind when it is started for it."""
    program = directory / name
    program.write_text(f"""#!/bin/sh
if [ "$1" = --probe ]; then
    echo '{{"devices":[{{"uuid":"GPU-a","name":"x","memory_bytes":1}}]}}'
else
    echo {word} >{directory}/started
    exit 77
fi
""")
    program.chmod(0o755)


@pytest.mark.parametrize("device, there, expected", [
    ("cpu", True, "plain"),
    ("ref", True, "plain"),
    ("cuda:0", True, "cuda"),
    ("auto", True, "cuda"),
    ("auto", False, "plain"),
])
def test_device_chooses_the_program(tmp_path, device, there, expected):
    shutil.copy(BUILD / "zitd", tmp_path / "zitd")
    place(tmp_path, "zit-runner", "plain")
    if there:
        place(tmp_path, "zit-runner-cuda", "cuda")
    z = Zitd(tmp_path, program=tmp_path / "zitd", runner={"device": device}).start(ready=False)
    try:
        started = until(lambda: (tmp_path / "started").exists() and (tmp_path / "started").read_text(), what="a runner")
        assert started.strip() == expected
    finally:
        z.clean_up()
