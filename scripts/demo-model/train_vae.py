#!/usr/bin/env python3
"""Trains the decoder or the encoder of the demo model by regression on the fixed latents of latents.py.

usage: train_vae.py decoder|encoder DIRECTORY [--steps N] [--rate R] [--fresh-peak]

DIRECTORY is the one that train_dit.py writes: its checkpoint, if there is one, says which latents are meant.
Writes DIRECTORY/decoder.pt or encoder.pt every --save steps and continues from it; the log is DECODER.tsv beside
it. The two halves never meet during training and may be trained at the same time, before or after the transformer.
"""

import argparse
import os
import time

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

import scenes
from latents import PATCH, LatentMap

CONFIG = {
    "block_out_channels": [16, 32, 64, 64, 64], "layers_per_block": 1, "latent_channels": 16, "norm_num_groups": 4,
    "in_channels": 3, "out_channels": 3, "scaling_factor": 0.3611, "shift_factor": 0.1159, "act_fn": "silu",
    "use_quant_conv": False, "use_post_quant_conv": False, "mid_block_add_attention": True, "force_upcast": True,
    "sample_size": 256, "down_block_types": ["DownEncoderBlock2D"] * 5, "up_block_types": ["UpDecoderBlock2D"] * 5,
}
STAGES = ((0.5, 64, 16), (0.8, 128, 5), (1.0, 256, 2))  # until this share of the steps: side, batch
NOISE = 0.15  # the largest standard deviation of what the decoder must forgive
LOGVAR = -8.0


def raw(latent):
    """What decoders of this format take: scale and shift of the public configuration."""
    return latent / CONFIG["scaling_factor"] + CONFIG["shift_factor"]


class Pictures:
    """Random scenes, and crops of them on the grid of the latents."""

    def __init__(self, latent_map):
        self.latent_map = latent_map

    def batch(self, rng, side, count):
        pairs = [self.one(rng, side) for _ in range(count)]
        return [torch.tensor(np.stack(p)) for p in zip(*pairs)]

    def one(self, rng, side):
        scene = scenes.random_scene(rng, False)
        picture = scenes.render(scene, rng)
        y, x = self.corner(scene, rng, side)
        picture = picture[y : y + side, x : x + side]
        image = (picture.astype(np.float32) / 127.5 - 1).transpose(2, 0, 1)
        return image, self.latent_map.encode(picture).astype(np.float32)

    @staticmethod
    def corner(scene, rng, side):
        """Of a crop on the grid, mostly near an edge of an object: there is little to learn from flat ground."""
        centre = np.array(scenes.cell_centre(scenes.cells_of(scene)[0], 256, 256))[::-1]
        if rng.random() < 0.8:
            centre = centre + rng.uniform(-60, 60, 2) - side / 2
        else:
            centre = rng.uniform(0, 256, 2)
        return np.clip((centre / PATCH).astype(int) * PATCH, 0, 256 - side)


def side_and_batch(share):
    return next((side, batch) for until, side, batch in STAGES if share < until or until == 1.0)


def decoder_loss(vae, image, latent, random):
    noise = torch.randn(latent.shape, generator=random) * torch.rand(len(latent), 1, 1, 1, generator=random) * NOISE
    found = vae.decoder(raw(latent + noise).contiguous(memory_format=torch.channels_last)).float()
    return F.l1_loss(found, image) + 2 * F.mse_loss(found, image), found, image


def encoder_loss(vae, image, latent, random):
    found = vae.encoder(image.contiguous(memory_format=torch.channels_last)).float()[:, : CONFIG["latent_channels"]]
    wanted = raw(latent)
    return F.l1_loss(found, wanted) + 2 * F.mse_loss(found, wanted), found, wanted


LOSSES = {"decoder": decoder_loss, "encoder": encoder_loss}


class Run:
    def __init__(self, options):
        torch.manual_seed(7)
        self.options, self.step, self.started_at, self.seconds = options, 0, 0, 0.0
        self.vae = AutoencoderKL(**CONFIG).to(memory_format=torch.channels_last)
        with torch.no_grad():
            self.vae.encoder.conv_out.bias[CONFIG["latent_channels"] :] = LOGVAR
        self.part = getattr(self.vae, options.part)
        self.average = {k: v.clone() for k, v in self.part.state_dict().items()}
        self.adam = torch.optim.AdamW(self.part.parameters(), lr=options.rate, weight_decay=1e-4)
        self.path = os.path.join(options.directory, options.part + ".pt")
        self.load()
        self.latent_map = fixed_latents(options.directory)

    def save(self):
        state = {"part": self.part.state_dict(), "average": self.average, "adam": self.adam.state_dict(),
                 "step": self.step, "started_at": self.started_at, "seconds": self.seconds}
        torch.save(state, self.path + ".new")
        os.replace(self.path + ".new", self.path)

    def load(self):
        if not os.path.exists(self.path):
            return
        state = torch.load(self.path)
        self.part.load_state_dict(state["part"])
        self.adam.load_state_dict(state["adam"])
        self.average, self.step, self.seconds = state["average"], state["step"], state["seconds"]
        self.started_at = self.step if self.options.fresh_peak else state["started_at"]


def fixed_latents(directory):
    path = os.path.join(directory, "checkpoint.pt")
    if not os.path.exists(path):
        return LatentMap.fit()
    state = torch.load(path, weights_only=False)
    return LatentMap(state["mean"], state["basis"])


@torch.no_grad()
def evaluate(run, count=8):
    """decoder: PSNR in dB at 256x256; encoder: relative error of the latent."""
    kept = {k: v.clone() for k, v in run.part.state_dict().items()}
    run.part.load_state_dict(run.average)
    image, latent = Pictures(run.latent_map).batch(np.random.default_rng(31), 256, count)
    loss, found, wanted = LOSSES[run.options.part](run.vae, image, latent, torch.Generator().manual_seed(32))
    run.part.load_state_dict(kept)
    error = (found - wanted).square().mean((1, 2, 3))
    if run.options.part == "encoder":
        return "error", (error.mean() / wanted.var()).sqrt().item()
    return "psnr", (10 * torch.log10(4 / error)).mean().item()


def train(run):
    pictures, options, losses = Pictures(run.latent_map), run.options, []
    while run.step < options.steps:
        begun, length = time.monotonic(), options.steps - run.started_at
        share = (run.step - run.started_at) / length
        side, batch = side_and_batch(share)
        factor = min(1, (run.step - run.started_at + 1) / 50) * (0.5 + 0.5 * np.cos(np.pi * share))
        run.adam.param_groups[0]["lr"] = float(options.rate * max(0.02, factor))
        image, latent = pictures.batch(np.random.default_rng([33, run.step]), side, batch)
        with torch.autocast("cpu", torch.bfloat16):
            loss, _, _ = LOSSES[options.part](run.vae, image, latent, torch.Generator().manual_seed(run.step))
        run.adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(run.part.parameters(), 1.0)
        run.adam.step()
        run.step += 1
        keep = min(0.995, (1 + run.step) / (10 + run.step))
        state = run.part.state_dict()
        torch._foreach_lerp_([run.average[k] for k in state], list(state.values()), 1 - keep)
        run.seconds += time.monotonic() - begun
        losses.append(loss.item())
        if run.step % options.save == 0 or run.step == options.steps:
            run.save()
            report(run, side, losses)
            losses = []


def report(run, side, losses):
    name, value = evaluate(run)
    line = f"step={run.step}\tseconds={run.seconds:.0f}\tside={side}\tloss={np.mean(losses):.4f}\t{name}={value:.4g}"
    print(line, flush=True)
    with open(os.path.join(run.options.directory, run.options.part + ".tsv"), "a") as f:
        f.write(line + "\n")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("part", choices=LOSSES)
    p.add_argument("directory")
    p.add_argument("--steps", type=int, default=3000)
    p.add_argument("--rate", type=float, default=2e-3)
    p.add_argument("--save", type=int, default=100)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--fresh-peak", action="store_true")
    options = p.parse_args()
    torch.set_num_threads(options.threads)
    os.makedirs(options.directory, exist_ok=True)
    train(Run(options))


if __name__ == "__main__":
    main()
