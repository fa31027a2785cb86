"""The golden cases of the metrics: in the folder of the variable PAVE_GOLDEN, or in tests/golden."""

import json
import os
from pathlib import Path
from typing import Any

GOLDEN = Path(os.environ.get("PAVE_GOLDEN", Path(__file__).parents[1] / "golden"))


def metric_cases(name: str) -> list[dict[str, Any]]:
    """The cases whose file names begin so; there must be some, so that no check is lost unseen."""
    pattern = f"datasets/metrics/{name}*.json"
    found = [json.loads(path.read_text()) for path in sorted(GOLDEN.glob(pattern))]
    assert found, f"no golden case {pattern} in {GOLDEN}"
    return found


def column(rows: list[dict[str, Any]], key: str) -> list[Any]:
    """One value of every row."""
    return [row[key] for row in rows]
