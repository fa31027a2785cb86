"""Where weights come from and what they are: files and hub ids, tensors by name, their hash, their fit."""

import hashlib
import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from extractors.errors import WeightsError

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_SUFFIXES = {".pth", ".pt", ".bin", ".safetensors"}
_NAMES_SHOWN = 10


def is_hub_id(name: str) -> bool:
    """Say whether `name` is a hub id 'org/name': nothing on this machine and no path of a weights file."""
    path = Path(name)
    return not path.exists() and path.suffix not in _SUFFIXES and _HUB_ID.fullmatch(name) is not None


def hub_file(repo: str, name: str) -> Path | None:
    """Fetch one file of a hub repository into the hub's cache; None when there is no such file.

    Raises `WeightsError` when the repository cannot be read.
    """
    try:
        return Path(hf_hub_download(repo, name))
    except EntryNotFoundError:
        return None
    except HfHubHTTPError as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(f"the hub gives no {repo!r} ({reason}); check the id and your access") from error


def open_tensors(path: Path, wanted: Callable[[str], object]) -> dict[str, Tensor]:
    """Return the wanted tensors of a `.safetensors` file or a `torch.save` of a plain dict of tensors.

    Tensors are mapped from the file where it allows. Raises `WeightsError` when the file cannot be read;
    pickled objects other than tensors are refused.
    """
    if not path.is_file():
        raise WeightsError(f"there is no weights file {path}; check the path")
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in file.keys() if wanted(name)}  # noqa: SIM118
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(f"{path} is no file of plain tensors ({reason}); download it again") from error
    if not isinstance(loaded, dict):
        raise WeightsError(f"{path} holds no dict of tensors; give the published checkpoint")
    return {name: tensor for name, tensor in loaded.items() if isinstance(tensor, Tensor) and wanted(name)}


def tensors_hash(tensors: Mapping[str, Tensor]) -> str:
    """Return the sha256 (hex) of names, dtypes, shapes and bytes, whatever the order or the file's kind."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def check_fit(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], what: str) -> None:
    """Raise `WeightsError` listing missing and unexpected names and wrong shapes of `found`, if any."""
    shapes = [
        f"{name} {tuple(found[name].shape)} instead of {tuple(expected[name].shape)}"
        for name in expected.keys() & found.keys()
        if found[name].shape != expected[name].shape
    ]
    problems = {
        "missing": expected.keys() - found.keys(),
        "unexpected": found.keys() - expected.keys(),
        "wrong shape": shapes,
    }
    texts = []
    for problem, names in problems.items():
        if names:
            listed = ", ".join(sorted(names)[:_NAMES_SHOWN])
            more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
            texts.append(f"{problem}: {listed}{more}")
    if texts:
        raise WeightsError(f"the weights do not fit {what} ({'; '.join(texts)}); check file and sizes")
