"""Dialogs about a video as token ids and labels, exactly as the original release writes them.

A dialog is a chatml text: a system turn, then user and assistant turns. The video stands before the first
question as the placeholder `<image>` and a line break; in the ids it is a run of `video_token_id`, one per
video token (see `sequence_assembly`). Errors name the sample where its `sample_id` is given.

Labels follow the release, quirk included: assistant turns are trained whole, header and end marker too.
System and user turns are masked, except that every line break, `<|im_start|>` and `<|im_end|>` token keeps
its label.

A prompt of evaluation has another quirk of the release: in a history, an empty answer or an empty later question is
the bare header of its turn, without an end marker.
"""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from pave_model.errors import PromptError
from pave_model.sequence_assembly import IGNORED_LABEL, PLACEHOLDER_ID, insert_video

PLACEHOLDER = "<image>"
SYSTEM_PROMPT = "You are a helpful assistant."
TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"

Turn = tuple[str, str | None]  # question, answer


def training_example(
    tokenizer: PreTrainedTokenizerBase,
    turns: Sequence[Turn],
    video_token_id: int,
    num_video_tokens: int,
    sample_id: str | None = None,
) -> tuple[list[int], list[int]]:
    """Token ids and labels of a dialog with all its answers; -100 marks what is not trained.

    White space around the first question is dropped, as in the release's training (not in its evaluation).
    Raises `PromptError` when a turn has no answer or a text holds a placeholder.
    """
    kept_ids = {_marker_id(tokenizer, text) for text in ("\n", TURN_START, TURN_END)}
    input_ids: list[int] = []
    labels: list[int] = []
    for role, text in _training_segments(turns, sample_id):
        ids = _encode(tokenizer, text, video_token_id, sample_id)
        input_ids += ids
        labels += ids if role == "assistant" else [i if i in kept_ids else IGNORED_LABEL for i in ids]
    return insert_video(input_ids, labels, video_token_id, num_video_tokens, sample_id=sample_id)


def evaluation_prompt(
    tokenizer: PreTrainedTokenizerBase,
    turns: Sequence[Turn],
    video_token_id: int,
    num_video_tokens: int,
    sample_id: str | None = None,
) -> list[int]:
    """Token ids up to where the last answer begins. Earlier answers are history, the last one is not read.

    Raises `PromptError` when an earlier turn has no answer or a text holds a placeholder.
    """
    ids = _encode(tokenizer, prompt_text(turns, sample_id), video_token_id, sample_id)
    return insert_video(ids, [], video_token_id, num_video_tokens, sample_id=sample_id)[0]


def training_text(turns: Sequence[Turn], sample_id: str | None = None) -> str:
    """What training reads as a string, with the placeholder where the video goes. Errors as above."""
    return "".join(text for _, text in _training_segments(turns, sample_id))


def prompt_text(turns: Sequence[Turn], sample_id: str | None = None) -> str:
    """The evaluation prompt as a string, with the placeholder where the video goes. Errors as above."""
    _check_turns(turns, len(turns) - 1, sample_id)
    *history, (question, _) = turns
    segments = _segments([(asked, answer or None) for asked, answer in history] + [(question, None)])
    empty = _turn_text("user", "")
    return "".join(_turn_text("user", None) if text == empty else text for _, text in segments)


def _training_segments(turns: Sequence[Turn], sample_id: str | None) -> list[tuple[str, str]]:
    _check_turns(turns, len(turns), sample_id)
    (first_question, first_answer), *later = turns
    return _segments([(first_question.strip(), first_answer), *later])


def _segments(turns: Sequence[Turn]) -> list[tuple[str, str]]:
    """(role, chatml text) of every turn; a turn without an answer ends with the open assistant header."""
    segments = [("system", _turn_text("system", SYSTEM_PROMPT))]
    for index, (question, answer) in enumerate(turns):
        video = f"{PLACEHOLDER}\n" if index == 0 else ""
        segments.append(("user", _turn_text("user", video + question)))
        segments.append(("assistant", _turn_text("assistant", answer)))
    return segments


def _turn_text(role: str, text: str | None) -> str:
    opened = f"{TURN_START}{role}\n"
    return opened if text is None else f"{opened}{text}{TURN_END}\n"


def _encode(
    tokenizer: PreTrainedTokenizerBase, text: str, video_token_id: int, sample_id: str | None
) -> list[int]:
    """Ids of a text, with `PLACEHOLDER_ID` where it has its placeholder (if any)."""
    pieces = [_encode_text(tokenizer, piece) for piece in text.split(PLACEHOLDER)]
    if any(video_token_id in ids for ids in pieces):
        raise PromptError(
            f"{_dialog(sample_id)} holds the token {tokenizer.decode([video_token_id])!r}, which stands for "
            "the video; remove it from the text"
        )
    ids = pieces[0]
    for piece in pieces[1:]:
        ids = [*ids, PLACEHOLDER_ID, *piece]
    return ids


def _encode_text(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return ids


def _marker_id(tokenizer: PreTrainedTokenizerBase, text: str) -> int:
    ids = _encode_text(tokenizer, text)
    if len(ids) != 1:
        raise PromptError(
            f"the tokenizer splits {text!r} into {len(ids)} tokens; use the tokenizer of the base model"
        )
    return ids[0]


def _check_turns(turns: Sequence[Turn], num_answered: int, sample_id: str | None) -> None:
    dialog = _dialog(sample_id)
    if not turns:
        raise PromptError(f"{dialog} is empty; give at least one question")
    for index, (question, answer) in enumerate(turns):
        if index < num_answered and answer is None:
            raise PromptError(
                f"turn {index + 1} of {dialog} has no answer; only a prompt may end with a question"
            )
        for text in (question, answer):
            if text is not None and PLACEHOLDER in text:
                raise PromptError(
                    f"turn {index + 1} of {dialog} holds {PLACEHOLDER!r}, which stands for the video; "
                    "remove it from the text"
                )


def _dialog(sample_id: str | None) -> str:
    return "the dialog" if sample_id is None else f"the dialog of sample '{sample_id}'"
