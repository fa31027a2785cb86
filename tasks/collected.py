"""What a task gathers from its files: each sample once, each instruction once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

from tasks.annotation_file import Place
from tasks.instruction import Instruction, TaskSample


class Collected:
    """Samples and instructions in the order of the files."""

    def __init__(self) -> None:
        self._samples: dict[str, TaskSample] = {}
        self._instructions: dict[str, Instruction] = {}

    def add_sample(self, place: Place, sample_id: str, split: str, media: Mapping[str, str]) -> None:
        """Note a sample; one that is known keeps its first split. Raises AnnotationError for other media."""
        _check_text(place, sample_id, *media.values())
        if not sample_id:
            raise place.error("the id of the sample is empty")
        known = self._samples.get(sample_id)
        if known is None:
            self._samples[sample_id] = TaskSample(sample_id, split, dict(media))
        elif known.media != media:
            raise place.error(f"{sample_id} is {dict(media)} here and {dict(known.media)} before")

    def add(self, place: Place, instruction: Instruction) -> None:
        """Note an instruction. Raises AnnotationError for an id that was there before, or a text that is none."""
        columns = (getattr(instruction, field.name) for field in fields(Instruction))
        _check_text(place, *(column for column in columns if isinstance(column, str)))
        if instruction.instruction_id in self._instructions:
            raise place.error(f"the id {instruction.instruction_id!r} was there before")
        self._instructions[instruction.instruction_id] = instruction

    def lists(self) -> tuple[list[TaskSample], list[Instruction]]:
        """What `load` of a task returns."""
        return list(self._samples.values()), list(self._instructions.values())


def _check_text(place: Place, *texts: str) -> None:
    """JSON can escape half of a surrogate pair, which no file can hold."""
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise place.error(f"{text[:40]!r} is no valid Unicode") from error
