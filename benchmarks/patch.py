"""The fusion module against a plain loop over samples (`benchmarks/patch_loop.py`): the published sizes of the 0.5B
base, batches of four, float32, both ways in turns in one process. A ratio above 1 means that ours is faster.

    fwd, fwd_bwd/CASE/vs_loop   median time of the loop over the median of ours, checks and packing included
    fwd_bwd/CASE/vs_matmul      rate of ours, counted in the FLOPs that it really does, over the rate of one large
                                matrix product measured in the same turns
    peak/CASE/vs_loop           peak memory of one forward and backward pass beside parameters and inputs, ours over
                                the loop's, each way in a process of its own: at most 1 is good
    max_difference/CASE         largest difference between the two outputs

Prints one JSON object as its last line.

    python benchmarks/patch.py [--quick] [--device cuda]
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from benchmarks.patch_loop import CASES, Inputs, make_inputs, make_module, run_loop, run_module  # noqa: E402
from pave_model.fusion import FusionModule  # noqa: E402

WAYS: dict[str, Callable[[FusionModule, Inputs], torch.Tensor]] = {"ours": run_module, "loop": run_loop}
MATRIX_SIDE = 4096


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one turn each")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--peak", nargs=2, metavar=("CASE", "WAY"), help="print the peak memory of one pass, MiB"
    )
    options = parser.parse_args()
    if options.peak:
        print(peak_mib(*options.peak, options.device))
        return
    module = make_module(options.device)
    result: dict[str, float] = {}
    for case in CASES:
        print(f"{case} ...", file=sys.stderr, flush=True)
        result |= measure(module, case, options.device, turns=1 if options.quick else 5)
    print(json.dumps({name: float(f"{value:.4g}") for name, value in result.items()}))


def measure(module: FusionModule, case: str, device: str, turns: int) -> dict[str, float]:
    """All numbers of one case."""
    inputs = make_inputs(case, device)
    matrix = torch.randn(MATRIX_SIDE, MATRIX_SIDE, device=device)
    times: dict[str, list[float]] = {}

    def take(name: str, call: Callable[[], object]) -> None:
        synchronize(device)
        begin = time.perf_counter()
        call()
        synchronize(device)
        times.setdefault(name, []).append(time.perf_counter() - begin)

    for way in WAYS:
        both_passes(module, inputs, way)  # warm
    for turn in range(turns):
        for way in list(WAYS) if turn % 2 == 0 else reversed(WAYS):
            with torch.no_grad():
                take(f"fwd/{way}", lambda way=way: WAYS[way](module, inputs))  # type: ignore[misc]
            take(f"fwd_bwd/{way}", lambda way=way: both_passes(module, inputs, way))  # type: ignore[misc]
        take("matmul", lambda: matrix @ matrix)
    seconds = {name: statistics.median(values) for name, values in times.items()}
    with torch.no_grad():
        difference = (run_module(module, inputs) - run_loop(module, inputs)).abs().max().item()
    matmul_rate = 2 * MATRIX_SIDE**3 / seconds["matmul"]
    peaks = {way: peak_in_a_process(case, way, device) for way in WAYS}
    return {
        f"fwd/{case}/vs_loop": seconds["fwd/loop"] / seconds["fwd/ours"],
        f"fwd_bwd/{case}/vs_loop": seconds["fwd_bwd/loop"] / seconds["fwd_bwd/ours"],
        f"fwd_bwd/{case}/vs_matmul": count_flops(case) / seconds["fwd_bwd/ours"] / matmul_rate,
        f"fwd_bwd/{case}/seconds": seconds["fwd_bwd/ours"],
        f"matmul/{case}/gflops": matmul_rate / 1e9,
        f"peak/{case}/vs_loop": peaks["ours"] / peaks["loop"],
        f"peak/{case}/mib": peaks["ours"],
        f"max_difference/{case}": difference,
    }


def both_passes(module: FusionModule, inputs: Inputs, way: str) -> None:
    """One forward and backward pass; gradients of the parameters, as in training."""
    module.zero_grad(set_to_none=True)
    WAYS[way](module, inputs).backward(inputs.gradient)


def count_flops(case: str) -> int:
    """FLOPs of our forward and backward pass, counted on tensors without values."""
    module = make_module().to("meta")
    real = CASES[case][0]
    inputs = make_inputs(case)
    on_meta = Inputs(
        inputs.side.to("meta"), torch.tensor(real), inputs.queries.to("meta"), inputs.gradient.to("meta")
    )
    with FlopCounterMode(display=False) as counter:
        both_passes(module, on_meta, "ours")
    return int(counter.get_total_flops())


def peak_in_a_process(case: str, way: str, device: str) -> float:
    """Run this script for one pass, so that memory left over from others does not count."""
    command = [sys.executable, __file__, "--device", device, "--peak", case, way]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def peak_mib(case: str, way: str, device: str) -> float:
    """Peak memory of one forward and backward pass, beside what was there before it."""
    module, inputs = make_module(device), make_inputs(case, device)
    if device == "cuda":
        before = torch.cuda.memory_allocated()
        both_passes(module, inputs, way)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    # Threads and libraries take memory once; a small product brings them in.
    torch.randn(512, 512).requires_grad_().matmul(torch.randn(512, 512)).sum().backward()
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again from here
    before = memory_kib("VmRSS")
    both_passes(module, inputs, way)
    return (memory_kib("VmHWM") - before) / 1024


def memory_kib(name: str) -> int:
    """A line of /proc/self/status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise RuntimeError(f"/proc/self/status has no {name}; memory is measured on Linux only")


def synchronize(device: str) -> None:
    """Wait for the GPU."""
    if device == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
