"""The benchmark of extraction runs and prints what it promises; how fast is not for a test to say."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "extract.py"
WAYS = ("pipeline", "loop", "own_loop", "decode_alone", "encode_alone", "decode_whole", "encode_whole")


@pytest.mark.slow
def test_quick_run_prints_one_flat_object(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--quick", "--device", "cpu"]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert finished.returncode == 0, finished.stderr
    result = json.loads(finished.stdout.splitlines()[-1])
    numbers = {
        f"{way}/{channel}/{rate}"
        for way in WAYS
        for channel in ("audio", "dense")
        for rate in ("clips_per_s", "media_s_per_s")
    }
    numbers |= {
        f"pipeline/{channel}/{ratio}"
        for channel in ("audio", "dense")
        for ratio in ("vs_loop", "vs_own_loop", "vs_limit", "vs_shared", "vs_whole", "spread")
    }
    numbers |= {
        f"pipeline/{channel}/{name}" for channel in ("audio", "dense") for name in ("decoders", "encoders")
    }
    about = {"turns", "cores", "device", "torch"}
    about |= {f"{what}/{channel}" for what in ("samples", "encoder") for channel in ("audio", "dense")}
    assert set(result) == numbers | about
    assert all(math.isfinite(result[name]) and result[name] > 0 for name in numbers)
    for channel in ("audio", "dense"):
        slower = min(result[f"{way}/{channel}/clips_per_s"] for way in ("decode_alone", "encode_alone"))
        expected = result[f"pipeline/{channel}/clips_per_s"] / slower
        assert result[f"pipeline/{channel}/vs_limit"] == pytest.approx(expected, rel=1e-2)
