"""The documentation's worked examples do what they say."""

import doctest
import re
import shlex
from pathlib import Path

import click
import pytest

from pipelines.cli import pave
from tasks import TASKS

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize(("page", "statements"), [("data-model.md", 30), ("patch.md", 15)])
def test_the_examples_run(
    page: str, statements: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = doctest.testfile(
        str(DOCS / page),
        module_relative=False,
        optionflags=doctest.ELLIPSIS | doctest.REPORT_NDIFF,
    )
    assert result.attempted > statements
    assert result.failed == 0


def commands(page: str) -> list[list[str]]:
    """The `pave` commands in a page's blocks, split as a shell would."""
    blocks = re.findall(r"^```\n(.*?)^```", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("pave ")]
    return [shlex.split(line, comments=True)[1:] for line in lines]


def parsed(arguments: list[str]) -> click.Context:
    """The context of the command that would run. Raises UsageError where it would be refused."""
    command: click.Command = pave
    context = command.make_context("pave", list(arguments))
    while isinstance(command, click.Group):
        name, found, arguments = command.resolve_command(context, arguments)
        assert found is not None
        command, context = found, click.Context(found, info_name=name, parent=context)
    return command.make_context(context.info_name, list(arguments), parent=context.parent)


def test_the_commands_of_the_datasets_exist() -> None:
    known = [(arguments, parsed(arguments).params) for arguments in commands("datasets.md")]
    assert {values.get("task") for _, values in known} >= TASKS.keys() - {"sidecue"}
    recipes = {word for arguments, _ in known for word in arguments if word.startswith("recipes/")}
    assert len(recipes) > 5
    assert [name for name in sorted(recipes) if not (DOCS.parent / name).is_file()] == []
    with pytest.raises(click.UsageError, match="No such option"):
        parsed(["prepare", "--tusk", "avsd", "--out", "x"])
