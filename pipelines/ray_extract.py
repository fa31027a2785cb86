"""Running an extractor over many samples with Ray Data; the only module that knows Ray.

    rows of the manifest -> decode tasks (CPU) -> encode actors (CPU or GPU) -> tasks that write parts -> driver

Rules:
- A part is finished by one task. The driver gets its record; a task that Ray runs again leaves an orphan.
- `RAY_ADDRESS` set: that cluster, which must see the media and the store at the same paths. Unset: this
  machine's cores, and Ray ends with the run.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ray
import ray.data
import torch
from ray.exceptions import RayTaskError

from extractors.contract import Extractor
from extractors.errors import ExtractorError
from pipelines.config import ExecutionConfig
from pipelines.extract_stages import Encode, Failure, WorkItem, decode, work_table, write
from pipelines.worker_deaths import DeathMarks
from store.errors import StoreError
from store.features import FeatureSetRecord
from store.location import Location
from store.records import PartRecord

_TASK_SECONDS = 60.0  # media that one task decodes: bounds its memory, and outweighs what a task costs
_MAX_TASK_SAMPLES = 16
_LEAST_PIECES = (
    16  # tasks and parts of a run that has so many samples, so that progress and commits are steady
)
_STEPS_WITHOUT_RATE = 32  # time steps assumed where a channel has no rate
_QUIET_RAY = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # native code logs to our stderr; errors come as exceptions anyway
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # the behaviour to come, which Ray warns of
}


@dataclass(frozen=True)
class Job:
    """What is run: an extractor (not loaded), and where its features go."""

    extractor: Extractor
    feature_set: FeatureSetRecord
    location: Location


@dataclass(frozen=True)
class Finished:
    """What came out of one task: finished parts, not committed yet, and failures."""

    parts: tuple[PartRecord, ...]
    failures: tuple[Failure, ...]


def run(job: Job, items: Sequence[WorkItem], execution: ExecutionConfig) -> Generator[Finished, None, None]:
    """Do the samples and yield what is finished, as it comes.

    Raises StoreError when parts cannot be written, WeightsError when the encoder cannot be loaded.
    """
    with ray_session(), TemporaryDirectory(prefix="pave-") as scratch:
        marks = DeathMarks(Path(scratch) / "deaths")
        results = _pipeline(job, items, execution, marks).iter_batches(
            batch_size=None, batch_format="pyarrow"
        )
        try:
            for batch in results:
                rows = batch.to_pylist()
                yield Finished(
                    tuple(PartRecord.from_json(row["part"]) for row in rows if row["part"] is not None),
                    tuple(
                        Failure(**json.loads(row["failure"])) for row in rows if row["failure"] is not None
                    ),
                )
        except RayTaskError as error:
            cause = error.cause
            if not isinstance(cause, StoreError | ExtractorError):
                raise
            # our messages are one line; Ray has added some about its own settings
            cause.args = (str(cause.args[0]).partition("\n")[0], *cause.args[1:])
            raise cause from error


def task_size(items: Sequence[WorkItem]) -> int:
    """Samples that one task decodes, and one call encodes."""
    fitting = int(_TASK_SECONDS / max(_mean_duration(items), 1.0))
    return max(1, min(fitting, _MAX_TASK_SAMPLES, -(-len(items) // _LEAST_PIECES)))


def part_size(feature_set: FeatureSetRecord, items: Sequence[WorkItem], execution: ExecutionConfig) -> int:
    """Samples of a part, so that it has about `part_bytes`; whole tasks, or the rest would be parts too."""
    steps = float(_STEPS_WITHOUT_RATE)
    if feature_set.rate_hz is not None:
        steps = feature_set.rate_hz * _mean_duration(items)
    sample_bytes = max(steps, 1.0) * sum(layout.row_bytes for layout in feature_set.tensors)
    fitting = int(execution.part_bytes / sample_bytes)
    wanted = min(fitting, execution.part_samples, -(-len(items) // _LEAST_PIECES))
    return max(1, wanted // task_size(items)) * task_size(items)


def _mean_duration(items: Sequence[WorkItem]) -> float:
    known = [item.duration for item in items if item.duration is not None]
    return sum(known) / len(known) if known else _TASK_SECONDS


@contextmanager
def ray_session() -> Iterator[None]:
    """A running Ray. One that runs already is used, one that is started here is ended here.

    Wrap several extractions in it to start Ray once.
    """
    if ray.is_initialized():
        gc.collect()  # the actors of a run that failed live on in its traceback, and hold their cores
        yield
        return
    for name, value in _QUIET_RAY.items():
        os.environ.setdefault(name, value)
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    with _hushed():
        if os.environ.get("RAY_ADDRESS"):
            ray.init(**quiet)
        else:
            # the stages need two slots even where there is one core
            ray.init("local", num_cpus=max(2, os.cpu_count() or 1), include_dashboard=False, **quiet)
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _hushed() -> Iterator[None]:
    """Nothing on stderr: Ray's native code greets on its descriptor, past Python."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _pipeline(job: Job, items: Sequence[WorkItem], execution: ExecutionConfig, marks: DeathMarks) -> Any:
    # What it would say about a failed task is in the exception.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.raise_original_map_exception = True
    device = _device(execution.device)
    # On the CPU the encoders share half of the cores, so that decoding and writing always find a place.
    share = ray.cluster_resources()["CPU"] / 2 / execution.encoders
    largest_node = max(node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"])
    threads = max(1, int(min(share, largest_node)))
    encoder: dict[str, Any] = {"num_cpus": threads if share >= 1 else share}
    if device == "cuda":
        encoder = {"num_gpus": 1, "num_cpus": min(0.5, share)}
    work = work_table(items)
    per_task = task_size(items)
    return (
        ray.data.from_arrow([work.slice(first, per_task) for first in range(0, len(work), per_task)])
        .map_batches(
            decode,
            batch_size=None,
            batch_format="pyarrow",
            fn_kwargs={"extractor": job.extractor, "dataset": job.feature_set.dataset, "marks": marks},
            num_cpus=0.7,
        )
        .map_batches(
            Encode,
            batch_size=per_task,
            batch_format="pyarrow",
            fn_constructor_kwargs={
                "extractor": job.extractor,
                "device": device,
                "threads": threads,
                "marks": marks,
            },
            compute=ray.data.ActorPoolStrategy(size=execution.encoders),
            **encoder,
        )
        .map_batches(
            write,
            batch_size=part_size(job.feature_set, items, execution),
            batch_format="pyarrow",
            fn_kwargs={"location": job.location, "feature_set": job.feature_set},
            num_cpus=0.3,
        )
    )


def _device(wanted: str) -> str:
    if wanted != "auto":
        return wanted
    remote = bool(os.environ.get("RAY_ADDRESS"))  # the driver's machine says nothing about the workers'
    has_gpu = ray.cluster_resources().get("GPU", 0) >= 1
    return "cuda" if has_gpu and (remote or torch.cuda.is_available()) else "cpu"
