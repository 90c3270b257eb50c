#!/usr/bin/env python3
"""A checkpoint as large as the real one, of random normal numbers: for the time and memory of a whole service on a real card.

  full_size_model.py DIR [--small]     33 GB: the transformer in float32 and the rest in bf16, as the real one is

Names and shapes are those of tests/golden/golden-tiny.py, the tokenizer is the demo model's. Matrices have deviation 0.02, which
keeps what flows through 3840 columns near 1; the weights of norms are 1. Numbers come from one pool: each tensor begins at
another place of it.
"""
import argparse
import importlib.util
import json
import math
import shutil
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
TOKENIZER = ROOT / "conf" / "demo" / "model" / "tokenizer"
POOL, STRIDE, SHARDS = 1 << 27, 64 * 7919, 6

FULL = dict(
    transformer=dict(dim=3840, n_layers=30, n_refiner_layers=2, n_heads=30, n_kv_heads=30, cap_feat_dim=2560),
    text_encoder=dict(hidden_size=2560, intermediate_size=9728, num_hidden_layers=36, num_attention_heads=32,
                      num_key_value_heads=8, vocab_size=151936),
    vae=dict(block_out_channels=[128, 256, 512, 512], sample_size=1024))
SMALL = dict(transformer=dict(cap_feat_dim=256), text_encoder=dict(vocab_size=640), vae={})


def golden():
    """golden-tiny.py as a module: the shapes of every network, and the tiny one's configuration."""
    spec = importlib.util.spec_from_file_location("golden_tiny", ROOT / "tests" / "golden" / "golden-tiny.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def configuration(tiny, sizes):
    """{part: its configuration as published}, of those sizes; `tiny`: golden()."""
    return {part: dict(tiny.B[part], **sizes.get(part, {})) for part in tiny.B}


class Numbers:
    """Random normal numbers in bf16, and the same in float32."""

    def __init__(self, count):
        normal = (np.random.default_rng(1).standard_normal(count, dtype=np.float32) * np.float32(0.02)).view(np.uint32)
        self.normal = {"F32": normal & np.uint32(0xFFFF0000), "BF16": (normal >> np.uint32(16)).astype(np.uint16)}
        self.one = {"F32": np.uint32(0x3F800000), "BF16": np.uint16(0x3F80)}

    def pieces(self, name, count, dtype, place):
        """Arrays that are together the tensor's numbers."""
        pool = self.normal[dtype]
        if "norm" in name and name.endswith("weight") and count < 1 << 16:
            yield np.full(count, self.one[dtype])
            return
        while count > 0:
            piece = pool[place:place + count]
            yield piece
            count, place = count - len(piece), 0


def write_file(path, shapes, dtype, numbers):
    """One file of the safetensors format."""
    header, end, size = {"__metadata__": {"format": "pt"}}, 0, {"F32": 4, "BF16": 2}[dtype]
    for name, shape in shapes.items():
        begin, end = end, end + size * math.prod(shape)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for i, (name, shape) in enumerate(shapes.items()):
            for piece in numbers.pieces(name, math.prod(shape), dtype, i * STRIDE % (len(numbers.normal[dtype]) // 2)):
                out.write(piece.data)
    return end


def shards(folder, stem, shapes):
    """[(path, its shapes)], and the index beside them."""
    names, files = list(shapes), []
    each = -(-len(names) // SHARDS)
    for k in range(-(-len(names) // each)):
        part = names[k * each:(k + 1) * each]
        files.append((folder / f"{stem}-{k + 1:05d}.safetensors", {name: shapes[name] for name in part}))
    index = {"metadata": {}, "weight_map": {name: path.name for path, part in files for name in part}}
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index))
    return files


def write(directory, small=False):
    """The whole checkpoint; how many bytes its tensors have."""
    tiny, directory = golden(), Path(directory)
    config = configuration(tiny, SMALL if small else FULL)
    tiny.write_model(directory, config, {}, {}, {}, False, 1)
    shutil.rmtree(directory / "golden")
    for leftover in directory.glob("*/*.safetensors*"):
        leftover.unlink()
    shutil.copytree(TOKENIZER, directory / "tokenizer", dirs_exist_ok=True)
    numbers = Numbers(1 << 20 if small else POOL)
    work = [(path, part, "F32") for path, part in shards(directory / "transformer", "diffusion_pytorch_model",
                                                         tiny.transformer_shapes(config["transformer"]))]
    work += [(path, part, "BF16") for path, part in shards(directory / "text_encoder", "model",
                                                           tiny.text_shapes(config["text_encoder"]))]
    work.append((directory / "vae" / "diffusion_pytorch_model.safetensors", tiny.vae_shapes(config["vae"]), "BF16"))
    with ThreadPoolExecutor() as pool:  # writing lets the others run
        return sum(pool.map(lambda job: write_file(*job, numbers), work))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("directory")
    parser.add_argument("--small", action="store_true", help="of the tiny model's size")
    options = parser.parse_args()
    print(f"{write(options.directory, options.small) / 1e9:.1f} GB")
