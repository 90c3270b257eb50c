#!/usr/bin/env python3
"""Trains the text encoder and the transformer of the demo model by flow matching on latents of generated scenes.

usage: train_dit.py DIRECTORY [--steps N] [--batch N] [--rate R] [--mixed P] [--fresh-peak] ...

First the text encoder learns to tell what captions say (half a minute), then both learn together. DIRECTORY keeps
tokenizer/ (made when absent), checkpoint.pt (written every --save steps; the same command continues from it) and
log.tsv. The rate is constant and falls in a line to 5 % over the last --decay of the steps. Everything random is
a function of the step's number, so a run that was stopped continues as it would have.
"""

import argparse
import os
import platform
import time

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import nn

import judging
import scenes
import tokenizer as bpe
from latents import LatentMap, LatentPool
from model import TEXT_DIM, TextEncoder, Transformer, rms, sample, sigmas

HEADS = {"shape": len(scenes.SHAPES), "colour": len(scenes.COLOURS), "position": 9, "size": 3,
         "background": len(scenes.COLOURS), "count": 3}
SIZES = ((192, 256), (256, 192), (192, 192), (320, 256), (256, 320), (192, 320), (320, 192), (320, 320))
SIGMA_SHARES = torch.tensor([0.17, 0.15, 0.15, 0.14, 0.13, 0.11, 0.09, 0.06])  # of the eight steps, noisiest first


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made orthogonal, for stacks of matrices (n, rows, columns)."""

    def __init__(self, parameters, lr, momentum=0.95):
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for same in by_shape(group["params"]).values():
                self.step_together(same, group["lr"], group["momentum"])

    def step_together(self, parameters, lr, momentum):
        updates = []
        for p in parameters:
            state = self.state[p]
            m = state.setdefault("momentum", torch.zeros_like(p))
            m.lerp_(p.grad, 1 - momentum)
            updates.append(p.grad.lerp(m, momentum))
        updates = orthogonal(torch.cat(updates))
        scale = lr * 0.2 * max(updates.shape[1:]) ** 0.5
        for p, u in zip(parameters, updates.split([len(p) for p in parameters])):
            p.mul_(1 - lr * 0.01).sub_(u.float() * scale)


def by_shape(parameters):
    groups = {}
    for p in parameters:
        groups.setdefault(p.shape[1:], []).append(p)
    return groups


def orthogonal(matrices, steps=5):
    """Newton-Schulz iteration towards the nearest orthogonal matrices."""
    turned = matrices.shape[1] > matrices.shape[2]
    x = (matrices.mT if turned else matrices).contiguous()
    x = (x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)).bfloat16()
    for _ in range(steps):
        square = x @ x.mT
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.mT if turned else x


class Attributes(nn.Module):
    """Reads what a caption says from the text encoder's last row; only a help for training."""

    def __init__(self):
        super().__init__()
        self.norm = nn.Parameter(torch.ones(TEXT_DIM))
        self.heads = nn.ModuleDict({k: nn.Linear(TEXT_DIM, n) for k, n in HEADS.items()})

    def forward(self, text, lengths):
        last = rms(text[torch.arange(len(text)), lengths - 1], self.norm)
        return {k: head(last) for k, head in self.heads.items()}


class Captions:
    def __init__(self, directory):
        path = os.path.join(directory, "tokenizer.json")
        if not os.path.exists(path):
            os.makedirs(directory, exist_ok=True)
            bpe.build().save(path)
        self.tokenizer = Tokenizer.from_file(path)
        self.pad = self.tokenizer.token_to_id("<|endoftext|>")
        self.entries = self.tokenizer.get_vocab_size()

    def encode(self, texts):
        """ids (B, Lc) padded to a multiple of 32, and real lengths."""
        found = [self.tokenizer.encode(bpe.frame(t)).ids for t in texts]
        width = -(-max(map(len, found)) // 32) * 32
        ids = torch.tensor([f + [self.pad] * (width - len(f)) for f in found])
        return ids, torch.tensor([len(f) for f in found])

    def random(self, count, rng, want_held_out=False, long=False):
        drawn = [scenes.random_scene(rng, want_held_out) for _ in range(count)]
        return drawn, *self.encode([scenes.caption(s, rng, long) for s in drawn])


def wanted(drawn):
    return {k: torch.tensor([getattr(s, k) for s in drawn]) for k in HEADS}


def attribute_loss(answers, drawn):
    return sum(F.cross_entropy(answers[k], v) for k, v in wanted(drawn).items())


class Run:
    """Everything that a checkpoint holds."""

    def __init__(self, options):
        torch.manual_seed(options.seed)
        self.options = options
        self.captions = Captions(os.path.join(options.directory, "tokenizer"))
        self.text, self.transformer = TextEncoder(self.captions.entries), Transformer()
        torch._dynamo.config.recompile_limit = 2 + len(SIZES)
        self.fast = torch.compile(self.transformer, dynamic=False) if options.compile else self.transformer
        self.attributes = Attributes()
        self.parts = nn.ModuleDict({"text": self.text, "transformer": self.transformer, "attributes": self.attributes})
        self.average = {k: v.clone() for k, v in self.parts.state_dict().items()}
        self.muon, self.adam = make_optimisers(self.parts, options)
        self.step, self.started_at, self.seconds, self.pictures = 0, 0, 0.0, 0
        self.latent_map = LatentMap.fit()
        self.pools = {}
        self.path = os.path.join(options.directory, "checkpoint.pt")

    def pool(self, size):
        if size not in self.pools:
            variants = self.options.variants if size == (256, 256) else 3
            self.pools[size] = LatentPool(self.latent_map, *size, variants)
        return self.pools[size]

    def save(self):
        state = {"parts": self.parts.state_dict(), "average": self.average, "muon": self.muon.state_dict(),
                 "adam": self.adam.state_dict(), "mean": self.latent_map.mean, "basis": self.latent_map.basis}
        state.update({k: getattr(self, k) for k in ("step", "started_at", "seconds", "pictures")})
        torch.save(state, self.path + ".new")
        os.replace(self.path + ".new", self.path)

    def load(self):
        if not os.path.exists(self.path):
            return False
        state = torch.load(self.path, weights_only=False)
        self.parts.load_state_dict(state["parts"])
        self.average = state["average"]
        self.muon.load_state_dict(state["muon"])
        self.adam.load_state_dict(state["adam"])
        self.latent_map = LatentMap(state["mean"], state["basis"])
        for k in ("step", "started_at", "seconds", "pictures"):
            setattr(self, k, state[k])
        return True


def make_optimisers(parts, options):
    stacks = [p for p in parts.parameters() if p.ndim == 3]
    others = [p for p in parts.parameters() if p.ndim != 3]
    matrices, vectors = [p for p in others if p.ndim == 2], [p for p in others if p.ndim == 1]
    adam = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}],
        lr=options.rate / 3, betas=(0.9, 0.98), fused=True)
    return Muon(stacks, options.rate), adam


def pretrain_text(run, steps, batch=128):
    """The attributes of captions, by AdamW alone: both languages get one meaning before pictures begin."""
    parameters = [*run.text.parameters(), *run.attributes.parameters()]
    adam = torch.optim.AdamW(parameters, lr=2e-3, weight_decay=0.01)
    for step in range(steps):
        adam.param_groups[0]["lr"] = 2e-3 * min(1, (step + 1) / 30, (steps - step) / steps * 2)
        drawn, ids, lengths = run.captions.random(batch, np.random.default_rng([11, step]), long=step % 8 == 7)
        loss = attribute_loss(run.attributes(run.text(ids), lengths), drawn)
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        adam.step()
        if step % 50 == 49:
            print(f"text {step + 1}/{steps} loss {loss:.3f} right {text_accuracy(run):.3f}", flush=True)
    run.average = {k: v.clone() for k, v in run.parts.state_dict().items()}


@torch.no_grad()
def text_accuracy(run, count=256):
    """Share of held-out captions of which every attribute is read."""
    drawn, ids, lengths = run.captions.random(count, np.random.default_rng(12), want_held_out=True)
    answers = run.attributes(run.text(ids), lengths)
    return torch.stack([answers[k].argmax(-1) == v for k, v in wanted(drawn).items()]).all(0).float().mean().item()


def draw_sigma(count, random):
    chosen = sigmas()[:8][torch.multinomial(SIGMA_SHARES, count, replacement=True, generator=random)]
    u = torch.rand(count, generator=random)
    return torch.where(torch.rand(count, generator=random) < 0.75, chosen, 3 * u / (1 + 2 * u))


def one_step(run):
    """Loss of one batch; its gradients are left in the parameters."""
    options, rng = run.options, np.random.default_rng([options_seed(run), run.step])
    random = torch.Generator().manual_seed(options_seed(run) * 1_000_003 + run.step)
    size = SIZES[int(rng.integers(len(SIZES)))] if rng.random() < options.mixed else (256, 256)
    drawn, ids, lengths = run.captions.random(options.batch, rng, long=rng.random() < options.long)
    clean = run.pool(size).batch(drawn, rng)
    noise = torch.randn(clean.shape, generator=random)
    sigma = draw_sigma(len(clean), random)
    noisy = sigma[:, None, None] * noise + (1 - sigma)[:, None, None] * clean
    text = run.text(ids)
    network = run.fast if ids.shape[1] == 32 else run.transformer  # a compilation for each size; long captions are rare
    output = network(noisy, (size[1] // 32, size[0] // 32), sigma, text, lengths)
    loss = F.mse_loss(output, clean - noise)
    total = loss + options.attributes * attribute_loss(run.attributes(text, lengths), drawn)
    total.backward()
    return loss.item()


def options_seed(run):
    return run.options.seed + 21


def rate_factor(run):
    done = run.step - run.started_at
    left = (run.options.steps - run.step) / max(1, run.options.steps - run.started_at) / run.options.decay
    return min(1.0, (done + 1) / 50, max(0.05, left))


def update(run):
    factor = rate_factor(run)
    run.muon.param_groups[0]["lr"] = run.options.rate * factor
    for group in run.adam.param_groups:
        group["lr"] = run.options.rate / 3 * factor
    nn.utils.clip_grad_norm_(run.parts.parameters(), 1.0)
    run.muon.step()
    run.adam.step()
    run.parts.zero_grad()
    keep = min(run.options.average, (1 + run.step) / (10 + run.step))
    state = run.parts.state_dict()
    torch._foreach_lerp_([run.average[k] for k in state], list(state.values()), 1 - keep)


@torch.no_grad()
def evaluate(run, count, size=(256, 256), want_held_out=True):
    """The judge's scores on the averaged weights, pictures by the linear decoder."""
    kept = {k: v.clone() for k, v in run.parts.state_dict().items()}
    run.parts.load_state_dict(run.average)
    drawn, ids, lengths = run.captions.random(count, np.random.default_rng(13), want_held_out)
    h, w = size[1] // 32, size[0] // 32
    noise = torch.randn(count, h * w, 64, generator=torch.Generator().manual_seed(14))
    rows = sample(run.transformer, run.text(ids), lengths, (h, w), noise)
    run.parts.load_state_dict(kept)
    latent = rows.unflatten(-1, (2, 2, 16)).unflatten(1, (h, w)).permute(0, 5, 1, 3, 2, 4).reshape(count, 16, 2 * h, 2 * w)
    pictures = [run.latent_map.decode_linear(x.numpy()) for x in latent]
    pictures = [np.clip(p * 127.5 + 127.5, 0, 255).astype(np.uint8) for p in pictures]
    return judging.scores([judging.judge(p, s) for p, s in zip(pictures, drawn)]), pictures


def report(run, losses):
    line = {"step": run.step, "pictures": run.pictures, "seconds": round(run.seconds), "loss": f"{np.mean(losses):.4f}",
            "rate": f"{rate_factor(run):.2f}"}
    if run.step % run.options.evaluate == 0:
        found, pictures = evaluate(run, 64)
        line.update({k: f"{v:.2f}" for k, v in found.items()})
        if run.options.mixed:
            line.update({f"{w}x{h}": f"{evaluate(run, 32, (w, h))[0]['all']:.2f}" for w, h in SIZES})
        save_sheet(pictures[:16], os.path.join(run.options.directory, "sheet.png"))
    text = "\t".join(f"{k}={v}" for k, v in line.items())
    print(text, flush=True)
    with open(os.path.join(run.options.directory, "log.tsv"), "a") as f:
        f.write(text + "\n")


def save_sheet(pictures, path):
    from PIL import Image

    rows = [np.concatenate(pictures[i : i + 8], 1) for i in range(0, len(pictures), 8)]
    Image.fromarray(np.concatenate(rows)).reduce(2).save(path)


def train(run):
    losses = []
    while run.step < run.options.steps:
        begun = time.monotonic()
        losses.append(one_step(run))
        update(run)
        run.step += 1
        run.pictures += run.options.batch
        run.seconds += time.monotonic() - begun
        if run.step % 25 == 0:
            report(run, losses)
            losses = []
        if run.step % run.options.save == 0 or run.step == run.options.steps:
            run.save()


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("directory")
    p.add_argument("--steps", type=int, default=6000, help="train up to this step")
    p.add_argument("--batch", type=int, default=32)
    p.add_argument("--rate", type=float, default=3e-3, help="of the matrices; a third of it for the rest")
    p.add_argument("--decay", type=float, default=0.35, help="share of the steps over which the rate falls")
    p.add_argument("--mixed", type=float, default=0.0, help="share of batches in sizes other than 256x256")
    p.add_argument("--long", type=float, default=0.06, help="share of batches with captions of 33 to 64 tokens")
    p.add_argument("--compile", action="store_true", help="compile the transformer (needs g++); about twice as fast")
    p.add_argument("--attributes", type=float, default=0.02, help="weight of the attribute loss")
    p.add_argument("--average", type=float, default=0.995, help="decay of the averaged weights")
    p.add_argument("--text-steps", type=int, default=400)
    p.add_argument("--variants", type=int, default=5, help="jitters of each object that are kept")
    p.add_argument("--evaluate", type=int, default=200)
    p.add_argument("--save", type=int, default=200)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--fresh-peak", action="store_true", help="begin the rate's course anew at the checkpoint")
    return p.parse_args()


def main():
    options = parse()
    torch.set_num_threads(options.threads)
    run = Run(options)
    if not run.load():
        print(f"{platform.machine()}, {options.threads} threads, torch {torch.__version__}", flush=True)
        begun = time.monotonic()
        pretrain_text(run, options.text_steps)
        run.seconds += time.monotonic() - begun
    elif options.fresh_peak:
        run.started_at = run.step
    run.pool((256, 256))
    train(run)


if __name__ == "__main__":
    main()
