"""The side-channel meter: what a patch's channel is worth, on the items of an evaluation.

The run is evaluated as it is, and again with each channel zeroed, shuffled across samples and shifted in time
(`pipelines.altered_features`); its LoRA-only twin, a run without side channels, is asked the same. Where a channel
carries the answers, each of them falls to what the twin knows.

    OUT/                  the evaluation as it is, as without the meter
    OUT/meter/NAME/       the same of each variant, such as audio-zeroed
    OUT/meter/meter.json  every variant by group, with paired differences; written last
    OUT/meter/meter.png   the same as a plot
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from pipelines.config import Alteration, EvaluateConfig, Settings
from pipelines.errors import PipelineError, RunError
from pipelines.evaluate import evaluate
from pipelines.evaluate_report import EvaluateReport
from pipelines.meter_plot import write_meter_plot
from pipelines.paired_comparison import compare_predictions
from pipelines.plain_table import plain_table
from pipelines.prediction_file import PREDICTIONS_FILE, SCORES_FILE, read_predictions
from pipelines.progress import ProgressFactory, silent
from pipelines.run_folder import read_run

METER_FILE = "meter.json"
TWIN = "LoRA-only twin"
_ALL = "all"  # what `compare_predictions` calls every item


class MeterRow(Settings):
    """A variant on the `n` items of a group, or of all, by the headline metric.

    `worth` is how much better the run is as it is, item by item, with its bootstrap 95% interval.
    """

    variant: str
    channel: str | None
    group: str
    n: int
    value: float
    worth: float
    low: float
    high: float


class MeterReport(Settings):
    """The evaluation as it is, and every variant beside it."""

    evaluation: EvaluateReport
    metric: str
    values: dict[str, float]  # of the run as it is, by group
    rows: tuple[MeterRow, ...]
    sentences: tuple[str, ...]
    out: Path

    def summary(self) -> str:
        """Tables and sentences for people."""
        table = plain_table(
            ("variant", "question", "n", self.metric, "as it is", "worth", "95% interval"),
            [
                (
                    row.variant,
                    row.group,
                    row.n,
                    f"{row.value:.4f}",
                    f"{self.values[row.group]:.4f}",
                    f"{row.worth:+.4f}",
                    f"{row.low:+.4f} to {row.high:+.4f}",
                )
                for row in self.rows
            ],
        )
        return "\n".join([self.evaluation.summary(), "", table, *self.sentences, f"meter: {self.out}"])


def side_channel_meter(config: EvaluateConfig, progress: ProgressFactory = silent) -> MeterReport:
    """Evaluate the run and every variant of it, and compare them item by item.

    What an interrupted call had finished is not done again. Raises RunError for a run without side channels, a twin
    that has some or other data, and whatever `evaluate` raises.
    """
    if config.run is None or config.altered:
        raise PipelineError("the meter needs a run, as it is; give --run, and no altered channels")
    channels = list(read_run(config.run)["config"]["channels"])
    if not channels:
        raise RunError(f"{config.run} has no side channel to measure; give the run of a patch")
    if config.twin is not None and read_run(config.twin)["config"]["channels"]:
        raise RunError(
            f"{config.twin} is no LoRA-only twin: it has side channels; train one with channels: {{}}"
        )
    folder = config.out / "meter"
    plain = config.model_copy(update={"meter": False, "twin": None})
    evaluation = _evaluated(plain, progress)
    # the same snapshot for all, also where the newest was asked for
    data = plain.data.model_copy(update={"snapshot": evaluation.snapshot})
    plain = plain.model_copy(update={"data": data, "published": ()})
    variants: list[tuple[str, str | None, EvaluateConfig]] = []
    for channel in channels:
        for how in get_args(Alteration):
            change = {"altered": {channel: how}, "out": folder / f"{channel}-{how}"}
            variants.append((f"{channel} {how}", channel, plain.model_copy(update=change)))
    if config.twin is not None:
        change = {"run": config.twin, "out": folder / "twin"}
        variants.append((TWIN, None, plain.model_copy(update=change)))
    rows: list[MeterRow] = []
    values: dict[str, float] = {}
    for variant, channel, settings in variants:
        _evaluated(settings, progress)
        for found in _compared(config.out, settings.out, evaluation.headline, config.seed):
            values[found["question"]] = found["mean_A"]
            rows.append(
                MeterRow(
                    variant=variant,
                    channel=channel,
                    group=found["question"],
                    n=found["n"],
                    value=found["mean_B"],
                    worth=found["difference"],
                    low=found["low"],
                    high=found["high"],
                )
            )
    report = MeterReport(
        evaluation=evaluation,
        metric=evaluation.headline,
        values=values,
        rows=tuple(rows),
        sentences=tuple(worth_sentence(channel, rows) for channel in channels),
        out=folder / METER_FILE,
    )
    write_meter_plot(report, folder / "meter.png")
    temporary = folder / f".{METER_FILE}.part"
    temporary.write_text(report.model_dump_json(indent=1) + "\n")
    temporary.rename(folder / METER_FILE)
    return report


def worth_sentence(channel: str, rows: Sequence[MeterRow]) -> str:
    """What a channel is worth, against the twin, or where there is none against the shuffled channel."""
    of_channel = [row for row in rows if row.variant == f"{channel} shuffled"]
    # a twin lacks every channel, so it tells the worth of one only where there is one
    alone = len({row.channel for row in rows if row.channel is not None}) == 1
    twins = [row for row in rows if row.variant == TWIN] if alone else []
    measured = twins or of_channel
    against = f"the {TWIN}" if twins else f"{channel} of other samples"
    (total,) = (row for row in measured if row.group == _ALL)
    sentence = (
        f"{channel} is worth {total.worth:+.4f} [{total.low:+.4f}, {total.high:+.4f}] against {against}"
    )
    groups = [row for row in measured if row.group != _ALL]
    if not groups:
        return sentence
    most = max(groups, key=lambda row: row.worth * row.n)
    return f"{sentence}, mostly on {most.group} ({most.worth:+.4f} [{most.low:+.4f}, {most.high:+.4f}])"


def _evaluated(config: EvaluateConfig, progress: ProgressFactory) -> EvaluateReport:
    """The evaluation, or what it wrote before."""
    try:
        written = json.loads((config.out / SCORES_FILE).read_text())
    except FileNotFoundError:
        if _is_unfinished(config.out):
            shutil.rmtree(config.out)
        return evaluate(config, progress)
    if written["config"] != config.model_dump(mode="json"):
        raise RunError(f"{config.out} has scores of other settings; choose another folder, or remove it")
    return EvaluateReport.model_validate(written["report"])


def _is_unfinished(folder: Path) -> bool:
    """Whether an evaluation that was killed while writing left the folder, and nobody else anything in it."""
    return folder.is_dir() and {path.name for path in folder.iterdir()} <= {
        PREDICTIONS_FILE,
        f".{SCORES_FILE}.part",
    }


def _compared(intact: Path, variant: Path, metric: str, seed: int) -> list[dict[str, Any]]:
    """The headline metric over all items and by group, paired."""
    first, second = (read_predictions(folder / PREDICTIONS_FILE) for folder in (intact, variant))
    compared = compare_predictions(first, second, seed)["comparisons"]
    found = [row for row in compared if row["metric"] == metric and row["n"]]
    if not found:
        raise PipelineError(f"{metric} has no score of single items, so variants cannot be paired by it")
    return found
