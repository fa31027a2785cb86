"""Damaged annotations of every dataset: one typed error each, with the file and the position."""

import json
import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dataset_goldens import write_annotations

from tasks import TASKS, llava_video_178k, mlvu, music_avqa, sqa3d, task_module, videomme
from tasks.feature_matching import FeatureMapping, match_features
from tasks.instruction import AnnotationError, TaskError

QUESTION = {"question": "why ?", "answer": "so ."}
AVSD_TEST = {"image_id": "A", "dialog": [QUESTION]}
AVQA = {
    "id": 1,
    "video_name": "v_000001",
    "question_text": "what",
    "multi_choice": ["a", "b", "c", "d"],
    "answer": 0,
    "question_relation": "Both",
    "question_type": "Which",
}
MUSIC = {
    "video_id": "00000001",
    "question_id": 1,
    "type": '["Audio", "Counting"]',
    "question_content": "How many <Object>?",
    "templ_values": '["flute"]',
    "anser": "two",
}
SCANQA = {"scene_id": "scene0000_00", "question_id": "t-1", "question": "what", "answers": ["door"]}
SQA3D_FLAT = {
    "answers": ["door"],
    "question": "What is it?",
    "situation": "I sit.",
    "question_id": 7,
    "scene_id": "scene0000_00",
    "position": [0, 1.5],
}
TAKE = {
    "take_uid": "u1",
    "task_name": "t",
    "scenario_name": "s",
    "video_paths": {"ego": "takes/a/f/ego.mp4", "exo1": "takes/a/f/cam01.mp4"},
    "proficiency_score": "Novice",
}
LLAVA = {
    "id": "v",
    "conversations": [{"from": "human", "value": "<image>\nwhat"}, {"from": "gpt", "value": "that"}],
    "data_source": "x",
    "video": "a/b/v.mp4",
}
VIDEOMME = {
    "videoID": "v1",
    "duration": "short",
    "domain": "d",
    "sub_category": "s",
    "question_id": "001-1",
    "task_type": "t",
    "question": "what",
    "options": ["A. a", "B. b", "C. c", "D. d"],
    "answer": "A",
}
MVBENCH = {"video": "v.mp4", "question": "what", "candidates": ["a", "b"], "answer": "b"}
MLVU = {
    "video_name": "c/v.mp4",
    "question": "q\n(A) a\n(B) b",
    "candidates": ["a", "b"],
    "answer": "B",
    "task_type": "AC",
}
MLVU_OFFICIAL = {
    "video": "v.mp4",
    "question": "q",
    "candidates": ["a", "b"],
    "answer": "b",
    "question_type": "count",
}

# task -> (file, field of the file that holds the entries, a good entry, the name of its id)
FILES: dict[str, tuple[str, str | None, dict[str, Any], str | None]] = {
    "avsd": ("mock_test_set4DSTC10-AVSD_from_DSTC7_singref.json", "dialogs", AVSD_TEST, "image_id"),
    "avqa": ("train_qa.json", None, AVQA, "id"),
    "music_avqa": ("avqa-test.json", None, MUSIC, None),
    "scanqa": ("ScanQA_v1.0_val.json", None, SCANQA, "question_id"),
    "sqa3d": ("SQA_test.json", None, SQA3D_FLAT, "question_id"),
    "egoexo4d": ("proficiency_demonstrator_val.json", "annotations", TAKE, "take_uid"),
    "llava_video_178k": ("1_2_m_academic_oe_v0_1_qa_processed.json", None, LLAVA, None),
    "videomme": ("test.json", None, VIDEOMME, "question_id"),
    "mvbench": ("action_count.json", None, MVBENCH, None),
    "mlvu": ("4_count.json", None, MLVU_OFFICIAL, None),
}


def turns(question: str, answer: str) -> list[dict[str, str]]:
    return [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]


def write_entries(root: Path, task: str, entries: list[Any]) -> Path:
    """The task's file with these entries; returns the file."""
    name, field, _, _ = FILES[task]
    write_annotations(root, {name: entries if field is None else {"version": 1, field: entries}})
    return root / "annotations" / name


def refusal(root: Path, task: str) -> AnnotationError:
    with pytest.raises(AnnotationError) as caught:
        task_module(task).load(root)
    assert "\n" not in str(caught.value)
    return caught.value


def test_every_task_is_tried_here() -> None:
    assert set(FILES) | {"sidecue"} == set(TASKS)


@pytest.mark.parametrize("task", FILES)
def test_a_task_says_what_it_is_and_wants_its_files(task: str, tmp_path: Path) -> None:
    module = task_module(task)
    assert task == module.DATASET
    assert module.CHANNELS
    assert module.LICENCE
    with pytest.raises(TaskError, match=r"annotations has none of: .*; get them from ") as caught:
        module.load(tmp_path)
    assert module.SOURCE in str(caught.value)


@pytest.mark.parametrize("task", FILES)
def test_missing_media_are_listed_all_the_same(task: str, tmp_path: Path) -> None:
    write_entries(tmp_path, task, [FILES[task][2]])
    samples, instructions = task_module(task).load(tmp_path)
    assert len(samples) == len(instructions) == 1
    assert instructions[0].sample_id == samples[0].sample_id
    assert not any((tmp_path / path).exists() for path in samples[0].media.values())


@pytest.mark.parametrize("task", FILES)
def test_each_field_must_be_there_and_of_its_type(task: str, tmp_path: Path) -> None:
    good = FILES[task][2]
    for field in good:
        without = {key: value for key, value in good.items() if key != field}
        file = write_entries(tmp_path, task, [good, without])
        error = refusal(tmp_path, task)
        assert (error.file, error.position) == (file, "entry 2")
        assert error.reason.startswith(f"{field}: ")
        write_entries(tmp_path, task, [{**good, field: True}])
        error = refusal(tmp_path, task)
        assert error.position == "entry 1"
        assert error.reason.startswith(f"{field}: ")
        assert str(file) in str(error)


@pytest.mark.parametrize("task", FILES)
@pytest.mark.parametrize("entry", [None, [], "text", 3])
def test_an_entry_must_be_an_object(task: str, entry: object, tmp_path: Path) -> None:
    write_entries(tmp_path, task, [FILES[task][2], entry])
    assert refusal(tmp_path, task).position == "entry 2"


@pytest.mark.parametrize("task", [task for task, (_, _, _, name) in FILES.items() if name])
def test_an_id_comes_once(task: str, tmp_path: Path) -> None:
    _, _, good, name = FILES[task]
    assert name is not None
    write_entries(tmp_path, task, [good, good])
    error = refusal(tmp_path, task)
    assert error.position == "entry 2"
    assert str(good[name]) in error.reason
    assert "was there before" in error.reason


@pytest.mark.parametrize(
    ("task", "field"),
    [
        ("avsd", "image_id"),
        ("avqa", "video_name"),
        ("music_avqa", "video_id"),
        ("scanqa", "scene_id"),
        ("sqa3d", "scene_id"),
        ("llava_video_178k", "video"),
        ("videomme", "videoID"),
        ("mvbench", "video"),
        ("mlvu", "video"),
    ],
)
@pytest.mark.parametrize(
    "path", ["../other/v.mp4", "a/../../v.mp4", "/etc/passwd", "..", "", "a\0b", "..\\v.mp4"]
)
def test_media_stay_below_the_root(task: str, field: str, path: str, tmp_path: Path) -> None:
    write_entries(tmp_path, task, [{**FILES[task][2], field: path}])
    error = refusal(tmp_path, task)
    assert error.position == "entry 1"
    assert error.reason.startswith(f"{field} {path!r}")


def test_cameras_of_a_take_stay_below_the_root_and_have_names_of_their_own(tmp_path: Path) -> None:
    ego = TAKE["video_paths"]["ego"]  # type: ignore[index]
    for views, reason in (
        ({"ego": "takes/../../ego.mp4", "exo1": "takes/a/cam01.mp4"}, "leaves the media folder"),
        ({"ego": ego, "exo1": "/cam01.mp4"}, "leaves the media folder"),
        ({"ego": ego, "exo1": "a/cam.mp4", "exo2": "b/cam.mp4"}, "two cameras are named 'cam'"),
        ({"ego": ego}, "at least one exo camera"),
        ({"exo1": "a/cam.mp4", "exo2": "b/cam2.mp4"}, "needs 'ego'"),
    ):
        write_entries(tmp_path, "egoexo4d", [{**TAKE, "video_paths": views}])
        assert reason in refusal(tmp_path, "egoexo4d").reason


@pytest.mark.parametrize(
    ("task", "change", "reason"),
    [
        ("avsd", {"dialog": []}, "no turn"),
        ("avqa", {"answer": 4}, "no option"),
        ("avqa", {"answer": -1}, "no option"),
        ("avqa", {"multi_choice": ["a", "b", "c"]}, "3 options"),
        ("music_avqa", {"type": '["Audio", "Location"]'}, "no type of question"),
        ("music_avqa", {"type": '["Smell", "Counting"]'}, "no type of question"),
        ("music_avqa", {"type": "Audio"}, "holds no JSON"),
        ("music_avqa", {"templ_values": '"flute"'}, "no list of texts"),
        ("music_avqa", {"templ_values": "[]"}, "1 blanks for 0 templ_values"),
        ("scanqa", {"answers": []}, "there is none"),
        ("sqa3d", {"answers": []}, "at least 1 item"),
        ("egoexo4d", {"proficiency_score": "Expert"}, "'Early Expert'"),
        ("llava_video_178k", {"conversations": []}, "do not take turns"),
        ("llava_video_178k", {"conversations": LLAVA["conversations"][:1]}, "do not take turns"),  # type: ignore[index]
        ("llava_video_178k", {"conversations": [{"from": "system", "value": "x"}]}, "conversations.0.from"),
        ("llava_video_178k", {"conversations": turns("what", "that")}, "no <image> for the video"),
        (
            "llava_video_178k",
            {"conversations": turns("<image>\nwhat", "<image>")},
            "conversations.1: the video",
        ),
        ("llava_video_178k", {"conversations": turns("<video>\n<image>", "x")}, "conversations.0: the video"),
        ("videomme", {"duration": "endless"}, "'medium'"),
        ("videomme", {"answer": "E"}, "'A'"),
        ("videomme", {"options": ["A. a"]}, "there are 1"),
        ("mvbench", {"answer": "c"}, "not among the candidates"),
        ("mvbench", {"candidates": list("abcdef")}, "at most 5"),
        ("mlvu", {"question_type": "order"}, "in the file of 'count'"),
        ("mlvu", {"answer": "c"}, "not among the candidates"),
    ],
)
def test_values_that_mean_nothing(task: str, change: dict[str, Any], reason: str, tmp_path: Path) -> None:
    good = FILES[task][2]
    write_entries(tmp_path, task, [{**good, **change}])
    error = refusal(tmp_path, task)
    assert error.position == "entry 1"
    assert reason in error.reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"task_type": "XX"}, "task_type: 'XX' is none of the multiple-choice types PQA"),
        ({"task_type": "VS"}, "task_type: 'VS' is none"),
        ({"answer": "C"}, "answer: 'C' is none of the letters AB"),
        ({"answer": ""}, "answer: '' is none"),
        ({"video_name": "../v.mp4"}, "leaves the media folder"),
    ],
)
def test_the_hub_s_copy_of_mlvu(change: dict[str, str], reason: str, tmp_path: Path) -> None:
    write_annotations(tmp_path, {"test.json": [MLVU, {**MLVU, **change}]})
    error = refusal(tmp_path, "mlvu")
    assert error.position == "entry 2"
    assert reason in error.reason


def test_mlvu_s_official_files_become_what_the_hub_has(tmp_path: Path) -> None:
    official = mlvu.load(write_annotations(tmp_path / "official", {"4_count.json": [MLVU_OFFICIAL]}))
    hub_row = {**MLVU, "video_name": "4_count/v.mp4", "task_type": "count"}
    hub = mlvu.load(write_annotations(tmp_path / "hub", {"test.json": [hub_row]}))
    assert official == hub
    assert official[1][0].question_type == "AC"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "expected '[', found ''"),
        ("{}", "expected '[', found '{'"),
        (f"[{json.dumps(AVQA)}", "expected ']', found ''"),
        (f"[{json.dumps(AVQA)},", "Expecting value"),
        (f"[{json.dumps(AVQA)} {{}}]", "expected ']', found '{'"),
        ("[] []", "there is more after the end"),
        ('["never closed', "Unterminated string"),
        ("[" * 100_000, "nested too deeply"),
        ("[" + "9" * 5000 + "]", "Exceeds the limit"),
    ],
)
def test_damaged_json(text: str, reason: str, tmp_path: Path) -> None:
    file = write_entries(tmp_path, "avqa", [])
    file.write_text(text)
    error = refusal(tmp_path, "avqa")
    assert error.file == file
    assert error.position.startswith("character ")
    assert reason in error.reason


def test_files_that_are_no_text_or_lack_their_list(tmp_path: Path) -> None:
    file = write_entries(tmp_path, "egoexo4d", [TAKE])
    file.write_bytes(b'{"annotations": ["\xff"]}')
    assert "not UTF-8" in refusal(tmp_path, "egoexo4d").reason
    file.write_text('{"takes": []}')
    assert "no field 'annotations'" in refusal(tmp_path, "egoexo4d").reason


@pytest.mark.parametrize("field", ["take_uid", "task_name"])
def test_half_a_character_is_no_text(field: str, tmp_path: Path) -> None:
    write_entries(tmp_path, "egoexo4d", [])
    file = tmp_path / "annotations" / FILES["egoexo4d"][0]
    file.write_text(json.dumps({"annotations": [TAKE, {**TAKE, "take_uid": "u2", field: "x\ud800"}]}))
    error = refusal(tmp_path, "egoexo4d")
    assert error.position == "entry 2"
    assert "no valid Unicode" in error.reason


def test_a_dialog_s_id_comes_once_in_the_training_file(tmp_path: Path) -> None:
    folder = write_annotations(tmp_path, {}) / "annotations"
    (folder / "avsd_train.json").write_text('{"A": {"data": []}, "A": {"data": []}}')
    error = refusal(tmp_path, "avsd")
    assert (error.position, error.reason) == ("entry 'A'", "the id was there before")
    (folder / "avsd_train.json").write_text('{"A": {"data": []}, "../B": {"data": []}}')
    assert "leaves the media folder" in refusal(tmp_path, "avsd").reason
    (folder / "avsd_train.json").write_text('{"A": {"data": []}, "B": {"data": [{"question": "q"}]}}')
    error = refusal(tmp_path, "avsd")
    assert (error.position, error.reason) == ("entry 'B'", "data.0.answer: Field required")


def sqa3d_files() -> dict[str, Any]:
    question = {"scene_id": "s", "situation": "I sit.", "question": "What?", "question_id": 7}
    annotation = {
        "question_id": 7,
        "answers": [{"answer": "door"}],
        "position": {"x": 0},
        "rotation": {"_x": 1},
    }
    return {
        "v1_balanced_questions_test_scannetv2.json": {"questions": [question]},
        "v1_balanced_sqa_annotations_test_scannetv2.json": {"annotations": [annotation]},
        "answer_dict.json": [{"door": 0}, {"0": "door"}],
    }


def test_sqa3d_s_files_must_fit_together(tmp_path: Path) -> None:
    files = sqa3d_files()
    questions = files["v1_balanced_questions_test_scannetv2.json"]["questions"]
    annotations = files["v1_balanced_sqa_annotations_test_scannetv2.json"]["annotations"]
    assert sqa3d.load(write_annotations(tmp_path, files))[1][0].answer == "door"
    for broken, position, reason in (
        ((questions * 2, annotations), "entry 2", "comes twice or has no annotation"),
        ((questions, annotations * 2), "entry 2", "was there before"),
        ((questions, []), "entry 1", "has no annotation"),
        (([], annotations), "entry 1", "has no question"),
    ):
        files["v1_balanced_questions_test_scannetv2.json"] = {"questions": broken[0]}
        files["v1_balanced_sqa_annotations_test_scannetv2.json"] = {"annotations": broken[1]}
        write_annotations(tmp_path, files)
        error = refusal(tmp_path, "sqa3d")
        assert error.position == position
        assert reason in error.reason
    files = sqa3d_files()
    del files["answer_dict.json"]
    (tmp_path / "annotations" / "answer_dict.json").unlink()
    with pytest.raises(TaskError, match=r"answer_dict.json cannot be read"):
        sqa3d.load(write_annotations(tmp_path, files))


def test_one_clip_cannot_be_two_files(tmp_path: Path) -> None:
    write_entries(
        tmp_path,
        "egoexo4d",
        [TAKE, {**TAKE, "video_paths": {"ego": "takes/b/f/ego.mp4", "exo1": "takes/b/f/cam01.mp4"}}],
    )
    assert "takes/b/f" in refusal(tmp_path, "egoexo4d").reason


def test_a_clip_of_two_splits_is_one_sample(tmp_path: Path) -> None:
    write_annotations(tmp_path, {"avqa-train.json": [MUSIC], "avqa-test.json": [MUSIC]})
    samples, instructions = music_avqa.load(tmp_path)
    assert [sample.split for sample in samples] == ["train"]
    assert [item.instruction_id for item in instructions] == ["train-1", "train-1#2", "test-1"]


def test_official_ids_that_repeat_in_music_avqa_are_kept_apart(tmp_path: Path) -> None:
    write_annotations(tmp_path, {"avqa-test.json": [MUSIC, {**MUSIC, "video_id": "00000002"}]})
    _, instructions = music_avqa.load(tmp_path)
    assert [item.instruction_id for item in instructions] == ["test-1", "test-1#2"]
    assert [item.facts["question_id"] for item in instructions] == [1, 1]


def test_videomme_finds_the_video_that_is_there_and_reads_the_hub_s_parquet(tmp_path: Path) -> None:
    write_annotations(tmp_path / "json", {"test.json": [VIDEOMME]})
    expected = videomme.load(tmp_path / "json")
    root = write_annotations(tmp_path / "parquet", {})
    table = root / "annotations" / "test-00000-of-00001.parquet"
    pq.write_table(pa.Table.from_pylist([VIDEOMME]), table)
    assert videomme.load(root) == expected
    (root / "videos").mkdir()
    (root / "videos" / "v1.mkv").touch()
    assert videomme.load(root)[0][0].media == {"video": "videos/v1.mkv"}
    pq.write_table(pa.Table.from_pylist([VIDEOMME, {**VIDEOMME, "answer": None}]), table)
    assert refusal(root, "videomme").position == "row 2"
    table.write_bytes(b"PAR1 no more")
    assert refusal(root, "videomme").file == table
    write_annotations(root, {"test.json": [VIDEOMME]})
    with pytest.raises(TaskError, match="are one thing"):
        videomme.load(root)


def test_llava_video_keeps_no_more_than_its_subset(tmp_path: Path) -> None:
    text = json.dumps(LLAVA)
    file = write_entries(tmp_path, "llava_video_178k", [])
    file.write_text("[" + ",".join([text] * 20_000) + "]")
    tracemalloc.start()
    _, instructions = llava_video_178k.load(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [item.instruction_id for item in instructions] == ["1_2_m_academic-v-0", "1_2_m_academic-v-1"]
    assert peak < 2**20
    # what is not kept is checked as well
    file.write_text("[" + ",".join([text] * 3) + ', {"id": 5}]')
    assert refusal(tmp_path, "llava_video_178k").position == "entry 4"


def test_errors_cross_processes() -> None:
    error = AnnotationError(Path("a.json"), "entry 3", "answer: Field required")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.file, again.position) == (str(error), error.file, error.position)


def test_features_of_a_sample_whose_video_is_not_mapped(tmp_path: Path) -> None:
    (tmp_path / "a.pt").touch()
    features = FeatureMapping({"a": "a.pt"}, tmp_path)
    with pytest.raises(TaskError, match=r"a.mp4: the mapping of videos has no key 'a'"):
        match_features("a.mp4", features, FeatureMapping({}, tmp_path))
