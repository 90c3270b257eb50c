"""
scripts/gpu-check without a card: in a tree of its own, with a `make` that says what was recorded of each part. What is
looked at is the table, and that no part keeps the others from their turn.
"""
import os
import re
import shutil
import subprocess

import pytest

from harness import BUILD, ROOT

BENCH = """# cuda (a card, sm_90, bf16, CUDA 13.0)
matrix                        1.378      1.378  1.00
# 798 TFLOP/s, 3.00 TB/s
""" + "".join(f"line-{i:<19} {i:10.3f} {i / 2:10.3f}  0.50\n" for i in range(1, 80))
SAYS = {
    "gpu-operations": "rms_norm bf16: largest error 0.0010\nlinear bf16: largest error 0.0031\n[  PASSED  ] 97 test(s).\n",
    "bench-gpu": BENCH,
    "gpu-jobs": "device-rest              p50    0.412 ms\ndevice-allocations       62 before READY, 0 after 60 jobs\n",
    "gpu-memcheck": "skipped: compute-sanitizer is not installed\n",
}
MAKE = """#!/bin/sh
for part; do :; done
[ -f {dir}/$part.sh ] && . {dir}/$part.sh
[ -f {dir}/$part.txt ] && cat {dir}/$part.txt
exit 0
"""
PROBE = """#!/bin/sh
echo '{{"devices":[],"reason":"no driver"}}'
exit {status}
"""


@pytest.fixture
def tree(tmp_path):
    """tree({part: shell text}, probe's exit status, a pack): the script's result."""
    def run(parts=None, probe=0, pack=None):
        shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
        tools, build = tmp_path / "tools", tmp_path / "build"
        (build / "tests" / "bench").mkdir(parents=True)
        tools.mkdir()
        for path, text in ((tools / "make", MAKE.format(dir=tools)), (build / "zit-runner-cuda", PROBE.format(status=probe)),
                           (build / "tests" / "bench" / "bench_png", "#!/bin/sh\necho png-1024 38.0 ms\n")):
            path.write_text(text)
            path.chmod(0o755)
        for part, text in SAYS.items():
            (tools / f"{part}.txt").write_text(text)
        for part, text in (parts or {}).items():
            (tools / f"{part}.sh").write_text(text)
        env = dict(os.environ, PATH=f"{tools}:{os.environ['PATH']}")
        command = [tmp_path / "scripts" / "gpu-check"]
        if pack is not None:
            command[:0] = [tmp_path / "scripts" / "gpu-unpack", pack]
        return subprocess.run(command, capture_output=True, text=True, env=env, timeout=120, check=False)
    return run


def table(result):
    lines = result.stdout.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("---- scripts/gpu-check"))
    return lines[start:]


def test_the_table_fits_a_screen(tree):
    result = tree()
    lines = table(result)
    assert result.returncode == 0 and len(lines) <= 60, result.stdout
    text = "\n".join(lines)
    for wanted in ("# cuda (a card", "operations   ok", "[  PASSED  ] 97 test(s)", "memcheck     skipped", "compute-sanitizer is not installed",
                   "worst operation: linear bf16: largest error 0.0031", "0 after 60 jobs", "device-rest", "png-1024 38.0 ms"):
        assert wanted in text, text
    assert re.match(r"^[a-z0-9-]+ +[0-9.]+ +[0-9.]+ +[0-9.]+$", lines[-1])


def test_a_part_that_fails_is_told_and_the_rest_goes_on(tree):
    result = tree({"gpu-operations": "echo '[  FAILED  ] 3 test(s)'; exit 2\n", "gpu-faults": "kill -KILL $$\n"})
    text = "\n".join(table(result))
    assert result.returncode == 1
    assert re.search(r"operations +FAILED \(2\)", text) and re.search(r"faults +(FAILED|TOOK)", text), text
    assert re.search(r"racecheck +ok", text) and "device-rest" in text


def test_without_a_device(tree):
    result = tree(probe=77)
    assert result.returncode == 77 and "skipped: no driver" in result.stdout, result.stdout


def test_what_was_packed_elsewhere_is_run(tree, tmp_path):
    """No program is built, and the pack's libraries are where programs look."""
    other = tmp_path / "other"
    programs = ("build/zit-runner-cuda", "build/tests/bench/bench_png")
    (other / "build" / "tests" / "bench").mkdir(parents=True)
    for program in programs:
        shutil.copy("/bin/true", other / program)
    pack = subprocess.run([ROOT / "scripts" / "gpu-pack", "pack.tar.xz", *programs], cwd=other, capture_output=True, text=True, timeout=60, check=False)
    assert pack.returncode == 0, pack.stderr
    result = tree({"gpu-operations": "echo \"PACKED=$PACKED $LD_LIBRARY_PATH\"; [ -n \"$PACKED\" ]\n"}, pack=other / "pack.tar.xz")
    assert result.returncode == 0 and "packed at" in result.stdout, result.stdout + result.stderr
    said = (tmp_path / "build" / "gpu-check" / "operations.log").read_text()
    assert "PACKED=1" in said and f"{tmp_path}/build/packed/lib" in said, said


def test_the_pack_has_the_libraries(tmp_path):
    """All that the programs need but what every machine has, and what comes with CUDA."""
    copy = tmp_path / "build" / "zitctl"
    copy.parent.mkdir()
    shutil.copy(BUILD / "zitctl", copy)
    subprocess.run([ROOT / "scripts" / "gpu-pack", "pack.tar.xz", "build/zitctl"], cwd=tmp_path, capture_output=True, timeout=60, check=True)
    names = subprocess.run(["tar", "-tf", tmp_path / "pack.tar.xz"], capture_output=True, text=True, check=True).stdout
    assert "lib/libjansson.so" in names and "lib/libc.so" not in names and "lib/libstdc++" not in names
