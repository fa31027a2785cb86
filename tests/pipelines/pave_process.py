"""The `pave` command, as its own process or in this one."""

import os
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner, Result

from pipelines.cli import pave

ROOT = Path(__file__).parents[2]
# Ray's workers give way to everything else, so tests would stall on a busy machine.
NOT_NICE = ("RAY_worker_niceness", "0")


def environment(**changes: str) -> dict[str, str]:
    """The environment of a `pave` process: no Ray but its own, unless said."""
    kept = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return {**kept, "PYTHONPATH": str(ROOT), NOT_NICE[0]: NOT_NICE[1], **changes}


def start_pave(folder: Path, *arguments: object, **changes: str) -> "subprocess.Popen[str]":
    """The `pave` command as its own process in `folder`."""
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli", *map(str, arguments)],
        cwd=folder,
        env=environment(**changes),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def invoke(*arguments: object) -> Result:
    """The command in this process; a bug comes out as its exception."""
    return CliRunner().invoke(pave, [*map(str, arguments)], catch_exceptions=False)
