"""The documentation's worked example does what it says."""

import doctest
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


def test_the_data_model_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = doctest.testfile(
        str(DOCS / "data-model.md"),
        module_relative=False,
        optionflags=doctest.ELLIPSIS | doctest.REPORT_NDIFF,
    )
    assert result.attempted > 30
    assert result.failed == 0
