"""The recipes of the published runs: their sizes, their features, and one training step on tiny stand-ins."""

import json
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from ml_dtypes import bfloat16
from pave_process import ROOT, invoke
from tiny_base import TOKENS, VISION, WIDTH, write_tiny_base

from pave_model.config import FusionConfig
from pave_model.fusion import FusionModule
from pave_model.published_sizes import PUBLISHED_CHANNELS, published_base
from pipelines.config import PrepareConfig, TrainConfig, load_yaml
from pipelines.errors import PipelineError
from pipelines.extract_settings import extract_settings, random_channels, together_settings
from pipelines.manifest import MANIFEST, prepare
from pipelines.run_folder import read_run
from store import Features, FeatureSetRecord, FeatureStore, TensorLayout
from tasks import task_module

RECIPES = ROOT / "recipes"
FIXTURES = ROOT / "tests" / "golden" / "datasets" / "fixtures"
# Of a patch, by base and layers, as of the released weights.
NUM_PARAMETERS = {
    ("0.5b", 2): 6_235_776,
    ("7b", 2): 8_996_352,
    ("7b", 3): 10_833_920,
    ("0.5b", 3): 6_235_776 + 10_833_920 - 8_996_352,  # a layer does not depend on the base
}
# Epochs, batch x accumulation (None: not published), and the published score.
PUBLISHED = {
    "avqa-0.5b": (2, None, 90.4),
    "avqa-7b": (2, None, 93.8),
    "avsd-0.5b": (1, None, 134.5),
    "avsd-7b": (1, (4, 4), 152.9),
    "avsd-7b-audio-dense": (2, None, 160.0),
    "egoexo4d-0.5b": (2, None, 32.4),
    "egoexo4d-7b": (2, None, 44.2),
    "llava-video-0.5b": (1, None, 46.0),
    "llava-video-7b": (1, (2, 8), 59.9),
    "music-avqa-0.5b": (2, None, 78.8),
    "music-avqa-7b": (2, (4, 4), 82.3),
    "scanqa-0.5b": (1, None, 84.2),
    "scanqa-7b": (1, (4, 4), 103.4),
    "sqa3d-0.5b": (2, None, 51.1),
    "sqa3d-7b": (2, (4, 8), 59.0),
}
SIDE_DIM = 6
TINY = ("bf16=false", "batch_size=2", "accumulation=1", "max_steps=1", "lora.r=2", "lora.alpha=2")
TINY_CHANNEL = ("embed_dim=8", "hidden_dim=128", "num_heads=1")  # rotary positions need heads of 128


@cache
def recipe(name: str) -> TrainConfig:
    return load_yaml(RECIPES / f"{name}.yaml", TrainConfig)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny base, every task's instructions, and a store with features of their training samples."""
    root = tmp_path_factory.mktemp("world")
    write_tiny_base(root / "base")
    store = FeatureStore.open(root / "store")
    rng = np.random.default_rng(0)
    for task in sorted({recipe(name).task or "" for name in PUBLISHED}):
        annotations = root / task / "annotations"
        annotations.mkdir(parents=True)
        case = json.loads((FIXTURES / f"{task}.json").read_text())
        for name, content in case["inputs"].items():
            (annotations / name).write_text(json.dumps(content))
        prepare(PrepareConfig(task=task, root=root / task, out=root / task))
        samples = [sample.sample_id for sample in task_module(task).load(root / task)[0]]
        for channel in ("frames", *task_module(task).CHANNELS):
            write_features(store, rng, task, channel, samples)
    return root


def write_features(
    store: FeatureStore, rng: np.random.Generator, dataset: str, channel: str, samples: list[str]
) -> None:
    """Features of the published number of tokens a step where that is small; the class token of dense among them."""
    tokens = {"audio": 1, "dense": 5}.get(channel, TOKENS)
    layouts = (
        (
            TensorLayout("values", TOKENS, VISION, "bfloat16"),
            TensorLayout("visual", TOKENS, WIDTH, "bfloat16"),
        )
        if channel == "frames"
        else (TensorLayout("values", tokens, SIDE_DIM, "bfloat16"),)
    )
    record = FeatureSetRecord(dataset, channel, "toy", "1", "f" * 16, layouts, None, "none", {})
    store.register(record)
    with store.writer(record) as part:
        for sample in samples:
            values, *others = [
                rng.normal(size=(2, layout.tokens, layout.dim)).astype(bfloat16) for layout in layouts
            ]
            companions = dict(zip(["visual"], others, strict=False))
            part.write(sample, Features(values, np.arange(2, dtype=np.float64), companions))
    store.commit([part.close()])


def test_every_published_run_has_a_recipe() -> None:
    assert {path.stem for path in RECIPES.glob("*.yaml")} - {"sidecue-audio"} == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_settings_and_scores(name: str) -> None:
    config = recipe(name)
    epochs, batch, score = PUBLISHED[name]
    assert (config.name, config.epochs) == (name, epochs)
    given = config.model_fields_set & {"batch_size", "accumulation", "learning_rate"}
    if batch is None:
        assert not given, "not published, so not in the recipe"
    else:
        assert len(given) == 3
        assert (config.batch_size, config.accumulation, config.learning_rate) == (*batch, 2e-5)
    assert config.published[0].value == score
    task = task_module(config.task or "")
    assert set(config.channels) <= set(task.CHANNELS)
    size = "7b" if "-7b" in name else "0.5b"
    assert f"qwen2-{size}-ov" in config.base
    for channel, sizes in config.channels.items():
        assert sizes.first_token == (channel == "dense")
        fusion = FusionConfig(
            side_dim=PUBLISHED_CHANNELS[channel].side_dim,
            query_dim=1152,
            output_dim=published_base(size).text_config.hidden_size,
            **sizes.model_dump(),
        )
        with torch.device("meta"):
            module = FusionModule(**fusion.model_dump())
        found = sum(parameter.numel() for parameter in module.parameters())
        wider = 128 * 512 if channel == "exo" else 0  # its tokens are 1152 wide, the others' 1024
        assert found == NUM_PARAMETERS[size, sizes.num_layers] + wider


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_recipe_is_trained(name: str, world: Path, tmp_path: Path) -> None:
    config = recipe(name)
    sets = [
        f"base={world / 'base'}",
        f"data.store={world / 'store'}",
        f"data.instructions={world / (config.task or '') / 'instructions.parquet'}",
        *TINY,
        *(f"channels.{channel}.{size}" for channel in config.channels for size in TINY_CHANNEL),
    ]
    arguments = [argument for item in sets for argument in ("--set", item)]
    result = invoke("train", RECIPES / f"{name}.yaml", "--out", tmp_path / "run", *arguments)
    assert result.exit_code == 0, result.stderr
    run = read_run(tmp_path / "run")
    assert run["report"]["steps"] == 1
    assert run["config"]["published"][0]["value"] == PUBLISHED[name][2]
    patch = json.loads((tmp_path / "run" / "patch" / "config.json").read_text())["patch"]
    assert {channel: sizes["num_layers"] for channel, sizes in patch["channels"].items()} == {
        channel: sizes.num_layers for channel, sizes in config.channels.items()
    }


@pytest.mark.parametrize("name", PUBLISHED)
def test_its_features_can_be_extracted(name: str) -> None:
    config, path = recipe(name), RECIPES / f"{name}.yaml"
    channels = ["frames", *config.channels]
    made = together_settings(channels, path, {})
    assert (made.store, made.manifest) == (config.data.store, config.data.instructions.parent / MANIFEST)
    encoders = made.channels.given()
    assert set(encoders) == set(channels)
    assert random_channels(encoders) == []
    assert made.channels.frames is not None
    assert (made.channels.frames.base, made.channels.frames.num_frames) == (config.base, 32)
    for channel in channels:
        assert extract_settings(channel, path, {}).encoder == encoders[channel]  # type: ignore[attr-defined]


def test_options_override_the_features_of_a_recipe() -> None:
    path = RECIPES / "avsd-7b.yaml"
    made = extract_settings("audio", path, {"weights": "mine.pth", "videos": Path("clips")}, ["store=s"])
    assert (made.encoder.weights, made.videos, made.manifest) == ("mine.pth", Path("clips"), None)  # type: ignore[attr-defined]
    assert made.store == "s"
    with pytest.raises(PipelineError, match=r"avsd-7b\.yaml has features of audio, frames, none of dense"):
        extract_settings("dense", path, {})


def test_the_command_lists_name_task_base_channels_and_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    header, *lines = invoke("recipes").stdout.splitlines()
    assert header.split() == ["name", "task", "base", "channels", "published"]
    rows = {line.split()[0]: line for line in lines}
    assert set(rows) == {*PUBLISHED, "sidecue-audio"}
    row = rows["avsd-7b-audio-dense"].split(maxsplit=3)
    assert row[1:] == ["avsd", "llava-hf/llava-onevision-qwen2-7b-ov-hf", "audio, dense  CIDEr 160.0"]

    monkeypatch.chdir(tmp_path)
    result = invoke("recipes")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: recipes has no recipes (*.yaml); give --folder")
    shutil.copy(RECIPES / "sqa3d-7b.yaml", tmp_path)
    assert "EM1 59.0" in invoke("recipes", "--folder", tmp_path).stdout
    (tmp_path / "odd.yaml").write_text("published: [59.0]")
    assert "odd.yaml is no recipe of a training" in invoke("recipes", "--folder", tmp_path).stderr
