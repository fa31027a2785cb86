"""Making written files survive a power cut: fsync for files, folders and whole trees."""

import os
from pathlib import Path


def sync_path(path: Path) -> None:
    """fsync of one file or folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """fsync of every file and folder below `folder`, and of itself, children first."""
    for parent, _, names in os.walk(folder, topdown=False):
        for name in names:
            sync_path(Path(parent, name))
        sync_path(Path(parent))


def sync_parents(path: Path, top: Path) -> None:
    """fsync of the folders that hold `path`, up to and with `top`, so that its name lasts."""
    for parent in path.parents:
        sync_path(parent)
        if parent == top:
            return
