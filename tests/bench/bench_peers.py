"""Ours beside diffusers on one card: see scripts/bench-peers.

Each contender makes one forward in turn, round after round; medians, and each as a ratio to ours. Weights are random normal
numbers of deviation 0.02 (zeros would let the device clock higher), in bf16, made on the device from a seed.
"""
import argparse
import glob
import os
import statistics
import subprocess
import sys

TRANSFORMER = dict(all_patch_size=(2,), all_f_patch_size=(1,), in_channels=16, dim=3840, n_layers=30, n_refiner_layers=2,
                   n_heads=30, n_kv_heads=30, norm_eps=1e-5, qk_norm=True, cap_feat_dim=2560, rope_theta=256.0, t_scale=1000.0,
                   axes_dims=[32, 48, 48], axes_lens=[1536, 512, 512])
VAE = dict(in_channels=3, out_channels=3, down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4,
           block_out_channels=[128, 256, 512, 512], layers_per_block=2, latent_channels=16, norm_num_groups=32, sample_size=1024,
           scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False)
BACKENDS = ["native", "_native_cudnn", "_native_flash", "flash", "_flash_3", "sage", "xformers"]
TOKENS = 128


def skip(why):
    print(f"skipped: {why}")
    sys.exit(77)


def find_diffusers(path):
    """Puts the tree or the wheels in front of what is installed."""
    if os.path.isdir(os.path.join(path, "src", "diffusers")):
        sys.path.insert(0, os.path.join(path, "src"))
        return
    wheels = glob.glob(os.path.join(path, "*.whl"))
    if not wheels:
        skip(f"{path} has neither src/diffusers nor wheels")
    sys.path[0:0] = wheels


def import_all(path):
    find_diffusers(path)
    try:
        import torch
    except ImportError as e:
        skip(f"no PyTorch: {e}")
    if not torch.cuda.is_available():
        skip("PyTorch finds no CUDA device")
    try:
        from diffusers import AutoencoderKL, ZImageTransformer2DModel
    except ImportError as e:
        skip(f"no diffusers with Z-Image: {e}")
    return torch, AutoencoderKL, ZImageTransformer2DModel


def fill(torch, model, seed):
    generator = torch.Generator("cuda").manual_seed(seed)
    for name, p in model.named_parameters():
        if p.dim() == 1 and "norm" in name and name.endswith("weight"):
            p.data.fill_(1.0)
        else:
            p.data.normal_(0.0, 0.02, generator=generator)
    return model.eval().requires_grad_(False)


def make_model(torch, cls, config, seed):
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = cls(**config)
    torch.set_default_dtype(torch.float32)
    return fill(torch, model, seed)


def timed(torch, run):
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    begin.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end)


def transformer_contenders(torch, model, side):
    """(name, function) of every form that makes one forward without failing."""
    latent = [torch.randn(16, 1, side // 8, side // 8, device="cuda", dtype=torch.bfloat16)]
    caption = [torch.randn(TOKENS, 2560, device="cuda", dtype=torch.bfloat16)]
    time = torch.tensor([0.5], device="cuda", dtype=torch.bfloat16)
    found = []
    for backend in BACKENDS:
        for how in ("eager", "compile"):
            def run(form=torch.compile(model) if how == "compile" else model, backend=backend):
                model.set_attention_backend(backend)
                with torch.inference_mode():
                    return form(latent, time, caption)
            try:
                torch._dynamo.reset() if how == "compile" else None
                for _ in range(3):
                    run()
                torch.cuda.synchronize()
                found.append((f"diffusers-{how}-{backend.strip('_')}", run))
            except Exception as e:  # what a backend needs may be absent in many ways; it is named and left out
                print(f"# {how} with {backend} does not work: {str(e).splitlines()[0][:90]}")
    return found


def ours(program, name):
    out = subprocess.run([program, "--only", name, "--rounds", "3", "--cache", "build"], capture_output=True, text=True, check=True)
    for line in out.stdout.splitlines():
        if line.startswith(name + " "):
            return float(line.split()[1])
    raise RuntimeError(f"{program} says nothing about {name}")


def compare(torch, title, contenders, program, our_name, rounds):
    times = {"zit": []} | {name: [] for name, _ in contenders}
    for _ in range(rounds):
        times["zit"].append(ours(program, our_name))
        for name, run in contenders:
            times[name].append(timed(torch, run))
    base = statistics.median(times["zit"])
    print(f"{title}, ms, median of {rounds}, and ratio to zit")
    for name, values in sorted(times.items(), key=lambda item: statistics.median(item[1])):
        print(f"{name:40} {statistics.median(values):9.2f} {statistics.median(values) / base:6.2f}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--diffusers", required=True)
    parser.add_argument("--ours", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--side", type=int, choices=(512, 1024, 2048), default=1024)
    options = parser.parse_args()
    torch, vae_class, transformer_class = import_all(options.diffusers)

    transformer = make_model(torch, transformer_class, TRANSFORMER, 1)
    compare(torch, f"forward of the transformer at {options.side}x{options.side}",
            transformer_contenders(torch, transformer, options.side), options.ours, f"dit-{options.side}", options.rounds)
    del transformer
    torch.cuda.empty_cache()

    vae = make_model(torch, vae_class, VAE, 2)
    latent = torch.randn(1, 16, options.side // 8, options.side // 8, device="cuda", dtype=torch.bfloat16)

    def decode(form=vae):
        with torch.inference_mode():
            form.decode(latent)

    compiled = torch.compile(vae.decode)

    def decode_compiled():
        with torch.inference_mode():
            compiled(latent)

    compare(torch, f"decode to {options.side}x{options.side}", [("diffusers-eager", decode), ("diffusers-compile", decode_compiled)],
            options.ours, f"vae-{options.side}", options.rounds)


main()
