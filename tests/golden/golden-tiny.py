#!/usr/bin/env python3
"""Executable form of model-spec.md on a tiny random model (numpy, float64).

  golden-tiny.py                 print golden numbers for every stage
  golden-tiny.py --write DIR     also write a tiny checkpoint in the diffusers layout to DIR
                                 (bf16 safetensors; --f32 for float32, --shards N for N transformer shards)
                                 and the golden arrays to DIR/golden/*.f32 (raw float32, row-major) + golden.json
  golden-tiny.py --config A      the shape of the diffusers unit test (head_dim 16); default is B
  golden-tiny.py --config C      A with a post-quant convolution and no attention in the VAE
  golden-tiny.py --config D      A with six layers of text encoder

Weights come from a hash of the tensor name and the element index (see fill), so a C test can make
them without any file. All weights are rounded to bf16, so bf16 and f32 checkpoints hold the same values.
"""
import argparse, json, math, os, re, struct, sys
import numpy as np

# ---------------------------------------------------------------- configurations
B = dict(
    transformer=dict(all_patch_size=[2], all_f_patch_size=[1], in_channels=16, dim=384, n_layers=2, n_refiner_layers=1,
                     n_heads=3, n_kv_heads=3, norm_eps=1e-5, qk_norm=True, cap_feat_dim=256, rope_theta=256.0,
                     t_scale=1000.0, axes_dims=[32, 48, 48], axes_lens=[1536, 512, 512]),
    text_encoder=dict(hidden_size=256, intermediate_size=768, num_hidden_layers=3, num_attention_heads=4,
                      num_key_value_heads=2, head_dim=128, rms_norm_eps=1e-6, rope_theta=1000000, vocab_size=320,
                      hidden_act="silu", attention_bias=False, max_position_embeddings=1024, tie_word_embeddings=True),
    vae=dict(block_out_channels=[32, 64, 128, 128], layers_per_block=2, latent_channels=16, norm_num_groups=32,
             in_channels=3, out_channels=3, scaling_factor=0.3611, shift_factor=0.1159, act_fn="silu",
             use_quant_conv=False, use_post_quant_conv=False, mid_block_add_attention=True, force_upcast=True,
             sample_size=256, down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4),
    scheduler=dict(num_train_timesteps=1000, use_dynamic_shifting=False, shift=3.0))
A = dict(
    transformer=dict(B["transformer"], dim=32, n_heads=2, n_kv_heads=2, cap_feat_dim=16, axes_dims=[8, 4, 4],
                     axes_lens=[256, 32, 32]),
    text_encoder=dict(B["text_encoder"], hidden_size=16, intermediate_size=16, num_hidden_layers=2,
                      num_attention_heads=2, num_key_value_heads=2, head_dim=128, rope_theta=10000),
    vae=dict(B["vae"], block_out_channels=[32, 64], layers_per_block=1, sample_size=32,
             down_block_types=["DownEncoderBlock2D"] * 2, up_block_types=["UpDecoderBlock2D"] * 2),
    scheduler=B["scheduler"])
# A with what a VAE's configuration may add or leave out
C = dict(A, vae=dict(A["vae"], use_post_quant_conv=True, mid_block_add_attention=False))
# A with more layers of text encoder than two: they take turns on the device where they are streamed
D = dict(A, text_encoder=dict(A["text_encoder"], num_hidden_layers=6))

# ---------------------------------------------------------------- deterministic values
def bf16(x):
    """round float to the nearest bf16, ties to even; result is float32"""
    u = np.ascontiguousarray(x, np.float32).view(np.uint32)
    u = (u + np.uint32(0x7FFF) + ((u >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000)
    return u.view(np.float32)

def unit(name, n):
    """n values in [-1,1): start = FNV-1a-32(name); x = start + i*0x9E3779B9, then a 32-bit mixer; value = x/2^31 - 1"""
    h = 0x811C9DC5
    for c in name.encode(): h = ((h ^ c) * 0x01000193) & 0xFFFFFFFF
    with np.errstate(over="ignore"):
        x = np.uint32(h) + np.arange(n, dtype=np.uint32) * np.uint32(0x9E3779B9)
        x ^= x >> np.uint32(16); x *= np.uint32(0x7FEB352D)
        x ^= x >> np.uint32(15); x *= np.uint32(0x846CA68B)
        x ^= x >> np.uint32(16)
    return x.astype(np.float64) / 2147483648.0 - 1.0

def fill(name, shape):
    """matrices and kernels: u*sqrt(3/fan_in); 1-D *.weight: 1+0.2u; *.bias: 0.1u; *_pad_token and embeddings: u"""
    u = unit(name, int(np.prod(shape)))
    if name.endswith("pad_token") or "embed_tokens" in name: v = u
    elif name.endswith(".bias"): v = 0.1 * u
    elif len(shape) == 1: v = 1.0 + 0.2 * u
    else: v = u * math.sqrt(3.0 / int(np.prod(shape[1:])))
    return bf16(v).reshape(shape)

def transformer_shapes(c):
    d, cd, ad = c["dim"], c["cap_feat_dim"], min(c["dim"], 256); ff = int(d / 3 * 8); hd = d // c["n_heads"]
    pc = 4 * c["in_channels"]; s = {"x_pad_token": (1, d), "cap_pad_token": (1, d)}
    s["all_x_embedder.2-1.weight"] = (d, pc); s["all_x_embedder.2-1.bias"] = (d,)
    p = "all_final_layer.2-1."
    s[p + "linear.weight"] = (pc, d); s[p + "linear.bias"] = (pc,)
    s[p + "adaLN_modulation.1.weight"] = (d, ad); s[p + "adaLN_modulation.1.bias"] = (d,)
    s["t_embedder.mlp.0.weight"] = (1024, 256); s["t_embedder.mlp.0.bias"] = (1024,)
    s["t_embedder.mlp.2.weight"] = (ad, 1024); s["t_embedder.mlp.2.bias"] = (ad,)
    s["cap_embedder.0.weight"] = (cd,); s["cap_embedder.1.weight"] = (d, cd); s["cap_embedder.1.bias"] = (d,)
    for stack, n, mod in (("noise_refiner", c["n_refiner_layers"], 1), ("context_refiner", c["n_refiner_layers"], 0),
                          ("layers", c["n_layers"], 1)):
        for i in range(n):
            p = f"{stack}.{i}."
            for k in ("to_q", "to_k", "to_v", "to_out.0"): s[f"{p}attention.{k}.weight"] = (d, d)
            for k in ("norm_q", "norm_k"): s[f"{p}attention.{k}.weight"] = (hd,)
            s[p + "feed_forward.w1.weight"] = (ff, d); s[p + "feed_forward.w2.weight"] = (d, ff)
            s[p + "feed_forward.w3.weight"] = (ff, d)
            for k in ("attention_norm1", "attention_norm2", "ffn_norm1", "ffn_norm2"): s[f"{p}{k}.weight"] = (d,)
            if mod: s[p + "adaLN_modulation.0.weight"] = (4 * d, ad); s[p + "adaLN_modulation.0.bias"] = (4 * d,)
    return s

def text_shapes(c):
    h, f, q, k, hd = (c["hidden_size"], c["intermediate_size"], c["num_attention_heads"], c["num_key_value_heads"],
                      c["head_dim"])
    s = {"model.embed_tokens.weight": (c["vocab_size"], h), "model.norm.weight": (h,)}
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        s[p + "self_attn.q_proj.weight"] = (q * hd, h); s[p + "self_attn.o_proj.weight"] = (h, q * hd)
        s[p + "self_attn.k_proj.weight"] = (k * hd, h); s[p + "self_attn.v_proj.weight"] = (k * hd, h)
        s[p + "self_attn.q_norm.weight"] = (hd,); s[p + "self_attn.k_norm.weight"] = (hd,)
        s[p + "mlp.gate_proj.weight"] = (f, h); s[p + "mlp.up_proj.weight"] = (f, h); s[p + "mlp.down_proj.weight"] = (h, f)
        s[p + "input_layernorm.weight"] = (h,); s[p + "post_attention_layernorm.weight"] = (h,)
    return s

def vae_shapes(c):
    s = {}; ch = c["block_out_channels"]; n = c["layers_per_block"]; lat = c["latent_channels"]
    def conv(p, o, i, k): s[p + ".weight"] = (o, i, k, k); s[p + ".bias"] = (o,)
    def norm(p, n_): s[p + ".weight"] = (n_,); s[p + ".bias"] = (n_,)
    def res(p, i, o):
        norm(p + ".norm1", i); conv(p + ".conv1", o, i, 3); norm(p + ".norm2", o); conv(p + ".conv2", o, o, 3)
        if i != o: conv(p + ".conv_shortcut", o, i, 1)
    def mid(p, w):
        res(p + ".resnets.0", w, w); res(p + ".resnets.1", w, w)
        if not c["mid_block_add_attention"]: return
        norm(p + ".attentions.0.group_norm", w)
        for k in ("to_q", "to_k", "to_v", "to_out.0"):
            s[f"{p}.attentions.0.{k}.weight"] = (w, w); s[f"{p}.attentions.0.{k}.bias"] = (w,)
    if c["use_post_quant_conv"]: conv("post_quant_conv", lat, lat, 1)
    conv("decoder.conv_in", ch[-1], lat, 3); mid("decoder.mid_block", ch[-1]); w = ch[-1]
    for i, o in enumerate(reversed(ch)):
        for j in range(n + 1): res(f"decoder.up_blocks.{i}.resnets.{j}", w, o); w = o
        if i < len(ch) - 1: conv(f"decoder.up_blocks.{i}.upsamplers.0.conv", o, o, 3)
    norm("decoder.conv_norm_out", ch[0]); conv("decoder.conv_out", c["out_channels"], ch[0], 3)
    conv("encoder.conv_in", ch[0], c["in_channels"], 3); w = ch[0]
    for i, o in enumerate(ch):
        for j in range(n): res(f"encoder.down_blocks.{i}.resnets.{j}", w, o); w = o
        if i < len(ch) - 1: conv(f"encoder.down_blocks.{i}.downsamplers.0.conv", o, o, 3)
    mid("encoder.mid_block", ch[-1]); norm("encoder.conv_norm_out", ch[-1])
    conv("encoder.conv_out", 2 * lat, ch[-1], 3)
    return s

def weights(shapes, prefix): return {k: fill(prefix + k, v) for k, v in shapes.items()}

# ---------------------------------------------------------------- shared pieces
def silu(x): return x / (1.0 + np.exp(-x))
def rms(x, w, eps): return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * w
def lin(x, W, b=None): y = x @ W.T; return y if b is None else y + b
def softmax(s): s = np.exp(s - s.max(-1, keepdims=True)); return s / s.sum(-1, keepdims=True)

# ---------------------------------------------------------------- text encoder
def text_encoder(P, c, ids):
    """hidden_states[-2]: embeddings through layers 0..L-2, no final norm"""
    L, hd, nq, nk = len(ids), c["head_dim"], c["num_attention_heads"], c["num_key_value_heads"]; eps = c["rms_norm_eps"]
    x = P["model.embed_tokens.weight"][np.asarray(ids)].astype(np.float64)
    a = np.arange(L)[:, None] * c["rope_theta"] ** (-np.arange(0, hd, 2) / hd)[None]
    cs, sn = np.cos(np.concatenate([a, a], 1))[:, None], np.sin(np.concatenate([a, a], 1))[:, None]
    rope = lambda v: v * cs + np.concatenate([-v[..., hd // 2:], v[..., :hd // 2]], -1) * sn
    mask = np.triu(np.full((L, L), -np.inf), 1)
    for i in range(c["num_hidden_layers"] - 1):
        p = f"model.layers.{i}."; h = rms(x, P[p + "input_layernorm.weight"], eps); s = p + "self_attn."
        q = rope(rms(lin(h, P[s + "q_proj.weight"]).reshape(L, nq, hd), P[s + "q_norm.weight"], eps))
        k = rope(rms(lin(h, P[s + "k_proj.weight"]).reshape(L, nk, hd), P[s + "k_norm.weight"], eps))
        v = lin(h, P[s + "v_proj.weight"]).reshape(L, nk, hd)
        k, v = np.repeat(k, nq // nk, 1), np.repeat(v, nq // nk, 1)
        w = softmax(np.einsum("ihd,jhd->hij", q, k) / math.sqrt(hd) + mask)
        x = x + lin(np.einsum("hij,jhd->ihd", w, v).reshape(L, nq * hd), P[s + "o_proj.weight"])
        h = rms(x, P[p + "post_attention_layernorm.weight"], eps); m = p + "mlp."
        x = x + lin(silu(lin(h, P[m + "gate_proj.weight"])) * lin(h, P[m + "up_proj.weight"]), P[m + "down_proj.weight"])
    return x

# ---------------------------------------------------------------- transformer
def rope_table(pos, dims, theta):
    a = np.concatenate([np.float32(pos[:, i:i + 1] * theta ** (-np.arange(0, d, 2) / d)[None]) for i, d in enumerate(dims)], 1)
    a = a.astype(np.float64); return np.cos(a)[:, None], np.sin(a)[:, None]

def dit_block(x, P, p, nh, cs, eps, t=None):
    L, D = x.shape; hd = D // nh; sa = ga = sm = gm = 1.0
    if t is not None:
        sa, ga, sm, gm = np.split(lin(t, P[p + "adaLN_modulation.0.weight"], P[p + "adaLN_modulation.0.bias"]), 4)
        sa, sm, ga, gm = 1 + sa, 1 + sm, np.tanh(ga), np.tanh(gm)
    def rot(v):
        e, o, y = v[..., 0::2], v[..., 1::2], np.empty_like(v)
        y[..., 0::2] = e * cs[0] - o * cs[1]; y[..., 1::2] = e * cs[1] + o * cs[0]; return y
    h = rms(x, P[p + "attention_norm1.weight"], eps) * sa; a = p + "attention."
    q, k, v = (lin(h, P[a + n + ".weight"]).reshape(L, nh, hd) for n in ("to_q", "to_k", "to_v"))
    q, k = rot(rms(q, P[a + "norm_q.weight"], 1e-5)), rot(rms(k, P[a + "norm_k.weight"], 1e-5))
    w = softmax(np.einsum("ihd,jhd->hij", q, k) / math.sqrt(hd))
    o = lin(np.einsum("hij,jhd->ihd", w, v).reshape(L, D), P[a + "to_out.0.weight"])
    x = x + ga * rms(o, P[p + "attention_norm2.weight"], eps)
    h = rms(x, P[p + "ffn_norm1.weight"], eps) * sm; f = p + "feed_forward."
    o = lin(silu(lin(h, P[f + "w1.weight"])) * lin(h, P[f + "w3.weight"]), P[f + "w2.weight"])
    return x + gm * rms(o, P[p + "ffn_norm2.weight"], eps)

def dit(P, c, lat, t, cap, trace=None):
    """lat (C,h,w), t = 1 - sigma, cap (T, cap_feat_dim); returns the raw output, before the sign flip"""
    C, h, w = lat.shape; hh, ww = h // 2, w // 2; nh, eps = c["n_heads"], c["norm_eps"]; T = len(cap)
    keep = (lambda n, v: trace.__setitem__(n, v)) if trace is not None else (lambda n, v: None)
    a = t * c["t_scale"] * np.exp(-math.log(10000.0) * np.arange(128) / 128)
    te = lin(silu(lin(np.concatenate([np.cos(a), np.sin(a)]), P["t_embedder.mlp.0.weight"], P["t_embedder.mlp.0.bias"])),
             P["t_embedder.mlp.2.weight"], P["t_embedder.mlp.2.bias"]); keep("t_embed", te)
    x = lat.reshape(C, hh, 2, ww, 2).transpose(1, 3, 2, 4, 0).reshape(hh * ww, 4 * C)
    x = lin(x, P["all_x_embedder.2-1.weight"], P["all_x_embedder.2-1.bias"]); keep("x_embed", x)
    N, Np, Tp = hh * ww, -(hh * ww) % 32, -T % 32
    x = np.concatenate([x, np.repeat(P["x_pad_token"], Np, 0)])
    pi = np.zeros((N + Np, 3)); yy, xx = np.meshgrid(np.arange(hh), np.arange(ww), indexing="ij")
    pi[:N] = np.stack([np.full(N, T + Tp + 1), yy.ravel(), xx.ravel()], 1)
    pc = np.zeros((T + Tp, 3)); pc[:, 0] = 1 + np.arange(T + Tp)
    ci, cc = rope_table(pi, c["axes_dims"], c["rope_theta"]), rope_table(pc, c["axes_dims"], c["rope_theta"])
    for i in range(c["n_refiner_layers"]): x = dit_block(x, P, f"noise_refiner.{i}.", nh, ci, eps, te)
    keep("noise_refiner", x)
    z = lin(rms(cap, P["cap_embedder.0.weight"], eps), P["cap_embedder.1.weight"], P["cap_embedder.1.bias"])
    z = np.concatenate([z, np.repeat(P["cap_pad_token"], Tp, 0)])
    for i in range(c["n_refiner_layers"]): z = dit_block(z, P, f"context_refiner.{i}.", nh, cc, eps)
    keep("context_refiner", z)
    u = np.concatenate([x, z]); cs = tuple(np.concatenate(v) for v in zip(ci, cc))
    for i in range(c["n_layers"]): u = dit_block(u, P, f"layers.{i}.", nh, cs, eps, te); keep(f"layer{i}", u)
    u = u[:N]; p = "all_final_layer.2-1."; m = u.mean(-1, keepdims=True)
    u = (u - m) / np.sqrt(((u - m) ** 2).mean(-1, keepdims=True) + 1e-6)
    u = u * (1 + lin(silu(te), P[p + "adaLN_modulation.1.weight"], P[p + "adaLN_modulation.1.bias"]))
    u = lin(u, P[p + "linear.weight"], P[p + "linear.bias"])
    return u.reshape(hh, ww, 2, 2, C).transpose(4, 0, 2, 1, 3).reshape(C, h, w)

# ---------------------------------------------------------------- VAE
def conv2d(x, P, p, pad=1, stride=1):
    W, b = P[p + ".weight"].astype(np.float64), P[p + ".bias"]; o, i, k, _ = W.shape
    lo, hi = (pad, pad) if isinstance(pad, int) else pad
    x = np.pad(x, ((0, 0), (lo, hi), (lo, hi))); H, Wd = (x.shape[1] - k) // stride + 1, (x.shape[2] - k) // stride + 1
    y = np.zeros((o, H, Wd))
    for dy in range(k):
        for dx in range(k):
            y += np.einsum("oi,ihw->ohw", W[:, :, dy, dx], x[:, dy:dy + stride * H:stride, dx:dx + stride * Wd:stride], optimize=True)
    return y + b[:, None, None]

def gnorm(x, P, p, g):
    C = x.shape[0]; v = x.reshape(g, -1); v = (v - v.mean(1, keepdims=True)) / np.sqrt(v.var(1, keepdims=True) + 1e-6)
    return v.reshape(x.shape) * P[p + ".weight"].reshape(C, 1, 1) + P[p + ".bias"].reshape(C, 1, 1)

def vres(x, P, p, g):
    h = conv2d(silu(gnorm(x, P, p + ".norm1", g)), P, p + ".conv1")
    h = conv2d(silu(gnorm(h, P, p + ".norm2", g)), P, p + ".conv2")
    return h + (conv2d(x, P, p + ".conv_shortcut", 0) if p + ".conv_shortcut.weight" in P else x)

def vmid(x, P, p, g):
    x = vres(x, P, p + ".resnets.0", g); C, H, W = x.shape; a = p + ".attentions.0."
    if a + "to_q.weight" not in P: return vres(x, P, p + ".resnets.1", g)
    y = gnorm(x, P, a + "group_norm", g).reshape(C, -1).T
    q, k, v = (lin(y, P[a + n + ".weight"], P[a + n + ".bias"]) for n in ("to_q", "to_k", "to_v"))
    o = lin(softmax(q @ k.T / math.sqrt(C)) @ v, P[a + "to_out.0.weight"], P[a + "to_out.0.bias"])
    return vres(x + o.T.reshape(C, H, W), P, p + ".resnets.1", g)

def vae_decode(P, c, lat):
    """scaled latent (16,h,w) -> image (3,H,W), nominally in [-1,1]"""
    g, nb = c["norm_num_groups"], len(c["block_out_channels"])
    z = lat / c["scaling_factor"] + c["shift_factor"]
    if c["use_post_quant_conv"]: z = conv2d(z, P, "post_quant_conv", 0)
    x = vmid(conv2d(z, P, "decoder.conv_in"), P, "decoder.mid_block", g)
    for i in range(nb):
        for j in range(c["layers_per_block"] + 1): x = vres(x, P, f"decoder.up_blocks.{i}.resnets.{j}", g)
        if i < nb - 1: x = conv2d(x.repeat(2, 1).repeat(2, 2), P, f"decoder.up_blocks.{i}.upsamplers.0.conv")
    return conv2d(silu(gnorm(x, P, "decoder.conv_norm_out", g)), P, "decoder.conv_out")

def vae_encode(P, c, img, noise=None):
    """image (3,H,W) in [-1,1] -> scaled latent; noise None takes the mean"""
    g, nb = c["norm_num_groups"], len(c["block_out_channels"]); x = conv2d(img, P, "encoder.conv_in")
    for i in range(nb):
        for j in range(c["layers_per_block"]): x = vres(x, P, f"encoder.down_blocks.{i}.resnets.{j}", g)
        if i < nb - 1: x = conv2d(x, P, f"encoder.down_blocks.{i}.downsamplers.0.conv", (0, 1), 2)
    x = conv2d(silu(gnorm(vmid(x, P, "encoder.mid_block", g), P, "encoder.conv_norm_out", g)), P, "encoder.conv_out")
    mean, logvar = np.split(x, 2); z = mean if noise is None else mean + np.exp(0.5 * np.clip(logvar, -30, 20)) * noise
    return (z - c["shift_factor"]) * c["scaling_factor"]

def to_u8(img): return np.rint(np.clip(img / 2 + 0.5, 0, 1).astype(np.float32) * np.float32(255)).astype(np.uint8)

# ---------------------------------------------------------------- sampler and random numbers
def sigmas(n, shift):
    s = 1.0 - np.arange(n) / n
    return np.append(np.float32(shift * s / (1 + (shift - 1) * s)), np.float32(0))

def randn_cpu(seed, n):
    """torch.randn(n) with torch.Generator('cpu').manual_seed(seed), float32, up to about 5e-7"""
    r = np.random.MT19937(); mt = np.zeros(624, np.uint64); mt[0] = seed & 0xFFFFFFFF
    for i in range(1, 624): mt[i] = (1812433253 * (int(mt[i - 1]) ^ (int(mt[i - 1]) >> 30)) + i) & 0xFFFFFFFF
    r.state = {"bit_generator": "MT19937", "state": {"key": mt.astype(np.uint32), "pos": 624}}
    if n < 16:
        out = []
        while len(out) < n:
            w = r.random_raw(4); d = lambda hi, lo: (((int(hi) << 32) | int(lo)) & ((1 << 53) - 1)) / 2.0 ** 53
            u1, u2 = d(w[0], w[1]), d(w[2], w[3]); m = math.sqrt(-2.0 * math.log1p(-u2))
            out += [m * math.cos(2 * math.pi * u1), m * math.sin(2 * math.pi * u1)]
        return np.array(out[:n], np.float32)
    u = lambda k: ((r.random_raw(k) & 0xFFFFFF).astype(np.float32) / np.float32(16777216))
    def block(v):
        m, t = np.sqrt(np.float32(-2) * np.log(np.float32(1) - v[..., :8])), np.float32(2 * math.pi) * v[..., 8:]
        return np.concatenate([m * np.cos(t), m * np.sin(t)], -1)
    v = u(n); full = n // 16 * 16; v[:full] = block(v[:full].reshape(-1, 16)).ravel()
    if n % 16: v[n - 16:] = block(u(16))
    return v

def randn_cuda(seed, n, sms=132, offset=0):
    """torch.randn(n) on CUDA, fresh generator; sms * (2048 threads per SM) decides the layout for large n"""
    f, m32 = np.float32, np.uint64(0xFFFFFFFF); grid = min((n + 255) // 256, sms * 8); T = 256 * grid
    out, idx = np.zeros(n, f), np.arange(T, dtype=np.uint64)
    for it, base in enumerate(range(0, n, 4 * T)):
        c = [np.full(T, offset + it, np.uint64), np.zeros(T, np.uint64), idx & m32, idx >> np.uint64(32)]
        k0, k1 = seed & 0xFFFFFFFF, seed >> 32
        for _ in range(10):
            p, q = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
            c = [(q >> np.uint64(32)) ^ c[1] ^ np.uint64(k0), q & m32, (p >> np.uint64(32)) ^ c[3] ^ np.uint64(k1), p & m32]
            k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
        i1, v = f(2.3283064e-10), []; i2 = f(i1 * f(6.2831855))
        for a, b in ((0, 1), (2, 3)):
            u, w = c[a].astype(f) * i1 + i1 / f(2), c[b].astype(f) * i2 + i2 / f(2); s = np.sqrt(f(-2) * np.log(u))
            v += [np.sin(w) * s, np.cos(w) * s]
        for j in range(4):
            lo = base + j * T; k = max(0, min(T, n - lo)); out[lo:lo + k] = v[j][:k]
    return out

# ---------------------------------------------------------------- tiny byte-level BPE
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = ["u s", "e r", "us er", "a s", "s i", "s t", "a n", "t a", "n t", "as si", "assi st", "assist an", "assistan t",
          "Ġ c", "a t", "Ġc at", "Ġ s", "i t", "t i", "n g", "i ng", "Ġ a", "Ġ o", "Ġo n", "Ġ m", "Ġm at"]
PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
           r"\s+(?!\S)|\s+")
def byte_map():
    own = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256)); m, n = {}, 0
    for b in range(256):
        if b in own: m[b] = chr(b)
        else: m[b] = chr(256 + n); n += 1
    return m
def tiny_vocab():
    m = byte_map(); own = [b for b in range(256) if m[b] == chr(b)]; order = own + [b for b in range(256) if b not in own]
    v = {m[b]: i for i, b in enumerate(order)}
    for s in MERGES: v.setdefault(s.replace(" ", ""), len(v))
    return v
def tiny_encode(text):
    v, bm, rank = tiny_vocab(), byte_map(), {tuple(s.split(" ")): i for i, s in enumerate(MERGES)}; ids = []
    pat = re.compile(PATTERN.replace(r"[^\r\n\p{L}\p{N}]", r"[^\r\nA-Za-z0-9]").replace(r"[^\s\p{L}\p{N}]", r"[^\sA-Za-z0-9]")
                     .replace(r"\p{L}", "[A-Za-z]").replace(r"\p{N}", "[0-9]"))    # enough for ASCII prompts
    for part in re.split("(" + "|".join(map(re.escape, SPECIAL)) + ")", text):
        if part in SPECIAL: ids.append(len(v) + SPECIAL.index(part)); continue
        for seg in pat.findall(part):
            w = [bm[b] for b in seg.encode()]
            while len(w) > 1:
                r = min((rank.get(pq, 1 << 30), i) for i, pq in enumerate(zip(w, w[1:])))
                if r[0] == 1 << 30: break
                w[r[1]:r[1] + 2] = [w[r[1]] + w[r[1] + 1]]
            ids += [v[s] for s in w]
    return ids
def chat(p): return f"<|im_start|>user\n{p}<|im_end|>\n<|im_start|>assistant\n"
# the same frame for the public pipeline, which renders it from tokenizer_config.json
CHAT_TEMPLATE = ("{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
                 "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")

# ---------------------------------------------------------------- writing a checkpoint
def safetensors(path, tensors, f32):
    names = sorted(tensors); hdr, off, blobs = {"__metadata__": {"format": "pt"}}, 0, []
    for n in names:
        t = np.ascontiguousarray(tensors[n], np.float32)
        b = t.tobytes() if f32 else (t.view(np.uint32) >> np.uint32(16)).astype(np.uint16).tobytes()
        hdr[n] = {"dtype": "F32" if f32 else "BF16", "shape": list(t.shape), "data_offsets": [off, off + len(b)]}
        off += len(b); blobs.append(b)
    h = json.dumps(hdr, separators=(",", ":")).encode(); h += b" " * (-len(h) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(h))); f.write(h)
        for b in blobs: f.write(b)
    return off
def sharded(d, stem, tensors, n, f32):
    names = list(tensors); per = -(-len(names) // n); wm, total = {}, 0
    for k in range(n):
        f = f"{stem}-{k + 1:05d}-of-{n:05d}.safetensors"; part = names[k * per:(k + 1) * per]
        total += safetensors(os.path.join(d, f), {x: tensors[x] for x in part}, f32); wm.update({x: f for x in part})
    json.dump({"metadata": {"total_size": total}, "weight_map": dict(sorted(wm.items()))},
              open(os.path.join(d, stem + ".safetensors.index.json"), "w"), indent=2)
def write_model(d, cfg, PT, PE, PV, f32, shards):
    for s in ("scheduler", "text_encoder", "tokenizer", "transformer", "vae", "golden"): os.makedirs(os.path.join(d, s), exist_ok=True)
    js = lambda n, o: json.dump(o, open(os.path.join(d, n), "w"), indent=2)
    js("model_index.json", {"_class_name": "ZImagePipeline", "_diffusers_version": "0.36.0.dev0",
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"], "text_encoder": ["transformers", "Qwen3Model"],
        "tokenizer": ["transformers", "Qwen2Tokenizer"], "transformer": ["diffusers", "ZImageTransformer2DModel"],
        "vae": ["diffusers", "AutoencoderKL"]})
    js("scheduler/scheduler_config.json", dict(_class_name="FlowMatchEulerDiscreteScheduler", **cfg["scheduler"]))
    js("transformer/config.json", dict(_class_name="ZImageTransformer2DModel", **cfg["transformer"]))
    js("text_encoder/config.json", dict(architectures=["Qwen3ForCausalLM"], model_type="qwen3", **cfg["text_encoder"]))
    js("vae/config.json", dict(_class_name="AutoencoderKL", **cfg["vae"]))
    v = tiny_vocab()
    js("tokenizer/tokenizer.json", {"version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": len(v) + i, "content": s, "single_word": False, "lstrip": False, "rstrip": False,
                          "normalized": False, "special": True} for i, s in enumerate(SPECIAL)],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}]},
        "post_processor": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False},
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "",
                  "end_of_word_suffix": "", "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": v, "merges": [s.split(" ") for s in MERGES]}})
    js("tokenizer/tokenizer_config.json", {"add_bos_token": False, "add_prefix_space": False, "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>", "model_max_length": 131072, "tokenizer_class": "Qwen2Tokenizer",
        "chat_template": CHAT_TEMPLATE})
    sharded(os.path.join(d, "transformer"), "diffusion_pytorch_model", PT, shards, f32)
    sharded(os.path.join(d, "text_encoder"), "model", PE, 2, f32)
    safetensors(os.path.join(d, "vae/diffusion_pytorch_model.safetensors"), PV, f32)

# ---------------------------------------------------------------- main
def main():
    ap = argparse.ArgumentParser(); ap.add_argument("--config", choices="ABCD", default="B"); ap.add_argument("--write")
    ap.add_argument("--f32", action="store_true"); ap.add_argument("--shards", type=int, default=2); a = ap.parse_args()
    cfg = {"A": A, "B": B, "C": C, "D": D}[a.config]; ct, ce, cv = cfg["transformer"], cfg["text_encoder"], cfg["vae"]; G = {}
    PT, PE, PV = (weights(f(c), p) for f, c, p in ((transformer_shapes, ct, "transformer."), (text_shapes, ce, "text_encoder."),
                                                   (vae_shapes, cv, "vae.")))
    print(f"config {a.config}: tensors {len(PT)} / {len(PE)} / {len(PV)}, parameters",
          *(sum(v.size for v in P.values()) for P in (PT, PE, PV)))
    def show(n, v):
        v = np.asarray(v, np.float64); G[n] = v; f = v.ravel()
        print(f"{n:22s} {str(tuple(v.shape)):16s} mean|x| {np.abs(f).mean():.7f}  first " + " ".join(f"{x:.6f}" for x in f[:4]) + f"  last {f[-1]:.6f}")
    ids = tiny_encode(chat("A cat sitting on a mat.")); print("ids", ids); G["ids"] = np.array(ids, np.float64)
    cap = text_encoder(PE, ce, ids); show("text_hidden", cap)
    for tag, (h, w), T, t in (("a", (8, 8), 32, 0.0), ("b", (6, 10), 45, 0.3), ("c", (12, 20), len(ids), 0.999)):
        lat = math.sqrt(3) * unit(f"latent.{tag}", 16 * h * w).reshape(16, h, w)
        cp = cap if tag == "c" else 2 * unit(f"caption.{tag}", T * ct["cap_feat_dim"]).reshape(T, -1)
        tr = {}; o = dit(PT, ct, lat, t, cp, tr); print(f"case {tag}: latent {h}x{w}, {T} caption rows, t {t}")
        if tag != "c":
            for k, v in tr.items(): show(f"{tag}.{k}", v)
        show(f"{tag}.dit_out", o)
    s = sigmas(4, 3.0); print("sigmas", s); x = randn_cpu(42, 16 * 12 * 20).reshape(16, 12, 20).astype(np.float64); show("noise", x)
    for i in range(4):
        x = x - (float(s[i + 1]) - float(s[i])) * dit(PT, ct, x, 1.0 - float(s[i]), cap); show(f"step{i}", x)
    img = vae_decode(PV, cv, x); show("image", img); u8 = to_u8(img).transpose(1, 2, 0)
    print("pixels", u8.shape, "sum", int(u8.astype(np.int64).sum()), "first", u8.ravel()[:12].tolist()); G["pixels"] = u8.astype(np.float64)
    z = vae_encode(PV, cv, u8.transpose(2, 0, 1) / 127.5 - 1.0); show("encoded_mean", z)
    print("randn_cpu(0,3)", randn_cpu(0, 3), "randn_cpu(42,262144)[:4]", randn_cpu(42, 262144)[:4], "n=20:", randn_cpu(0, 20)[[0, 4, 19]])
    print("randn_cuda(0,12)[:4]", randn_cuda(0, 12)[:4])
    if a.write:
        write_model(a.write, cfg, PT, PE, PV, a.f32, a.shards)
        for k, v in G.items(): np.asarray(v, np.float32).tofile(os.path.join(a.write, "golden", k + ".f32"))
        json.dump({k: list(v.shape) for k, v in G.items()}, open(os.path.join(a.write, "golden/golden.json"), "w"), indent=1)
        print("wrote", a.write)

if __name__ == "__main__": main()
