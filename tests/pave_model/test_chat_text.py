"""Prompts, ids and labels: against the original release, and the rules one by one."""

import json
from typing import Any

import pytest
from qwen2_vocabulary import build_qwen2_tokenizer
from tiny_patch import golden_folder
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from pave_model.chat_text import evaluation_prompt, prompt_text, training_example, training_text
from pave_model.errors import PromptError

VIDEO_ID = 300


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    """One id per byte (its own value), then the markers and the video token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    byte_of = {next(iter(pieces)): i for i in range(256) if (pieces := _byte_level(i))}
    assert set(byte_of) == set(alphabet)
    model = Tokenizer(models.BPE(byte_of, []))
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    model.decoder = decoders.ByteLevel()
    model.add_special_tokens([AddedToken(t, special=True) for t in ("<|im_start|>", "<|im_end|>")])
    model.add_special_tokens([AddedToken(f"<unused{i}>", special=True) for i in range(258, VIDEO_ID)])
    model.add_special_tokens([AddedToken("<video>", special=True)])
    return PreTrainedTokenizerFast(tokenizer_object=model)


def _byte_level(byte: int) -> str:
    """The character that byte-level BPE writes for a byte."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    return chr(byte) if byte in printable else chr(256 + others.index(byte))


def golden_texts() -> list[dict[str, Any]]:
    """The files of cases; there must be some, so that no check is lost unseen."""
    files = [json.loads(path.read_text()) for path in sorted(golden_folder().glob("text_cases*.json"))]
    assert files, f"no text_cases*.json in {golden_folder()}"
    assert all(file["cases"] for file in files)
    return files


def turns_of(case: dict[str, Any]) -> list[tuple[str, str | None]]:
    return [(turn["question"], turn["answer"]) for turn in case["turns"]]


@pytest.fixture(scope="session")
def qwen2() -> PreTrainedTokenizerBase:
    return build_qwen2_tokenizer()


@pytest.mark.golden
def test_prompts_are_those_of_the_original() -> None:
    for file in golden_texts():
        for case in file["cases"]:
            assert prompt_text(turns_of(case)) == case["eval_prompt"]


@pytest.mark.golden
def test_ids_and_labels_are_those_of_the_original(qwen2: PreTrainedTokenizerBase) -> None:
    markers = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    assert qwen2.convert_tokens_to_ids(markers) == [151643, 151644, 151645]
    for file in golden_texts():
        video_token_id = file["image_token_index"]
        for case in file["cases"]:
            input_ids, labels = training_example(qwen2, turns_of(case), video_token_id, 1)
            assert input_ids == case["train_input_ids"]
            assert labels == case["train_labels"]
            prompt = evaluation_prompt(qwen2, turns_of(case), video_token_id, 1)
            assert prompt == case["eval_input_ids"]


def test_the_video_stands_once_before_the_first_question(tokenizer: PreTrainedTokenizerFast) -> None:
    turns = [("why", "so"), ("and", "no")]
    input_ids, _ = training_example(tokenizer, turns, VIDEO_ID, 3)
    assert [i for i, token in enumerate(input_ids) if token == VIDEO_ID] == [44, 45, 46]
    assert tokenizer.decode(input_ids).replace("<video>" * 3, "<image>") == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n<image>\nwhy<|im_end|>\n<|im_start|>assistant\nso<|im_end|>\n"
        "<|im_start|>user\nand<|im_end|>\n<|im_start|>assistant\nno<|im_end|>\n"
    )


def test_labels_keep_answers_and_every_marker(tokenizer: PreTrainedTokenizerFast) -> None:
    input_ids, labels = training_example(tokenizer, [("a\nb", "yes")], VIDEO_ID, 2)
    text = "".join("_" if label == -100 else tokenizer.decode([label]) for label in labels)
    assert text == (
        "<|im_start|>______\n____________________________<|im_end|>\n"
        "<|im_start|>____\n__\n_\n_<|im_end|>\n"
        "<|im_start|>assistant\nyes<|im_end|>\n"
    )
    assert all(label in (-100, token) for token, label in zip(input_ids, labels, strict=True))


def test_an_example_begins_with_its_prompt(tokenizer: PreTrainedTokenizerFast) -> None:
    turns = [("one", "1"), ("two", "2")]
    prompt = evaluation_prompt(tokenizer, [("one", "1"), ("two", None)], VIDEO_ID, 4)
    input_ids, _ = training_example(tokenizer, turns, VIDEO_ID, 4)
    assert input_ids[: len(prompt)] == prompt
    assert evaluation_prompt(tokenizer, turns, VIDEO_ID, 4) == prompt


def test_only_training_strips_the_first_question(tokenizer: PreTrainedTokenizerFast) -> None:
    spaced = [("  why \n", "so"), (" and ", "no")]
    tight = [("why", "so"), (" and ", "no")]
    assert training_example(tokenizer, spaced, VIDEO_ID, 1) == training_example(tokenizer, tight, VIDEO_ID, 1)
    assert "<image>\n  why \n<|im_end|>" in prompt_text(spaced)


def test_only_a_prompt_leaves_empty_turns_open() -> None:
    dialog: list[tuple[str, str | None]] = [("", ""), ("", "no"), ("why", "so")]
    head = (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<image>\n<|im_end|>\n"
    )
    assert prompt_text(dialog) == (
        head + "<|im_start|>assistant\n<|im_start|>user\n<|im_start|>assistant\nno<|im_end|>\n"
        "<|im_start|>user\nwhy<|im_end|>\n<|im_start|>assistant\n"
    )
    assert training_text(dialog[:2]) == (
        head + "<|im_start|>assistant\n<|im_end|>\n<|im_start|>user\n<|im_end|>\n"
        "<|im_start|>assistant\nno<|im_end|>\n"
    )


@pytest.mark.parametrize(
    ("turns", "message"),
    [
        ([], "the dialog is empty"),
        ([("what is <image>", "a")], "turn 1 of the dialog holds '<image>'"),
        ([("what", "a"), ("why", "<image>")], "turn 2 of the dialog holds '<image>'"),
        ([("what <video>", "a")], "the dialog holds the token '<video>', which stands for the video"),
        ([("what", None)], "turn 1 of the dialog has no answer"),
    ],
)
def test_bad_dialogs_are_named(
    tokenizer: PreTrainedTokenizerFast, turns: list[tuple[str, str | None]], message: str
) -> None:
    with pytest.raises(PromptError, match=message):
        training_example(tokenizer, turns, VIDEO_ID, 1)
    named = message.replace("the dialog", "the dialog of sample 'clip 3'")
    with pytest.raises(PromptError, match=named):
        training_example(tokenizer, turns, VIDEO_ID, 1, sample_id="clip 3")


def test_history_needs_its_answers(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(PromptError, match="turn 1 of the dialog has no answer"):
        evaluation_prompt(tokenizer, [("what", None), ("why", None)], VIDEO_ID, 1)


def test_a_tokenizer_without_the_markers_is_refused() -> None:
    characters = Tokenizer(models.BPE({chr(i): i for i in range(128)}, []))
    with pytest.raises(PromptError, match="use the tokenizer of the base model"):
        training_example(PreTrainedTokenizerFast(tokenizer_object=characters), [("a", "b")], 127, 1)
