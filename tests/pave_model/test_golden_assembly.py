"""From ids, labels and frame tokens to the LLM's padded input, against the original release."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from tiny_patch import golden_folder
from torch import Tensor
from torch.testing import assert_close

from pave_model.sequence_assembly import PaddedText, insert_video, pad_batch
from pave_model.video_tokens import place_newlines

pytestmark = pytest.mark.golden


def _holds_inputs(path: Path) -> bool:
    with safe_open(path, "pt") as file:
        return "expected.inputs_embeds" in file.keys()  # noqa: SIM118  (not a dict)


CASES = [path for path in sorted(golden_folder().glob("assembly_*.safetensors")) if _holds_inputs(path)]


def test_there_are_cases() -> None:
    assert CASES, f"no assembly_*.safetensors with expected.inputs_embeds in {golden_folder()}"


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_the_input_of_the_llm_is_that_of_the_original(path: Path) -> None:
    with safe_open(path, "pt") as file:
        config = json.loads(file.metadata()["config"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    frame_tokens = tensors["input.frame_tokens"]  # (B, F, n n, D)
    if "input.patch_output" in tensors:
        frame_tokens = frame_tokens + tensors["input.patch_output"].view_as(frame_tokens)
    video = place_newlines(frame_tokens, tensors["input.newline"], config["newline_position"])  # (B, N, D)
    table = tensors["input.embed_tokens"]

    text = assembled(tensors, config, video_token_id=len(table), num_video_tokens=video.shape[1])
    vectors = embedded(text, table, video) * text.attention_mask[:, :, None]  # zeros at padding
    assert_close(vectors, tensors["expected.inputs_embeds"], rtol=1e-5, atol=1e-5)
    assert (text.labels is None) == ("expected.labels" not in tensors)
    if text.labels is not None:
        assert torch.equal(text.labels, tensors["expected.labels"])
    if "expected.attention_mask" in tensors:
        assert torch.equal(text.attention_mask, tensors["expected.attention_mask"])


def assembled(
    tensors: dict[str, Tensor], config: dict[str, object], video_token_id: int, num_video_tokens: int
) -> PaddedText:
    """The case's texts without their padding, the video inserted, padded again."""
    ids = tensors["input.input_ids"]
    labels = tensors.get("input.labels")
    rows = []
    for sample, mask in enumerate(tensors.get("input.attention_mask", torch.ones_like(ids)).bool()):
        own_labels = [] if labels is None else labels[sample, mask].tolist()
        own_ids = ids[sample, mask].tolist()
        rows.append(insert_video(own_ids, own_labels, video_token_id, num_video_tokens, allow_text_only=True))
    return pad_batch(
        [torch.tensor(joined) for joined, _ in rows],
        None if labels is None else [torch.tensor(joined) for _, joined in rows],
        pad_token_id=0,
        padding_side=config["padding_side"],
        max_length=config["max_length"],
        too_long="truncate",
    )


def embedded(text: PaddedText, table: Tensor, video: Tensor) -> Tensor:
    """(B, L, D): rows of the table (V, D), and at id V the sample's video tokens (B, N, D) one by one."""
    is_video = text.input_ids == len(table)
    vectors = table[text.input_ids.masked_fill(is_video, 0)]
    for sample, at in enumerate(is_video):
        vectors[sample, at] = video[sample, : int(at.sum())]
    return vectors
