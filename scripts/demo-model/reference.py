#!/usr/bin/env python3
"""What diffusers draws with the demo model in float32, for the test that our runner draws the same.

usage: reference.py MODEL OUT

Writes OUT/SEED.png for each row below and OUT/manifest.json (prompts, sizes, versions). tests/system/test_demo.py reads them.
"""
import json
import sys
from pathlib import Path

import diffusers
import torch
import transformers

ROWS = [
    {"seed": 1, "prompt": "a red circle on a blue background", "width": 256, "height": 256},
    {"seed": 2, "prompt": "蓝色背景上的红色圆形", "width": 256, "height": 256},
    {"seed": 3, "prompt": "two green stars", "width": 320, "height": 256},
    {"seed": 4, "prompt": "左上角有一个黄色的正方形", "width": 192, "height": 256},
]


def main():
    model, out = sys.argv[1], Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    pipeline = diffusers.ZImagePipeline.from_pretrained(model, torch_dtype=torch.float32)
    for row in ROWS:
        generator = torch.Generator("cpu").manual_seed(row["seed"])
        picture = pipeline(row["prompt"], width=row["width"], height=row["height"], num_inference_steps=8, guidance_scale=0.0,
                           generator=generator).images[0]
        picture.save(out / f"{row['seed']}.png", optimize=True)
    versions = {"diffusers": diffusers.__version__, "torch": torch.__version__, "transformers": transformers.__version__}
    (out / "manifest.json").write_text(json.dumps({"rows": ROWS, "versions": versions}, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
