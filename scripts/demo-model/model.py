"""Text encoder and transformer of the demo model as they are trained: the arithmetic of model-spec sections 5 and 6
with matrices of one block stacked, so that the optimiser can treat them together. export.py gives them the names
of the public checkpoint. Matrices are float32 and multiplied in bf16; norms and the residual stream are float32.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

DIM, HEADS, HEAD_DIM, LAYERS, HIDDEN = 192, 3, 64, 6, 512
AXES, THETA, LATENT = (16, 24, 24), 256.0, 64
TEXT_DIM, TEXT_HEADS, TEXT_HIDDEN, TEXT_LAYERS, TEXT_THETA = 128, 2, 384, 2, 1e6


def linear(x, weight, bias=None):
    y = F.linear(x.bfloat16(), weight.bfloat16())
    return y if bias is None else y.float() + bias


def rms(x, weight, eps=1e-5):
    x = x.float()
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight


def matrices(count, rows, columns):
    return nn.Parameter(torch.randn(count, rows, columns) / math.sqrt(columns))


def ones(n):
    return nn.Parameter(torch.ones(n))


def attend(q, k, v, causal=False):
    """(B, L, heads, width) each, to (B, L, heads * width)."""
    q, k, v = (t.transpose(1, 2).bfloat16() for t in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2).flatten(2)


class TextBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.q = matrices(1, TEXT_HEADS * HEAD_DIM, TEXT_DIM)
        self.kv = matrices(2, HEAD_DIM, TEXT_DIM)
        self.out = matrices(1, TEXT_DIM, TEXT_HEADS * HEAD_DIM)
        self.up = matrices(2, TEXT_HIDDEN, TEXT_DIM)
        self.down = matrices(1, TEXT_DIM, TEXT_HIDDEN)
        self.norm1, self.norm2 = ones(TEXT_DIM), ones(TEXT_DIM)
        self.norm_q, self.norm_k = ones(HEAD_DIM), ones(HEAD_DIM)

    def forward(self, x, cos, sin):
        h = rms(x, self.norm1, 1e-6)
        q = linear(h, self.q[0]).unflatten(-1, (TEXT_HEADS, HEAD_DIM))
        k, v = (linear(h, w).unsqueeze(2) for w in self.kv)
        q, k = (turn_halves(rms(t, w, 1e-6), cos, sin) for t, w in ((q, self.norm_q), (k, self.norm_k)))
        k, v = (t.expand(-1, -1, TEXT_HEADS, -1) for t in (k, v))
        x = x + linear(attend(q, k, v, causal=True), self.out[0])
        h = rms(x, self.norm2, 1e-6)
        return x + linear(F.silu(linear(h, self.up[0]).float()) * linear(h, self.up[1]), self.down[0])


def turn_halves(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def turn_pairs(x, cos, sin):
    a, b = x.unflatten(-1, (HEAD_DIM // 2, 2)).unbind(-1)
    return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)


class TextEncoder(nn.Module):
    def __init__(self, vocabulary):
        super().__init__()
        self.embedding = nn.Parameter(torch.randn(vocabulary, TEXT_DIM) * 0.5)
        self.blocks = nn.ModuleList(TextBlock() for _ in range(TEXT_LAYERS))

    def forward(self, ids):
        """Rows (B, T, TEXT_DIM) of ids (B, T); causal, so padding on the right changes nothing before it."""
        place = torch.arange(ids.shape[1])[:, None].double()
        angle = place * TEXT_THETA ** (-torch.arange(0, HEAD_DIM, 2) / HEAD_DIM)
        cos, sin = angle.cos().float()[:, None], angle.sin().float()[:, None]
        x = self.embedding[ids]
        for block in self.blocks:
            x = block(x, cos, sin)
        return x


class Block(nn.Module):
    def __init__(self, modulated):
        super().__init__()
        self.attention = matrices(4, DIM, DIM)  # q, k, v, out
        self.up = matrices(2, HIDDEN, DIM)  # w1, w3
        self.down = matrices(1, DIM, HIDDEN)  # w2
        self.norm_q, self.norm_k = ones(HEAD_DIM), ones(HEAD_DIM)
        self.attention_norm1, self.attention_norm2 = ones(DIM), ones(DIM)
        self.ffn_norm1, self.ffn_norm2 = ones(DIM), ones(DIM)
        if modulated:
            self.modulation = nn.Parameter(torch.zeros(4 * DIM, DIM))
            start = torch.zeros(4, DIM)
            start[1::2] = 0.2
            self.modulation_bias = nn.Parameter(start.flatten())

    def forward(self, x, cos, sin, time=None):
        scale1 = gate1 = scale2 = gate2 = 1.0
        if time is not None:
            m = F.linear(time, self.modulation, self.modulation_bias)[:, None]
            scale1, gate1, scale2, gate2 = m.chunk(4, -1)
            scale1, gate1, scale2, gate2 = 1 + scale1, gate1.tanh(), 1 + scale2, gate2.tanh()
        h = rms(x, self.attention_norm1) * scale1
        q, k, v = linear(h, self.attention[:3].flatten(0, 1)).unflatten(-1, (3, HEADS, HEAD_DIM)).unbind(2)
        q, k = (turn_pairs(rms(t, w), cos, sin) for t, w in ((q, self.norm_q), (k, self.norm_k)))
        x = x + gate1 * rms(linear(attend(q, k, v), self.attention[3]), self.attention_norm2)
        h = rms(x, self.ffn_norm1) * scale2
        a, b = linear(h, self.up.flatten(0, 1)).chunk(2, -1)
        return x + gate2 * rms(linear(F.silu(a.float()) * b, self.down[0]), self.ffn_norm2)


def rope(places):
    """cos, sin (rows, 1, 32) of places (rows, 3)."""
    angles = [places[:, i : i + 1].double() * THETA ** (-torch.arange(0, d, 2).double() / d) for i, d in enumerate(AXES)]
    angle = torch.cat(angles, 1).float()[:, None]
    return angle.cos(), angle.sin()


def image_places(height, width, caption):
    """Places of height x width rows and of their padding to a multiple of 32."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    rows = torch.stack([torch.full_like(y, caption + 1), y, x], -1).flatten(0, 1)
    return F.pad(rows, (0, 0, 0, -len(rows) % 32))


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Parameter(torch.randn(DIM, LATENT) / 8)
        self.embed_bias = nn.Parameter(torch.zeros(DIM))
        self.time1, self.time2 = nn.Linear(256, 1024), nn.Linear(1024, DIM)
        self.caption_norm = ones(TEXT_DIM)
        self.caption = nn.Linear(TEXT_DIM, DIM)
        self.image_pad, self.caption_pad = nn.Parameter(torch.zeros(1, DIM)), nn.Parameter(torch.zeros(1, DIM))
        self.noise_refiner = nn.ModuleList([Block(True)])
        self.context_refiner = nn.ModuleList([Block(False)])
        self.layers = nn.ModuleList(Block(True) for _ in range(LAYERS))
        self.final = nn.Parameter(torch.zeros(LATENT, DIM))
        self.final_bias = nn.Parameter(torch.zeros(LATENT))
        self.final_scale = nn.Linear(DIM, DIM)
        nn.init.zeros_(self.final_scale.weight)
        nn.init.zeros_(self.final_scale.bias)

    def time_vector(self, sigma):
        angle = (1 - sigma)[:, None] * 1000 * torch.exp(-math.log(10000.0) * torch.arange(128) / 128)
        return self.time2(F.silu(self.time1(torch.cat([angle.cos(), angle.sin()], -1))))

    def forward(self, rows, shape, sigma, text, lengths):
        """Output (B, N, 64), that is minus the velocity, of noisy rows (B, N, 64) of a grid `shape`; text (B, Lc,
        TEXT_DIM) padded to the caption length Lc, of which `lengths` are real."""
        count, caption = rows.shape[1], text.shape[1]
        time = self.time_vector(sigma)
        places = image_places(*shape, caption)
        image_turn = rope(places)
        steps = torch.arange(1, caption + 1)
        caption_turn = rope(F.pad(steps[:, None], (0, 2)))
        x = linear(rows, self.embed, self.embed_bias)
        x = torch.cat([x, self.image_pad.expand(len(x), len(places) - count, DIM)], 1)
        for block in self.noise_refiner:
            x = block(x, *image_turn, time)
        c = linear(rms(text, self.caption_norm), self.caption.weight, self.caption.bias)
        c = torch.where((steps[None] <= lengths[:, None])[..., None], c, self.caption_pad)
        for block in self.context_refiner:
            c = block(c, *caption_turn)
        x = torch.cat([x, c], 1)
        turn = [torch.cat(t) for t in zip(image_turn, caption_turn)]
        for block in self.layers:
            x = block(x, *turn, time)
        x = F.layer_norm(x[:, :count], (DIM,), eps=1e-6) * (1 + self.final_scale(F.silu(time)))[:, None]
        return linear(x, self.final, self.final_bias)


def sigmas(steps=8, shift=3.0):
    s = 1 - torch.arange(steps) / steps
    return torch.cat([shift * s / (1 + (shift - 1) * s), torch.zeros(1)])


@torch.no_grad()
def sample(transformer, text, lengths, shape, noise, steps=8):
    """Latent rows (B, N, 64) by plain Euler steps."""
    x, at = noise, sigmas(steps)
    for now, then in zip(at, at[1:]):
        x = x - (then - now) * transformer(x, shape, now.expand(len(x)), text, lengths)
    return x
