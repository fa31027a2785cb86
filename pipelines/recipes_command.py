"""`pave recipes`: the trainings in a folder of YAML files, and what the original runs scored."""

from __future__ import annotations

from pathlib import Path

import click

_HEADER = ("name", "task", "base", "channels", "published")


@click.command()
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path("recipes"),
    show_default=True,
    help="Where the YAML files are.",
)
def recipes(folder: Path) -> None:
    """List the recipes that `pave train FOLDER/NAME.yaml` can follow, with the published scores.

    Scores are in percent, those of captions times 100; the files say where they stand.
    """
    from pipelines.plain_table import plain_table

    click.echo(plain_table(_HEADER, [recipe_row(path) for path in recipe_files(folder)]))


def recipe_files(folder: Path) -> list[Path]:
    """The YAML files in the folder by name. Raises PipelineError when there is none."""
    from pipelines.errors import PipelineError

    found = sorted(folder.glob("*.yaml"))
    if not found:
        raise PipelineError(
            f"{folder} has no recipes (*.yaml); give --folder with those of a checkout of PAVE's repository"
        )
    return found


def recipe_row(path: Path) -> tuple[str, ...]:
    """The cells of one recipe, which is not checked further. Raises PipelineError when it cannot be read."""
    from pipelines.errors import PipelineError
    from pipelines.yaml_file import read_yaml

    values = read_yaml(path)
    try:
        scores = [
            " ".join(str(score[key]) for key in ("dataset", "metric", "value") if key in score)
            for score in values.get("published") or ()
        ]
        channels = ", ".join(values.get("channels", ("audio",)))
    except (TypeError, KeyError) as error:
        raise PipelineError(
            f"{path} is no recipe of a training; look at it with `pave train {path}`"
        ) from error
    return (
        values.get("name") or path.stem,
        values.get("task") or "-",
        values.get("base") or "-",
        channels or "none",
        "; ".join(scores) or "-",
    )
