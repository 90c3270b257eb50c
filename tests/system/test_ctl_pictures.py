"""zitctl info and replay: what pictures in files say of themselves, whoever wrote them."""
import json
import random
import struct
import subprocess
import zlib

import pytest

from harness import BUILD, ROOT

PNG = b"\x89PNG\r\n\x1a\n"


def chunk(kind, body, size=None):
    return struct.pack(">I", len(body) if size is None else size) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(*texts, after=(), side=16, pixels=None):
    """A grey picture with these chunks before its pixels, and those after them."""
    rows = pixels or b"".join(b"\0" + bytes(side) for _ in range(side))
    return (PNG + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)) + b"".join(texts)
            + chunk(b"IDAT", zlib.compress(rows)) + b"".join(after) + chunk(b"IEND", b""))


def latin(key, text):
    return chunk(b"tEXt", key.encode() + b"\0" + text.encode("latin-1"))


def packed(key, text):
    return chunk(b"zTXt", key.encode() + b"\0\0" + zlib.compress(text.encode("latin-1")))


def itxt(key, text, compress=False):
    body = text.encode()
    return chunk(b"iTXt", key.encode() + (b"\0\1\0" if compress else b"\0\0\0") + b"\0\0" + (zlib.compress(body) if compress else body))


def ctl(*arguments):
    return subprocess.run([str(BUILD / "zitctl"), *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)


def info(path, *arguments):
    result = ctl("info", path, "-o", "json", *arguments)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)["pictures"][0]


def chunks(data):
    at = 8
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        yield kind, data[at : at + size + 12]
        at += size + 12


def without(data, key):
    """The same picture without the text of that key."""
    return PNG + b"".join(whole for kind, whole in chunks(data) if not (kind in (b"iTXt", b"tEXt") and whole[8:].startswith(key + b"\0")))


# ---- info

@pytest.mark.parametrize("write", [latin, packed, itxt, lambda k, t: itxt(k, t, True)], ids=["tEXt", "zTXt", "iTXt", "compressed iTXt"])
@pytest.mark.parametrize("behind", [False, True], ids=["before", "behind"])
def test_texts_of_every_kind_before_and_behind_the_pixels(tmp_path, write, behind):
    text = write("zit", '{"prompt":"a cat","seed":5}')
    (tmp_path / "x.png").write_bytes(png(after=[text]) if behind else png(text))
    picture = info(tmp_path / "x.png")
    assert picture["request"] == {"prompt": "a cat", "seed": 5} and "damage" not in picture


def test_latin1_becomes_utf8_and_the_first_of_a_key_counts(tmp_path):
    (tmp_path / "x.png").write_bytes(png(latin("Comment", "caf\xe9"), latin("Comment", "second"), itxt("Title", "猫")))
    assert info(tmp_path / "x.png")["texts"] == {"Comment": "café", "Title": "猫"}


A1111 = [
    ("a cat\nNegative prompt: dog\nSteps: 8, Sampler: Euler, Seed: 42, Size: 64x96",
     {"prompt": "a cat", "negative_prompt": "dog", "steps": 8, "seed": 42, "width": 64, "height": 96}),
    ('two\nlines\nSteps: 20, Sampler: "DPM++, 2M: \\"K\\"", Seed: 7, Size: 512x512, Model: v1',
     {"prompt": "two\nlines", "steps": 20, "seed": 7, "width": 512, "height": 512, "model": "v1"}),
    ("Steps: 4, Sampler: x, Seed: 1", {"prompt": "", "steps": 4, "seed": 1}),
    ("a prompt that says\nSteps: 5", None),  # too few settings: it belongs to the prompt
    ("Negative prompt\\: kept, Steps\\\\: kept\nSteps: 8, Seed: 2, Size: 16x16",
     {"prompt": "Negative prompt: kept, Steps\\: kept", "steps": 8, "seed": 2, "width": 16, "height": 16}),
    ('{"sui_image_params": {"prompt": "p", "seed": 3, "steps": "many", "width": 32, "height": 48}}',
     {"prompt": "p", "seed": 3, "width": 32, "height": 48}),
    ('a\nSteps: 99999999999999999999, Seed: x, Sampler: "open', None),
    ("", None),
]


@pytest.mark.parametrize("text,request_of", A1111, ids=range(len(A1111)))
def test_parameters_of_other_programs(tmp_path, text, request_of):
    (tmp_path / "x.png").write_bytes(png(itxt("parameters", text)))
    assert info(tmp_path / "x.png").get("request") == request_of


def test_zit_wins_and_members_of_wrong_types_are_left_out(tmp_path):
    (tmp_path / "x.png").write_bytes(png(itxt("parameters", A1111[0][0]), itxt("zit", '{"prompt": 3, "seed": "x", "steps": 2}')))
    assert info(tmp_path / "x.png")["request"] == {"steps": 2}


def hostile():
    good = png(itxt("zit", '{"prompt":"a","seed":1}'))
    yield "no_png", b"GIF89a" + bytes(100), None
    yield "empty", b"", None
    yield "head_only", good[:20], None
    yield "cut", good[:-20], "it ends too early"
    yield "claims_2_GiB", good[:33] + chunk(b"iTXt", b"zit\0", 0x7FFFFFFF) + good[33:], "it ends too early"
    yield "bomb", png(chunk(b"zTXt", b"zit\0\0" + zlib.compress(bytes(64 << 20), 9))), "zTXt"
    yield "crc", good.replace(b'"a"', b'"b"'), "CRC error"
    yield "huge", png(side=1).replace(struct.pack(">II", 1, 1), struct.pack(">II", 999999, 999999), 1), "IHDR"
    yield "control", png(itxt("zit", json.dumps({"prompt": "\x1b[31m\x07red", "seed": 1}))), ""
    yield "deep", png(itxt("zit", "[" * 100000)), ""


@pytest.mark.parametrize("data,damage", [h[1:] for h in hostile()], ids=[h[0] for h in hostile()])
def test_hostile_files_have_their_errors(tmp_path, data, damage):
    path = tmp_path / "x.png"
    path.write_bytes(data)
    result = ctl("info", path)
    assert "Sanitizer" not in result.stderr
    if damage is None or damage == "IHDR":
        assert result.returncode == 2 and str(path) in result.stderr and result.stdout == ""
        return
    assert result.returncode == 0, result.stderr
    assert damage in info(path).get("damage", ""), result.stdout
    assert "\x1b" not in result.stdout and "\x07" not in result.stdout


def test_what_is_no_file_is_said(tmp_path):
    for path in (tmp_path, "/dev/null", tmp_path / "none"):
        result = ctl("info", path)
        assert result.returncode == 2 and str(path) in result.stderr


def test_a_thousand_damaged_files_do_no_harm(tmp_path):
    good, rng = png(itxt("zit", '{"prompt":"a","seed":1}'), packed("parameters", A1111[1][0]), after=[latin("a", "b")]), random.Random(7)
    for i in range(1000):
        data = bytearray(good)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        (tmp_path / f"{i}.png").write_bytes(data[: rng.choice([len(data), rng.randrange(len(data))])])
    result = ctl("info", *tmp_path.iterdir(), "-o", "jsonl")
    assert result.returncode in (0, 2) and "Sanitizer" not in result.stderr, result.stderr[-3000:]
    assert len(result.stdout.splitlines()) + len(result.stderr.splitlines()) == 1000


def test_an_error_keeps_the_end_of_a_long_path():
    result = ctl("info", "/tmp/" + "directory/" * 100 + "end.png")
    assert result.returncode == 2
    assert result.stderr.startswith("zitctl: ...") and result.stderr.endswith("/end.png cannot be read: No such file or directory\n")


# ---- replay

FORGED = "a cat\nNegative prompt: none\nSteps: 1, Sampler: x, Seed: 1, Size: 16x16"


def test_a_picture_is_drawn_again_bit_for_bit(zitd, tmp_path):
    daemon = zitd()
    first = tmp_path / "first.png"
    assert daemon.ctl("generate", FORGED, "-o", first, "--steps", 2, "--seed", 5, "--size", "128x64").returncode == 0
    request = info(first)["request"]
    assert (request["prompt"], request["seed"], request["steps"], request["width"], request["height"]) == (FORGED, 5, 2, 128, 64)

    same = daemon.ctl("replay", first, "--save", tmp_path / "again.png", "-o", "json")
    assert same.returncode == 0, same.stderr
    verdict = json.loads(same.stdout)
    assert verdict["same"] is True and verdict["differs"] == [] and verdict["path"] == str(tmp_path / "again.png")
    assert info(tmp_path / "again.png")["request"]["job"] == verdict["job"] != request["job"]
    assert "bit for bit" in daemon.ctl("replay", first).stdout

    first.write_bytes(without(first.read_bytes(), b"zit"))  # as by a tool that keeps A1111's text only
    assert info(first)["request"]["prompt"] == FORGED
    assert daemon.ctl("replay", first).returncode == 0


def test_replay_says_what_differs(zitd, tmp_path):
    daemon = zitd()
    first = tmp_path / "first.png"
    daemon.ctl("generate", "a cat", "-o", first, "--steps", 1, "--seed", 5, "--size", "64x64")
    other = daemon.ctl("replay", first, "--seed", 6, "-o", "json")
    assert other.returncode == 1
    assert json.loads(other.stdout)["differs"] == [{"key": "seed", "then": 5, "now": 6}]
    daemon.sections["runner"] = {"model": ROOT / "conf" / "demo" / "model"}
    daemon.write_config()
    daemon.restart()
    table = daemon.ctl("replay", first)
    assert table.returncode == 1 and table.stdout.startswith(f"{first}: another picture")
    assert {"model_hash"} <= {line.split()[0] for line in table.stdout.splitlines()[2:]}, table.stdout

    first.write_bytes(png(itxt("parameters", "a cat")))
    unknown = daemon.ctl("replay", first)
    assert unknown.returncode == 2 and "does not say how it was made" in unknown.stderr and "parameters" in unknown.stderr
    first.write_bytes(png(itxt("zit", '{"prompt":"a","seed":1}'))[:-30])
    jobs = len(daemon.records())
    assert daemon.ctl("replay", first).returncode == 2 and len(daemon.records()) == jobs  # nothing was drawn for it
