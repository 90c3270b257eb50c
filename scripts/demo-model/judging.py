"""Reads a picture of the demo model without anything learned: what stands where in which colour, by colour
segmentation and comparison with the outlines that scenes.py draws. numpy alone.
"""

import functools

import numpy as np

import scenes

FOREGROUND = 75  # L1 distance from the background, of 765
SMALLEST = 250 / (256 * 256)  # of the picture's area, for a component that counts
OVERLAP = 0.75  # intersection over union that a shape must reach
SIDE = 48  # of the templates


def nearest_colour(rgb):
    return int(np.abs(scenes.PALETTE - rgb).sum(1).argmin())


def border(picture, width=4):
    parts = (picture[:width], picture[-width:], picture[:, :width], picture[:, -width:])
    return np.concatenate([p.reshape(-1, 3) for p in parts])


def shrink(mask):
    """Erosion by 3x3; outside counts as empty."""
    m = np.pad(mask, 1)
    rows = m[:-2] & m[1:-1] & m[2:]
    return rows[:, :-2] & rows[:, 1:-1] & rows[:, 2:]


def grow(mask):
    m = np.pad(mask, 1)
    rows = m[:-2] | m[1:-1] | m[2:]
    return rows[:, :-2] | rows[:, 1:-1] | rows[:, 2:]


def components(mask):
    """Masks of the 4-connected parts, by joining the runs of neighbouring rows."""
    labels, parent = np.zeros(mask.shape, np.int32), [0]

    def root(i):
        while parent[i] != i:
            i = parent[i]
        return i

    above = []
    for y, row in enumerate(mask):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], row.view(np.int8), [0]])))
        runs = []
        for a, b in zip(edges[::2], edges[1::2]):
            touched = {root(k) for c, d, k in above if c < b and a < d}
            own = min(touched) if touched else len(parent)
            if not touched:
                parent.append(own)
            for k in touched:
                parent[k] = own
            labels[y, a:b] = own
            runs.append((a, b, own))
        above = runs
    roots = np.array([root(i) for i in range(len(parent))])
    labels = roots[labels]
    return [labels == k for k in np.unique(labels) if k != 0]


@functools.lru_cache(maxsize=None)
def templates():
    found = []
    for shape in range(len(scenes.SHAPES)):
        found.append(box_of(scenes.draw_mask(shape, (128, 128), 100, 256, 256) > 127))
    return np.stack(found)


def box_of(mask):
    """The mask's bounding box resized to SIDE x SIDE."""
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    y = ys[0] + (np.arange(SIDE) + 0.5) * (ys[-1] + 1 - ys[0]) / SIDE
    x = xs[0] + (np.arange(SIDE) + 0.5) * (xs[-1] + 1 - xs[0]) / SIDE
    return mask[y.astype(int)][:, x.astype(int)]


def shape_of(mask):
    box, all_shapes = box_of(mask), templates()
    overlap = (all_shapes & box).sum((1, 2)) / (all_shapes | box).sum((1, 2))
    return int(overlap.argmax()) if overlap.max() > OVERLAP else None


def position_of(mask):
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    place = np.array([(ys[0] + ys[-1] + 1) / 2 / mask.shape[0], (xs[0] + xs[-1] + 1) / 2 / mask.shape[1]])
    y, x = np.clip(np.rint(place * 4 - 1), 0, 2).astype(int)
    return int(y * 3 + x)


def inside(mask):
    core = shrink(shrink(mask))
    return core if core.any() else mask


def see(picture):
    """Background colour and, for each object, (shape or None, colour, position), of (H, W, 3) uint8."""
    ground = np.median(border(picture), 0)
    mask = np.abs(picture.astype(np.float32) - ground).sum(2) > FOREGROUND
    mask = grow(shrink(mask))
    parts = [m for m in components(mask) if m.sum() >= SMALLEST * mask.size]
    seen = [(shape_of(m), nearest_colour(np.median(picture[inside(m)], 0)), position_of(m)) for m in parts]
    return nearest_colour(ground), seen


def judge(picture, scene):
    """What of the scene is right in the picture."""
    ground, seen = see(picture)
    cells = scenes.cells_of(scene)
    right = {
        "object": len(seen) > 0 and all(s == scene.shape for s, _, _ in seen),
        "colour": len(seen) > 0 and all(c == scene.colour for _, c, _ in seen),
        "position": sorted(p for _, _, p in seen) == sorted(cells),
        "count": len(seen) == scene.count,
        "background": ground == scene.background,
    }
    right["all"] = right["object"] and right["colour"] and right["position"]
    return right


def scores(judged):
    return {k: float(np.mean([j[k] for j in judged])) for k in judged[0]}


# ---- held-out prompts and the table


def prompts(seed, count):
    """Scenes that training never saw and their captions: English and Chinese in turn."""
    rng = np.random.default_rng([41, seed])
    drawn = [scenes.random_scene(rng, want_held_out=True) for _ in range(count)]
    speak = (scenes.english, scenes.chinese)
    return drawn, [speak[i % 2](s, rng) for i, s in enumerate(drawn)]


ROWS = (("all prompts", lambda i, s: True), ("English", lambda i, s: i % 2 == 0), ("Chinese", lambda i, s: i % 2 == 1),
        ("one object", lambda i, s: s.count == 1), ("two objects", lambda i, s: s.count == 2))


def table(drawn, judged):
    """Shares of right answers, and the fixed last line."""
    columns = ("object", "colour", "position", "count", "background", "all")
    lines = [f"{'':12} {'pictures':>8} " + " ".join(f"{c:>10}" for c in columns)]
    for name, belongs in ROWS:
        part = [j for i, (j, s) in enumerate(zip(judged, drawn)) if belongs(i, s)]
        if part:
            found = scores(part)
            lines.append(f"{name:12} {len(part):8} " + " ".join(f"{found[c]:10.3f}" for c in columns))
    found = scores(judged)
    last = " ".join(f"{c}={found[c]:.2f}" for c in ("object", "colour", "position", "all"))
    return "\n".join(lines) + f"\n{last} pictures={len(judged)}"
