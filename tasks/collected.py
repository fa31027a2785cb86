"""What a task gathers from its files: each sample once, each instruction once."""

from __future__ import annotations

from collections.abc import Mapping

from tasks.annotation_file import Place
from tasks.instruction import Instruction, TaskSample


class Collected:
    """Samples and instructions in the order of the files."""

    def __init__(self) -> None:
        self._samples: dict[str, TaskSample] = {}
        self._instructions: dict[str, Instruction] = {}

    def add_sample(self, place: Place, sample_id: str, split: str, media: Mapping[str, str]) -> None:
        """Note a sample; one that is known keeps its first split. Raises AnnotationError for other media."""
        known = self._samples.get(sample_id)
        if known is None:
            self._samples[sample_id] = TaskSample(sample_id, split, dict(media))
        elif known.media != media:
            raise place.error(f"{sample_id} is {dict(media)} here and {dict(known.media)} before")

    def add(self, place: Place, instruction: Instruction) -> None:
        """Note an instruction. Raises AnnotationError for an id that was there before."""
        if instruction.instruction_id in self._instructions:
            raise place.error(f"the id {instruction.instruction_id!r} was there before")
        self._instructions[instruction.instruction_id] = instruction

    def lists(self) -> tuple[list[TaskSample], list[Instruction]]:
        """What `load` of a task returns."""
        return list(self._samples.values()), list(self._instructions.values())
