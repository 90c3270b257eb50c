#!/usr/bin/env python3
"""Writes what was trained as a model folder in the public diffusers layout, bf16, and judges it through diffusers.

usage: export.py DIRECTORY MODEL [--pictures N] [--seed S] [--sheet FILE]

DIRECTORY is that of train_dit.py and train_vae.py, MODEL the folder to write. With --pictures, N held-out prompts,
half English and half Chinese, go through diffusers' ZImagePipeline (256x256, 8 steps) and the judge.
"""

import argparse
import json
import os
import shutil

import numpy as np
import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file

import model as sizes
import train_vae
import tokenizer as bpe

TRANSFORMER = {
    "_class_name": "ZImageTransformer2DModel", "all_patch_size": [2], "all_f_patch_size": [1], "in_channels": 16,
    "dim": sizes.DIM, "n_layers": sizes.LAYERS, "n_refiner_layers": 1, "n_heads": sizes.HEADS,
    "n_kv_heads": sizes.HEADS, "norm_eps": 1e-5, "qk_norm": True, "cap_feat_dim": sizes.TEXT_DIM,
    "rope_theta": sizes.THETA, "t_scale": 1000.0, "axes_dims": list(sizes.AXES), "axes_lens": [1536, 512, 512],
}
TEXT = {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": sizes.TEXT_DIM,
    "intermediate_size": sizes.TEXT_HIDDEN, "num_hidden_layers": sizes.TEXT_LAYERS + 1,
    "num_attention_heads": sizes.TEXT_HEADS, "num_key_value_heads": 1, "head_dim": sizes.HEAD_DIM,
    "rms_norm_eps": 1e-6, "rope_theta": int(sizes.TEXT_THETA), "vocab_size": bpe.ENTRIES, "hidden_act": "silu",
    "attention_bias": False, "attention_dropout": 0.0, "max_position_embeddings": 1024, "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
}
SCHEDULER = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0,
             "use_dynamic_shifting": False}
INDEX = {
    "_class_name": "ZImagePipeline", "_diffusers_version": "0.36.0",
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"], "text_encoder": ["transformers", "Qwen3Model"],
    "tokenizer": ["transformers", "Qwen2Tokenizer"], "transformer": ["diffusers", "ZImageTransformer2DModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def text_tensors(state):
    """Public names of the text encoder; the last layer, whose output nobody reads, is zeros."""
    found = {"model.embed_tokens.weight": state["embedding"], "model.norm.weight": torch.ones(sizes.TEXT_DIM)}
    for i in range(sizes.TEXT_LAYERS + 1):
        part = {k: state[f"blocks.{min(i, sizes.TEXT_LAYERS - 1)}.{k}"]
                for k in ("q", "kv", "out", "up", "down", "norm1", "norm2", "norm_q", "norm_k")}
        if i == sizes.TEXT_LAYERS:
            part = {k: torch.zeros_like(v) for k, v in part.items()}
        p = f"model.layers.{i}."
        found.update({
            p + "self_attn.q_proj.weight": part["q"][0], p + "self_attn.k_proj.weight": part["kv"][0],
            p + "self_attn.v_proj.weight": part["kv"][1], p + "self_attn.o_proj.weight": part["out"][0],
            p + "self_attn.q_norm.weight": part["norm_q"], p + "self_attn.k_norm.weight": part["norm_k"],
            p + "mlp.gate_proj.weight": part["up"][0], p + "mlp.up_proj.weight": part["up"][1],
            p + "mlp.down_proj.weight": part["down"][0], p + "input_layernorm.weight": part["norm1"],
            p + "post_attention_layernorm.weight": part["norm2"],
        })
    return found


def block_tensors(state, own, public):
    s = {k: state[f"{own}.{k}"] for k in ("attention", "up", "down", "norm_q", "norm_k", "attention_norm1",
                                          "attention_norm2", "ffn_norm1", "ffn_norm2")}
    found = {f"attention.{k}.weight": s["attention"][i] for i, k in enumerate(("to_q", "to_k", "to_v", "to_out.0"))}
    found.update({
        "attention.norm_q.weight": s["norm_q"], "attention.norm_k.weight": s["norm_k"],
        "feed_forward.w1.weight": s["up"][0], "feed_forward.w3.weight": s["up"][1],
        "feed_forward.w2.weight": s["down"][0],
    })
    found.update({k + ".weight": s[k] for k in ("attention_norm1", "attention_norm2", "ffn_norm1", "ffn_norm2")})
    if f"{own}.modulation" in state:
        found["adaLN_modulation.0.weight"] = state[f"{own}.modulation"]
        found["adaLN_modulation.0.bias"] = state[f"{own}.modulation_bias"]
    return {f"{public}.{k}": v for k, v in found.items()}


OUTER = {  # ours: public
    "embed": "all_x_embedder.2-1.weight", "embed_bias": "all_x_embedder.2-1.bias",
    "time1.weight": "t_embedder.mlp.0.weight", "time1.bias": "t_embedder.mlp.0.bias",
    "time2.weight": "t_embedder.mlp.2.weight", "time2.bias": "t_embedder.mlp.2.bias",
    "caption_norm": "cap_embedder.0.weight", "caption.weight": "cap_embedder.1.weight",
    "caption.bias": "cap_embedder.1.bias", "image_pad": "x_pad_token", "caption_pad": "cap_pad_token",
    "final": "all_final_layer.2-1.linear.weight", "final_bias": "all_final_layer.2-1.linear.bias",
    "final_scale.weight": "all_final_layer.2-1.adaLN_modulation.1.weight",
    "final_scale.bias": "all_final_layer.2-1.adaLN_modulation.1.bias",
}


def transformer_tensors(state):
    found = {public: state[own] for own, public in OUTER.items()}
    for stack, count in (("noise_refiner", 1), ("context_refiner", 1), ("layers", sizes.LAYERS)):
        for i in range(count):
            found.update(block_tensors(state, f"{stack}.{i}", f"{stack}.{i}"))
    return found


def vae_tensors(directory):
    vae = AutoencoderKL(**train_vae.CONFIG)
    for part in ("decoder", "encoder"):
        path = os.path.join(directory, part + ".pt")
        if os.path.exists(path):
            getattr(vae, part).load_state_dict(torch.load(path)["average"])
        else:
            print(f"{path} is absent: the {part} is left untrained")
    return vae.state_dict()


def write_json(path, value):
    with open(path, "w") as f:
        json.dump(value, f, indent=2)
        f.write("\n")


def write_part(folder, config, tensors, name):
    os.makedirs(folder, exist_ok=True)
    write_json(os.path.join(folder, "config.json"), config)
    tensors = {k: v.detach().bfloat16().contiguous().clone() for k, v in tensors.items()}
    path = os.path.join(folder, name)
    save_file(tensors, path, metadata={"format": "pt"})
    os.chmod(path, 0o644)  # save_file keeps its file to the owner


def strip(state, prefix):
    return {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}


def write_model(directory, target):
    state = torch.load(os.path.join(directory, "checkpoint.pt"), weights_only=False)["average"]
    write_part(os.path.join(target, "transformer"), TRANSFORMER, transformer_tensors(strip(state, "transformer.")),
               "diffusion_pytorch_model.safetensors")
    write_part(os.path.join(target, "text_encoder"), TEXT, text_tensors(strip(state, "text.")), "model.safetensors")
    vae = {"_class_name": "AutoencoderKL", **train_vae.CONFIG}
    write_part(os.path.join(target, "vae"), vae, vae_tensors(directory), "diffusion_pytorch_model.safetensors")
    os.makedirs(os.path.join(target, "scheduler"), exist_ok=True)
    write_json(os.path.join(target, "scheduler", "scheduler_config.json"), SCHEDULER)
    write_json(os.path.join(target, "model_index.json"), INDEX)
    os.makedirs(os.path.join(target, "tokenizer"), exist_ok=True)
    shutil.copy(os.path.join(directory, "tokenizer", "tokenizer.json"), os.path.join(target, "tokenizer"))
    write_json(os.path.join(target, "tokenizer", "tokenizer_config.json"), bpe.CONFIG)
    copy_logs(directory, os.path.join(target, "training"))


def copy_logs(directory, target):
    """The training's own records travel with the weights."""
    os.makedirs(target, exist_ok=True)
    for name in ("log.tsv", "decoder.tsv", "encoder.tsv"):
        if os.path.exists(os.path.join(directory, name)):
            shutil.copy(os.path.join(directory, name), target)


def total_bytes(folder):
    return sum(os.path.getsize(os.path.join(d, f)) for d, _, files in os.walk(folder) for f in files)


def generate(target, prompts):
    """Pictures (H, W, 3) uint8 of diffusers' pipeline in float32."""
    from diffusers import ZImagePipeline

    pipeline = ZImagePipeline.from_pretrained(target, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    for i, prompt in enumerate(prompts):
        result = pipeline(prompt, width=256, height=256, num_inference_steps=8, guidance_scale=0.0,
                          generator=torch.Generator().manual_seed(1000 + i))
        yield np.asarray(result.images[0])


def judge_model(target, count, seed, sheet):
    import judging

    drawn, prompts = judging.prompts(seed, count)
    pictures = []
    for picture in generate(target, prompts):
        pictures.append(picture)
        print(f"\r{len(pictures)}/{count}", end="", flush=True)
    print()
    print(judging.table(drawn, [judging.judge(p, s) for p, s in zip(pictures, drawn)]))
    if sheet:
        from train_dit import save_sheet

        save_sheet(pictures[:24], sheet)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("directory")
    p.add_argument("model")
    p.add_argument("--pictures", type=int, default=0)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--sheet")
    p.add_argument("--threads", type=int, default=1)
    options = p.parse_args()
    torch.set_num_threads(options.threads)
    write_model(options.directory, options.model)
    print(f"{options.model}: {total_bytes(options.model):,} bytes")
    if options.pictures:
        judge_model(options.model, options.pictures, options.seed, options.sheet)


if __name__ == "__main__":
    main()
