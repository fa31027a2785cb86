"""The demo's folder, and among the slow tests the demo at full size; a small one is in `test_small_demo`."""

import fcntl
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pave_process import environment, invoke


def run_demo(out: Path, *options: str, **changes: str) -> dict[str, Any]:
    """Run `pave demo` as a user would, with `changes` of the environment, and return report.json."""
    command = [str(Path(sys.executable).with_name("pave")), "demo", "--out", str(out), *options]
    finished = subprocess.run(
        command, env=environment(**changes), capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert str(out / "report.html") in finished.stdout
    report: dict[str, Any] = json.loads((out / "report.json").read_text())
    return report


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    refused = invoke("demo", "--out", tmp_path)
    assert refused.exit_code == 1
    assert "holds something else than a demo" in refused.stderr
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_a_folder_in_which_another_process_works_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    with (tmp_path / "demo.json").open("w") as marker:
        fcntl.flock(marker, fcntl.LOCK_EX)
        refused = invoke("demo", "--out", tmp_path)
    assert refused.exit_code == 1
    assert f"another process makes a demo in {tmp_path} right now" in refused.stderr
    assert (tmp_path / "base").exists()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", ["0", "7"])
def test_only_the_patch_hears_the_tone(tmp_path: Path, seed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)  # at full size threads pay
    report = run_demo(tmp_path / "demo", "--channels", "audio", "--seed", seed)
    rows = {row["variant"]: row for row in report["rows"] if row["question"] == "tone_colour"}
    assert all(row["n"] >= 200 for row in rows.values())
    assert rows["patch"]["accuracy"] >= 0.9
    assert abs(rows["lora_only"]["accuracy"] - 0.25) <= 0.1
    assert abs(rows["base"]["accuracy"] - 0.25) <= 0.1


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_patch_learns_what_its_channel_alone_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    report = run_demo(tmp_path / "demo", "--seed", "0")
    rows = {(row["channel"], row["question"], row["variant"]): row for row in report["rows"]}
    trained = [key for key in rows if key[2] == "lora_only"]
    assert {channel for channel, _, _ in trained} == {
        *("audio", "dense", "exo", "depth3d", "depth3d-pose", "audio+dense")
    }
    for channel, question, _ in trained:
        twin = rows[channel, question, "lora_only"]
        assert rows[channel, question, "patch"]["accuracy"] >= 0.9, question
        assert abs(twin["accuracy"] - twin["chance"]) <= 0.1, question
        if "+" not in channel:  # of two channels one is left
            own = channel.partition("-")[0]
            for altered in (f"{own} zeroed", f"{own} shuffled"):
                assert abs(rows[channel, question, altered]["accuracy"] - twin["accuracy"]) <= 0.1, question
    together = rows["audio+dense", "flash_at_tone", "patch"]["accuracy"]
    for alone in ("audio-alone", "dense-alone"):
        assert rows[alone, "flash_at_tone", "patch"]["accuracy"] <= 0.6 < together
