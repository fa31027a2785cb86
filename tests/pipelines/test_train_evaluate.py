"""Training and evaluation on a tiny real store: what a run leaves behind, and what it refuses."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pave_process import invoke
from tiny_base import write_tiny_base
from tiny_features import write_features
from transformers import AutoTokenizer

from pave_model.config import LoraSettings
from pave_model.errors import PromptError
from pipelines.config import DataConfig, EvaluateConfig, FusionSizes, TrainConfig
from pipelines.errors import ManifestError, MissingFeaturesError, RunError
from pipelines.evaluate import evaluate
from pipelines.feature_dataset import FeatureDataset, open_source, read_instructions
from pipelines.train import train
from store import FeatureStore

NUM_SAMPLES, NUM_FRAMES = 12, 4
COLOURS = ("red", "green")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with base/, store/ and instructions.parquet. The last sample has key frames but no audio."""
    root = tmp_path_factory.mktemp("world")
    write_tiny_base(root / "base")
    names = [f"clip {number}" for number in range(NUM_SAMPLES)]
    write_features(root / "store", "toy", "frames", [(name, NUM_FRAMES) for name in names])
    write_features(
        root / "store", "toy", "audio", [(name, 2 + number % 3) for number, name in enumerate(names[:-1])]
    )
    rows = [
        {
            "instruction_id": f"{number}/colour",
            "sample_id": f"clip {number}",
            "dataset": "toy",
            "split": "train" if number < 8 else "test",
            "question_type": "colour",
            "question": "Which colour is on screen at the end?",
            "answer": COLOURS[number % 2],
            "chance": 0.5,
        }
        for number in range(NUM_SAMPLES)
    ]
    pq.write_table(pa.Table.from_pylist(rows), root / "instructions.parquet")
    return root


def data(world: Path, split: str, **more: object) -> DataConfig:
    return DataConfig(
        store=str(world / "store"), instructions=world / "instructions.parquet", split=split, **more
    )


def training(world: Path, out: Path, **more: object) -> TrainConfig:
    settings = {
        "base": str(world / "base"),
        "out": out,
        "data": data(world, "train"),
        "channels": {"audio": FusionSizes(embed_dim=16, hidden_dim=16, time_radius=1.0)},
        "lora": LoraSettings(r=2, alpha=4, dropout=0.0),
        "max_steps": 4,
        "batch_size": 4,
        "accumulation": 1,
        "learning_rate": 1e-2,
        "log_every": 1,
        **more,
    }
    return TrainConfig(**settings)


def test_a_run_trains_evaluates_and_can_be_traced(world: Path, tmp_path: Path) -> None:
    report = train(training(world, tmp_path / "run"))
    assert report.steps == 4
    assert [step for step, _ in report.losses] == [1, 2, 3, 4]
    assert report.losses[-1][1] < report.losses[0][1]
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["snapshot"] == FeatureStore.open(world / "store").snapshot().version
    assert run["feature_sets"]["audio"]["name"] == f"toy/audio/{'f' * 16}"
    assert run["code"]["torch"] == torch.__version__
    assert (tmp_path / "run" / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "run" / "trainer").exists()

    FeatureStore.open(world / "store").tag("paper")
    asked = data(world, "test", max_missing_fraction=0.5, snapshot="paper")
    scored = evaluate(EvaluateConfig(run=tmp_path / "run", data=asked, out=tmp_path / "scores"))
    assert scored.snapshot == run["snapshot"]
    assert (scored.coverage.instructions, scored.coverage.with_features) == (4, 3)
    lines = [
        json.loads(line) for line in (tmp_path / "scores" / "predictions.jsonl").read_text().splitlines()
    ]
    assert [line["sample_id"] for line in lines] == ["clip 8", "clip 9", "clip 10"]
    accuracy = sum(line["correct"] for line in lines) / 3
    assert [(score.group, score.value, score.n) for score in scored.scores] == [
        (None, accuracy, 3),
        ("colour", accuracy, 3),
    ]
    assert scored.not_answered == ("11/colour",)
    written = json.loads((tmp_path / "scores" / "scores.json").read_text())
    assert written["base_fingerprint"] == run["base_fingerprint"]
    assert written["feature_sets"] == run["feature_sets"]
    assert written["generation"] == {"do_sample": False, "max_new_tokens": 16}


def test_a_run_or_its_recipe_is_named_and_stands_beside_what_was_published(
    world: Path, tmp_path: Path
) -> None:
    told = {"metric": "accuracy", "value": 61.5, "source": "Table 1"}
    elsewhere = {"metric": "CIDEr", "value": 150.0, "source": "Table 2", "dataset": "avsd"}
    config = training(
        world,
        tmp_path / "run",
        data=data(world, "train", max_missing_fraction=0.5),
        max_steps=1,
        published=[told, elsewhere],
    )
    train(config)
    from_run = invoke("eval", tmp_path / "run", "--set", "max_new_tokens=2")
    assert from_run.exit_code == 0, from_run.stderr
    lines = from_run.stdout.splitlines()
    assert lines[0] == "toy, split test: run, scored by exact match"
    written = json.loads((tmp_path / "run" / "scores-test" / "scores.json").read_text())
    ours = 100 * written["report"]["scores"][0]["value"]
    (row,) = (line for line in lines if line.endswith("Table 1"))
    assert row.split()[1] == f"{ours:.2f}"
    assert row.split()[-4:] == ["61.50", f"{ours - 61.5:+.2f}", "Table", "1"]
    assert "Table 2" not in from_run.stdout

    values = config.model_dump(mode="json")
    values["published"] = [{**told, "source": "Table 3"}, {**told, "metric": "METEOR"}]
    (tmp_path / "recipe.yaml").write_text(json.dumps(values))
    out = tmp_path / "scores"
    from_recipe = invoke("evaluate", tmp_path / "recipe.yaml", "--out", out, "--set", "max_new_tokens=2")
    assert from_recipe.exit_code == 0, from_recipe.stderr
    assert re.search(rf"{re.escape(f'{ours - 61.5:+.2f}')} +Table 3", from_recipe.stdout)
    assert re.search(r"METEOR +- +61.50 +- +Table 1", from_recipe.stdout), "not measured, and told"

    twice = invoke("eval", tmp_path / "run", "--run", tmp_path / "other")
    assert twice.exit_code == 1
    assert "give one of them" in twice.stderr


def test_the_same_seed_gives_the_same_losses_and_the_channel_matters(world: Path, tmp_path: Path) -> None:
    first = train(training(world, tmp_path / "first"))
    again = train(training(world, tmp_path / "again"))
    twin = train(training(world, tmp_path / "twin", channels={}))
    assert first.losses == again.losses
    assert first.losses[0] == twin.losses[0], "an untrained patch must change nothing"
    assert first.losses[1:] != twin.losses[1:]
    assert twin.num_trainable < first.num_trainable
    assert not (tmp_path / "twin" / "patch" / "patch.safetensors").exists()


def test_the_bare_base_can_be_evaluated_without_side_channels(world: Path, tmp_path: Path) -> None:
    scored = evaluate(
        EvaluateConfig(base=str(world / "base"), data=data(world, "test"), out=tmp_path / "scores")
    )
    assert scored.model == "base"
    assert scored.coverage.with_features == 4, "the base needs no audio"


def test_lacking_features_stop_a_run_unless_they_are_allowed(world: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingFeaturesError, match=r"1 of 4 instructions .*first: clip 11.*pave extract"):
        train(training(world, tmp_path / "run", data=data(world, "test")))
    assert not (tmp_path / "run").exists()
    report = train(training(world, tmp_path / "run", data=data(world, "test", max_missing_fraction=0.3)))
    assert report.coverage.with_features == 3
    assert report.coverage.missing == {"frames": 0, "audio": 1}


def test_a_long_sample_stops_a_run_unless_it_may_be_cut(world: Path, tmp_path: Path) -> None:
    asked = data(world, "train", max_length=30)
    with pytest.raises(PromptError, match=r"^sample 'clip \d' has \d+ tokens.* max_length is 30;") as caught:
        train(training(world, tmp_path / "run", data=asked))
    length = int(re.findall(r"has (\d+) tokens", str(caught.value))[0])
    cut = {"max_length": length - 1, "too_long": "truncate"}
    report = train(training(world, tmp_path / "run", data=data(world, "train", **cut), max_steps=1))
    assert report.steps == 1
    asked = data(world, "test", max_length=30, max_missing_fraction=0.5)
    with pytest.raises(PromptError, match="max_length is 30"):
        evaluate(EvaluateConfig(run=tmp_path / "run", data=asked, out=tmp_path / "scores"))


def test_a_run_is_not_overwritten_and_an_unfinished_one_is_not_evaluated(world: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(RunError, match="exists already"):
        train(training(world, tmp_path / "run"))
    with pytest.raises(RunError, match="no finished run"):
        evaluate(EvaluateConfig(run=tmp_path / "run", data=data(world, "test"), out=tmp_path / "scores"))


def test_wrong_splits_types_and_files_are_named(world: Path, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"no instruction of split 'dev'.*\['test', 'train'\]"):
        train(training(world, tmp_path / "run", data=data(world, "dev")))
    broken = tmp_path / "broken.parquet"
    broken.write_text("not parquet")
    settings = data(world, "train").model_copy(update={"instructions": broken})
    with pytest.raises(ManifestError, match=r"broken.parquet is no instructions file"):
        train(training(world, tmp_path / "run", data=settings))


def test_a_dialog_s_earlier_turns_are_learned_and_given(world: Path) -> None:
    data = DataConfig(store=str(world / "store"), instructions=world / "instructions.parquet", split="train")
    (item, *_) = read_instructions(data)
    dialog = replace(item, history=json.dumps([["Which colour", "red"], ["Which", ""]]))
    source = open_source(data, "toy", ["audio"])
    tokenizer = AutoTokenizer.from_pretrained(world / "base")
    video_token_id = tokenizer.convert_tokens_to_ids("<video>")
    texts = []
    for for_training in (True, False):
        dataset = FeatureDataset([dialog], source, tokenizer, video_token_id, "grid", for_training)
        texts.append(tokenizer.decode(dataset[0]["input_ids"]).replace("<video>", ""))
    head = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n\nWhich colour<|im_end|>\n"
    first = "<|im_start|>assistant\nred<|im_end|>\n<|im_start|>user\nWhich<|im_end|>\n"
    last = f"<|im_start|>user\n{item.question}<|im_end|>\n<|im_start|>assistant\n"
    assert texts == [
        f"{head}{first}<|im_start|>assistant\n<|im_end|>\n{last}{item.answer}<|im_end|>\n",
        f"{head}{first}<|im_start|>assistant\n{last}",
    ]
