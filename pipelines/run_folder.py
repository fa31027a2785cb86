"""The folder of a run: hidden and locked while it is trained, under its own name and with `run.json` once complete."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pipelines.errors import RunError
from pipelines.process_lock import lock_or_raise

RUN_FILE = "run.json"
PATCH_FOLDER = "patch"
LOCK_FILE = "lock"
RECORDED_PACKAGES = ("pave-video", "torch", "transformers", "peft", "accelerate", "zarr", "deltalake", "av")


def part_folder(out: Path) -> Path:
    """Where a run is trained before it is complete: beside the run folder."""
    return out.with_name(f".{out.name}.part")


def check_new(out: Path) -> None:
    """Raises RunError when there is something at the run folder's place."""
    if out.exists():
        raise RunError(f"the run folder {out} exists already; choose another, or remove it")


@contextmanager
def locked_part_folder(out: Path) -> Iterator[Path]:
    """The part folder, made if missing, for this process alone; a lock of a process that died is none.

    It is removed again when nothing was put into it. Raises RunError when another process has it, and as `check_new`.
    """
    check_new(out)
    folder = part_folder(out)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK_FILE
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        told = f"another process is training into {out} right now; wait for it, or choose another folder"
        lock_or_raise(lock, RunError(told))
        check_new(out)  # it may have been finished since
        if not path.exists() or os.fstat(lock).st_ino != path.stat().st_ino:
            raise RunError(f"another process has just given up training into {out}; run the command again")
        try:
            yield folder
        finally:
            if folder.exists() and [entry.name for entry in folder.iterdir()] == [LOCK_FILE]:
                path.unlink()
                with suppress(OSError):  # another process has begun
                    folder.rmdir()
    finally:
        os.close(lock)


def finish(folder: Path, out: Path, run: dict[str, Any]) -> None:
    """Write `run.json` into the part folder and give that its final name."""
    (folder / RUN_FILE).write_text(json.dumps(run, indent=1) + "\n")
    (folder / LOCK_FILE).unlink(missing_ok=True)
    folder.rename(out)


def read_run(folder: Path) -> dict[str, Any]:
    """The content of a finished run's `run.json`. Raises RunError where there is none."""
    try:
        content: dict[str, Any] = json.loads((folder / RUN_FILE).read_text())
    except (OSError, ValueError) as error:
        raise RunError(
            f"{folder} is no finished run (no readable {RUN_FILE}); train one with `pave train`"
        ) from error
    return content


def code_versions() -> dict[str, str | None]:
    """Versions of the packages that make the numbers, and the git revision where the code is a checkout."""
    versions: dict[str, str | None] = {name: importlib.metadata.version(name) for name in RECORDED_PACKAGES}
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        found = subprocess.run(git, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        versions["git_revision"] = None  # an installed wheel
    else:
        versions["git_revision"] = found.stdout.strip()
    return versions
