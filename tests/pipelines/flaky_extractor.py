"""The audio extractor with accidents, which happen to the samples whose names say so."""

import os
import signal
from collections.abc import Sequence
from pathlib import Path

from extractors.audio import AudioConfig, AudioExtractor
from extractors.contract import Decoded, Features, Sample
from extractors.errors import ExtractorError, WeightsError

TINY = AudioConfig(weights="random:1", embed_dim=32, num_blocks=1, num_heads=4, out_dim=16)


class FlakyExtractor(AudioExtractor):
    """`kills-decoder` takes every worker, `kills-encoder` one; `trips-decoder` and `bad-numbers` always fail."""

    def __init__(self, graves: Path) -> None:
        super().__init__(TINY)
        self.graves = graves

    def decode(self, sample: Sample) -> Decoded:
        if sample.sample_id == "kills-decoder":
            os.kill(os.getpid(), signal.SIGKILL)
        if sample.sample_id == "trips-decoder":
            raise ZeroDivisionError("a library\ntripped")
        return super().decode(sample)

    def encode(self, batch: Sequence[Decoded]) -> list[Features]:
        ids = [decoded.sample_id for decoded in batch]
        if "kills-encoder" in ids and not (self.graves / "encoder").exists():
            (self.graves / "encoder").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if "bad-numbers" in ids:
            raise ExtractorError("bad-numbers: holds NaN; check the weights")
        return super().encode(batch)


class UnloadableExtractor(AudioExtractor):
    """Its weights are gone when the workers want them."""

    def __init__(self) -> None:
        super().__init__(TINY)

    def load(self, device: str) -> None:
        raise WeightsError("there is no weights file tower.pth; check the path")
