"""Ours beside diffusers on one card: see scripts/bench-peers.

Each contender has its turn, round after round, each time once unmeasured before it is measured; medians, and each as a ratio
to ours. Weights are random normal numbers of deviation 0.02 (zeros would let the device clock higher), in bf16, made on the
device from a seed. What a backend or the compiler needs may be absent in many ways: a contender that does not work is named
and left out.
"""
import argparse
import glob
import os
import statistics
import subprocess
import sys
import time

import full_size_model

# (transformer, VAE, text encoder) of diffusers and transformers; of 151936 words 16384, as tests/bench/full_size.h has them for ours.
CONFIG = full_size_model.configuration(full_size_model.golden(), full_size_model.FULL)
FULL = (CONFIG["transformer"], CONFIG["vae"], dict(CONFIG["text_encoder"], vocab_size=16384))
SMALL = (
    dict(FULL[0], dim=256, n_layers=1, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=128),
    dict(FULL[1], block_out_channels=[32, 32, 32, 32], layers_per_block=1),
    dict(FULL[2], hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
         head_dim=64, vocab_size=512))
BACKENDS = ["native", "_native_cudnn", "_native_flash", "_native_efficient", "flash", "_flash_3", "sage", "xformers"]
TEXT_BACKENDS = ["sdpa", "flash_attention_2", "eager"]
KERNELS = {"cudnn": "CUDNN_ATTENTION", "flash": "FLASH_ATTENTION", "efficient": "EFFICIENT_ATTENTION"}
LENGTHS = (32, 128, 512)
STEPS = 8
IN_A_ROW = 20  # of what takes less than a millisecond


def skip(why):
    print(f"skipped: {why}")
    sys.exit(77)


def first_line(error):
    return (str(error).splitlines() or [type(error).__name__])[0][:90]


# ---- tables, which need no PyTorch


def compare(title, contenders, ours, rounds):
    """`ours()`: milliseconds; contenders: [(name, function that measures itself in milliseconds)]. {name: median}."""
    times = {"zit": []} | {name: [] for name, _ in contenders}
    for _ in range(rounds):
        times["zit"].append(ours())
        for name, measure in contenders:
            times[name].append(measure())
    medians = {name: statistics.median(values) for name, values in times.items()}
    print(f"{title}, ms, median of {rounds}, and ratio to zit")
    for name, value in sorted(medians.items(), key=lambda item: item[1]):
        print(f"{name:44} {value:9.2f} {value / medians['zit']:6.2f}")
    print(flush=True)
    return medians


def summary(results):
    """NAME zit_ms best_ms ratio: the best of diffusers, eager and compiled, and of PyTorch's own kernels."""
    print(f"{'NAME':30} {'zit_ms':>9} {'best_ms':>9} {'ratio':>6}")
    for title, medians in results.items():
        for how in ("eager", "compile", "torch"):
            others = [value for name, value in medians.items() if name.startswith((f"diffusers-{how}", f"{how}-"))]
            if others:
                print(f"{title + '-' + how:30} {medians['zit']:9.2f} {min(others):9.2f} {min(others) / medians['zit']:6.2f}")


class Ours:
    """bench_gpu, a fresh process for each measurement."""

    def __init__(self, program, small):
        self.command = [program, "--rounds", "3", "--cache", "build"] + (["--small"] if small else [])

    def lines(self, only):
        out = subprocess.run(self.command + ["--only", only], capture_output=True, text=True, check=True).stdout
        rows = [line.split() for line in out.splitlines() if not line.startswith("#")]
        return {row[0]: float(row[1]) for row in rows if len(row) == 4}

    def measure(self, name):
        # bench_gpu takes the text encoder's lengths together
        return self.lines("text" if name.startswith("text") else name)[name]


# ---- what is measured


def find_diffusers(path):
    """Puts the tree or the wheels in front of what is installed; "installed" is what there is."""
    if path == "installed":
        return
    if os.path.isdir(os.path.join(path, "src", "diffusers")):
        sys.path.insert(0, os.path.join(path, "src"))
        return
    wheels = glob.glob(os.path.join(path, "*.whl"))
    if not wheels:
        skip(f"{path} has neither src/diffusers nor wheels")
    sys.path[0:0] = wheels


class Peer:
    """diffusers' three networks with random weights, and what is asked of them."""

    def __init__(self, path, small, backends):
        find_diffusers(path)
        self.backends = backends
        try:
            import torch
        except ImportError as e:
            skip(f"no PyTorch: {e}")
        if not small and not torch.cuda.is_available():
            skip("PyTorch finds no CUDA device")
        try:
            from diffusers import AutoencoderKL, ZImageTransformer2DModel
            from transformers import Qwen3Config, Qwen3Model
        except ImportError as e:
            skip(f"no diffusers with Z-Image, or no transformers with Qwen3: {e}")
        self.torch = torch
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        for limit in ("recompile_limit", "cache_size_limit"):  # each backend keeps its own compiled form
            if hasattr(torch._dynamo.config, limit):
                setattr(torch._dynamo.config, limit, 64)
        dit, vae, text = SMALL if small else FULL
        self.side = 64 if small else 1024
        self.width = dit["cap_feat_dim"]
        self.words = text["vocab_size"]
        self.dit = self.make(lambda: ZImageTransformer2DModel(**dit), 1)
        self.vae = self.make(lambda: AutoencoderKL(**vae), 2)
        self.text = self.make(lambda: Qwen3Model(Qwen3Config(**text)), 3)

    def make(self, construct, seed):
        torch = self.torch
        torch.set_default_dtype(torch.bfloat16)
        with torch.device(self.device):
            model = construct()
        torch.set_default_dtype(torch.float32)
        generator = torch.Generator(self.device).manual_seed(seed)
        for name, p in model.named_parameters():
            if p.dim() == 1 and "norm" in name and name.endswith("weight"):
                p.data.fill_(1.0)
            else:
                p.data.normal_(0.0, 0.02, generator=generator)
        return model.eval().requires_grad_(False)

    def timed(self, run):
        """Milliseconds of the second of two runs, on the device's clock where it has one."""
        torch = self.torch
        run()
        if self.device == "cpu":
            begin = time.perf_counter()
            run()
            return (time.perf_counter() - begin) * 1e3
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize()
        begin.record()
        run()
        end.record()
        torch.cuda.synchronize()
        return begin.elapsed_time(end)

    def contenders(self, forms, whose="diffusers", in_a_row=1):
        """Of {name: function}, those that work, each warmed up; in_a_row: how many runs a call of one is."""
        found = []
        for name, run in forms.items():
            try:
                with self.torch.inference_mode():
                    run()
                    run()
            except Exception as e:
                print(f"# {name} does not work: {first_line(e)}")
                continue

            def measure(run=run):
                with self.torch.inference_mode():
                    return self.timed(run) / in_a_row
            found.append((f"{whose}-{name}", measure))
        return found

    def random(self, *shape):
        return self.torch.randn(*shape, device=self.device, dtype=self.torch.bfloat16)

    def both(self, form):
        """(how, form) of eager and compiled."""
        return (("eager", form), ("compile", self.torch.compile(form)))

    # ---- forms: {name: a function without arguments}

    def attentions(self, heads, rows, width):
        """PyTorch's kernels for the transformer's attention, of numbers as each of them likes them best."""
        torch = self.torch
        q, k, v = (self.random(1, heads, rows, width) for _ in range(3))
        forms = {}
        for name, kernel in KERNELS.items():
            def run(kernel=kernel):
                with torch.nn.attention.sdpa_kernel(getattr(torch.nn.attention.SDPBackend, kernel)):
                    for _ in range(IN_A_ROW):
                        torch.nn.functional.scaled_dot_product_attention(q, k, v)
            forms[name] = run
        return forms

    def forwards(self):
        """One forward of the transformer, each attention backend."""
        latent, caption = [self.random(16, 1, self.side // 8, self.side // 8)], [self.random(128, self.width)]
        when = self.torch.tensor([0.5], device=self.device, dtype=self.torch.bfloat16)
        forms = {}
        for how, form in self.both(self.dit):
            for backend in self.backends:
                def run(form=form, backend=backend):
                    self.dit.set_attention_backend(backend)
                    return form(latent, when, caption)
                forms[f"{how}-{backend.strip('_')}"] = run
        return forms

    def texts(self, tokens):
        """The prompt's hidden states, as the pipeline takes them."""
        ids = self.torch.randint(0, self.words, (1, tokens), device=self.device)
        forms = {}
        for how, form in self.both(self.text):
            for backend in TEXT_BACKENDS:
                def run(form=form, backend=backend):
                    self.text.set_attn_implementation(backend)
                    return form(ids, output_hidden_states=True).hidden_states[-2]
                forms[f"{how}-{backend}"] = run
        return forms

    def decodes(self):
        latent = self.random(1, 16, self.side // 8, self.side // 8)
        return {how: lambda form=form: form(latent) for how, form in self.both(self.vae.decode)}

    def pictures(self):
        """Prompt's ids to 8-bit pixels on the host."""
        torch = self.torch
        ids = torch.randint(0, self.words, (1, 128), device=self.device)
        forms = {}
        for how, text, dit, decode in zip(("eager", "compile"), *((f for _, f in self.both(m)) for m in
                                                                    (self.text, self.dit, self.vae.decode))):
            def run(text, dit, decode, backend):
                self.dit.set_attention_backend(backend)
                self.text.set_attn_implementation("sdpa")
                caption = [text(ids, output_hidden_states=True).hidden_states[-2][0]]
                latent = torch.randn(1, 16, self.side // 8, self.side // 8, device=self.device)
                for i in range(STEPS):
                    when = torch.tensor([i / STEPS], device=self.device, dtype=torch.bfloat16)
                    velocity = dit(list(latent.to(torch.bfloat16).unsqueeze(2)), when, caption)[0][0]
                    latent = latent + velocity.float().squeeze(1) / STEPS
                pixels = decode(latent.to(torch.bfloat16) / 0.3611 + 0.1159).sample
                return ((pixels / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).cpu()
            for backend in self.backends:
                forms[f"{how}-{backend.strip('_')}"] = (lambda a=text, b=dit, c=decode, d=backend, run=run: run(a, b, c, d))
        return forms


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--diffusers", required=True)
    parser.add_argument("--ours", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--side", type=int, choices=(512, 1024, 2048))
    parser.add_argument("--small", action="store_true", help="small networks, on a CPU too: to see that this program works")
    parser.add_argument("--only", default="", metavar="NAMES", help="of attention, dit, text, vae, picture; commas between")
    parser.add_argument("--backends", default=",".join(BACKENDS), help="of diffusers' attention; commas between")
    options = parser.parse_args()
    peer = Peer(options.diffusers, options.small, options.backends.split(","))
    ours, results = Ours(options.ours, options.small), {}
    peer.side = options.side or peer.side
    side, size, wanted = peer.side, f"{peer.side}x{peer.side}", [name for name in options.only.split(",") if name]

    def duel(name, title, forms, **how):
        """`forms`: a function, for what is not wanted is not made either."""
        if wanted and name.split("-")[0] not in wanted:
            return
        contenders = peer.contenders(forms(), **how)
        results[name] = compare(title, contenders, lambda: ours.measure(name), options.rounds)

    rows, heads = (96, 2) if options.small else (4096 + 128, 30)
    duel("attention-dit", f"attention, {heads} heads, {rows} rows, width 128", lambda: peer.attentions(heads, rows, 128),
         whose="torch", in_a_row=IN_A_ROW)
    duel(f"dit-{side}", f"one forward of the transformer at {size}, 128 tokens", peer.forwards)
    duel(f"vae-{side}", f"decode to {size}", peer.decodes)
    if options.side in (None, 1024):
        duel("picture", f"prompt to pixels at {size}, {STEPS} forwards", peer.pictures)
    for tokens in LENGTHS:
        duel(f"text-{tokens}", f"text encoder, {tokens} tokens", lambda: peer.texts(tokens))
    summary(results)


if __name__ == "__main__":
    main()
