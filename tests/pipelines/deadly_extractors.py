"""Extractors whose `decode` ends its process, or never returns."""

import os
import signal
import time

from extractors.audio import AudioExtractor
from extractors.config import AudioConfig
from extractors.contract import Decoded, Sample


class DyingExtractor(AudioExtractor):
    """Dies of any clip, as of a crash inside a codec."""

    def __init__(self) -> None:
        super().__init__(AudioConfig(weights="random:0"))

    def clip_request(self, sample: Sample) -> None:  # type: ignore[override]
        """It reads no clip together with others."""

    def decode(self, sample: Sample) -> Decoded:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


class SleepingExtractor(DyingExtractor):
    """Blocks, as a file on a disk that does not answer."""

    def decode(self, sample: Sample) -> Decoded:
        time.sleep(600)
        raise AssertionError
