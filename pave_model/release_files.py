"""Reading the files of a released checkpoint: JSON and tensors. Nothing in them is ever executed."""

import hashlib
import json
import pickle
import struct
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from pave_model.errors import CheckpointError

# What reading cut, changed or foreign bytes ends in.
_DAMAGED = (
    pickle.UnpicklingError,  # also what `weights_only=True` says to code
    SafetensorError,
    OSError,
    RuntimeError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    OverflowError,
    MemoryError,
    struct.error,
)
_MOST_NAMES = 8  # of a kind in a message: a checkpoint has hundreds of tensors


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in the file. Raises `CheckpointError` when there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path.parent} has no {path.name}; give the unzipped folder of a released checkpoint"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"cannot read {path} ({error}); download it again") from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}, not a JSON object; download it again"
        )
    return content


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a .safetensors or torch file, as float32 on the CPU (exact for half precision).

    Raises `CheckpointError` when the file cannot be read, would run code, or holds anything but named, dense,
    finite floating-point tensors.
    """
    try:
        if path.suffix == ".safetensors":
            content = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except _DAMAGED as error:
        raise CheckpointError(
            f"{path} is no readable file of plain tensors ({_reason(error)}); nothing in it was run; "
            "download it again from a source that you trust"
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}, not named tensors; download it again"
        )
    size = path.stat().st_size
    return {str(name): _as_float32(path, name, value, size) for name, value in content.items()}


def sha256(path: Path) -> str:
    """The file's hash as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_tensors(
    path: Path, tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], remedy: str
) -> None:
    """Raise `CheckpointError`, listing names, unless the file has exactly the expected names and shapes."""
    unknown = [repr(name) for name in tensors if name not in expected]
    missing = [repr(name) for name in expected if name not in tensors]
    misshapen = [
        f"{name!r} {tuple(tensors[name].shape)} instead of {shape}"
        for name, shape in expected.items()
        if name in tensors and tensors[name].shape != shape
    ]
    problems = [
        f"{label} {names}"
        for label, names in (
            (
                "has unknown tensors",
                ", ".join(unknown),
            ),  # all of them: nothing is dropped without being named
            ("lacks", listed(missing)),
            ("has shapes that contradict the others:", listed(misshapen)),
        )
        if names
    ]
    if problems:
        raise CheckpointError(f"{path} {' and '.join(problems)}; {remedy}")


def listed(items: Collection[str]) -> str:
    """The items in one line, the first few of many."""
    shown = ", ".join(list(items)[:_MOST_NAMES])
    return shown if len(items) <= _MOST_NAMES else f"{shown} and {len(items) - _MOST_NAMES} more"


def _as_float32(path: Path, name: object, value: object, file_size: int) -> Tensor:
    problem = None
    if not isinstance(name, str) or not isinstance(value, Tensor):
        problem = f"is of type {type(value).__name__}, not a named tensor"
    elif value.layout != torch.strided or value.is_quantized or value.device.type != "cpu":
        problem = "is not a dense tensor"
    elif value.dtype not in (torch.bfloat16, torch.float16, torch.float32):
        problem = f"is {value.dtype}, not a float type of a checkpoint"
    # Strides of 0 can claim any size; the bytes of an honest tensor are all in the file.
    elif value.numel() * value.element_size() > file_size:
        problem = f"claims shape {tuple(value.shape)}, more than the file holds"
    elif not bool(value.isfinite().all()):
        problem = "holds NaN or infinite values"
    if problem is not None:
        raise CheckpointError(f"{path}: entry {name!r} {problem}; download the file again")
    assert isinstance(value, Tensor)
    return value.detach().resolve_neg().float().contiguous()


def _reason(error: BaseException) -> str:
    """The first line of what went wrong, without torch's advice to load the file unsafely."""
    if isinstance(error, pickle.UnpicklingError):
        return "it holds code or other objects, or is damaged"
    return " ".join([f"{type(error).__name__}:", *str(error).strip().splitlines()[:1]])
