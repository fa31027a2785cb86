"""From what a few samples cost to how an extraction should run: a calculation, nothing is measured here.

The model: decode workers and encode workers run beside each other, each stage as fast as its workers together;
writing is not counted. On the CPU both stages share the cores, whichever waits leaves its core to the other; on GPUs
each encode worker needs a core. A part of the free memory is left to Ray's object store and the system.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from pipelines.errors import PipelineError
from pipelines.extract_probe import Probe, ProbedSample
from pipelines.this_machine import Machine

Limit: TypeAlias = Literal["decode", "encode", "cores", "memory", "longest sample"]
MEMORY_SHARE = 0.6  # of the free memory that workers may take; Ray's object store takes 0.3
_AS_GOOD = 1.02  # fewer workers are preferred where they cost at most this


@dataclass(frozen=True)
class Work:
    """All samples of a manifest: seconds of one worker for each stage, bytes in the store, a worker's memory."""

    num_samples: int
    media_seconds: float | None
    decode_seconds: float
    encode_seconds: float
    longest_seconds: float
    load_seconds: float
    stored_bytes: float
    decode_worker_bytes: int
    encode_worker_bytes: int


@dataclass(frozen=True)
class Advice:
    """How many workers, what they wait for, and how long it takes, in seconds.

    `limit` is the stage that more of would help most; "memory" where the cores or GPUs would have allowed
    more. `memory_bytes` is what the workers take at most; it is more than `memory_allowed` only where not even
    one of each fits.
    """

    decoders: int
    encoders: int
    gpus_per_encoder: float
    limit: Limit
    seconds: float
    memory_bytes: int
    memory_allowed: int


def whole_manifest(probe: Probe, durations: Sequence[float | None], batch_bytes: int) -> Work:
    """What all samples cost, from the probed ones: each sample by its duration in seconds.

    Args:
        durations: of all samples to do, None where unknown.
        batch_bytes: decoded bytes that an encode worker holds at once.

    Raises PipelineError when no probe succeeded.
    """
    if not probe.samples:
        first = probe.failures[0].message if probe.failures else "there is no usable sample"
        raise PipelineError(
            f"none of the probed samples can be done by {probe.channel}, so nothing can be planned: {first}"
        )
    decode = _each(probe.samples, durations, lambda sample: sample.decode_seconds)
    encode = _each(probe.samples, durations, lambda sample: sample.encode_seconds)
    known = [duration for duration in durations if duration is not None]
    return Work(
        num_samples=len(durations),
        media_seconds=sum(known) if known else None,
        decode_seconds=float(decode.sum()),
        encode_seconds=float(encode.sum()),
        longest_seconds=float((decode + encode).max(initial=0.0)),
        load_seconds=probe.load_seconds,
        stored_bytes=float(_each(probe.samples, durations, lambda sample: sample.stored_bytes).sum()),
        decode_worker_bytes=probe.decode_peak_bytes,
        encode_worker_bytes=probe.encode_peak_bytes + batch_bytes,
    )


def _each(
    samples: Sequence[ProbedSample], durations: Sequence[float | None], cost: Callable[[ProbedSample], float]
) -> np.ndarray:
    """The cost of every duration: between two probes on the line that joins them, beyond the longest in proportion.

    A sample of unknown duration costs the mean of the probes.
    """
    mean = float(np.mean([cost(sample) for sample in samples]))
    of_duration: dict[float, list[float]] = {}
    for sample in samples:
        if sample.duration:
            of_duration.setdefault(sample.duration, []).append(cost(sample))
    if not of_duration:
        return np.full(len(durations), mean)
    probed = np.array(sorted(of_duration))
    costs = np.array([np.mean(of_duration[duration]) for duration in probed])
    asked = np.array([math.nan if duration is None else duration for duration in durations])
    found = np.interp(asked, probed, costs) * np.fmax(asked / probed[-1], 1.0)
    return np.where(np.isnan(asked), mean, found)


def advise(work: Work, machine: Machine, device: str) -> Advice:
    """The numbers of workers with which the work is done soonest; of equally good ones the fewest.

    Args: device: "cpu" or "cuda", which needs a machine with GPUs.
    """
    if device == "cuda" and machine.gpus < 1:
        raise PipelineError("the plan is for cuda, but this machine shows no GPU; give execution.device=cpu")
    allowed = int(machine.memory_bytes * MEMORY_SHARE)

    def memory(decoders: int, encoders: int) -> int:
        return decoders * work.decode_worker_bytes + encoders * work.encode_worker_bytes

    def waits(decoders: int, encoders: int) -> dict[Limit, float]:
        on_cores = work.decode_seconds + (work.encode_seconds if device == "cpu" else 0.0)
        return {
            "decode": work.decode_seconds / decoders,
            "encode": work.encode_seconds / encoders,
            "cores": on_cores / machine.cores,
            "longest sample": work.longest_seconds,
        }

    def seconds(pair: tuple[int, int]) -> float:
        return max(waits(*pair).values())

    most_encoders = machine.gpus if device == "cuda" else machine.cores
    pairs = [
        (decoders, encoders)
        for encoders in range(1, most_encoders + 1)
        for decoders in range(1, max(1, machine.cores - (encoders if device == "cuda" else 0)) + 1)
    ]
    fitting = [pair for pair in pairs if memory(*pair) <= allowed] or [(1, 1)]
    best = _fewest(fitting, seconds)
    limit: Limit = max(waits(*best).items(), key=lambda item: item[1])[0]
    if seconds(best) > _AS_GOOD**2 * min(map(seconds, pairs)) or memory(*best) > allowed:
        limit = "memory"
    return Advice(
        decoders=best[0],
        encoders=best[1],
        gpus_per_encoder=1.0,
        limit=limit,
        seconds=work.load_seconds + seconds(best),
        memory_bytes=memory(*best),
        memory_allowed=allowed,
    )


def _fewest(pairs: Sequence[tuple[int, int]], seconds: Callable[[tuple[int, int]], float]) -> tuple[int, int]:
    enough = _AS_GOOD * min(map(seconds, pairs))
    return min(
        (pair for pair in pairs if seconds(pair) <= enough), key=lambda pair: (sum(pair), seconds(pair))
    )
