"""The audio extractor with accidents, which happen to the samples whose names say so."""

import os
import signal
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from extractors.audio import AudioExtractor
from extractors.config import AudioConfig
from extractors.contract import Decoded, Features, Sample
from extractors.errors import ExtractorError, WeightsError

TINY = AudioConfig(weights="random:1", embed_dim=32, num_blocks=1, num_heads=4, out_dim=16)


class FlakyExtractor(AudioExtractor):
    """The accidents of decoding: `kills-decoder` takes every worker, `kills-one-decoder` the first; `trips-decoder`
    always fails, `stalls` never ends, and `eats-memory` wants 16 GiB. Those of encoding: `kills-encoder` takes one
    worker, and `bad-numbers` always fails.

    `calls()` counts what was decoded and encoded, in all processes.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(TINY)
        self.folder = folder

    def clip_request(self, sample: Sample) -> Any:
        """What the audio extractor wants, after the accident."""
        self._log("decode", sample.sample_id)
        self._kill("kills-decoder", sample.sample_id, once=False)
        self._kill("kills-one-decoder", sample.sample_id)
        if sample.sample_id == "trips-decoder":
            raise ZeroDivisionError("a library\ntripped")
        if sample.sample_id == "stalls":
            time.sleep(3600)
        if sample.sample_id == "eats-memory":
            bytearray(16 * 2**30)
        return super().clip_request(sample)

    def encode(self, batch: Sequence[Decoded]) -> list[Features]:
        ids = [decoded.sample_id for decoded in batch]
        self._log("encode", *ids)
        self._kill("kills-encoder", *ids)
        if "bad-numbers" in ids:
            raise ExtractorError("bad-numbers: holds NaN; check the weights")
        return super().encode(batch)

    def calls(self) -> Counter[tuple[str, str]]:
        """How often each stage was called for each sample."""
        lines = (self.folder / "calls").read_text().splitlines()
        return Counter((stage, sample_id) for stage, sample_id in map(str.split, lines))

    def _log(self, stage: str, *sample_ids: str) -> None:
        with (self.folder / "calls").open("a") as log:
            log.writelines(f"{stage} {sample_id}\n" for sample_id in sample_ids)

    def _kill(self, name: str, *sample_ids: str, once: bool = True) -> None:
        if name in sample_ids and not (once and (self.folder / name).exists()):
            (self.folder / name).touch()
            os.kill(os.getpid(), signal.SIGKILL)


class UnloadableExtractor(AudioExtractor):
    """Its weights are gone when the workers want them."""

    def __init__(self) -> None:
        super().__init__(TINY)

    def load(self, device: str) -> None:
        raise WeightsError("there is no weights file tower.pth; check the path")
