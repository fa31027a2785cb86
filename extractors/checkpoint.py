"""Checkpoints of others: a weights file, a folder in the transformers layout, or a hub repository.

Only the files that hold wanted tensors are fetched and opened.
"""

import json
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from torch import Tensor

from extractors.errors import WeightsError
from extractors.weights import hub_file, is_hub_id, open_tensors

CONFIG = "config.json"
_SINGLE_FILES = ("model.safetensors", "pytorch_model.bin")
_INDEX = ".index.json"


def checkpoint_file(source: str, name: str) -> Path | None:
    """Return a file of the checkpoint, fetched if it is on the hub; None when there is no such file."""
    if is_hub_id(source):
        return hub_file(source, name)
    path = Path(source) / name
    return path if path.is_file() else None


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file of a checkpoint; raises `WeightsError` when it is none."""
    try:
        values = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path} is no JSON ({error}); download it again") from error
    if not isinstance(values, dict):
        raise WeightsError(f"{path} holds no JSON object; download it again")
    return values


def checkpoint_config(source: str) -> dict[str, Any]:
    """Read the checkpoint's `config.json`. Raises `WeightsError`."""
    path = checkpoint_file(source, CONFIG)
    if path is None:
        raise WeightsError(f"no {CONFIG} in {source!r}; give a folder or hub id in the transformers layout")
    return read_json(path)


def checkpoint_tensors(source: str, wanted: Callable[[str], object]) -> dict[str, Tensor]:
    """Read the tensors whose names are wanted, from one file or from the shards that hold them.

    safetensors are preferred over `pytorch_model.bin`. Raises `WeightsError` when there are no weights, or
    they cannot be read; whether all that is needed was there is for the caller to check.
    """
    if Path(source).is_file():
        return open_tensors(Path(source), wanted)
    for single in _SINGLE_FILES:
        index = checkpoint_file(source, f"{single}{_INDEX}")
        if index is not None:
            return _sharded(source, index, wanted)
        path = checkpoint_file(source, single)
        if path is not None:
            return open_tensors(path, wanted)
    names = " or ".join(_SINGLE_FILES)
    raise WeightsError(
        f"{source!r} is no weights file here, and no folder or hub model with {names}; check it"
    )


def _sharded(source: str, index: Path, wanted: Callable[[str], object]) -> dict[str, Tensor]:
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict):
        raise WeightsError(f"{index} has no weight_map; download it again")
    tensors = {}
    for name in sorted({str(shard) for tensor, shard in shards.items() if wanted(tensor)}):
        # an index must not lead out of the checkpoint
        path = checkpoint_file(source, name) if PurePosixPath(name).name == name else None
        if path is None:
            raise WeightsError(f"there is no {name} in {source!r}; download it again")
        tensors.update(open_tensors(path, wanted))
    return tensors
