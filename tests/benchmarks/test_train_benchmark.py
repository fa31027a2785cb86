"""The benchmark of training runs and prints what it promises; how fast is not for a test to say."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "train.py"


@pytest.mark.slow
def test_quick_run_prints_one_flat_object(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--quick"]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert finished.returncode == 0, finished.stderr
    result = json.loads(finished.stdout.splitlines()[-1])
    shares = {f"train/{way}/data_wait_share" for way in ("cached", "recompute")}
    speeds = {f"train/{way}/steps_per_s" for way in ("cached", "recompute")}
    about = {"clips", "batch_size", "steps", "turns", "cores", "device", "torch"}
    assert set(result) == shares | speeds | about | {"train/cached_vs_recompute", "train/loss_difference"}
    assert all(math.isfinite(result[name]) and result[name] > 0 for name in speeds)
    assert all(0 <= result[name] <= 1 for name in shares)
    ratio = result["train/cached/steps_per_s"] / result["train/recompute/steps_per_s"]
    assert result["train/cached_vs_recompute"] == pytest.approx(ratio, rel=1e-2)
    assert result["train/loss_difference"] < 1e-3, "both ways train the same"
