"""A disk that is small: a tmpfs of a few MB in a mount namespace of its own, where the system allows one."""

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

_MOUNT_AND_RUN = 'mount -t tmpfs -o size=4m tmpfs "$0" && exec "$@"'
# As root, or as root of a user namespace.
_WAYS_IN = (("unshare", "--mount"), ("unshare", "-rm"))


def run_on_a_small_disk(
    way_in: tuple[str, ...], disk: Path, *command: str
) -> subprocess.CompletedProcess[str]:
    """Runs the command where `disk` is an empty file system of 4 MB that nobody else sees."""
    return subprocess.run(
        [*way_in, "sh", "-c", _MOUNT_AND_RUN, str(disk), *command],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=120,
    )


@cache
def way_in() -> tuple[str, ...] | str:
    """The command that makes a namespace, or why there is none."""
    if shutil.which("unshare") is None:
        return "there is no `unshare` command"
    reasons = []
    for candidate in _WAYS_IN:
        tried = run_on_a_small_disk(candidate, Path("/mnt"), "true")
        if tried.returncode == 0:
            return candidate
        reasons.append(f"`{' '.join(candidate)}` says {tried.stderr.strip()!r}")
    return "; ".join(reasons)
