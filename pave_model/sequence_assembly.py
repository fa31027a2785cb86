"""From token ids with a placeholder to padded batches, joined, cut and padded as the original release does.

The release embeds the text before and after its placeholder and puts the video's vectors between. Here the same
sequence stands as ids: a run of the base's video id, one per video token, which the base replaces by the vectors.

Shapes: L_i positions of sample i, B samples, L positions of the longest sample after cutting.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from pave_model.config import TooLong
from pave_model.errors import PromptError

PLACEHOLDER_ID = -200  # stands for the video in a text's ids; no tokenizer has it
IGNORED_LABEL = -100  # a position that is not trained

PaddingSide = Literal["right", "left"]


class PaddedText(NamedTuple):
    """A batch of texts, int64. Padding has the pad token, mask 0 and label -100."""

    input_ids: Tensor  # (B, L)
    attention_mask: Tensor  # (B, L), 1 at the samples' own positions
    labels: Tensor | None  # (B, L)


def insert_video(
    input_ids: Sequence[int],
    labels: Sequence[int],
    video_token_id: int,
    num_video_tokens: int,
    *,
    sample_id: str | None = None,
    allow_text_only: bool = False,
) -> tuple[list[int], list[int]]:
    """Ids and labels of one sample, its `PLACEHOLDER_ID` replaced by the run of video ids, which is not trained.

    `labels` is as long as `input_ids`, or empty where there are none. With `allow_text_only`, a sample without
    a placeholder is returned as it is, as by the release. Raises `PromptError` for any other number of
    placeholders than one.
    """
    found = list(input_ids).count(PLACEHOLDER_ID)
    if found == 0 and allow_text_only:
        return list(input_ids), list(labels)
    if found != 1:
        name = "the sample" if sample_id is None else f"sample '{sample_id}'"
        raise PromptError(
            f"{name} has {found or 'no'} video placeholder{'s' * (found > 1)}; "
            "put exactly one where the video goes"
        )
    at = list(input_ids).index(PLACEHOLDER_ID)
    joined_ids = [*input_ids[:at], *[video_token_id] * num_video_tokens, *input_ids[at + 1 :]]
    if not labels:
        return joined_ids, []
    return joined_ids, [*labels[:at], *[IGNORED_LABEL] * num_video_tokens, *labels[at + 1 :]]


def pad_batch(
    input_ids: Sequence[Tensor],
    labels: Sequence[Tensor] | None,
    pad_token_id: int,
    *,
    padding_side: PaddingSide = "right",
    max_length: int | None = None,
    too_long: TooLong = "error",
    sample_ids: Sequence[str] | None = None,
) -> PaddedText:
    """Pad the samples' ids and labels, each (L_i,) int64, to one length.

    A sample of more than `max_length` positions is an error, or with `too_long="truncate"` keeps its beginning,
    as in the release. Raises `PromptError` for it, and where labels are not as long as their ids. Errors name
    samples by `sample_ids`, or by their place in the batch.
    """
    lengths = [len(row) for row in input_ids]
    for index, length in enumerate(lengths):
        name = f"sample {index} of the batch" if sample_ids is None else f"sample '{sample_ids[index]}'"
        if labels is not None and len(labels[index]) != length:
            raise PromptError(
                f"{name} has {length} ids and {len(labels[index])} labels; give one label for every id"
            )
        if max_length is not None and length > max_length and too_long == "error":
            raise PromptError(
                f"{name} has {length} tokens, its video's included, but max_length is {max_length}; raise "
                "max_length if the base allows it, shorten the sample, or cut its end with too_long=truncate"
            )

    def padded(rows: Sequence[Tensor], value: int) -> Tensor:
        cut = [row[:max_length] for row in rows]
        return pad_sequence(cut, batch_first=True, padding_value=value, padding_side=padding_side)

    return PaddedText(
        input_ids=padded(input_ids, pad_token_id),
        attention_mask=padded([torch.ones_like(row) for row in input_ids], 0),
        labels=None if labels is None else padded(labels, IGNORED_LABEL),
    )


def labelled_logits(labels: Tensor) -> dict[str, Tensor]:
    """Arguments of a transformers model that keep only the logits which the next-token loss of `labels` (B, L) needs.

    The logits are then (K, V), those before the K labels that are trained, sample after sample.
    """
    following = torch.nn.functional.pad(labels[:, 1:], (0, 1), value=IGNORED_LABEL)  # (B, L)
    kept = following != IGNORED_LABEL
    return {"logits_to_keep": kept, "shift_labels": following[kept]}
