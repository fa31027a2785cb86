"""The documentation's worked examples do what they say."""

import doctest
from pathlib import Path

import pytest

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
