"""Samples, questions and answers against what the original release's converters make of the same files."""

import json
from pathlib import Path
from typing import Any

import pytest
from dataset_goldens import (
    Loaded,
    conversation,
    fixture_cases,
    kept_by_the_release,
    of_split,
    video_name,
    write_annotations,
)

from pave_model.chat_text import prompt_text, training_text
from tasks import avqa, avsd, egoexo4d, llava_video_178k, mlvu, music_avqa, mvbench, scanqa, sqa3d, videomme
from tasks.annotation_file import Place
from tasks.conversation import Message, conversation_turns
from tasks.exact_match import SQA3D_TYPES
from tasks.feature_matching import FeatureMapping, match_features
from tasks.instruction import Instruction, TaskError

pytestmark = pytest.mark.golden
Case = dict[str, Any]


def train_samples(loaded: Loaded, ids: str, videos: str = "sample") -> list[Case]:
    """Training instructions as the release writes them; `ids` names the fact that holds their official id."""
    return [
        {
            "id": item.facts[ids],
            "conversations": conversation(item),
            "video": item.sample_id if videos == "sample" else video_name(loaded, item),
        }
        for item in of_split(loaded, "train")
    ]


def assert_prompts(items: list[Instruction], expected: list[Case]) -> None:
    assert [prompt_text(item.turns) for item in items] == [sample["prompt"] for sample in expected]


@pytest.mark.parametrize("case", fixture_cases("avsd"))
def test_avsd(case: Case, tmp_path: Path) -> None:
    loaded = avsd.load(write_annotations(tmp_path, case["inputs"]))
    expected = case["expected"]
    assert train_samples(loaded, "question_id", "file") == expected["train_instruct"]
    items = of_split(loaded, "test")
    assert_prompts(items, expected["eval_samples"])
    assert [item.answer for item in items] == [sample["reference"] for sample in expected["eval_samples"]]
    assert [{**item.facts, "caption": item.answer} for item in items] == expected["reference_annotations"]
    features = {sample.sample_id: avsd.released_feature(sample) for sample in loaded[0]}
    for item, sample in zip(items, expected["eval_samples"], strict=True):
        assert f"VIDEO_ROOT/{video_name(loaded, item)}" == sample["video_path"]
        assert f"FEATURE_ROOT/{features[item.sample_id]}" == sample["feature_path"]


@pytest.mark.parametrize("case", fixture_cases("avqa"))
def test_avqa(case: Case, tmp_path: Path) -> None:
    loaded = avqa.load(write_annotations(tmp_path, case["inputs"]))
    expected = case["expected"]
    assert train_samples(loaded, "id") == expected["train_instruct"]
    train = [sample for sample in loaded[0] if sample.split == "train"]
    videos = {sample.sample_id: sample.media["video"].removeprefix("videos/") for sample in loaded[0]}
    assert {sample.sample_id: videos[sample.sample_id] for sample in train} == expected["video_mapping"]
    assert {sample.sample_id: avqa.released_feature(sample) for sample in train} == expected[
        "feature_mapping"
    ]
    files = {s.sample_id: (videos[s.sample_id], avqa.released_feature(s)) for s in loaded[0]}
    items = of_split(loaded, "val")
    assert len(items) == len(case["inputs"]["val_qa.json"])
    kept = kept_by_the_release(case, items, files, avqa.EVALUATION_SKIPS_WITHOUT)
    assert_prompts(kept, expected["eval_samples"])
    found = [
        {
            "id": item.facts["image_id"],
            "video_path": f"VIDEO_ROOT/{files[item.sample_id][0]}",
            "feature_path": f"FEATURE_ROOT/{files[item.sample_id][1]}",
            "answer": item.answer,
            "prompt": prompt_text(item.turns),
        }
        for item in kept
    ]
    assert found == expected["eval_samples"]


@pytest.mark.parametrize("case", fixture_cases("music_avqa"))
def test_music_avqa(case: Case, tmp_path: Path) -> None:
    loaded = music_avqa.load(write_annotations(tmp_path, case["inputs"]))
    expected = case["expected"]
    assert train_samples(loaded, "question_id") == expected["train_instruct"]
    unique = [item for item in of_split(loaded, "train") if "#" not in item.instruction_id]
    for items, official in (
        (unique, expected["updated_train"]),
        (of_split(loaded, "test"), expected["updated_test"]),
    ):
        assert [item.question for item in items] == [entry["question_content"] for entry in official]
        assert [item.facts["type"] for item in items] == [json.loads(entry["type"]) for entry in official]
    samples = {sample.sample_id: sample for sample in loaded[0]}
    for encoder in ("imagebind", "languagebind"):
        found = [
            {
                "id": item.facts["question_id"],
                "video_id": item.sample_id,
                "video_path": samples[item.sample_id].media["video"].replace("videos", "VIDEO_ROOT", 1),
                "feature_path": f"FEATURE_ROOT/{music_avqa.released_feature(samples[item.sample_id], encoder)}",
                "question": item.question,
                "answer": item.answer,
                "prompt": prompt_text(item.turns),
            }
            for item in of_split(loaded, "test")
        ]
        assert found == expected[f"eval_samples_{encoder}"]


@pytest.mark.parametrize("case", fixture_cases("scanqa"))
def test_scanqa(case: Case, tmp_path: Path) -> None:
    loaded = scanqa.load(write_annotations(tmp_path, case["inputs"]))
    expected = case["expected"]
    assert train_samples(loaded, "question_id") == expected["train_instruct"]
    items = of_split(loaded, "val")
    common = [
        {"question_id": item.facts["question_id"], "scene_id": item.sample_id, "video": item.sample_id}
        for item in items
    ]
    questions = [
        {**fields, "text": item.question, "answers": item.references}
        for fields, item in zip(common, items, strict=True)
    ]
    assert questions == expected["val_question"]
    answers = [{**fields, "text": item.references} for fields, item in zip(common, items, strict=True)]
    assert answers == expected["val_answer"]
    check_scene_evaluation(case, loaded, items, scanqa)


@pytest.mark.parametrize("case", fixture_cases("sqa3d"))
@pytest.mark.parametrize("form", ["official", "flat"])
def test_sqa3d(case: Case, form: str, tmp_path: Path) -> None:
    flat = {name: content for name, content in case["inputs"].items() if name.startswith("SQA_")}
    official = {name: content for name, content in case["inputs"].items() if name not in flat}
    loaded = sqa3d.load(write_annotations(tmp_path, official if form == "official" else flat))
    expected = case["expected"]
    assert train_samples(loaded, "question_id") == expected["train_instruct"]
    items = of_split(loaded, "test")
    for item, question, answer in zip(items, expected["test_question"], expected["test_answer"], strict=True):
        kind = SQA3D_TYPES.index(item.question_type)
        fields = {
            "question_id": item.facts["question_id"],
            "scene_id": item.sample_id,
            "video": item.sample_id,
        }
        assert {**fields, "text": item.question, "answers": item.references, "type": kind} == question
        assert {**fields, "text": item.answer, "type": kind} == answer
    check_scene_evaluation(case, loaded, items, sqa3d)
    if form == "official":
        for split in ("train", "test"):
            found = [entry.model_dump() for _, entry in sqa3d.flat_questions(tmp_path / "annotations", split)]
            objects: Case = {"object_ids": [], "object_names": []}
            assert [{**objects, **entry} for entry in found] == flat[f"SQA_{split}.json"]


def check_scene_evaluation(case: Case, loaded: Loaded, items: list[Instruction], task: Any) -> None:
    files = {
        sample.sample_id: (sample.media["scene"].removeprefix("scenes/"), task.released_feature(sample))
        for sample in loaded[0]
    }
    kept = kept_by_the_release(case, items, files, task.EVALUATION_SKIPS_WITHOUT)
    found = [
        {
            "id": item.facts["question_id"],
            "scene_id": item.sample_id,
            "video_path": f"VIDEO_ROOT/{files[item.sample_id][0]}",
            "feature_path": f"FEATURE_ROOT/{files[item.sample_id][1]}",
            "prompt": prompt_text(item.turns),
        }
        for item in kept
    ]
    assert found == case["expected"]["eval_samples"]


@pytest.mark.parametrize("case", fixture_cases("egoexo4d"))
@pytest.mark.parametrize(
    ("style", "name"), [("default", "default"), ("activity", "use_action"), ("short", "use_short_prompt")]
)
def test_egoexo4d(case: Case, style: egoexo4d.PromptStyle, name: str, tmp_path: Path) -> None:
    loaded = egoexo4d.load(write_annotations(tmp_path, case["inputs"]), style)
    expected = case["expected"]
    samples = {sample.sample_id: sample for sample in loaded[0]}
    found = [
        {"id": item.sample_id, "conversations": conversation(item), "video": item.sample_id}
        for item in of_split(loaded, "train")
    ]
    assert found == expected["train_instruct"]
    for entry in case["inputs"]["proficiency_demonstrator_train.json"]["annotations"]:
        assert len(samples[entry["take_uid"]].media) == len(entry["video_paths"])
    files = {
        key: (sample.media["video"], egoexo4d.released_feature(sample)) for key, sample in samples.items()
    }
    kept = kept_by_the_release(case, of_split(loaded, "val"), files, egoexo4d.EVALUATION_SKIPS_WITHOUT)
    evaluated = [
        {
            "id": item.facts["image_id"],
            "video_path": f"VIDEO_ROOT/{files[item.sample_id][0]}",
            "feature_dir": f"FEATURE_ROOT/{files[item.sample_id][1]}",
            "answer": item.answer,
            "prompt": prompt_text(item.turns),
        }
        for item in kept
    ]
    assert evaluated == expected[f"eval_samples_{name}"]


@pytest.mark.parametrize("case", fixture_cases("llava_video_178k"))
def test_llava_video_178k(case: Case, tmp_path: Path) -> None:
    loaded = llava_video_178k.load(write_annotations(tmp_path, case["inputs"]))
    found = [
        {
            "id": item.facts["id"],
            "conversations": conversation(item),
            "data_source": item.facts["data_source"],
            "video": item.sample_id,
        }
        for item in of_split(loaded, "train")
    ]
    assert found == case["expected"]["two_per_video"]


@pytest.mark.parametrize("case", fixture_cases("benchmarks"))
def test_videomme(case: Case, tmp_path: Path) -> None:
    loaded = videomme.load(write_annotations(tmp_path, {"test.json": case["inputs"]["videomme"]}))
    samples = {sample.sample_id: sample for sample in loaded[0]}
    found = [
        {
            "question_id": item.facts["question_id"],
            "text": item.question,
            "prompt": prompt_text(item.turns),
            "video_file": samples[item.sample_id].media["video"].removeprefix("videos/"),
            "feature_file": videomme.released_feature(samples[item.sample_id]),
            "target": item.answer,
        }
        for item in loaded[1]
    ]
    assert found == case["expected"]["videomme"]


@pytest.mark.parametrize("case", fixture_cases("benchmarks"))
def test_mvbench(case: Case, tmp_path: Path) -> None:
    files: dict[str, list[Case]] = {}
    for entry in case["inputs"]["mvbench"]:
        files.setdefault(f"{entry['task']}.json", []).append(entry["doc"])
    found = benchmark_rows(mvbench.load(write_annotations(tmp_path, files)), mvbench)
    expected = case["expected"]["mvbench"]
    assert {row["text"]: row for row in found} == {row["text"]: row for row in expected}
    assert len(found) == len(expected)


@pytest.mark.parametrize("case", fixture_cases("benchmarks"))
def test_mlvu(case: Case, tmp_path: Path) -> None:
    loaded = mlvu.load(write_annotations(tmp_path, {"test.json": case["inputs"]["mlvu"]}))
    found = [{key: row[key] for key in row if key != "task"} for row in benchmark_rows(loaded, mlvu)]
    assert found == case["expected"]["mlvu"]
    assert [item.question_type for item in loaded[1]] == [row["task_type"] for row in case["inputs"]["mlvu"]]


def benchmark_rows(loaded: Loaded, task: Any) -> list[Case]:
    samples = {sample.sample_id: sample for sample in loaded[0]}
    return [
        {
            "task": item.question_type,
            "text": item.question,
            "video_path": samples[item.sample_id].media["video"].removeprefix("videos/"),
            "feature_path": task.released_feature(samples[item.sample_id]),
            "target": item.answer,
            "prompt": prompt_text(item.turns),
        }
        for item in loaded[1]
    ]


@pytest.mark.parametrize("case", fixture_cases("train_prompt_text"))
def test_training_text(case: Case) -> None:
    assert case["items"]
    for item in case["items"]:
        messages = [Message.model_validate(message) for message in item["conversations"]]
        places = [message["value"].count("<video>") for message in item["after_token_move"]]
        if places != [1] + [0] * (len(places) - 1):  # no place for the video, or several: refused
            with pytest.raises(TaskError, match=r"conversations.\d"):
                conversation_turns(messages, Place(Path("train.json"), "entry 1"))
            continue
        turns = conversation_turns(messages, Place(Path("train.json"), "entry 1"))
        assert training_text(turns).replace("<image>", "<video>") == item["chat_text"]


@pytest.mark.parametrize("case", fixture_cases("feature_matching"))
@pytest.mark.parametrize("with_videos", [True, False])
def test_features_of_training_samples(
    case: Case, with_videos: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    inputs = case["inputs"]
    for path in map(Path, inputs["existing_paths"]):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch() if path.suffix else path.mkdir()
    features = FeatureMapping(inputs["feature_mapping"], Path(inputs["feature_root"]))
    videos = FeatureMapping(inputs["video_mapping"], Path(inputs["video_root"]))
    kept = []
    for sample in inputs["annotations"]:
        found = match_features(sample["video"], features, videos if with_videos else None)
        assert (found.dropped is None) == (found.feature is not None)
        if found.dropped is None:
            paths = {"feat_path": str(found.feature)} | (
                {"video_path": str(found.video)} if with_videos else {}
            )
            kept.append({**sample, **paths})
    assert kept == case["expected"]["kept_with_video" if with_videos else "kept_without_video_mapping"]
