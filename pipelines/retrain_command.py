"""`pave retrain`: extract what is new, train a challenger, and promote it if it is better."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option(
    "--set", "sets", multiple=True, metavar="KEY=VALUE", help="Override a setting, such as judge.split=val."
)
def retrain(recipe: Path, sets: tuple[str, ...]) -> None:
    """Retrain by RECIPE, a YAML file with the settings of a retraining; with nothing new, do nothing.

    Its setting `train` is a training's settings, or the path of a file that has them.
    """
    from pipelines.config import checked, read_yaml
    from pipelines.progress import TerminalProgress
    from pipelines.retrain import retrain as function
    from pipelines.retrain_config import RetrainConfig
    from pipelines.setting_overrides import override

    values = read_yaml(recipe)
    if isinstance(values.get("train"), str):
        values = {**values, "train": read_yaml(Path(values["train"]))}
    config = checked(RetrainConfig, override(values, sets), str(recipe))
    click.echo(function(config, TerminalProgress).summary())
