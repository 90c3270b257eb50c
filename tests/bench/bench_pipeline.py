#!/usr/bin/env python3
"""Time per picture of the tiny pipeline: bench_pipeline's contenders and diffusers on PyTorch's CPU, in turn.

Run by scripts/bench-diffusers, with the python of its virtual environment. Every round draws one picture with each
contender, so that a noisy moment of the machine touches all alike; the medians and their ratios are printed. A picture is
timed from prompt to 8-bit pixels, without loading and without PNG.
"""
import argparse
import statistics
import subprocess
import time


class Ours:
    """bench_pipeline --serve: a line in, one picture drawn, its times out."""

    def __init__(self, name, options):
        self.name = "zit " + name
        self.process = subprocess.Popen(
            [options.bench, "--serve", name, "--model", options.model, "--side", str(options.side),
             "--steps", str(options.steps), "--threads", str(options.threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline() != "ready\n":
            raise SystemExit(f"bench-diffusers: {name} did not start")

    def draw(self, _seed):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        text, denoise, decode = map(float, self.process.stdout.readline().split())
        return {"text": text, "denoise": denoise, "decode": decode, "picture": text + denoise + decode}

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Theirs:
    """A diffusers pipeline in this process, its parts timed by wrapping them."""

    def __init__(self, name, options):
        import torch
        from diffusers import ZImagePipeline
        self.name, self.options, self.spent = "diffusers " + name, options, {}
        self.pipeline = ZImagePipeline.from_pretrained(options.model, dtype=getattr(torch, name))
        self.pipeline.set_progress_bar_config(disable=True)
        self.pipeline.encode_prompt = self.timed("text", self.pipeline.encode_prompt)
        self.pipeline.vae.decode = self.timed("decode", self.pipeline.vae.decode)

    def timed(self, part, function):
        def run(*args, **kwargs):
            start = time.perf_counter()
            result = function(*args, **kwargs)
            self.spent[part] = time.perf_counter() - start
            return result
        return run

    def draw(self, seed):
        import torch
        side, start = self.options.side, time.perf_counter()
        self.pipeline("A cat sitting on a mat.", height=side, width=side, num_inference_steps=self.options.steps,
                      guidance_scale=0.0, generator=torch.Generator("cpu").manual_seed(seed), output_type="pil")
        whole = time.perf_counter() - start
        return {**self.spent, "denoise": whole - sum(self.spent.values()), "picture": whole}

    def close(self):
        pass


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--bench", default="build/tests/bench/bench_pipeline")
    parser.add_argument("--model", default="build/golden")
    for name, value in (("rounds", 5), ("side", 256), ("steps", 8), ("threads", 2)):
        parser.add_argument("--" + name, type=int, default=value)
    parser.add_argument("--without-ref", action="store_true", help="leave out the plain loops, which take minutes")
    return parser.parse_args()


def main():
    import diffusers
    import torch
    options = arguments()
    torch.set_num_threads(options.threads)
    names = ["cpu-f32", "cpu-bf16"] + ([] if options.without_ref else ["ref-f32"])
    contenders = [Theirs("float32", options), Theirs("bfloat16", options)] + [Ours(n, options) for n in names]
    for c in contenders:  # once, not timed
        c.draw(0)
    rounds = [[c.draw(r) for c in contenders] for r in range(options.rounds)]
    for c in contenders:
        c.close()

    print(f"{options.side}x{options.side}, {options.steps} steps, {options.threads} threads, medians of "
          f"{options.rounds} rounds, seconds; diffusers {diffusers.__version__}, torch {torch.__version__}")
    columns = ["text", "denoise", "decode", "picture"]
    median = lambda i, column: statistics.median(r[i][column] for r in rounds)
    print(f"{'':20s}" + "".join(f"{c:>10s}" for c in columns) + f"{'min':>10s}{'max':>10s}{'ratio':>10s}")
    for i, c in enumerate(contenders):
        spread = [r[i]["picture"] for r in rounds]
        print(f"{c.name:20s}" + "".join(f"{median(i, column):10.4f}" for column in columns) +
              f"{min(spread):10.4f}{max(spread):10.4f}{median(i, 'picture') / median(0, 'picture'):10.3f}")
    print("ratio: time by that of the first line; smaller is faster")


if __name__ == "__main__":
    main()
