"""What the choices inside the audio patch are worth: alignment, value projection, layers; on SideCue's `tones`.

Needs a finished demo (`pave demo --channels audio`), of which base, features and questions are used. Every variant is
a training as the demo's, with one thing changed, and an evaluation on the held-out clips. "late or with gaps" are the
same clips, of half of which the sound starts up to 3 s late, and of the others up to 3 s are missing, never at the
tone: those time steps are left out of the features, the others keep their timestamps. A training ends when it has
learned, or after --steps. Prints a table in Markdown, and one flat JSON object as its last line.

    python benchmarks/ablations.py [--demo out/demo] [--out out/ablations] [--steps 450]
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np  # noqa: E402

from pipelines.config import DemoConfig, EvaluateConfig, FusionSizes  # noqa: E402
from pipelines.demo import demo_training  # noqa: E402
from pipelines.demo_channels import AUDIO, PATCHES  # noqa: E402
from pipelines.evaluate import evaluate  # noqa: E402
from pipelines.progress import TerminalProgress  # noqa: E402
from pipelines.train import train  # noqa: E402
from store import Features, FeatureStore  # noqa: E402

MOST_MISSING = 3  # time steps of one second
WINDOW_REACH = 1.0  # seconds: a step whose window has the tone in it is never left out
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "by time, tied values, 2 layers": ("whole", {}),
    "evenly": ("whole", {"time_radius": None}),
    "untied values": ("whole", {"value_projection": "untied"}),
    "1 layer": ("whole", {"num_layers": 1}),
    "3 layers": ("whole", {"num_layers": 3}),
    "by time, late or with gaps": ("late", {}),
    "evenly, late or with gaps": ("late", {"time_radius": None}),
}


def main() -> None:
    """Train, evaluate and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--demo", type=Path, default=Path("out/demo"))
    parser.add_argument("--out", type=Path, default=Path("out/ablations"))
    parser.add_argument("--steps", type=int, default=DemoConfig().patch_steps)
    options = parser.parse_args()
    if not (options.demo / "report.json").exists():
        raise SystemExit(f"{options.demo} holds no finished demo; make one with: pave demo --channels audio")
    seed = json.loads((options.demo / "report.json").read_text())["seed"]
    stores = {"whole": options.demo / "store", "late": options.out / "store-late"}
    if not stores["late"].exists():
        write_late_store(options.demo, stores["late"], seed)
    config = DemoConfig(out=options.demo, seed=seed, patch_steps=options.steps)
    result: dict[str, Any] = {"steps": options.steps, "seed": seed}
    print("| Variant | Steps | Accuracy | 95% interval | Clips |\n|---|---|---|---|---|")
    for name, (sound, changes) in VARIANTS.items():
        taken, found = measure(
            config, name, str(stores[sound]), AUDIO.model_copy(update=changes), options.out
        )
        print(
            f"| {name} | {taken} | {found.value:.1%} | {found.low:.1%} to {found.high:.1%} | {found.n} |",
            flush=True,
        )
        result[f"steps/{name}"] = taken
        result[f"ablation/{name}"] = found.value
    print(json.dumps(result))


def measure(config: DemoConfig, name: str, store: str, sizes: FusionSizes, out: Path) -> tuple[int, Any]:
    """The steps of a variant, and its accuracy on the tones' question as a row of scores.json."""
    patch = replace(PATCHES["audio"], channels={"audio": sizes})
    folder = out / name.replace(" ", "-").replace(",", "")
    training = demo_training(patch, "patch", config)
    data = training.data.model_copy(update={"store": store})
    training = training.model_copy(update={"out": folder / "run", "data": data})
    trained = train(training, TerminalProgress)
    held_out = data.model_copy(update={"split": "test"})
    report = evaluate(
        EvaluateConfig(run=training.out, data=held_out, out=folder / "scores"), TerminalProgress
    )
    score = next(row for row in report.scores if row.group == "tone_colour" and row.metric == report.headline)
    return trained.steps, score


def write_late_store(demo: Path, folder: Path, seed: int) -> None:
    """A store with the demo's key frames, and sound of which a stretch is missing."""
    tones = {
        truth["sample_id"]: truth["tone_time"]
        for file in (demo / "sidecue" / "audio" / "truth").glob("*.json")
        for truth in json.loads(file.read_text())
    }
    snapshot = FeatureStore.open(demo / "store", create=False).snapshot()
    store = FeatureStore.open(folder)
    for channel in ("frames", "audio"):
        source = snapshot.feature_set("sidecue", channel)
        store.register(source.record)
        with store.writer(source.record) as part:
            for sample_id in sorted(tones.keys() & set(source.sample_ids)):
                found = source[sample_id]
                if channel == "audio":
                    rng = np.random.default_rng([seed, int.from_bytes(sample_id.encode(), "little") % 2**32])
                    found = with_gap(found, tones[sample_id], rng)
                part.write(sample_id, found)
        store.commit([part.close()])


def with_gap(features: Features, tone: float, rng: np.random.Generator) -> Features:
    """Features (T, S, D) without up to `MOST_MISSING` steps in a row, at the start or anywhere, none with the tone."""
    times = np.asarray(features.timestamps)
    allowed = abs(times - tone) > WINDOW_REACH + 0.4
    stretches = [
        (first, count)
        for count in range(1, MOST_MISSING + 1)
        for first in ([0] if rng.integers(2) else range(1, len(times)))
        if first + count < len(times) and allowed[first : first + count].all()
    ]
    if not stretches:
        return features
    longest = max(count for _, count in stretches)
    choices = [stretch for stretch in stretches if stretch[1] == longest]
    first, count = choices[int(rng.integers(len(choices)))]
    kept = np.r_[0:first, first + count : len(times)]
    return Features(features.values[kept], times[kept])


if __name__ == "__main__":
    main()
