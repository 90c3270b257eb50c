#!/usr/bin/env python3
"""Makes the contact sheet of the demo model: 24 pictures from a running zitd, six in a row, and a list of their
prompts in Markdown on stdout.

usage: contact_sheet.py --socket S --output FILE.png [--seed N]
"""

import argparse

import numpy as np
from PIL import Image

from service import Service

COLUMNS, GAP = 6, 8
PROMPTS = (
    "a red circle on a blue background", "蓝色背景上的红色圆形", "a yellow star on a black background",
    "黑色背景上的黄色五角星", "a pink heart", "画一个红色爱心", "a small green square in the top left corner",
    "左上角有一个绿色小方块", "a large purple triangle on a yellow background", "黄色背景上的紫色大三角形",
    "a white cross on a red background", "红色背景上的白色十字", "two blue stars on a white background",
    "粉色背景上的两个黑色圆形", "an orange circle at the bottom right on a gray background", "灰色背景，右下角有一个橙色圆形",
    "a black heart on the left on a green background", "左边有一个白色心形，绿色背景", "a gray triangle at the top",
    "下方的蓝色三角形，橙色背景", "Please draw a green cross on a pink background.", "请画一个紫色的正方形，在右边",
    "a small white star in the upper right on a purple background", "蓝色背景上的大白色星星",
)


def sheet(pictures):
    height, width = pictures[0].shape[:2]
    rows = -(-len(pictures) // COLUMNS)
    canvas = np.full((rows * (height + GAP) + GAP, COLUMNS * (width + GAP) + GAP, 3), 255, np.uint8)
    for i, picture in enumerate(pictures):
        y, x = (k * (side + GAP) + GAP for k, side in zip(divmod(i, COLUMNS), (height, width)))
        canvas[y : y + height, x : x + width] = picture
    return Image.fromarray(canvas)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--socket", required=True)
    p.add_argument("--output", required=True)
    p.add_argument("--seed", type=int, default=1)
    options = p.parse_args()
    service = Service(options.socket)
    pictures = [service.picture(prompt, options.seed + i) for i, prompt in enumerate(PROMPTS)]
    sheet(pictures).reduce(2).save(options.output, optimize=True)
    for i in range(0, len(PROMPTS), COLUMNS):
        print(f"{i // COLUMNS + 1}. " + " · ".join(PROMPTS[i : i + COLUMNS]))


if __name__ == "__main__":
    main()
