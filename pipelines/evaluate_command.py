"""`pave evaluate`, also `pave eval`: score a run or a base on a split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("target", metavar="[RECIPE|RUN]", type=_PATH, required=False)
@click.option("--run", type=_PATH, help="Run folder of a training; its data are the default.")
@click.option("--base", help="Evaluate this base without a patch.")
@click.option(
    "--split", help="Split of the instructions. [default with a run: what the task is published on, or test]"
)
@click.option("--out", type=_PATH, help="Folder for the scores. [default with a run: RUN/scores-SPLIT]")
@click.option(
    "--allow-missing-metrics",
    is_flag=True,
    default=None,
    help="Go on without metrics whose tools (Java, pycocoevalcap) are not installed.",
)
@click.option("--meter", is_flag=True, default=None, help="Also measure what each side channel is worth.")
@click.option(
    "--twin", type=_PATH, help="With --meter: run folder of the same training without side channels."
)
@click.option(
    "--set", "sets", multiple=True, metavar="KEY=VALUE", help="Override a setting, such as data.split=test."
)
def evaluate(
    target: Path | None, run: Path | None, split: str | None, sets: tuple[str, ...], **options: Any
) -> None:
    """Score a run, or a base without a patch, on a split, by the published rules of its task.

    RECIPE is a YAML file with the settings of an evaluation, or that of a training, whose run is then scored; RUN is
    a run folder, as with --run.
    """
    from pipelines.config import EvaluateConfig, checked
    from pipelines.evaluate import evaluate as function
    from pipelines.evaluate_settings import evaluation_settings
    from pipelines.meter import side_channel_meter
    from pipelines.progress import TerminalProgress
    from pipelines.setting_overrides import override

    values = evaluation_settings(target, run, split)
    if split is not None:
        sets = (f"data.split={split}", *sets)
    given = {name: value for name, value in options.items() if value is not None}
    config = checked(EvaluateConfig, override(values, sets, **given), str(target or "pave evaluate"))
    report = (
        side_channel_meter(config, TerminalProgress) if config.meter else function(config, TerminalProgress)
    )
    click.echo(report.summary())
