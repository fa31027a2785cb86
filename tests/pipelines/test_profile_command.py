"""`pave profile`: the table in the documentation, JSON, bases of one's own, and errors."""

import json
import re
import shlex
from pathlib import Path

import pytest
from pave_process import ROOT, invoke

from pave_model.small_base import SmallBaseConfig, build_small_base


@pytest.fixture(scope="module")
def small_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the config.json of a small base and nothing else."""
    folder = tmp_path_factory.mktemp("base")
    ids = {"image_token_id": 1, "video_token_id": 2, "eos_token_id": 3, "pad_token_id": 4}
    build_small_base(SmallBaseConfig(vocab_size=8, **ids)).config.save_pretrained(folder)
    return folder


def test_the_documented_table_is_what_the_command_prints() -> None:
    text = (ROOT / "docs" / "cost.md").read_text()
    ((command, printed),) = re.findall(r"```\n\$ pave (profile [^\n]*)\n(.*?)```", text, re.DOTALL)
    assert invoke(*shlex.split(command)).stdout == printed
    for base in ("0.5b", "7b"):
        for channel in ("audio", "dense", "depth3d", "exo"):
            assert f"\n{base:6}patch/{channel} " in printed


def test_a_base_of_ones_own_is_measured_by_its_config_alone(small_base: Path) -> None:
    result = invoke("profile", "--base", small_base, "--channel", "exo", "--channel", "audio", "--json")
    measured = json.loads(result.stdout)[str(small_base)]
    assert measured["num_visual_tokens"] == 32 * 4 * 5
    parts = measured["parts"]
    patches = ["patch/audio", "patch/exo"]
    assert list(parts) == ["vision", "language_model", "base", *patches, "lora", "lora_merged"]
    assert parts["lora_merged"]["parameters"] == parts["lora_merged"]["flops"] == 0
    base, patch = parts["base"], parts["patch/audio"]
    assert base["parameters"] == parts["vision"]["parameters"] + parts["language_model"]["parameters"]
    assert patch["flops_of_base"] == patch["flops"] / base["flops"]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (None, ["no base's config.json at", "give a folder or hub id of a LLaVA-OneVision"]),
        ("{", ["no base's config.json at", "not a valid JSON file"]),
        ('{"model_type": "gpt2"}', ["a model of the kind 'gpt2', not llava_onevision"]),
        ('{"model_type": "no such kind"}', ["no base's config.json at", "no such kind"]),
        ('{"model_type": "llava_onevision", "text_config": 5}', ["no base's config.json at", "text_config"]),
        (
            '{"model_type": "llava_onevision", "vision_config": {"model_type": "clip_vision_model"}}',
            ["the vision tower 'clip_vision_model'", "give another base"],
        ),
    ],
)
def test_what_is_no_base_is_named(tmp_path: Path, config: str | None, words: list[str]) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    result = invoke("profile", "--base", tmp_path)
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    for word in ["error: ", *words]:
        assert word in line


def test_an_unknown_channel_is_named_with_the_known_ones() -> None:
    result = invoke("profile", "--base", "7b", "--channel", "smell")
    assert result.exit_code == 1
    assert result.stderr == (
        "error: there is no channel 'smell' with published sizes; "
        "choose one of: audio, dense, depth3d, exo, all\n"
    )
