"""A disk that fills up."""

import sys
from pathlib import Path

import pytest
from full_disk_scenarios import SCENARIOS
from small_disk import run_on_a_small_disk, way_in


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_full_disk(tmp_path: Path, scenario: str) -> None:
    found = way_in()
    if isinstance(found, str):
        pytest.skip(f"no private file system can be mounted: {found}")
    script = Path(__file__).with_name("full_disk_scenarios.py")
    done = run_on_a_small_disk(found, tmp_path, sys.executable, str(script), scenario, str(tmp_path))
    print(done.stdout)
    print(done.stderr)
    assert done.returncode == 0, done.stderr[-2000:]
    assert list(tmp_path.iterdir()) == []
