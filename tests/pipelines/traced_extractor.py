"""An audio extractor whose decoded samples are large and whose encoder is slow, and that notes who did what."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from flaky_extractor import TINY

from extractors.audio import AudioExtractor
from extractors.contract import Decoded, Features, Sample

PADDING = 4 * 2**20  # bytes
ENCODE_SECONDS = 0.1


@dataclass(frozen=True)
class Call:
    """`stage` of a sample on a node of Ray; they are in the order in which they began."""

    stage: str
    sample_id: str
    node: str


class TracedExtractor(AudioExtractor):
    """Writes its calls into `trace`."""

    clip_request = None  # type: ignore[assignment]  # each sample through `decode`, which adds to it

    def __init__(self, trace: Path) -> None:
        super().__init__(TINY)
        self.trace = trace

    def decode(self, sample: Sample) -> Decoded:
        """The sample with padding."""
        self._note("decode", sample.sample_id)
        mel = np.zeros((3, 1, 128, 204), dtype=np.float32)
        padding = np.random.default_rng(0).bytes(PADDING)
        tensors = {"mel": mel, "padding": np.frombuffer(padding, dtype=np.uint8)}
        return Decoded(sample.sample_id, tensors, np.arange(3.0), 4.0, fps=None, n_frames=None)

    def encode(self, batch: Sequence[Decoded]) -> list[Features]:
        """The features, slowly."""
        for decoded in batch:
            self._note("encode", decoded.sample_id)
            time.sleep(ENCODE_SECONDS)
        return super().encode([replace(item, tensors={"mel": item.tensors["mel"]}) for item in batch])

    def calls(self) -> list[Call]:
        """All calls of all processes."""
        return [Call(*line.split()) for line in self.trace.read_text().splitlines()]

    def _note(self, stage: str, sample_id: str) -> None:
        import ray

        with self.trace.open("a") as trace:
            trace.write(f"{stage} {sample_id} {ray.get_runtime_context().get_node_id()}\n")
