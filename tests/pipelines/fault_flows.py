"""A flow of a slow extraction whose workers warn and die, for the tests of faults; a worker loads it from this file."""

import logging
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from flaky_extractor import TINY, FlakyExtractor
from prefect import flow
from prefect.client.schemas import State

from extractors.contract import Decoded, Features, Sample
from pipelines.config import ExtractAudioConfig
from pipelines.extract import ExtractReport, _extract
from pipelines.flow_stage import run_stage


class SlowExtractor(FlakyExtractor):
    """Takes `seconds` for each clip and warns of one. `000001.mp4` takes the first worker; `000006.mp4` takes what is
    left of the disk, when there is a file `filler`."""

    def __init__(self, folder: Path, seconds: float) -> None:
        super().__init__(folder)
        self.seconds = seconds

    def clip_request(self, sample: Sample) -> Any:
        """What the audio extractor wants, after some time."""
        time.sleep(self.seconds)
        self._kill("000001.mp4", sample.sample_id)
        if sample.sample_id == "000006.mp4" and (self.folder / "filler").exists():
            fill(self.folder / "filler")
        if sample.sample_id == "000002.mp4":
            logging.getLogger("extractors.slow").warning("%s has an odd\nheader", sample.sample_id)
        return super().clip_request(sample)

    def encode(self, batch: Sequence[Decoded]) -> list[Features]:
        """The features; a warning about them, too."""
        logging.getLogger("extractors.slow").error("the tower is hot")
        return super().encode(batch)


def fill(filler: Path) -> None:
    """Gives the file all that is left of its disk."""
    with filler.open("ab") as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
            file.flush()


@flow(name="extract-slowly", persist_result=False, result_serializer="json")
def extract_slowly(
    config: ExtractAudioConfig, notes: Path, seconds: float = 0.2, ray: str | None = None
) -> ExtractReport | State[Any]:
    """Extract `audio`, slowly. `notes` is a folder of the test, `ray` the address of a cluster."""
    if ray is not None:
        os.environ["RAY_ADDRESS"] = ray
    extractor = SlowExtractor(notes, seconds)
    return run_stage("extract-slowly", lambda progress: _extract({"audio": extractor}, config, progress)[0])


def config_of(videos: Path, store: Path) -> ExtractAudioConfig:
    """Commits at once, parts of two clips."""
    execution = {"commit_seconds": 0, "part_samples": 2}
    return ExtractAudioConfig.model_validate(
        {"videos": videos, "store": str(store), "dataset": "clips", "encoder": TINY, "execution": execution}
    )
