"""What only a GPU can show about the patch: each attention kernel against `sdpa`, and against the plain loop.

For each case of `benchmarks/patch_loop.py` and each kernel, in bfloat16 mixed precision (what the variable-length
kernels take), with `sdpa` in float32 as the truth:

    error/CASE/KERNEL           largest error of the output over its largest value
    gradient_error/CASE/KERNEL  the same of the gradients of the parameters, the worst of them
    fwd_bwd/CASE/KERNEL/vs_loop median time of the loop, also in bfloat16, over that of ours
    fwd_bwd/CASE/float32/vs_loop    the same with both in float32
    compiled/CASE/vs_eager      `auto` in eager mode over `auto` compiled as one graph
    peak/CASE/KERNEL/vs_loop    peak memory, ours over the loop's

A kernel that cannot run here is listed under `skipped` with the reason. Ends with status 1 when an error is larger
than 2% of the largest value, and prints one JSON object as its last line.

    python benchmarks/gpu_check.py
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch  # noqa: E402

from benchmarks.patch_loop import CASES, Inputs, make_inputs, make_module, run_loop, run_module  # noqa: E402
from pave_model.attention import AttentionBackend, backend_obstacle  # noqa: E402
from pave_model.fusion import FusionModule  # noqa: E402

KERNELS: tuple[AttentionBackend, ...] = ("auto", "sdpa", "folded", "varlen", "flash_attention_2")
LARGEST_ERROR = 0.02
TURNS = 10
Pass = Callable[[FusionModule, Inputs], torch.Tensor]


def main() -> int:
    """Measure, print, and say whether the kernels agree."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    module = make_module(device)
    head_dim = module.hidden_dim // module.num_heads
    skipped = {
        kernel: why
        for kernel in KERNELS
        if (why := backend_obstacle(kernel, device, torch.bfloat16, head_dim)) is not None
    }
    for kernel, why in skipped.items():
        print(f"skipped {kernel}: {why}", file=sys.stderr)
    result: dict[str, Any] = {"skipped": skipped}
    if device == "cpu":
        print("skipped all measurements: there is no CUDA device", file=sys.stderr)
        print(json.dumps(result))
        return 0
    result["device"] = torch.cuda.get_device_name()
    result["torch"] = torch.__version__
    for case in CASES:
        result |= check(module, case, [kernel for kernel in KERNELS if kernel not in skipped])
    print(json.dumps(result))
    errors = [value for name, value in result.items() if "error/" in name]
    return int(max(errors) > LARGEST_ERROR)


def check(module: FusionModule, case: str, kernels: list[AttentionBackend]) -> dict[str, float]:
    """All numbers of one case."""
    inputs = make_inputs(case, "cuda")
    module.attention = "sdpa"
    truth = passes(module, inputs, run_module, half=False)
    loop_seconds, loop_peak = measure(module, inputs, run_loop, half=True)
    exact_loop, _ = measure(module, inputs, run_loop, half=False)
    exact_ours, _ = measure(module, inputs, run_module, half=False)
    found = {f"fwd_bwd/{case}/float32/vs_loop": exact_loop / exact_ours}
    for kernel in kernels:
        module.attention = kernel
        for name, value in errors(truth, passes(module, inputs, run_module, half=True)).items():
            found[f"{name}/{case}/{kernel}"] = value
        seconds, peak = measure(module, inputs, run_module, half=True)
        found[f"fwd_bwd/{case}/{kernel}/vs_loop"] = loop_seconds / seconds
        found[f"peak/{case}/{kernel}/vs_loop"] = peak / loop_peak
        if kernel == "auto":
            eager = seconds
    module.attention = "auto"
    compiled = torch.compile(module, fullgraph=True, dynamic=True)
    seconds, _ = measure(compiled, inputs, run_module, half=True)
    found[f"compiled/{case}/vs_eager"] = eager / seconds
    return {name: float(f"{value:.4g}") for name, value in found.items()}


def passes(module: FusionModule, inputs: Inputs, run: Pass, half: bool) -> dict[str, torch.Tensor]:
    """Output and gradients of one forward and backward pass."""
    module.zero_grad(set_to_none=True)
    with torch.autocast("cuda", torch.bfloat16, enabled=half):
        output = run(module, inputs)
    output.float().backward(inputs.gradient)
    gradients = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    return {"output": output.detach().float(), **gradients}


def errors(truth: dict[str, torch.Tensor], found: dict[str, torch.Tensor]) -> dict[str, float]:
    """Largest errors, relative to the largest value of each tensor."""
    of = {
        name: ((found[name] - expected).abs().max() / expected.abs().max()).item()
        for name, expected in truth.items()
    }
    return {"error": of.pop("output"), "gradient_error": max(of.values())}


def measure(module: FusionModule, inputs: Inputs, run: Pass, half: bool) -> tuple[float, int]:
    """Median seconds and peak bytes of a forward and backward pass."""
    for _ in range(3):
        passes(module, inputs, run, half)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    times = []
    for _ in range(TURNS):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        passes(module, inputs, run, half)
        torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return statistics.median(times), torch.cuda.max_memory_allocated() - before


if __name__ == "__main__":
    sys.exit(main())
