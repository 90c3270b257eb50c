"""Pictures that zitctl saves are there whole or not at all, and nothing else is, wherever it is killed."""
import fcntl
import os
import re
import resource
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from harness import BUILD, SANITIZED, SMALL, until
from test_batch import note_accepted, pictures, write_lines
from test_ctl_restart import sleeps

NO_TMPFILE = {"LD_PRELOAD": str(BUILD / "tests" / "faulty_calls.so"), "NO_TMPFILE": "1"}
FILE_SYSTEMS = pytest.mark.parametrize("shim", [{}, pytest.param(NO_TMPFILE, marks=pytest.mark.skipif(
    SANITIZED, reason="a sanitizer's runtime wants to be loaded first"))], ids=["", "all files have names"])


def zitctl(daemon, *arguments, shim, file_bytes=resource.RLIM_INFINITY):
    """The kernel kills it when it makes a file larger than that."""
    return subprocess.run([str(BUILD / "zitctl"), "-H", str(daemon.socket_path), *map(str, arguments)], env={**daemon.env, **shim},
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, resource.RLIM_INFINITY)),
                          capture_output=True, text=True, timeout=60, check=False)


def leaves_nothing(directory, shim):
    """Whether files without names are to be had there."""
    try:
        os.close(os.open(directory, os.O_TMPFILE | os.O_WRONLY))
        return not shim
    except OSError:
        return False


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def has_a_picture(pid):
    """A descriptor that came over its socket."""
    return any(int(fd.name) > 2 and not os.readlink(fd).startswith(("socket:", "pipe:")) for fd in Path(f"/proc/{pid}/fd").iterdir())


@FILE_SYSTEMS
@pytest.mark.parametrize("before", [None, b"an older picture"], ids=["new", "in another's place"])
def test_killed_while_it_saves(zitd, tmp_path, before, shim):
    daemon = zitd("step 0")
    out = tmp_path / "out"
    out.mkdir()
    if before is not None:
        (out / "cat.png").write_bytes(before)
    there = names(out)
    result = zitctl(daemon, "generate", "a cat", "--save", out / "cat.png", shim=shim, file_bytes=20)
    assert result.returncode == -signal.SIGXFSZ, result.stderr
    if leaves_nothing(out, shim):
        assert names(out) == there
    assert before is None or (out / "cat.png").read_bytes() == before
    result = zitctl(daemon, "generate", "a cat", "--save", out / "cat.png", shim=shim)
    assert result.returncode == 0, result.stderr
    assert names(out) == ["cat.png"]
    assert (out / "cat.png").read_bytes()[-8:-4] == b"IEND"


@FILE_SYSTEMS
def test_a_batch_killed_while_it_saves(zitd, tmp_path, shim):
    daemon = zitd()
    out = tmp_path / "out"
    prompts = write_lines(tmp_path / "p.jsonl", {"prompt": "a cat", "steps": 1, **SMALL})
    result = zitctl(daemon, "batch", prompts, "--out", out, shim=shim, file_bytes=1000)  # the record is smaller
    assert result.returncode == -signal.SIGXFSZ, result.stderr
    if leaves_nothing(out, shim):
        assert pictures(out) == []
    result = zitctl(daemon, "batch", prompts, "--out", out, "--resume", shim=shim)
    assert result.returncode == 0, result.stderr
    note_accepted(daemon, out)
    assert names(out) == ["0001.png", "batch.jsonl"]


@FILE_SYSTEMS
def test_what_was_left_is_cleared_and_who_is_at_work_is_waited_for(zitd, tmp_path, shim):
    """A file by the name that a picture has meanwhile, with nobody's lock on it, and with somebody's."""
    daemon = zitd("step 0")
    out = tmp_path / "out"
    out.mkdir()
    (out / "cat.png").write_bytes(b"an older picture")
    part = out / ".cat.png.zit-part"
    part.write_bytes(b"half a picture")
    assert zitctl(daemon, "generate", "a cat", "--save", out / "cat.png", shim=shim).returncode == 0
    assert names(out) == ["cat.png"]
    with part.open("wb") as others:
        fcntl.flock(others, fcntl.LOCK_EX)
        results = []
        saving = threading.Thread(target=lambda: results.append(
            zitctl(daemon, "generate", "a dog", "--save", out / "cat.png", shim=shim)))
        saving.start()
        saving.join(0.5)
        assert saving.is_alive() and part.exists()
        part.rename(out / "cat.png")  # as who has the lock may
    saving.join()
    assert results[0].returncode == 0, results[0].stderr
    assert names(out) == ["cat.png"] and (out / "cat.png").read_bytes()[-8:-4] == b"IEND"


@FILE_SYSTEMS
def test_many_save_to_one_place(zitd, tmp_path, shim):
    daemon = zitd("step 0")
    out = tmp_path / "out"
    out.mkdir()
    savers = [subprocess.Popen([str(BUILD / "zitctl"), "-H", str(daemon.socket_path), "generate", "a cat", "-q", "--save", str(out / "cat.png")],
                               env={**daemon.env, **shim}, stdout=subprocess.DEVNULL) for _ in range(10)]
    assert [saver.wait(60) for saver in savers] == [0] * 10
    assert names(out) == ["cat.png"] and (out / "cat.png").read_bytes()[-8:-4] == b"IEND"


def test_a_link_and_the_mask_are_heeded(zitd, tmp_path):
    """The picture takes the place of a link, and is readable as far as the user wants new files to be."""
    daemon = zitd("step 0")
    (tmp_path / "cat.png").symlink_to("nowhere.png")
    result = subprocess.run([str(BUILD / "zitctl"), "-H", str(daemon.socket_path), "generate", "a cat", "--save", "cat.png"], umask=0o027,
                            env=daemon.env, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    assert not (tmp_path / "cat.png").is_symlink() and (tmp_path / "cat.png").stat().st_mode & 0o777 == 0o640


# ---- where they go

def test_a_directory_gets_the_job(zitd, tmp_path):
    """Whether one writes it with a slash or without."""
    daemon = zitd()
    out = tmp_path / "out"
    out.mkdir()
    for place in (out, f"{out}/"):
        for n in (1, 2):
            result = daemon.ctl("generate", "a", "-n", n, "--steps", 1, "--size", "64x64", "--save", place)
            assert result.returncode == 0, result.stderr
            job = daemon.records()[0]["job"]
            assert result.stdout.split() == ([f"{out}/{job}.png"] if n == 1 else [f"{out}/{job}-1.png", f"{out}/{job}-2.png"])
            assert set(result.stdout.split()) <= {str(path) for path in out.iterdir()}
    assert len(names(out)) == 6
    assert daemon.ctl("replay", out / names(out)[0], "--save", out).returncode == 0
    assert names(out)[-1] == daemon.records()[0]["job"] + ".png"


@pytest.mark.parametrize("name", ["-", "a link to it"])
@pytest.mark.parametrize("kind", ["pipe", "file"])
def test_standard_output_gets_the_picture_alone(zitd, tmp_path, name, kind):
    """By a link such as /dev/stdout, too, which is still there afterwards."""
    daemon = zitd("step 0")
    link = tmp_path / "stdout"
    link.symlink_to("/proc/self/fd/1")
    command = [str(BUILD / "zitctl"), "-H", str(daemon.socket_path), "generate", "a", "-n", "2", "-o", "-" if name == "-" else str(link)]
    if kind == "pipe":
        data = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=60).stdout
    else:
        with (tmp_path / "out").open("wb") as out:
            subprocess.run(command, stdout=out, check=True, timeout=60)
        data = (tmp_path / "out").read_bytes()
    assert data == b"".join(open(picture["path"], "rb").read() for picture in daemon.records()[0]["result"]["pictures"])
    assert link.is_symlink()


def test_a_pipe_gets_all_of_them(zitd, tmp_path):
    daemon = zitd("step 0")
    out = tmp_path / "out"
    out.mkdir()
    os.mkfifo(out / "pipe")
    reader = os.open(out / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    assert daemon.ctl("generate", "a", "-n", "2", "-o", out / "pipe").returncode == 0
    assert os.read(reader, 1 << 16).count(b"IEND") == 2
    os.close(reader)
    assert names(out) == ["pipe"]


@pytest.mark.parametrize("how", ["-", "pipe"])
def test_an_interrupt_is_heeded_while_nobody_reads(zitd, tmp_path, how):
    """Neither loses the picture."""
    daemon = zitd("step 0")
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(tmp_path / "pipe", os.O_WRONLY)
    os.write(writer, bytes(fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)))
    process = subprocess.Popen([str(BUILD / "zitctl"), "-H", str(daemon.socket_path), "generate", "a", "-o", how if how == "-" else str(tmp_path / how)],
                               stdout=writer, stderr=subprocess.PIPE, text=True)
    until(lambda: has_a_picture(process.pid) and sleeps(process.pid), what="it waits for the reader")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    command = re.search(r"'zitctl (wait job_\w+ --save) FILE'", errors).group(1).split()
    assert daemon.ctl(*command, tmp_path / "a.png").returncode == 0
    os.close(reader)
    os.close(writer)


def test_no_name_is_no_place(zitd):
    daemon = zitd("step 0")
    result = daemon.ctl("generate", "a", "--save", "")
    assert result.returncode == 2 and "--save wants the name of a file" in result.stderr
    assert daemon.records() == []
