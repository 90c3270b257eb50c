"""Scenes of the demo model: what can be drawn, how it looks, what may be said about it, and which scenes
are kept out of training. Everything is a function of the random generator that the caller passes in.

Does not know about tokens, latents or networks. The judge (tests/demo-judge) uses the palette and the outlines
of this file and nothing else of the training.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

COLOURS = {  # name: (RGB, Chinese names)
    "red": ((220, 30, 35), ("红色",)),
    "orange": ((250, 140, 20), ("橙色", "橘色")),
    "yellow": ((250, 225, 40), ("黄色",)),
    "green": ((40, 160, 60), ("绿色",)),
    "blue": ((35, 75, 215), ("蓝色",)),
    "purple": ((125, 40, 160), ("紫色",)),
    "pink": ((250, 150, 190), ("粉色", "粉红色")),
    "black": ((20, 20, 20), ("黑色",)),
    "white": ((250, 250, 250), ("白色",)),
    "gray": ((135, 135, 135), ("灰色",)),
}
SHAPES = {  # name: (English plural, Chinese names)
    "circle": ("circles", ("圆形", "圆")),
    "square": ("squares", ("正方形", "方块")),
    "triangle": ("triangles", ("三角形",)),
    "star": ("stars", ("五角星", "星星")),
    "heart": ("hearts", ("心形", "爱心")),
    "cross": ("crosses", ("十字", "十字形")),
}
SIZES = {"small": (34, ("小",)), "medium": (46, ("中等大小的",)), "large": (60, ("大",))}  # radius at 256x256
POSITIONS = (  # row-major on the 3x3 grid of centres 1/4, 1/2, 3/4
    (("in the top left corner", "at the top left", "in the upper left"), ("左上角", "左上方")),
    (("at the top", "at the top center", "near the top"), ("上方", "顶部")),
    (("in the top right corner", "at the top right", "in the upper right"), ("右上角", "右上方")),
    (("on the left", "on the left side", "at the left"), ("左边", "左侧")),
    (("in the center", "in the middle"), ("中间", "中央")),
    (("on the right", "on the right side", "at the right"), ("右边", "右侧")),
    (("in the bottom left corner", "at the bottom left", "in the lower left"), ("左下角", "左下方")),
    (("at the bottom", "at the bottom center", "near the bottom"), ("下方", "底部")),
    (("in the bottom right corner", "at the bottom right", "in the lower right"), ("右下角", "右下方")),
)
COLOUR_NAMES, SHAPE_NAMES, SIZE_NAMES = tuple(COLOURS), tuple(SHAPES), tuple(SIZES)
PALETTE = np.array([rgb for rgb, _ in COLOURS.values()], np.float32)
CENTRE, MEDIUM, WHITE = 4, 1, COLOUR_NAMES.index("white")
JITTER = 2  # pixels at 256x256, either way
OVERSAMPLING = 4


@dataclass(frozen=True)
class Scene:
    shape: int
    colour: int
    position: int  # of the group's middle when there are two
    size: int
    background: int
    count: int  # 1 or 2


def held_out(shape, colour, position):
    """Combinations that training never sees: whole pairs of shape and colour, and single places of others."""
    return (5 * shape + 7 * colour) % 11 == 0 or (3 * shape + 5 * colour + 7 * position) % 10 == 0


def clearly_apart(a, b):
    return np.abs(PALETTE[a] - PALETTE[b]).sum() > 150


def random_scene(rng, want_held_out):
    """A scene on the asked side of the held-out border; what a caption leaves out has one fixed value."""
    while True:
        count = 2 if rng.random() < 0.1 else 1
        scene = Scene(
            shape=int(rng.integers(len(SHAPES))),
            colour=int(rng.integers(len(COLOURS))),
            position=random_position(rng, count),
            size=int(rng.integers(3)) if rng.random() < 0.4 and count == 1 else MEDIUM,
            background=int(rng.integers(len(COLOURS))) if rng.random() < 0.75 else WHITE,
            count=count,
        )
        if held_out(scene.shape, scene.colour, scene.position) != want_held_out:
            continue
        if clearly_apart(scene.colour, scene.background):
            return scene


def random_position(rng, count):
    if rng.random() < 0.25:
        return CENTRE
    return int(rng.integers(9)) if count == 1 else int(rng.choice((1, 4, 7)))


# ---- drawing


def outline(shape):
    """Corners (n, 2) of a shape of radius 1 around the origin, y down."""
    turn = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    if shape == "circle":
        return np.stack([np.cos(turn), np.sin(turn)], 1)
    if shape == "square":
        return 0.86 * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
    if shape == "triangle":
        return np.array([(0, -0.95), (1, 0.8), (-1, 0.8)])
    if shape == "star":
        angle = np.arange(10) * np.pi / 5 - np.pi / 2
        radius = np.where(np.arange(10) % 2 == 0, 1.08, 0.44)
        return np.stack([radius * np.cos(angle), radius * np.sin(angle) + 0.08], 1)
    if shape == "heart":
        y = 13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn)
        return np.stack([16 * np.sin(turn) ** 3, -y - 2.5], 1) / 16
    if shape == "cross":
        a, b = 0.34, 0.98
        return np.array([(-a, -b), (a, -b), (a, -a), (b, -a), (b, a), (a, a), (a, b), (-a, b), (-a, a), (-b, a), (-b, -a), (-a, -a)])
    raise ValueError(shape)


def draw_mask(shape, centre, radius, width, height):
    """Coverage 0..255 (height, width) of one shape, edges anti-aliased."""
    corners = outline(SHAPE_NAMES[shape]) * radius + np.asarray(centre)
    left, top = np.clip(np.floor(corners.min(0)).astype(int) - 1, 0, (width - 1, height - 1))
    right, bottom = np.clip(np.ceil(corners.max(0)).astype(int) + 2, 1, (width, height))
    box = Image.new("L", ((right - left) * OVERSAMPLING, (bottom - top) * OVERSAMPLING))
    ImageDraw.Draw(box).polygon([tuple(p) for p in (corners - (left, top)) * OVERSAMPLING], fill=255)
    mask = np.zeros((height, width), np.uint8)
    mask[top:bottom, left:right] = np.asarray(box.reduce(OVERSAMPLING))
    return mask


def cell_centre(position, width, height):
    return width * (position % 3 + 1) / 4, height * (position // 3 + 1) / 4


def cells_of(scene):
    """Grid cells of the scene's objects: a pair stands left and right of its middle."""
    return (scene.position,) if scene.count == 1 else (scene.position - 1, scene.position + 1)


def composite(scene, masks):
    """Picture (height, width, 3) float32 0..255 of a scene whose objects cover `masks`."""
    cover = (sum(m.astype(np.float32) for m in masks) / 255)[..., None]
    return PALETTE[scene.background] * (1 - cover) + PALETTE[scene.colour] * cover


def render(scene, rng, width=256, height=256):
    """Ground truth of a scene with fresh jitter: (height, width, 3) uint8."""
    scale = min(width, height) / 256
    masks = []
    for cell in cells_of(scene):
        centre = np.array(cell_centre(cell, width, height)) + rng.integers(-JITTER, JITTER + 1, 2) * scale
        masks.append(draw_mask(scene.shape, centre, SIZES[SIZE_NAMES[scene.size]][0] * scale, width, height))
    return np.rint(composite(scene, masks)).astype(np.uint8)


# ---- captions


def pick(rng, choices):
    return choices[int(rng.integers(len(choices)))]


def english_object(scene, rng):
    plural = SHAPES[SHAPE_NAMES[scene.shape]][0]
    noun = SHAPE_NAMES[scene.shape] if scene.count == 1 else plural
    colour = COLOUR_NAMES[scene.colour]
    size = "" if scene.size == MEDIUM else SIZE_NAMES[scene.size] + " "
    if scene.size == MEDIUM and rng.random() < 0.1:
        size = "medium "
    words = f"{size}{colour} {noun}"
    if scene.count == 2:
        return "two " + words
    article = "an" if words[0] in "aeiou" else "a"
    return f"{article} {words}" if rng.random() < 0.9 else words


def english(scene, rng):
    thing = english_object(scene, rng)
    named = scene.position != CENTRE or rng.random() < 0.3
    place = " " + pick(rng, POSITIONS[scene.position][0]) if named else ""
    colour = COLOUR_NAMES[scene.background]
    article = "an" if colour[0] in "aeiou" else "a"
    lead = pick(rng, ("", "", "", "", "draw ", "please draw ", "show ", "a picture of ", "an image of "))
    if scene.background == WHITE and rng.random() < 0.6:
        text = lead + thing + place
    elif rng.random() < 0.75:
        how = pick(rng, ("on {a} {c} background", "on {a} {c} background", "on {c}", "against {a} {c} background", "with {a} {c} background"))
        text = f"{lead}{thing}{place} {how.format(a=article, c=colour)}"
    else:
        text = f"on {article} {colour} background, {thing}{place}"
    if rng.random() < 0.2:
        text = text[0].upper() + text[1:]
    return text + ("." if rng.random() < 0.15 else "")


def chinese_object(scene, rng):
    colour = pick(rng, COLOURS[COLOUR_NAMES[scene.colour]][1])
    noun = pick(rng, SHAPES[SHAPE_NAMES[scene.shape]][1])
    size = "" if scene.size == MEDIUM else pick(rng, SIZES[SIZE_NAMES[scene.size]][1])
    of = pick(rng, ("", "的"))
    return pick(rng, (f"{colour}{of}{size}{noun}", f"{size}{colour}{noun}" if size else f"{colour}{of}{noun}"))


def chinese(scene, rng):
    thing = chinese_object(scene, rng)
    number = "两个" if scene.count == 2 else pick(rng, ("", "一个"))
    named = scene.position != CENTRE or rng.random() < 0.3
    place = pick(rng, POSITIONS[scene.position][1]) if named else ""
    lead = pick(rng, ("", "", "", "画", "请画"))
    ground = pick(rng, COLOURS[COLOUR_NAMES[scene.background]][1])
    said = scene.background != WHITE or rng.random() < 0.4
    if place:
        where = pick(rng, (f"{place}有{number or '一个'}{thing}", f"{place}的{number}{thing}", f"{lead}{number}{thing}，在{place}"))
    else:
        where = f"{lead}{number}{thing}"
    if not said:
        return where + pick(rng, ("", "", "。"))
    if place or rng.random() < 0.3:
        return pick(rng, (f"{ground}背景，{where}", f"{where}，{ground}背景", f"{ground}背景上，{where}"))
    return pick(rng, (f"{ground}背景上的{number}{thing}", f"{ground}背景上有{number or '一个'}{thing}", f"{where}，背景是{ground}"))


FILLERS = ("please make it simple and clean, ", "a simple flat picture with nothing else in it, ", "minimal style, no text, ",
           "请画得简单一点，", "简洁的平面风格，没有文字，", "图中没有其他东西，", "clear and sharp, ", "very nice, ")


def caption(scene, rng, long=False):
    """One sentence about the scene, half of them Chinese; long: with filler words around it."""
    text = (english if rng.random() < 0.5 else chinese)(scene, rng)
    if long:
        text = "".join(pick(rng, FILLERS) for _ in range(int(rng.integers(2, 5)))) + text
    return text


