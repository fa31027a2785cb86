"""The side-channel meter on a toy world in which samples differ by their sound alone."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from ml_dtypes import bfloat16
from pave_process import invoke
from safetensors.torch import load_file, save_file
from tiny_base import TOKENS, VISION, WIDTH, write_tiny_base
from tiny_features import AUDIO, LAYOUTS

from pave_model.config import LoraSettings
from pipelines.altered_features import alter
from pipelines.config import Alteration, DataConfig, EvaluateConfig, FusionSizes, TrainConfig
from pipelines.errors import PipelineError, RunError
from pipelines.feature_dataset import open_features
from pipelines.meter import MeterRow, side_channel_meter, worth_sentence
from pipelines.train import train
from store import Features, FeatureSetRecord, FeatureStore

NUM_SAMPLES = 6


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """base/, store/, instructions.parquet, and the runs patch/ and twin/. A sound is the same at all its times."""
    root = tmp_path_factory.mktemp("world")
    weights = write_tiny_base(root / "base") / "model.safetensors"
    # what small random weights attend to hardly changes what they say
    tensors = {
        name: 10 * tensor if "language_model" in name and "self_attn" in name else tensor
        for name, tensor in load_file(weights).items()
    }
    save_file(tensors, weights, {"format": "pt"})
    rng = np.random.default_rng(0)
    names = [f"clip {number}" for number in range(NUM_SAMPLES)]
    store = FeatureStore.open(root / "store")
    parts = []
    for channel in ("frames", "audio"):
        record = FeatureSetRecord("toy", channel, "toy", "1", "f" * 16, LAYOUTS[channel], None, "none", {})
        store.register(record)
        values = rng.normal(size=(2, TOKENS, VISION))
        visual = {"visual": rng.normal(size=(2, TOKENS, WIDTH)).astype(bfloat16)}
        with store.writer(record) as part:
            for name in names:
                if channel == "audio":
                    values, visual = np.tile(4 * rng.normal(size=(1, 1, AUDIO)), (4, 1, 1)), {}
                times = np.arange(len(values), dtype=np.float64)
                part.write(name, Features(values.astype(bfloat16), times, visual))
        parts.append(part.close())
    store.commit(parts)
    rows = [
        {
            "instruction_id": name,
            "sample_id": name,
            "dataset": "toy",
            "split": "test",
            "question_type": "odd" if number % 2 else "even",
            "question": "Which colour is on screen at the end?",
            "answer": "red",
            "chance": 0.5,
        }
        for number, name in enumerate(names)
    ]
    pq.write_table(pa.Table.from_pylist(rows), root / "instructions.parquet")
    for run, channels in {"patch": {"audio": FusionSizes(embed_dim=16, hidden_dim=16)}, "twin": {}}.items():
        settings: dict[str, Any] = {"channels": channels, "max_steps": 1, "batch_size": 6, "accumulation": 1}
        train(
            TrainConfig(
                base=str(root / "base"),
                out=root / run,
                data=data(root),
                lora=LoraSettings(r=2, alpha=4, dropout=0.0),
                learning_rate=1e-3,
                **settings,
            )
        )
    patch = root / "patch" / "patch" / "patch.safetensors"
    heard = load_file(patch)
    heard["audio.output_norm.weight"] = torch.full((WIDTH,), 4.0)  # near zero after so few steps
    save_file(heard, patch, {"format": "pt"})
    return root


def data(world: Path) -> DataConfig:
    return DataConfig(store=str(world / "store"), instructions=world / "instructions.parquet", split="test")


def predictions(folder: Path) -> dict[str, str]:
    lines = (folder / "predictions.jsonl").read_text().splitlines()
    return {row["sample_id"]: row["prediction"] for row in map(json.loads, lines)}


def test_every_variant_is_evaluated_once_and_paired_with_the_run_as_it_is(world: Path) -> None:
    command = ("evaluate", world / "patch", "--meter", "--twin", world / "twin")
    result = invoke(*command, "--set", "max_new_tokens=6")
    assert result.exit_code == 0, result.stderr
    folder = world / "patch" / "scores-test"
    intact = predictions(folder)
    assert len(set(intact.values())) > 2, "this patch hears something"
    assert len(set(predictions(folder / "meter" / "audio-zeroed").values())) == 1, "silence is all the same"
    assert predictions(folder / "meter" / "audio-shifted") == intact, "the same at all times"
    shuffled = predictions(folder / "meter" / "audio-shuffled")
    source = open_features(str(world / "store"), None, {}, "toy", ["audio"])
    others = alter(source, {"audio": "shuffled"}, list(intact), seed=0).side["audio"].others  # type: ignore[attr-defined]
    assert shuffled == {name: intact[others[name]] for name in intact}
    assert len(set(predictions(folder / "meter" / "twin").values())) == 1, "the twin hears nothing"

    content = json.loads((folder / "meter" / "meter.json").read_text())
    assert [(row["variant"], row["n"]) for row in content["rows"] if row["group"] == "all"] == [
        ("audio zeroed", 6),
        ("audio shuffled", 6),
        ("audio shifted", 6),
        ("LoRA-only twin", 6),
    ]
    assert {row["group"]: row["n"] for row in content["rows"]} == {"all": 6, "even": 3, "odd": 3}
    assert content["sentences"][0] in result.stdout
    assert (folder / "meter" / "meter.png").read_bytes().startswith(b"\x89PNG")
    card = (world / "patch" / "patch" / "README.md").read_text()
    assert card.count("toy, test, all: accuracy") == 1, "only the run as it is has a score"

    written = (folder / "meter" / "audio-zeroed" / "scores.json").stat().st_mtime_ns
    again = invoke(*command, "--set", "max_new_tokens=6")
    assert again.stdout == result.stdout
    assert (folder / "meter" / "audio-zeroed" / "scores.json").stat().st_mtime_ns == written, "done once"
    other = invoke(*command, "--set", "max_new_tokens=5")
    assert other.exit_code == 1
    assert "scores of other settings" in other.stderr


def test_the_worth_is_told_against_the_twin_and_where_it_is_largest() -> None:
    def row(variant: str, channel: str | None, group: str, n: int, worth: float) -> MeterRow:
        interval = {"low": worth - 0.1, "high": worth + 0.1}
        return MeterRow(
            variant=variant, channel=channel, group=group, n=n, value=0.5, worth=worth, **interval
        )

    rows = [
        row("audio shuffled", "audio", "all", 100, 0.2),
        row("audio shuffled", "audio", "rare", 10, 0.9),
        row("audio shuffled", "audio", "frequent", 90, 0.12),
        row("LoRA-only twin", None, "all", 100, 0.3),
    ]
    assert worth_sentence("audio", rows) == (
        "audio is worth +0.3000 [+0.2000, +0.4000] against the LoRA-only twin"
    )
    two = [*rows, row("dense shuffled", "dense", "all", 100, 0.0)]
    assert worth_sentence("audio", two) == (
        "audio is worth +0.2000 [+0.1000, +0.3000] against audio of other samples, "
        "mostly on frequent (+0.1200 [+0.0200, +0.2200])"
    )


def test_alterations_take_away_what_a_channel_tells(world: Path) -> None:
    source = open_features(str(world / "store"), None, {}, "toy", ["audio"])
    names = [f"clip {number}" for number in range(5)]

    def read(how: Alteration, channel: str = "audio") -> list[Features]:
        sides = replace(source, side={**source.side, "frames": source.frames})
        found = alter(sides, {channel: how}, names, seed=0).side[channel]
        return [found[name] for name in names]

    whole = [source.side["audio"][name] for name in names]
    for found, intact in zip(read("zeroed"), whole, strict=True):
        assert found.values.shape == intact.values.shape
        assert not found.values.astype(np.float32).any()
    for found, intact in zip(read("shifted", "frames"), [source.frames[name] for name in names], strict=True):
        assert (found.values == intact.values[::-1]).all()
        assert (found.companions["visual"] == intact.companions["visual"][::-1]).all()
        assert (found.values != intact.values).any()
        assert (found.timestamps == intact.timestamps).all()
    found = alter(source, {"audio": "shuffled"}, names, seed=0).side["audio"]
    assert sorted(found.others.values()) == names  # type: ignore[attr-defined]
    assert all(name != other for name, other in found.others.items())  # type: ignore[attr-defined]
    with pytest.raises(PipelineError, match="one sample alone"):
        alter(source, {"audio": "shuffled"}, names[:1], seed=0)
    with pytest.raises(PipelineError, match="no channel 'depth3d'"):
        alter(source, {"depth3d": "zeroed"}, names, seed=0)


def test_what_cannot_be_measured_is_said(world: Path, tmp_path: Path) -> None:
    asked = EvaluateConfig(run=world / "twin", data=data(world), out=tmp_path / "scores", meter=True)
    with pytest.raises(RunError, match="no side channel to measure"):
        side_channel_meter(asked)
    with pytest.raises(RunError, match="is no LoRA-only twin"):
        side_channel_meter(asked.model_copy(update={"run": world / "patch", "twin": world / "patch"}))
    assert not (tmp_path / "scores").exists()
