"""Running the extractors of some channels over many samples with Ray Data; the only module that knows Ray.

    rows of the manifest -> decode tasks (CPU) -> encode actors (CPU or GPU) -> tasks that write parts -> driver

Rules:
- Batches and parts are bounded by bytes; the pool of encode actors is fixed. Decoding waits for the encoders
  when Ray's object store fills up (Ray Data's back-pressure).
- A part is finished by one task. The driver gets its record; a task that Ray runs again leaves an orphan.
- `RAY_ADDRESS` set: that cluster, which must see the media and the store at the same paths. Unset: this
  machine's cores, and Ray ends with the run.
- Ray's own output is not shown; warnings of our workers come with their results (`worker_log`).
"""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import sys
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import current_thread, main_thread
from typing import Any

import ray
import ray.data
import torch
from ray._private import auto_init_hook
from ray.exceptions import RayError, RayTaskError

from extractors.contract import Extractor
from extractors.errors import ExtractorError
from pipelines.config import ExecutionConfig
from pipelines.errors import RayEndedError
from pipelines.extract_rows import Failure, WorkItem, work_table
from pipelines.extract_stages import Decode, Encode
from pipelines.part_stage import write
from pipelines.ray_results import ray_ended, results
from pipelines.worker_deaths import DeathMarks
from pipelines.worker_log import log_again
from store.errors import StoreError
from store.features import FeatureSetRecord
from store.location import Location
from store.records import PartRecord

_TASK_SECONDS = 960.0  # media that one task decodes: outweighs what a task costs; its samples come one by one
_UNKNOWN_SECONDS = 60.0  # taken for samples that do not know their length
_MAX_TASK_SAMPLES = 16
_LEAST_PIECES = (
    16  # tasks and parts of a run that has so many samples, so that progress and commits are steady
)
_STEPS_WITHOUT_RATE = 32  # time steps assumed where a channel has no rate
# CPUs, as Ray counts them, of a task or of all actors of a stage. Ray Data lends a stage a third of what nobody
# has taken: with a larger share only one decode task ran on two cores. A stage that waits leaves its core to others.
_DECODE_CPUS = 0.3
_OTHER_CPUS = 0.1
_CORES_OF_A_WRITER = 8  # decoding on so many keeps at most one writer busy, and each is a process to start
_SURROUNDINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # native code logs to our stderr; errors come as exceptions anyway
    "OMP_WAIT_POLICY": "PASSIVE",  # of the workers: idle threads of torch would spin on cores that decoding needs
    # a worker takes seconds to start: one that waits for its next task is not ended meanwhile
    "RAY_idle_worker_killing_time_threshold_ms": "60000",
    "RAY_num_workers_soft_limit": str((os.cpu_count() or 1) + 4),
    # one heap that grows seldom and is kept: workers otherwise map and return the memory of each clip anew, which
    # cost encoding on the CPU a third of its time
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(256 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(512 * 2**20),
    "MALLOC_TOP_PAD_": str(16 * 2**20),
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # the behaviour to come, which Ray warns of
}


@dataclass(frozen=True)
class Job:
    """What is run: by channel the extractor (not loaded) and its feature set, all of one dataset; and the store."""

    extractors: Mapping[str, Extractor]
    feature_sets: Mapping[str, FeatureSetRecord]
    location: Location

    @property
    def dataset(self) -> str:
        """The dataset of all."""
        return next(iter(self.feature_sets.values())).dataset


@dataclass(frozen=True)
class Finished:
    """What came out of one task: finished parts, not committed yet, and failures."""

    parts: tuple[PartRecord, ...]
    failures: tuple[Failure, ...]


def run(job: Job, items: Sequence[WorkItem], execution: ExecutionConfig) -> Generator[Finished, None, None]:
    """Do the samples and yield what is finished, as it comes.

    Raises StoreError when parts cannot be written, WeightsError when the encoder cannot be loaded, and RayEndedError
    when Ray dies meanwhile.
    """
    with ray_session(), TemporaryDirectory(prefix="pave-") as scratch:
        marks = DeathMarks(Path(scratch) / "deaths", execution.stall_seconds)
        dataset = _pipeline(job, items, execution, marks)
        batches = partial(dataset.iter_batches, batch_size=None, batch_format="pyarrow")
        try:
            for batch in results(lambda: iter(batches())):
                rows = batch.to_pylist()
                for row in rows:
                    log_again(row["log"])
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
        except RayError as error:
            raise ray_ended(f"{type(error).__name__}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def task_size(items: Sequence[WorkItem]) -> int:
    """Samples that one task decodes."""
    fitting = int(_TASK_SECONDS / max(_mean_duration(items), 1.0))
    return max(1, min(fitting, _MAX_TASK_SAMPLES, -(-len(items) // _LEAST_PIECES)))


def write_size(job: Job, items: Sequence[WorkItem], execution: ExecutionConfig) -> int:
    """Rows that one task writes: of so many samples that a part has about `part_bytes`, and whole decode tasks, or
    the rest would be parts too."""
    sample_bytes = sum(_expected_bytes(feature_set, items) for feature_set in job.feature_sets.values())
    fitting = int(execution.part_bytes / sample_bytes)
    wanted = min(fitting, execution.part_samples, -(-len(items) // _LEAST_PIECES))
    per_task = task_size(items)
    return max(1, wanted // per_task) * per_task * len(job.feature_sets)


def _expected_bytes(feature_set: FeatureSetRecord, items: Sequence[WorkItem]) -> float:
    """Bytes of a sample; where a channel has no rate, each file of a sample is taken to give the same steps."""
    if feature_set.rate_hz is not None:
        steps = feature_set.rate_hz * _mean_duration(items)
    else:
        steps = _STEPS_WITHOUT_RATE * sum(len(item.media) for item in items) / len(items)
    return max(steps, 1.0) * sum(layout.row_bytes for layout in feature_set.tensors)


def _mean_duration(items: Sequence[WorkItem]) -> float:
    known = [item.duration for item in items if item.duration is not None]
    return sum(known) / len(known) if known else _UNKNOWN_SECONDS


@contextmanager
def ray_session() -> Iterator[None]:
    """A running Ray. One that runs already is used, one that is started here is ended here.

    Wrap several extractions in it to start Ray once.
    """
    if ray.is_initialized():
        gc.collect()  # the actors of a run that failed live on in its traceback, and hold their cores
        yield
        return
    for name, value in _SURROUNDINGS.items():
        os.environ.setdefault(name, value)
    # a thread that still reads from a Ray that was ended must not start another
    auto_init_hook.enable_auto_connect = False
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    with _hushed(), _kept_sigterm():
        if address := os.environ.get("RAY_ADDRESS"):
            try:
                ray.init(**quiet)
            except ConnectionError as error:
                raise RayEndedError(
                    f"cannot connect to Ray at RAY_ADDRESS={address}; start it (`ray start --head`), see that this "
                    "process has its token (RAY_AUTH_MODE), or unset RAY_ADDRESS to use this machine alone"
                ) from error
        else:
            # the stages need two slots even where there is one core
            ray.init("local", num_cpus=max(2, os.cpu_count() or 1), include_dashboard=False, **quiet)
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _kept_sigterm() -> Iterator[None]:
    """A handler of SIGTERM stays: Ray sets its own, and a cancelled flow then looks like one that crashed."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    if handler is not signal.SIG_DFL and current_thread() is main_thread():
        signal.signal(signal.SIGTERM, handler)


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
    context.target_max_block_size = execution.batch_bytes
    context.op_resource_reservation_ratio = 0.1
    work = work_table(items)
    per_task = task_size(items)
    tasks = [work.slice(first, per_task) for first in range(0, len(work), per_task)]
    decode = Decode(job.extractors, job.dataset, marks, execution.decode_memory_bytes)
    device = _device(execution.device)
    # of the cores; without a number of decoders, these leave encoders what they do not need themselves
    spare = 1.0 if execution.decoders is None else 1 - execution.decoders / _total_cpus()
    return (
        ray.data.from_arrow(tasks)
        .map_batches(
            decode,
            batch_size=None,
            batch_format="pyarrow",
            compute=ray.data.TaskPoolStrategy(size=min(execution.decoders or _total_cpus(), len(tasks))),
            num_cpus=_DECODE_CPUS,
        )
        .map_batches(
            Encode,
            batch_size=None,  # a block, which `batch_bytes` bounds
            batch_format="pyarrow",
            fn_constructor_kwargs={
                "extractors": job.extractors,
                "device": device,
                "threads": max(1, int(_node_cpus() * spare / execution.encoders)),
                "marks": marks,
            },
            compute=ray.data.ActorPoolStrategy(size=execution.encoders),
            num_cpus=_OTHER_CPUS / execution.encoders,
            num_gpus=execution.gpus_per_encoder if device == "cuda" else 0,
        )
        .map_batches(
            write,
            batch_size=write_size(job, items, execution),
            batch_format="pyarrow",
            fn_kwargs={
                "location": job.location,
                "feature_sets": job.feature_sets,
                "part_bytes": execution.part_bytes,
            },
            compute=ray.data.TaskPoolStrategy(
                size=min(max(1, _total_cpus() // _CORES_OF_A_WRITER), len(tasks))
            ),
            num_cpus=_OTHER_CPUS,
        )
    )


def _device(wanted: str) -> str:
    if wanted != "auto":
        return wanted
    remote = bool(os.environ.get("RAY_ADDRESS"))  # the driver's machine says nothing about the workers'
    has_gpu = ray.cluster_resources().get("GPU", 0) >= 1
    return "cuda" if has_gpu and (remote or torch.cuda.is_available()) else "cpu"


def _node_cpus() -> float:
    """CPUs of the largest node."""
    return max(float(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"])


def _total_cpus() -> int:
    """CPUs of all nodes."""
    return max(1, int(ray.cluster_resources().get("CPU", 1)))
