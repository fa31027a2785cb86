"""Patch folders: exact round trips, never half-written, never on the wrong base."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from tiny_patch import AUDIO, BASE_CONFIG
from transformers import LlavaOnevisionForConditionalGeneration

from pave_model import checkpoint
from pave_model.base_fingerprint import base_fingerprint
from pave_model.config import LoraSettings, PatchConfig
from pave_model.errors import BaseMismatchError, CheckpointError
from pave_model.patched_model import PatchedVideoLLM
from pave_model.small_base import build_small_base

MakeModel = Callable[..., PatchedVideoLLM]
MakeBase = Callable[[], LlavaOnevisionForConditionalGeneration]
LORA = LoraSettings(r=4, alpha=8, dropout=0)
ADAPTER_FILES = {"adapter_config.json", "adapter_model.safetensors"}
ALL_FILES = {"README.md", "config.json", "patch.safetensors"} | ADAPTER_FILES


@pytest.mark.parametrize(
    ("channels", "lora", "absent"),
    [
        ({"audio": AUDIO, "dense": AUDIO}, LORA, set()),
        ({}, LORA, {"patch.safetensors"}),
        ({"audio": AUDIO}, None, ADAPTER_FILES),
    ],
)
def test_a_patch_comes_back_bit_for_bit(
    make_model: MakeModel,
    make_base: MakeBase,
    tmp_path: Path,
    channels: dict[str, Any],
    lora: LoraSettings | None,
    absent: set[str],
) -> None:
    model = make_model(PatchConfig(base="tiny", channels=channels, lora=lora))
    folder = tmp_path / "runs" / "patch"
    model.save_pretrained(folder, lineage={"run": "r1"})
    assert {path.name for path in folder.iterdir()} == ALL_FILES - absent
    assert [path.name for path in folder.parent.iterdir()] == ["patch"]

    loaded = PatchedVideoLLM.from_pretrained(folder, make_base())
    assert loaded.patch_config == model.patch_config
    ours, theirs = model.state_dict(), loaded.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert {n for n, p in loaded.named_parameters() if p.requires_grad} == {
        n for n, p in model.named_parameters() if p.requires_grad
    }


@torch.no_grad()
def test_answers_survive_the_round_trip_and_the_base_is_found_by_its_path(
    make_model: MakeModel, make_base: MakeBase, make_batch: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    make_base().save_pretrained(tmp_path / "base")
    config = PatchConfig(base=str(tmp_path / "base"), channels={"audio": AUDIO}, lora=LORA)
    model = make_model(config)
    model.save_pretrained(tmp_path / "patch")
    batch = make_batch()
    loaded = PatchedVideoLLM.from_pretrained(tmp_path / "patch")
    assert torch.equal(loaded(**batch).logits, model(**batch).logits)


# peft asks transformers for a property under its old name.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@torch.no_grad()
def test_the_adapter_is_a_plain_peft_adapter(
    make_model: MakeModel, make_base: MakeBase, make_batch: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    model = make_model()
    model.save_pretrained(tmp_path / "patch")
    adapter_config = json.loads((tmp_path / "patch/adapter_config.json").read_text())
    assert adapter_config["base_model_name_or_path"] == "tiny"
    ours = {n: p for n, p in model.llm.named_parameters() if "lora" in n}
    plain = PeftModel.from_pretrained(make_base(), str(tmp_path / "patch"))
    theirs = {n: p for n, p in plain.named_parameters() if "lora" in n}
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_model_card_tells_base_channels_and_lineage(make_model: MakeModel, tmp_path: Path) -> None:
    make_model().save_pretrained(tmp_path / "patch", lineage={"store_version": 7, "dataset": "sidecue"})
    card = (tmp_path / "patch/README.md").read_text()
    for text in ("base_model: tiny", "`audio`", "LoRA: r 4, alpha 8", '"store_version": 7'):
        assert text in card
    assert json.loads((tmp_path / "patch/config.json").read_text())["lineage"]["dataset"] == "sidecue"


def test_a_failed_save_leaves_the_earlier_patch(
    make_model: MakeModel, make_base: MakeBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model()
    folder = tmp_path / "patch"
    model.save_pretrained(folder, lineage={"step": 1})
    saved = {path.name: path.read_bytes() for path in folder.iterdir()}

    def disk_full(*_: object) -> str:
        raise OSError("No space left on device")

    monkeypatch.setattr(checkpoint, "model_card", disk_full)
    for target in (folder, tmp_path / "new"):
        with pytest.raises(CheckpointError, match="No space left on device"):
            model.save_pretrained(target, lineage={"step": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["patch"]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == saved
    monkeypatch.undo()
    model.save_pretrained(folder, lineage={"step": 2})
    assert checkpoint.read_checkpoint(folder).record.lineage == {"step": 2}
    PatchedVideoLLM.from_pretrained(folder, make_base())


def test_a_folder_with_other_files_is_left_alone(make_model: MakeModel, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(CheckpointError, match="holds other files than a patch"):
        make_model().save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(CheckpointError, match="choose a writable folder"):
        make_model().save_pretrained(tmp_path / "thesis.tex" / "patch")


def test_another_base_is_refused(make_model: MakeModel, make_base: MakeBase, tmp_path: Path) -> None:
    make_model().save_pretrained(tmp_path / "patch")
    other = build_small_base(BASE_CONFIG.model_copy(update={"seed": 6}))
    with pytest.raises(BaseMismatchError, match=r"was trained on base 'tiny' with fingerprint \w{16}, but"):
        PatchedVideoLLM.from_pretrained(tmp_path / "patch", other)
    assert not any("lora" in name for name, _ in other.named_parameters())  # refused before it was touched


def test_the_fingerprint_sees_weights_and_settings_but_not_the_dtype(make_base: MakeBase) -> None:
    reference = base_fingerprint(make_base().to(torch.bfloat16))
    assert base_fingerprint(make_base().to(torch.bfloat16).to(torch.float16)) == reference
    assert base_fingerprint(make_base().to(torch.bfloat16).float()) == reference
    heads = make_base().to(torch.bfloat16)
    heads.config.text_config.num_attention_heads = 4
    assert base_fingerprint(heads) != reference
    weights = make_base().to(torch.bfloat16)
    weights.model.language_model.norm.weight.data[0] += 1
    assert base_fingerprint(weights) != reference


def damage_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def remove_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def remove_adapter(folder: Path) -> None:
    (folder / "adapter_model.safetensors").unlink()


def cut_patch(folder: Path) -> None:
    path = folder / "patch.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def widen_channel(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"side_dim": 6', '"side_dim": 7'))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_config, "config.json does not describe a patch"),
        (remove_config, "is no patch folder"),
        (remove_adapter, "cannot read .*adapter_model.safetensors"),
        (cut_patch, "cannot read .*patch.safetensors"),
        (widen_channel, "tensor 'audio.input_mapping.weight' of .* does not fit its config.json"),
    ],
)
def test_a_damaged_folder_is_named(
    make_model: MakeModel, make_base: MakeBase, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    make_model().save_pretrained(tmp_path / "patch")
    damage(tmp_path / "patch")
    with pytest.raises(CheckpointError, match=message):
        PatchedVideoLLM.from_pretrained(tmp_path / "patch", make_base())
