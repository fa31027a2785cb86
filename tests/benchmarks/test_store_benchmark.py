"""The store's benchmark runs and prints what it promises; how fast is not for a test to say."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "store.py"
SIZES = ("audio", "dense", "frames")


@pytest.mark.slow
def test_quick_run_prints_one_flat_object_and_draws(tmp_path: Path) -> None:
    png = tmp_path / "store.png"
    command = [sys.executable, str(SCRIPT), "--quick", "--png", str(png)]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert finished.returncode == 0, finished.stderr
    result = json.loads(finished.stdout.splitlines()[-1])
    expected = {
        f"{kind}/{size}/{what}"
        for size in SIZES
        for kind, whats in {
            "random_read": ("vs_pt", "vs_safetensors", "vs_hdf5", "vs_memmap", "samples_per_s"),
            "scan": ("vs_pt", "vs_memmap"),
            "view": ("vs_pt", "vs_memmap"),
            "read_into": ("vs_pt", "vs_memmap"),
            "write": ("vs_pt", "mb_per_s"),
            "write_durable": ("vs_pt",),
        }.items()
        for what in whats
    }
    expected |= {f"mb/{size}" for size in SIZES} | {"loader/audio/vs_pt", "loader/dense/vs_pt"}
    expected |= {
        f"{what}/{rows}"
        for what in ("open_s", "missing_s", "open_missing_s", "query_s", "reader_rss_mib")
        for rows in ("1e4", "1e6")
    }
    assert set(result) == expected
    assert all(isinstance(value, float) and math.isfinite(value) and value > 0 for value in result.values())
    assert png.read_bytes().startswith(b"\x89PNG")
