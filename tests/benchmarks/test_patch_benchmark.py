"""The patch's benchmarks run and print what they promise; how fast is not for a test to say."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def run(script: str, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, str(BENCHMARKS / script), *arguments]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert finished.returncode == 0, finished.stderr
    result: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return result


@pytest.mark.slow
def test_quick_run_prints_one_flat_object() -> None:
    result = run("patch.py", "--quick")
    names = ("fwd/{}/vs_loop", "fwd_bwd/{}/vs_loop", "fwd_bwd/{}/vs_matmul", "fwd_bwd/{}/seconds")
    names += ("matmul/{}/gflops", "peak/{}/vs_loop", "peak/{}/mib", "max_difference/{}")
    assert set(result) == {name.format(case) for name in names for case in ("audio", "dense", "depth3d")}
    assert all(math.isfinite(value) and value >= 0 for value in result.values())
    assert all(result[f"max_difference/{case}"] < 1e-4 for case in ("audio", "dense", "depth3d"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: run benchmarks/gpu_check.py itself")
def test_without_a_gpu_the_check_says_what_it_skips() -> None:
    assert run("gpu_check.py") == {
        "skipped": dict.fromkeys(("varlen", "flash_attention_2"), "it needs a CUDA device, not 'cpu'")
    }
