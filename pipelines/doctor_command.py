"""`pave doctor`: whether this machine has what PAVE needs, and what to do where it has not."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import click

from pipelines.store_options import size, store_option

_INSTALL = "pip install pave-video"
_MIN_FREE = 5_000_000_000  # bytes: a few parts of the store, and their temporary files
_EXTRAS = {  # extra -> package, what for, what to do
    "eval": ("pycocoevalcap", "caption scores", "pip install 'pave-video[eval]'"),
    "lmms": (
        "lmms_eval",
        "the lmms-eval plug-in",
        "pip install 'pave-video[lmms]' && pip install --no-deps lmms_eval==0.7.3",
    ),
}


@dataclass(frozen=True)
class Finding:
    """One thing: what is there, or, where ``ok`` is false, what to do. ``core``: nothing works without it."""

    name: str
    ok: bool
    text: str
    core: bool = True


@click.command()
@store_option
def doctor(url: str) -> None:
    """Check this machine: one line a thing, ok or missing and what to do.

    The exit code is 1 only where something is missing that all of PAVE needs.
    """
    failed = False
    for finding in findings(url):
        optional = "" if finding.ok or finding.core else " (optional)"
        click.echo(f"{'ok' if finding.ok else 'missing':<8} {finding.name:<12} {finding.text}{optional}")
        failed |= finding.core and not finding.ok
    if failed:
        click.get_current_context().exit(1)


def findings(store_url: str) -> Iterator[Finding]:
    """Every check, the core's first."""
    yield _python()
    yield _torch()
    yield _cuda()
    yield _ray()
    yield _ffmpeg()
    yield _store(store_url)
    yield from _caches()
    yield _java()
    for extra, (package, purpose, remedy) in _EXTRAS.items():
        yield _extra(extra, package, purpose, remedy)


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    ok = (3, 11) <= sys.version_info < (3, 13)
    return Finding(
        "python", ok, found if ok else f"{found} is too old or too new; install Python 3.11 or 3.12"
    )


def _imported(name: str, describe: Callable[[], str], remedy: str) -> Finding:
    """A package of the core that must import; ``describe`` imports it."""
    try:
        return Finding(name, True, describe())
    except (ImportError, OSError, ValueError) as error:  # OSError: a shared library is missing
        return Finding(name, False, f"does not load ({' '.join(str(error).split())}); {remedy}")


def _torch() -> Finding:
    def describe() -> str:
        import torch

        return str(torch.__version__)

    return _imported("torch", describe, _INSTALL)


def _cuda() -> Finding:
    try:
        import torch
    except (ImportError, OSError):
        return Finding("cuda", False, "unknown without torch", core=False)
    devices = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    if not devices:
        todo = "no CUDA device; everything runs on the CPU, slowly: with a GPU, install its driver and a CUDA torch"
        return Finding("cuda", False, todo, core=False)
    return Finding(
        "cuda", True, ", ".join(f"{found.name} ({size(found.total_memory)})" for found in devices), False
    )


def _ray() -> Finding:
    try:
        return Finding("ray", True, version("ray"))
    except PackageNotFoundError:
        return Finding("ray", False, f"not installed; {_INSTALL}")


def _ffmpeg() -> Finding:
    def describe() -> str:
        import av

        for codec in ("h264", "hevc", "vp9", "aac", "mp3"):
            av.Codec(codec, "r")  # raises ValueError where it is not built in
        libavcodec = ".".join(map(str, av.library_versions["libavcodec"]))
        return f"PyAV {av.__version__}, libavcodec {libavcodec}"

    return _imported("ffmpeg", describe, "pip install --force-reinstall av, whose wheels bring FFmpeg")


def _store(url: str) -> Finding:
    if "://" in url:
        return Finding("store", True, f"{url}: not on this machine, so its space is not checked")
    import shutil

    folder = _nearest(Path(url))
    free = shutil.disk_usage(folder).free
    if not _writable(folder):
        return Finding("store", False, f"{folder} cannot be written; choose another folder with --store")
    if free < _MIN_FREE:
        todo = f"{size(free)} free at {folder}, less than {size(_MIN_FREE)}; free some, or choose another --store"
        return Finding("store", False, todo)
    return Finding("store", True, f"{size(free)} free at {folder}")


def _caches() -> Iterator[Finding]:
    import tempfile

    try:
        yield Finding("temporary", True, tempfile.gettempdir())
    except FileNotFoundError:
        yield Finding("temporary", False, "no folder for temporary files can be written; set TMPDIR to one")
    try:
        from huggingface_hub.constants import HF_HUB_CACHE
    except ImportError:
        yield Finding("hub cache", False, f"huggingface_hub is not installed; {_INSTALL}")
        return
    if _writable(_nearest(Path(HF_HUB_CACHE))):
        yield Finding("hub cache", True, HF_HUB_CACHE)
    else:
        yield Finding(
            "hub cache", False, f"{HF_HUB_CACHE} cannot be written; set HF_HOME to another folder", False
        )


def _java() -> Finding:
    from tasks.caption_tokens import java_problem

    problem = java_problem()
    return Finding("java", problem is None, problem or "runs; caption scores need it", core=False)


def _extra(extra: str, package: str, purpose: str, remedy: str) -> Finding:
    if find_spec(package) is None:
        todo = f"not installed; for {purpose}: {remedy}"
        return Finding(f"extra {extra}", False, todo, core=False)
    return Finding(f"extra {extra}", True, package, core=False)


def _nearest(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    path = path.expanduser().absolute()
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _writable(folder: Path) -> bool:
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)
