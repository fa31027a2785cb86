"""Decode mutants in a limited process; a program that tells what came of them, and where a mutant can be had.

(with PYTHONPATH=.:tests:tests/extractors) fuzz_decode.py [--first 0] [--count 2000] [--only NUMBER] [--keep FOLDER]
"""

import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from fuzz_sources import write_clips, write_scenes
from limited_decoder import FEATURES, REFUSED, LimitedDecoder, Outcome
from mutated_media import SEED, Mutant, plan, write


def write_sources(folder: Path, clips: Mapping[str, Path]) -> dict[str, Path]:
    """All that is mutated, by name."""
    return write_clips(folder, clips) | write_scenes(folder)


def decode_all(
    mutants: Iterable[Mutant], sources: Mapping[str, Path], decoder: LimitedDecoder
) -> Iterator[tuple[Mutant, str, Outcome]]:
    """Each mutant, each channel that its media are for, and what came of it."""
    with TemporaryDirectory() as temporary:
        for mutant in mutants:
            folder = Path(temporary) / str(mutant.number)
            folder.mkdir()
            sample = write(mutant, sources, folder)
            for channel in channels(sample.media):
                yield mutant, channel, decoder.decode(channel, sample.sample_id, dict(sample.media))
            shutil.rmtree(folder)


def channels(media: Mapping[str, Path]) -> tuple[str, ...]:
    if "scene" in media:
        return ("depth3d",)
    return ("audio", "frames", "dense") if "video" in media else ("exo",)


def main() -> None:
    from argparse import ArgumentParser

    from conftest import _clips

    parser = ArgumentParser()
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--only", type=int)
    parser.add_argument("--keep", type=Path)
    chosen = parser.parse_args()
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    slowest, largest = (0.0, ""), (0, "")
    with TemporaryDirectory() as temporary, LimitedDecoder() as decoder:
        sources = write_sources(Path(temporary), _clips())
        count = chosen.count if chosen.only is None else chosen.only + 1
        mutants = plan(count, sources, chosen.seed)[chosen.only or chosen.first :]
        if chosen.keep is not None:
            chosen.keep.mkdir(parents=True)
            for mutant in mutants:
                (chosen.keep / str(mutant.number)).mkdir()
                print(write(mutant, sources, chosen.keep / str(mutant.number)))
        for mutant, channel, outcome in decode_all(mutants, sources, decoder):
            counts[mutant.kind][outcome.kind] += 1
            slowest = max(slowest, (outcome.seconds, f"{channel} {mutant.name}"))
            largest = max(largest, (outcome.peak_bytes, f"{channel} {mutant.name}"))
            remarkable = outcome.seconds > 5 or outcome.peak_bytes > 2**29
            if not outcome.within_limits or remarkable or chosen.only is not None:
                print(
                    f"{outcome.kind} {channel} {mutant.name}: {outcome.message} "
                    f"[{outcome.seconds:.1f} s, {outcome.peak_bytes / 2**20:.0f} MiB]",
                    flush=True,
                )
    for kind, found in sorted(counts.items()):
        other = sum(found.values()) - found[FEATURES] - found[REFUSED]
        print(f"{kind:20} features {found[FEATURES]:4}  refused {found[REFUSED]:4}  else {other:3}")
    print(f"slowest {slowest[0]:.2f} s: {slowest[1]}; largest {largest[0] / 2**20:.0f} MiB: {largest[1]}")


if __name__ == "__main__":
    main()
