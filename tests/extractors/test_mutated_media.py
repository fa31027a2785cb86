"""Broken media cost a typed error or give features: no crash, no hang, no flood of memory.

Each mutant that is named in a failure can be had: `fuzz_decode.py --only NUMBER --keep FOLDER`.
"""

import tracemalloc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fuzz_decode import decode_all, write_sources
from limited_decoder import ELSE, FEATURES, REFUSED, LimitedDecoder, Outcome
from mutated_media import KINDS, Mutant, plan, write

from extractors.mel import resample

LARGE = "mp4 index bomb"  # FFmpeg takes seconds and a gigabyte before it gives up


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory, clips: dict[str, Path]) -> dict[str, Path]:
    return write_sources(tmp_path_factory.mktemp("sources"), clips)


@pytest.fixture(scope="module")
def decoder() -> Iterator[LimitedDecoder]:
    with LimitedDecoder() as running:
        yield running


def outcomes_of(mutants: list[Mutant], sources: dict[str, Path], decoder: LimitedDecoder) -> Counter[str]:
    """How many decodings ended how; fails with the name of everything that did not end well."""
    counts: Counter[str] = Counter()
    bad = []
    for mutant, channel, outcome in decode_all(mutants, sources, decoder):
        counts[outcome.kind] += 1
        if not outcome.within_limits:
            bad.append(f"{channel} of {mutant}: {outcome}")
    assert not bad, "\n".join(bad)
    return counts


def test_broken_media_are_refused_or_read(sources: dict[str, Path], decoder: LimitedDecoder) -> None:
    mutants = [mutant for mutant in plan(110, sources) if mutant.kind != LARGE]
    assert {mutant.kind for mutant in mutants} == {*KINDS} - {LARGE}
    counts = outcomes_of(mutants, sources, decoder)
    assert min(counts[FEATURES], counts[REFUSED]) > 100  # neither is all that there is


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_two_thousand_broken_media(sources: dict[str, Path], decoder: LimitedDecoder) -> None:
    counts = outcomes_of(plan(2000, sources), sources, decoder)
    assert min(counts[FEATURES], counts[REFUSED]) > 1000


def test_whole_media_give_features(sources: dict[str, Path], decoder: LimitedDecoder) -> None:
    clip = {"video": sources["demo.mp4"]}
    assert decoder.decode("depth3d", "scene", {"scene": sources["scene"]}).kind == FEATURES
    assert decoder.decode("audio", "clip", clip).kind == FEATURES
    assert (
        decoder.decode("frames", "clip", {"video": sources["demo.mp4"].with_name("absent")}).kind == REFUSED
    )
    unknown = decoder.decode("taste", "clip", clip)
    assert unknown.kind == ELSE
    assert "KeyError" in unknown.message


def test_the_limits_are_limits() -> None:
    fine = Outcome(FEATURES, "", 29.0, 2**30)
    assert fine.within_limits
    assert not Outcome(FEATURES, "", 31.0, 2**30).within_limits
    assert not Outcome(REFUSED, "", 1.0, 2**31 + 1).within_limits
    assert not Outcome(ELSE, "", 1.0, 0).within_limits


def test_a_mutant_is_made_again_from_its_seed(sources: dict[str, Path], tmp_path: Path) -> None:
    contents = []
    for attempt in ("one", "two"):
        found = {}
        for mutant in plan(len(KINDS), sources):
            folder = tmp_path / attempt / str(mutant.number)
            folder.mkdir(parents=True)
            write(mutant, sources, folder)
            for path in folder.rglob("*"):
                if path.is_file() and mutant.kind != "absurd hdf5":  # HDF5 keeps times
                    found[mutant.name, path.relative_to(folder)] = path.read_bytes()
        contents.append(found)
    assert contents[0] == contents[1]
    assert contents[0] != {}


def test_odd_rates_take_little_memory() -> None:
    rate = 191_999
    wave = np.sin(np.arange(2 * rate) / rate * 2 * np.pi * 50, dtype=np.float32)[None]
    tracemalloc.start()
    found = resample(wave, rate)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    expected = np.sin(np.arange(found.shape[1]) / 16000 * 2 * np.pi * 50)
    np.testing.assert_allclose(found[0, 100:-100], expected[100:-100], atol=0.01)
    assert peak < 60_000_000
