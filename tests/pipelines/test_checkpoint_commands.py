"""`pave import-checkpoint`: what it prints, writes and refuses. The numbers: pave_model/test_golden_checkpoint.py."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from pave_process import invoke
from safetensors.torch import load_file, save_file

CASE = Path(__file__).parents[1] / "golden/pave_patch/checkpoint_case"
NAME = "pave_5_1_3_lora_avsd_7B_imagebind"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a released folder of a published name and its base."""
    shutil.copytree(CASE / "checkpoint", tmp_path / NAME)
    (tmp_path / "base").symlink_to(CASE / "base_hf")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_published_checkpoint_needs_its_base_only(here: Path) -> None:
    result = invoke("import-checkpoint", NAME, "--base", "base")
    assert result.exit_code == 0, result.output
    rows = dict(line.split(maxsplit=1) for line in result.output.splitlines())
    assert rows["channel"] == "audio, tokens of width 6"
    assert rows["LoRA"] == "r 8, alpha 2"
    assert rows["tensors"] == "30 of the patch, 28 of LoRA"
    assert rows["base"] == "base (trained on lmms-lab/llava-onevision-qwen2-0.5b-ov)"
    assert rows["out"] == f"patches/{NAME}"

    record = json.loads((here / "patches" / NAME / "config.json").read_text())
    assert list(record["patch"]["channels"]) == ["audio"]
    source = record["lineage"]["imported_from"]
    assert source["folder"] == str(here / NAME)
    assert source["settings"]["fusion"]["num_heads"] == 4
    content = (here / NAME / "non_lora_trainables.bin").read_bytes()
    assert source["sha256"]["non_lora_trainables.bin"] == hashlib.sha256(content).hexdigest()
    assert len(source["sha256"]) == 4

    again = invoke("import-checkpoint", NAME, "--base", "base", "--channel", "dense", "--heads", 2)
    assert again.exit_code == 0, again.output
    record = json.loads((here / "patches" / NAME / "config.json").read_text())
    assert record["patch"]["channels"]["dense"]["num_heads"] == 2


def empty_the_base(here: Path) -> None:
    (here / "base").unlink()
    (here / "base").mkdir()


def lose_a_weight(here: Path) -> None:
    (here / "base").unlink()
    shutil.copytree(CASE / "base_hf", here / "base")
    tensors = load_file(CASE / "base_hf/model.safetensors")
    del tensors["language_model.model.norm.weight"]
    (here / "base/model.safetensors").unlink()
    save_file(tensors, here / "base/model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("prepare", "options", "parts"),
    [
        (lambda here: (here / NAME).rename(here / "other"), ["other"], ["name of other", "give --channel"]),
        (lambda here: None, [NAME, "--out", NAME], [NAME, "holds other files than a patch"]),
        (lambda here: None, [NAME, "--channel", "Sound"], ["'Sound'", "lower case"]),
        (empty_the_base, [NAME], ["no base model at 'base'", "transformers layout"]),
        (lose_a_weight, [NAME], ["base 'base' lack 1 weights (model.language_model.norm.weight"]),
        (lambda here: (here / NAME / "config.json").unlink(), [NAME], ["has no config.json"]),
    ],
)
def test_refusals_are_one_line_and_leave_nothing(
    here: Path, prepare: Callable[[Path], object], options: list[str], parts: list[str]
) -> None:
    prepare(here)
    result = invoke("import-checkpoint", *options, "--base", "base")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert all(part in result.stderr for part in parts), result.stderr
    assert not (here / "patches").exists()
