"""lmms-eval asks, PAVE answers from cached features: the plug-in alone, and through lmms-eval's own command."""

import json
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ml_dtypes import bfloat16
from pave_process import ROOT, environment
from tiny_base import TOKENS, VISION, WIDTH, write_tiny_base

from pave_model.config import LoraSettings
from pipelines.config import DataConfig, EvaluateConfig, FusionSizes, TrainConfig
from pipelines.errors import MissingFeaturesError, PipelineError
from pipelines.evaluate import evaluate
from pipelines.lmms_documents import sample_id
from pipelines.train import train
from store import Features, FeatureSetRecord, FeatureStore, TensorLayout
from tasks import videomme
from tasks.mvbench import VIDEO_FOLDERS

if TYPE_CHECKING:
    from pipelines.lmms_model import PaveLmms

GOLDEN = json.loads((ROOT / "tests/golden/datasets/fixtures/benchmarks.json").read_text())
ROWS = GOLDEN["inputs"]["videomme"]
DENSE = 8  # width of the side channel
GREEDY = {"max_new_tokens": 6, "temperature": 0, "do_sample": False, "num_beams": 1, "until": ["\n\n"]}

needs_lmms_eval = pytest.mark.skipif(
    find_spec("lmms_eval") is None,
    reason="needs lmms-eval: pip install -e '.[lmms]' && pip install --no-deps lmms_eval==0.7.3",
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden VideoMME rows with features in store/, a trained run/, and what `pave evaluate` said in scores/."""
    root = tmp_path_factory.mktemp("lmms")
    (root / "annotations").mkdir()
    (root / "annotations/test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    samples, instructions = videomme.load(root)
    pq.write_table(
        pa.Table.from_pylist(
            [{name: getattr(item, name) for name in item.__dataclass_fields__} for item in instructions]
        ),
        root / "instructions.parquet",
    )
    write_features(root / "store", [sample.sample_id for sample in samples])
    write_tiny_base(root / "base")
    data = DataConfig(store=str(root / "store"), instructions=root / "instructions.parquet", split="test")
    train(
        TrainConfig(
            base=str(root / "base"),
            out=root / "run",
            data=data,
            channels={"dense": FusionSizes(embed_dim=16, hidden_dim=16)},
            lora=LoraSettings(r=2, alpha=4, dropout=0.0),
            max_steps=2,
            batch_size=2,
            accumulation=1,
            learning_rate=1e-2,
        )
    )
    evaluate(EvaluateConfig(run=root / "run", data=data, out=root / "scores", batch_size=2, max_new_tokens=6))
    return root


def write_features(url: Path, samples: Sequence[str]) -> None:
    """Random key frames and dense features."""
    rng = np.random.default_rng(0)
    store = FeatureStore.open(url)
    layouts = {
        "frames": (
            TensorLayout("values", TOKENS, VISION, "bfloat16"),
            TensorLayout("visual", TOKENS, WIDTH, "bfloat16"),
        ),
        "dense": (TensorLayout("values", 5, DENSE, "bfloat16"),),
    }
    for channel, tensors in layouts.items():
        record = FeatureSetRecord("videomme", channel, "toy", "1", "f" * 16, tensors, None, "none", {})
        store.register(record)
        with store.writer(record) as part:
            for name in samples:
                values, *others = [
                    rng.normal(size=(4, layout.tokens, layout.dim)).astype(bfloat16) for layout in tensors
                ]
                companions = dict(zip(["visual"], others, strict=False))
                part.write(name, Features(values, np.arange(4, dtype=np.float64), companions))
        store.commit([part.close()])


def predictions(world: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (world / "scores/predictions.jsonl").read_text().splitlines()]


def plug_in(world: Path, **more: object) -> "PaveLmms":
    from pipelines.lmms_model import PaveLmms

    keywords = {"run": str(world / "run"), "store": str(world / "store"), "dataset": "videomme", **more}
    model = PaveLmms(batch_size="2", device="cpu", max_batch_size=None, **keywords)
    model.task_dict = {"videomme": {"test": [*ROWS, {**ROWS[0], "videoID": "gone"}]}}
    return model


def request(text: str, document: int, **generation: object) -> Any:
    from lmms_eval.api.instance import Instance

    def never(_: object) -> None:
        raise AssertionError("no media are opened")

    arguments = (text, {**GREEDY, **generation}, never, document, "videomme", "test")
    metadata = {"task": "videomme", "doc_id": document, "repeats": 1}
    return Instance("generate_until", arguments, 0, metadata)


def test_documents_name_the_samples_of_the_published_evaluation() -> None:
    """Golden paths of the release."""
    inputs, expected = GOLDEN["inputs"], GOLDEN["expected"]
    for document, golden in zip(inputs["videomme"], expected["videomme"], strict=True):
        assert f"{sample_id('videomme', document, 'videomme')}.mp4" == golden["video_file"]
    for item, golden in zip(inputs["mvbench"], expected["mvbench"], strict=True):
        assert sample_id("mvbench", item["doc"], f"mvbench_{item['task']}") == golden["video_path"]
    for document, golden in zip(inputs["mlvu"], expected["mlvu"], strict=True):
        assert sample_id("mlvu", document, "mlvu_dev") == golden["video_path"]


def test_every_kind_of_mvbench_has_its_own_folder() -> None:
    for kind, folder in VIDEO_FOLDERS.items():
        assert sample_id("mvbench", {"video": "a.mp4"}, f"mvbench_{kind}") == f"{folder}/a.mp4"


def test_documents_of_another_benchmark_and_unknown_kinds_are_refused() -> None:
    with pytest.raises(PipelineError, match=r"task 'mlvu_dev' has no 'videoID'.*it has \['video_name'\]"):
        sample_id("videomme", {"video_name": "a.mp4"}, "mlvu_dev")
    with pytest.raises(PipelineError, match="must hold one kind of MVBench"):
        sample_id("mvbench", {"video": "a.mp4"}, "my_task")


def test_neither_the_command_nor_the_entry_point_loads_lmms_eval_or_torch() -> None:
    code = (
        "import sys, pipelines.cli, pipelines.lmms_plugin;"
        "print(*{'lmms_eval', 'loguru', 'torch', 'pipelines.lmms_model'} & set(sys.modules))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
    )
    assert printed.stdout.split() == []


@needs_lmms_eval
def test_the_entry_point_names_the_class() -> None:
    import tomllib

    from pipelines.lmms_model import PaveLmms

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ((name, target),) = project["entry-points"]["lmms_eval.models"].items()
    manifest = EntryPoint(name, target, "lmms_eval.models").load()()
    assert manifest.model_id == "pave"
    assert manifest.simple_class_path == f"{PaveLmms.__module__}.{PaveLmms.__qualname__}"
    assert PaveLmms.is_simple


@needs_lmms_eval
def test_answers_are_those_of_pave_evaluate_in_the_order_of_the_requests(world: Path) -> None:
    wanted = predictions(world)
    assert all(item["prediction"] for item in wanted)
    model = plug_in(world)
    order = [2, 0, 3, 1, 0]
    # A request with another length in between goes into a batch of its own.
    lengths = [6, 6, 1, 6, 6]
    answers = model.generate_until(
        [request(wanted[i]["question"], i, max_new_tokens=n) for i, n in zip(order, lengths, strict=True)]
    )
    assert [answers[0], answers[1], answers[3], answers[4]] == [wanted[i]["prediction"] for i in (2, 0, 1, 0)]
    assert wanted[3]["prediction"].startswith(answers[2])
    assert len(answers[2]) < len(wanted[3]["prediction"])


@needs_lmms_eval
def test_the_text_of_lmms_eval_is_what_is_asked_and_its_stops_end_the_answer(world: Path) -> None:
    wanted = predictions(world)
    text, answer = wanted[0]["question"], wanted[0]["prediction"]
    model = plug_in(world)
    stop = answer[2:]
    asked = [request(text, 0), request("Which colour?", 0), request(text, 0, until=["never", stop])]
    as_it_is, other, cut = model.generate_until(asked)
    assert as_it_is == answer
    assert other != answer
    assert cut == answer.split(stop)[0].rstrip()


@needs_lmms_eval
def test_documents_without_features_are_named_before_anything_is_generated(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = predictions(world)[0]["question"]
    asked = [request(text, 0), request(text, len(ROWS))]
    model = plug_in(world)
    monkeypatch.setattr(model._subject.model, "generate", None)
    with pytest.raises(
        MissingFeaturesError, match=r"1 of 2 samples.*: gone; run `pave extract frames,dense`"
    ):
        model.generate_until(asked)


@needs_lmms_eval
def test_documents_without_features_get_empty_answers_where_that_is_allowed(world: Path) -> None:
    from loguru import logger

    wanted = predictions(world)[0]
    said: list[str] = []
    sink = logger.add(said.append, level="WARNING", format="{message}")
    try:
        asked = [request(wanted["question"], len(ROWS)), request(wanted["question"], 0)]
        answers = plug_in(world, allow_missing=True).generate_until(asked)
    finally:
        logger.remove(sink)
    assert answers == ["", wanted["prediction"]]
    assert "gone; their answers are empty" in "".join(said)


@needs_lmms_eval
def test_what_pave_cannot_do_is_refused(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        PipelineError, match=r"--model_args of pave: .*dataset: .*'videomme', 'mvbench' or 'mlvu'"
    ):
        plug_in(world, dataset="avsd")
    with pytest.raises(PipelineError, match="give either run or base"):
        plug_in(world, base=str(world / "base"))
    bare = plug_in(world, run=None, base=str(world / "base"), fingerprints=json.dumps({"frames": "f" * 16}))
    with pytest.raises(PipelineError, match="task 'videomme' asks for sampling or beams"):
        bare.generate_until([request("Which colour?", 0, do_sample=True)])
    with pytest.raises(PipelineError, match="task 'videomme' asks for sampling or beams"):
        bare.generate_until([request("Which colour?", 0, num_beams=3)])
    with pytest.raises(PipelineError, match="generate_until"):
        bare.loglikelihood([])
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(PipelineError, match="one process"):
        plug_in(world)


@pytest.mark.slow
@needs_lmms_eval
def test_the_prompts_of_lmms_eval_are_the_published_ones_but_for_mlvu() -> None:
    """Outside of pytest's process: the tasks' modules read files and warn when they are imported."""
    code = """
import json, sys
from lmms_eval.tasks.mlvu.utils import mlvu_doc_to_text
from lmms_eval.tasks.mvbench.utils import mvbench_doc_to_text
from lmms_eval.tasks.videomme.utils import videomme_doc_to_text
inputs = json.load(sys.stdin)
videomme = {"post_prompt": "\\nAnswer with the option's letter from the given choices directly."}
mlvu = {"post_prompt": "\\nOnly give the best option.\\nBest option: ("}
print(json.dumps([
    [videomme_doc_to_text(row, videomme) for row in inputs["videomme"]],
    [mvbench_doc_to_text(row["doc"], {"post_prompt": "Only give the best option.\\n"}) for row in inputs["mvbench"]],
    [mlvu_doc_to_text(row, mlvu) for row in inputs["mlvu"]],
]))
"""
    printed = run_python("-c", code, stdin=json.dumps(GOLDEN["inputs"]))
    of_videomme, of_mvbench, of_mlvu = json.loads(printed)
    published = {name: [row["text"] for row in rows] for name, rows in GOLDEN["expected"].items()}
    assert of_videomme == published["videomme"]
    assert of_mvbench == published["mvbench"]
    assert all(theirs != ours for theirs, ours in zip(of_mlvu, published["mlvu"], strict=True))


@pytest.fixture
def local_task(world: Path) -> Path:
    """A task folder: lmms-eval's own VideoMME on three local rows, so that nothing is downloaded."""
    package = find_spec("lmms_eval")
    assert package is not None
    assert package.submodule_search_locations
    folder = world / "lmms_tasks"
    folder.mkdir(exist_ok=True)
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS[:3]))
    (folder / "videomme_local.yaml").write_text(
        f"include: {package.submodule_search_locations[0]}/tasks/videomme/videomme.yaml\n"
        "task: videomme_local\n"
        "dataset_path: json\n"
        f"dataset_kwargs: {{data_files: {{test: {folder}/rows.jsonl}}}}\n"
        "generation_kwargs: {max_new_tokens: 6, do_sample: false}\n"
    )
    return folder


@pytest.mark.slow
@needs_lmms_eval
def test_lmms_eval_s_own_command_runs_pave_on_a_local_task(
    world: Path, local_task: Path, tmp_path: Path
) -> None:
    printed = run_python(
        *("-m", "lmms_eval", "--model", "pave"),
        *("--model_args", f"run={world}/run,store={world}/store,dataset=videomme"),
        *("--include_path", local_task, "--tasks", "videomme_local", "--batch_size", "2", "--device", "cpu"),
        *("--output_path", tmp_path, "--log_samples", "--verbosity", "DEBUG"),
    )
    assert "videomme_perception_score" in printed
    (samples,) = tmp_path.rglob("*_samples_videomme_local.jsonl")
    lines = [json.loads(line) for line in samples.read_text().splitlines()]
    wanted = predictions(world)[:3]
    assert [line["input"] for line in lines] == [item["question"] for item in wanted]
    assert [line["filtered_resps"] for line in lines] == [item["prediction"] for item in wanted]


def run_python(*arguments: object, stdin: str = "") -> str:
    """What a Python process without a network prints; fails with all that it said."""
    finished = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=environment(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", OMP_NUM_THREADS="1"),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert finished.returncode == 0, f"{finished.stdout[-3000:]}\n{finished.stderr[-3000:]}"
    return finished.stdout
