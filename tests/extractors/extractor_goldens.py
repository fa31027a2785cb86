"""Finding and reading golden cases: in the folder of the variable PAVE_GOLDEN, or in tests/golden."""

import os
from pathlib import Path

from safetensors import safe_open
from torch import Tensor

GOLDEN = Path(os.environ.get("PAVE_GOLDEN", Path(__file__).parents[1] / "golden"))


def golden_cases(pattern: str) -> list[Path]:
    """Return the case files of a pattern; there must be some, so that no check is lost unseen."""
    found = sorted(GOLDEN.glob(pattern))
    assert found, f"no golden case {pattern} in {GOLDEN}"
    return found


def read_case(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return a case's tensors and its metadata."""
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
