"""Rows that callers hand to the store, and the record of a finished part."""

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime


@dataclass(frozen=True)
class PartRow:
    """One sample inside a part: the rows `row0 <= row < row1` of its arrays.

    Attributes:
        nbytes: bytes of the sample's tensors (values and companions).
        crc32c: over the sample's bytes: each tensor in the feature set's order, then its timestamps (f8).
        duration (seconds), fps, n_frames: of the media, None where unknown.
        source_hash: of the media that the features were made from.
        attributes: JSON object of what else is known of these features, such as the cameras of an exo take.
        op: "put".
    """

    sample_id: str
    part: str
    row0: int
    row1: int
    nbytes: int
    crc32c: int
    duration: float | None
    fps: float | None
    n_frames: int | None
    source_hash: str | None
    attributes: str | None = None
    op: str = "put"


@dataclass(frozen=True)
class PartRecord:
    """A finished part, to be committed. Plain values only: it pickles and goes through JSON.

    A part that got no sample leaves nothing on disk and has no rows; committing it does nothing.
    """

    dataset: str
    channel: str
    fingerprint: str
    part: str
    rows: tuple[PartRow, ...]

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "PartRecord":
        """The record that `to_json` wrote."""
        content = json.loads(text)
        rows = tuple(PartRow(**row) for row in content.pop("rows"))
        return cls(rows=rows, **content)


@dataclass(frozen=True)
class FailureRow:
    """One sample that a channel's extractor could not do.

    Attributes:
        error_type: class name of the error.
        message: for a person: what is wrong and what to do.
        permanent: true when the same media will fail again (a broken file), false when a retry may help.
        source_hash: of the media, so that a repaired file is tried again.
        attempt: 1 for the first try.
        time: UTC, when it failed.
    """

    sample_id: str
    dataset: str
    channel: str
    fingerprint: str
    error_type: str
    message: str
    permanent: bool
    source_hash: str | None = None
    attempt: int = 1
    time: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True)
class SampleRow:
    """One known sample of a dataset, with or without features.

    Attributes:
        media: JSON object, role -> path.
        duration (seconds), fps, n_frames, audio_streams: of the clip, None where unknown.
        error: why none of its media can be used, None when some can.
    """

    dataset: str
    sample_id: str
    split: str | None
    media: str
    duration: float | None = None
    fps: float | None = None
    n_frames: int | None = None
    audio_streams: int | None = None
    source_hash: str | None = None
    error: str | None = None


@dataclass(frozen=True)
class InstructionRow:
    """One question about a sample, and its answer; `instruction_id` is unique in a dataset.

    Attributes:
        chance: accuracy of guessing, None for open answers.
        history: JSON list of [question, answer], the earlier turns of the dialog.
        accepted_answers: JSON list of every reference, where it is not `answer` alone.
        attributes: JSON object of what else scores and the dataset's official result files need.
    """

    instruction_id: str
    sample_id: str
    dataset: str
    split: str
    question_type: str
    question: str
    answer: str
    chance: float | None = None
    history: str | None = None
    accepted_answers: str | None = None
    attributes: str | None = None
