"""The latent space of the demo model: a linear map of each 16x16 patch, fixed before any training.

PCA of patches of generated scenes, 16 numbers a patch; channel k is divided by std_k^WHITENING, then all by one
number so that the whole has standard deviation 1. Encoder and decoder are later trained to agree with it.

A picture is linear in the coverage of its objects, so a scene's latent is found from stored features of the
coverage and six colour numbers: no picture is drawn during the transformer's training.
"""

import numpy as np
import torch

import scenes

PATCH = 16  # pixels per latent side
CHANNELS = 16
WHITENING = 0.3


def normalised(rgb):
    return np.asarray(rgb, np.float32) / 127.5 - 1


def patches(image):
    """(H, W, C) to (H/16, W/16, C, 256)."""
    h, w, c = image.shape
    cut = image.reshape(h // PATCH, PATCH, w // PATCH, PATCH, c)
    return cut.transpose(0, 2, 4, 1, 3).reshape(h // PATCH, w // PATCH, c, PATCH * PATCH)


class LatentMap:
    """latent = (patch - mean) @ basis, patch flat in (channel, y, x) order."""

    def __init__(self, mean, basis):
        self.mean, self.basis = mean, basis

    @classmethod
    def fit(cls, pictures=400, seed=2):
        rng = np.random.default_rng(seed)
        rows = [patches(normalised(scenes.render(scenes.random_scene(rng, False), rng))) for _ in range(pictures)]
        rows = np.concatenate([r.reshape(-1, 3 * PATCH * PATCH) for r in rows]).astype(np.float64)
        mean = rows.mean(0)
        values, vectors = np.linalg.eigh(np.cov((rows - mean).T))
        values, vectors = values[::-1][:CHANNELS], vectors[:, ::-1][:, :CHANNELS]
        vectors = vectors * np.where(np.abs(vectors).max(0) == vectors.max(0), 1, -1)  # signs do not depend on LAPACK
        basis = vectors / np.sqrt(values) ** WHITENING
        basis /= ((rows - mean) @ basis).std()
        return cls(mean.astype(np.float32), basis.astype(np.float32))

    def encode(self, image):
        """(H, W, 3) uint8 to (16, H/16, W/16)."""
        cut = patches(normalised(image))
        return ((cut.reshape(*cut.shape[:2], -1) - self.mean) @ self.basis).transpose(2, 0, 1)

    def decode_linear(self, latent):
        """The best linear picture of a latent (16, h, w): (H, W, 3) float32, -1..1."""
        h, w = latent.shape[1:]
        rows = latent.transpose(1, 2, 0).reshape(-1, CHANNELS) @ np.linalg.pinv(self.basis) + self.mean
        return rows.reshape(h, w, 3, PATCH, PATCH).transpose(0, 3, 1, 4, 2).reshape(h * PATCH, w * PATCH, 3)


class LatentPool:
    """Features of the coverage of every shape, size and place, with several jitters each, for one picture size."""

    def __init__(self, latent_map, width, height, variants, seed=3):
        self.width, self.height, self.variants = width, height, variants
        self.rows = height // 32 * (width // 32)
        basis = latent_map.basis.reshape(3, PATCH * PATCH, CHANNELS)
        self.flat = torch.tensor(basis.sum(1))  # (3, 16): a latent of one flat colour is colour @ flat - offset
        self.offset = torch.tensor(latent_map.mean @ latent_map.basis)
        rng = np.random.default_rng(seed)
        self.features = torch.stack([self.feature(m, basis) for m in self.masks(rng)])

    def masks(self, rng):
        scale = min(self.width, self.height) / 256
        for shape in range(len(scenes.SHAPES)):
            for size, _ in scenes.SIZES.values():
                for cell in range(9):
                    for _ in range(self.variants):
                        centre = np.array(scenes.cell_centre(cell, self.width, self.height))
                        centre += rng.integers(-scenes.JITTER, scenes.JITTER + 1, 2) * scale
                        yield scenes.draw_mask(shape, centre, size * scale, self.width, self.height)

    def feature(self, mask, basis):
        """(rows, 4, 3, 16) float16: rows of 2x2 patches as the transformer sees them."""
        cut = patches((mask.astype(np.float32) / 255)[..., None])[:, :, 0]
        found = torch.tensor(np.einsum("hwp,cpk->hwck", cut, basis))
        h, w = found.shape[:2]
        found = found.reshape(h // 2, 2, w // 2, 2, 3, CHANNELS).transpose(1, 2)
        return found.reshape(self.rows, 4, 3, CHANNELS).half()

    def index(self, scene, cell, rng):
        place = (scene.shape * len(scenes.SIZES) + scene.size) * 9 + cell
        return place * self.variants + int(rng.integers(self.variants))

    def batch(self, drawn, rng):
        """Transformer rows (B, rows, 64) of a list of scenes."""
        first = [self.index(s, scenes.cells_of(s)[0], rng) for s in drawn]
        cover = self.features[torch.tensor(first)].float()
        for i, s in enumerate(drawn):
            if s.count == 2:
                cover[i] += self.features[self.index(s, scenes.cells_of(s)[1], rng)]
        palette = torch.tensor(normalised(scenes.PALETTE))
        ground = palette[[s.background for s in drawn]]
        contrast = palette[[s.colour for s in drawn]] - ground
        latent = torch.einsum("brqck,bc->brqk", cover, contrast) + (ground @ self.flat - self.offset)[:, None, None]
        return latent.flatten(2)
