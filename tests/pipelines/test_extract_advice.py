"""From measurements to workers and hours: plain calculation on made-up measurements."""

from dataclasses import replace

import pytest

from pipelines.errors import PipelineError
from pipelines.extract_advice import MEMORY_SHARE, Work, advise, whole_manifest
from pipelines.extract_probe import FailedProbe, Probe, ProbedSample
from pipelines.this_machine import Machine

GIB = 2**30
WORK = Work(
    num_samples=1000,
    media_seconds=10_000.0,
    decode_seconds=3600.0,
    encode_seconds=3600.0,
    longest_seconds=10.0,
    load_seconds=5.0,
    stored_bytes=1e9,
    decode_worker_bytes=GIB // 2,
    encode_worker_bytes=GIB,
)
BIG = Machine(cores=16, gpus=0, memory_bytes=256 * GIB)


def test_equal_stages_on_the_cpu_use_all_cores() -> None:
    advice = advise(WORK, BIG, "cpu")
    assert (advice.decoders, advice.encoders) == (8, 8)
    assert advice.seconds == 5 + 3600 / 8


def test_where_encoding_is_slow_the_cores_encode() -> None:
    advice = advise(replace(WORK, encode_seconds=36_000.0), BIG, "cpu")
    assert (advice.decoders, advice.encoders, advice.limit) == (2, 15, "cores")
    assert advice.seconds == 5 + (36_000 + 3600) / 16


def test_decoding_is_the_limit_where_it_is_slow() -> None:
    advice = advise(replace(WORK, decode_seconds=36_000.0), BIG, "cpu")
    assert (advice.decoders, advice.encoders, advice.limit) == (15, 2, "cores")
    fast = replace(WORK, decode_seconds=36_000.0, encode_seconds=1000.0)
    on_gpu = advise(fast, replace(BIG, gpus=4), "cuda")
    # cores that no encoder needs decode
    assert (on_gpu.decoders, on_gpu.encoders, on_gpu.limit) == (15, 1, "decode")


@pytest.mark.parametrize(("gpus", "decoders"), [(1, 2), (2, 4), (4, 8)])
def test_several_gpus_are_fed_by_as_many_decoders_as_they_need(gpus: int, decoders: int) -> None:
    advice = advise(
        replace(WORK, encode_seconds=7200.0, decode_seconds=14_000.0), replace(BIG, gpus=gpus), "cuda"
    )
    assert (advice.decoders, advice.encoders, advice.gpus_per_encoder) == (decoders, gpus, 1.0)
    assert (advice.limit, advice.seconds) == ("encode", 5 + 7200 / gpus)


def test_memory_bounds_the_workers() -> None:
    small = replace(BIG, memory_bytes=int(5 * GIB / MEMORY_SHARE))
    advice = advise(WORK, small, "cpu")
    assert (advice.decoders, advice.encoders, advice.limit) == (3, 3, "memory")
    assert advice.memory_bytes <= advice.memory_allowed
    # where the cores are the tighter bound, it is not memory that is named
    assert advise(WORK, replace(small, cores=4), "cpu").limit in ("decode", "encode")


def test_what_does_not_fit_at_all_is_one_of_each_and_said() -> None:
    advice = advise(WORK, replace(BIG, memory_bytes=GIB), "cpu")
    assert (advice.decoders, advice.encoders, advice.limit) == (1, 1, "memory")
    assert advice.memory_bytes > advice.memory_allowed


def test_on_one_core_the_stages_take_turns() -> None:
    one = replace(BIG, cores=1)
    advice = advise(WORK, one, "cpu")
    assert (advice.decoders, advice.encoders, advice.limit) == (1, 1, "cores")
    assert advice.seconds == 5 + 3600 + 3600
    on_gpu = advise(WORK, replace(one, gpus=1), "cuda")  # there only decoding takes the core
    assert on_gpu.seconds == 5 + 3600


def test_one_long_sample_cannot_be_shared() -> None:
    advice = advise(replace(WORK, longest_seconds=3000.0), BIG, "cpu")
    assert (advice.limit, advice.seconds) == ("longest sample", 5 + 3000)
    assert advice.decoders + advice.encoders < 16


def test_a_gpu_plan_needs_a_gpu() -> None:
    with pytest.raises(PipelineError, match=r"shows no GPU; give execution\.device=cpu"):
        advise(WORK, BIG, "cuda")


def sample(duration: float | None, seconds: float) -> ProbedSample:
    return ProbedSample(f"{duration}", duration, seconds, 2 * seconds, 100, int(10 * seconds))


def probe_of(*samples: ProbedSample) -> Probe:
    return Probe(
        "audio", "cpu", samples, (FailedProbe("x", "decode", "x: no sound; leave it out"),), 1.0, 7, 9, 0
    )


def test_every_sample_costs_by_its_duration() -> None:
    # ten times as long is three times as dear
    probe = probe_of(sample(10.0, 1.0), sample(100.0, 3.0))
    work = whole_manifest(probe, [10.0, 55.0, 100.0, 200.0, None], batch_bytes=50)
    assert work.decode_seconds == pytest.approx(
        1 + 2 + 3 + 6 + 2
    )  # beyond in proportion; unknown is the mean
    assert work.encode_seconds == pytest.approx(2 * work.decode_seconds)
    assert work.stored_bytes == pytest.approx(10 * work.decode_seconds)
    assert work.longest_seconds == pytest.approx(6 + 12)
    assert (work.media_seconds, work.num_samples) == (365.0, 5)
    assert (work.decode_worker_bytes, work.encode_worker_bytes) == (7, 9 + 50)


def test_the_mean_of_durations_would_mislead() -> None:
    probe = probe_of(sample(10.0, 1.0), sample(20.0, 1.0), sample(3600.0, 100.0))
    durations = [10.0] * 99 + [3600.0]
    work = whole_manifest(probe, durations, batch_bytes=0)
    assert work.decode_seconds == pytest.approx(99 + 100)


def test_samples_without_a_clock_cost_the_mean() -> None:
    work = whole_manifest(probe_of(sample(None, 1.0), sample(None, 3.0)), [None] * 10, batch_bytes=0)
    assert (work.decode_seconds, work.media_seconds) == (20.0, None)


def test_no_plan_without_a_measurement() -> None:
    with pytest.raises(PipelineError, match=r"none of the probed samples .* x: no sound; leave it out"):
        whole_manifest(probe_of(), [1.0], batch_bytes=0)
