"""Joining a text with its video's ids, and padding: the rules one by one, and what is refused."""

import pytest
import torch

from pave_model.errors import PromptError
from pave_model.sequence_assembly import PLACEHOLDER_ID, insert_video, pad_batch

VIDEO_ID, PAD_ID = 60, 62
SHORT, LONG = torch.tensor([1, 2]), torch.tensor([3, 4, 5, 6])


def test_the_placeholder_becomes_an_untrained_run() -> None:
    ids, labels = insert_video([1, PLACEHOLDER_ID, 2], [1, 7, 2], VIDEO_ID, 3)
    assert ids == [1, VIDEO_ID, VIDEO_ID, VIDEO_ID, 2]
    assert labels == [1, -100, -100, -100, 2]
    assert insert_video([1, PLACEHOLDER_ID], [], VIDEO_ID, 2) == ([1, VIDEO_ID, VIDEO_ID], [])


@pytest.mark.parametrize(("ids", "count"), [([1, 2], "no video placeholder;"), ([-200, 1, -200], "2 video")])
def test_no_placeholder_or_two_are_refused_by_name(ids: list[int], count: str) -> None:
    with pytest.raises(PromptError, match=f"^sample 'clip 3' has {count}.*put exactly one"):
        insert_video(ids, ids, VIDEO_ID, 3, sample_id="clip 3")
    with pytest.raises(PromptError, match=f"^the sample has {count}"):
        insert_video(ids, ids, VIDEO_ID, 3)


def test_a_text_without_video_passes_only_where_it_is_allowed() -> None:
    assert insert_video([1, 2], [1, 2], VIDEO_ID, 3, allow_text_only=True) == ([1, 2], [1, 2])
    with pytest.raises(PromptError, match="has 2 video placeholders"):
        insert_video([-200, -200], [], VIDEO_ID, 3, allow_text_only=True)


def test_samples_are_padded_on_either_side() -> None:
    right = pad_batch([SHORT, LONG], [SHORT, LONG], PAD_ID)
    assert right.input_ids.tolist() == [[1, 2, PAD_ID, PAD_ID], [3, 4, 5, 6]]
    assert right.attention_mask.tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]
    assert right.labels is not None
    assert right.labels.tolist() == [[1, 2, -100, -100], [3, 4, 5, 6]]
    left = pad_batch([SHORT, LONG], None, PAD_ID, padding_side="left")
    assert left.input_ids.tolist() == [[PAD_ID, PAD_ID, 1, 2], [3, 4, 5, 6]]
    assert left.attention_mask.tolist() == [[0, 0, 1, 1], [1, 1, 1, 1]]
    assert left.labels is None


def test_a_long_sample_is_named_or_loses_its_end() -> None:
    assert pad_batch([SHORT, LONG], None, PAD_ID, max_length=4).input_ids.shape == (2, 4)
    with pytest.raises(PromptError, match=r"^sample 'b' has 4 tokens.*max_length is 3; raise max_length"):
        pad_batch([SHORT, LONG], None, PAD_ID, max_length=3, sample_ids=["a", "b"])
    with pytest.raises(PromptError, match=r"^sample 1 of the batch has 4 tokens"):
        pad_batch([SHORT, LONG], None, PAD_ID, max_length=3)
    cut = pad_batch(
        [SHORT, LONG], [SHORT, LONG], PAD_ID, padding_side="left", max_length=3, too_long="truncate"
    )
    assert cut.input_ids.tolist() == [[PAD_ID, 1, 2], [3, 4, 5]]
    assert cut.labels is not None
    assert cut.labels.tolist() == [[-100, 1, 2], [3, 4, 5]]


def test_labels_must_be_as_many_as_ids() -> None:
    with pytest.raises(PromptError, match=r"^sample 1 of the batch has 4 ids and 2 labels"):
        pad_batch([SHORT, LONG], [SHORT, SHORT], PAD_ID)
