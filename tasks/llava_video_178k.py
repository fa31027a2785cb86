"""LLaVA-Video-178K, the subset that the release trains on: open questions (side channel ``dense``), training only.

Files under the root, read in this order::

    annotations/1_2_m_academic_oe_v0_1_qa_processed.json
    annotations/1_2_m_youtube_oe_v0_1_qa_processed.json
    annotations/2_3_m_academic_oe_v0_1_qa_processed.json
    annotations/2_3_m_youtube_oe_v0_1_qa_processed.json
    videos/{video}                              with its folders, as in the annotations

As released: of each file the first two entries of every id are kept (entries, not turns; equal ones count),
grouped by id in the order in which ids first appear. The release finds features by the base name of the video
(`tasks.feature_matching`), where two videos of one base name collide; a sample here is named by its whole path.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from tasks.annotation_file import Entry, Place, annotation_files, read_entries
from tasks.collected import Collected
from tasks.conversation import Message, conversation_turns
from tasks.exact_answers import score as score
from tasks.instruction import Instruction, TaskSample, as_json

DATASET = "llava_video_178k"
CHANNELS = ("dense",)
SOURCE = "https://huggingface.co/datasets/lmms-lab/LLaVA-Video-178K"
LICENCE = "the data set card's: academic research and education"
PARTS = ("1_2_m_academic", "1_2_m_youtube", "2_3_m_academic", "2_3_m_youtube")
FILE_ENDING = "_oe_v0_1_qa_processed.json"
ENTRIES_PER_ID = 2
HEADLINE = "accuracy"
TO_PERCENT = 100
EVALUATED_SPLIT = "test"
MAX_NEW_TOKENS = 1024


class Conversation(Entry):
    id: str
    conversations: list[Message]
    data_source: str
    video: str


def load(root: Path) -> tuple[list[TaskSample], list[Instruction]]:
    """Samples and instructions of the files that are there. Raises TaskError, AnnotationError."""
    collected = Collected()
    files = {part + FILE_ENDING: part for part in PARTS}
    for path, part in annotation_files(root, files, SOURCE):
        for number, place, entry in first_entries(read_entries(path, Conversation)):
            video = place.path("video", entry.video)
            *earlier, (question, answer) = conversation_turns(entry.conversations, place)
            collected.add_sample(place, video, "train", {"video": f"videos/{video}"})
            instruction = Instruction(
                instruction_id=f"{part}-{entry.id}-{number}",
                sample_id=video,
                dataset=DATASET,
                split="train",
                question_type="open",
                question=question,
                answer=answer,
                history=as_json(earlier) if earlier else None,
                attributes=as_json({"id": entry.id, "data_source": entry.data_source}),
            )
            collected.add(place, instruction)
    return collected.lists()


def first_entries(
    entries: Iterable[tuple[Place, Conversation]],
) -> Iterator[tuple[int, Place, Conversation]]:
    """The subset: (number within its id, place, entry) of the first entries of every id, grouped by id.

    Every entry is read and checked; no more than what is kept is held.
    """
    by_id: dict[str, list[tuple[Place, Conversation]]] = {}
    for place, entry in entries:
        kept = by_id.setdefault(entry.id, [])
        if len(kept) < ENTRIES_PER_ID:
            kept.append((place, entry))
    for kept in by_id.values():
        for number, (place, entry) in enumerate(kept):
            yield number, place, entry
