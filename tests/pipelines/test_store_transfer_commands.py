"""`pave store import ...` and `pave store export ...`."""

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from pave_process import environment

from pipelines.cli import pave
from store import FeatureStore


def invoke(*arguments: object) -> Result:
    """Runs the command in this process; exceptions that are bugs come up."""
    return CliRunner().invoke(pave, ["store", *map(str, arguments)], catch_exceptions=False)


def write_release(folder: Path) -> Path:
    """Two clips' audio features."""
    (folder / "clips").mkdir(parents=True)
    for index, name in enumerate(("a", "b c")):
        torch.save(torch.full((2 + index, 1024), 0.5, dtype=torch.bfloat16), folder / "clips" / f"{name}.pt")
    return folder


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return write_release(tmp_path / "release")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`release`, and `store` with its features; to be left alone."""
    root = tmp_path_factory.mktemp("here")
    source = write_release(root / "release")
    result = invoke(
        "import", "release", source, "--kind", "audio", "--dataset", "avsd", "--store", root / "store"
    )
    assert result.exit_code == 0, result.stderr
    return root


def test_import_release(tmp_path: Path, release: Path) -> None:
    (release / "readme.txt").touch()
    store = tmp_path / "store"
    command = ("import", "release", release, "--kind", "audio", "--dataset", "avsd", "--store", store)
    command += ("--id-pattern", r"clips/(?P<id>.*)\.pt", "--id-format", "{id}.mp4")
    command += ("--made-with", "revision=2a1c", "--extractor", "imagebind", "--licence", "mine")
    result = invoke(*command)
    assert result.exit_code == 0, result.stderr
    assert "skipped: readme.txt: does not match the id pattern" in result.stdout
    assert "2 of 2 samples imported, 0 there already, 0 failed, 1 files skipped" in result.stdout
    assert "import audio: 2/2" in result.stderr
    feature_set = FeatureStore.open(store).snapshot().feature_set("avsd", "audio")
    assert feature_set.sample_ids == ["a.mp4", "b c.mp4"]
    assert (feature_set.record.extractor, feature_set.record.licence) == ("imagebind", "mine")
    assert feature_set.record.config["identity"]["revision"] == "2a1c"
    assert "0 of 2 samples imported, 2 there already" in invoke(*command).stdout


def test_failed_samples_end_in_one_line_and_exit_code_1(tmp_path: Path, release: Path) -> None:
    (release / "bad.pt").write_bytes(b"cut")
    store = tmp_path / "store"
    result = invoke("import", "release", release, "--kind", "audio", "--dataset", "avsd", "--store", store)
    assert result.exit_code == 1
    assert f"failed: bad: {release / 'bad.pt'}: is no readable .pt file" in result.stdout
    assert "2 of 3 samples imported" in result.stdout
    (error,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert "1 of 3 samples could not be imported" in error
    assert "bad\t" in invoke("missing", "avsd", "audio", "--store", store).stdout


def test_import_npy_and_hdf5_arrays(tmp_path: Path) -> None:
    values = np.ones((3, 4), np.float32)
    (tmp_path / "npy").mkdir()
    np.save(tmp_path / "npy" / "a.npy", values)
    with h5py.File(tmp_path / "arrays.h5", "w") as file:
        file["b"] = values
    with h5py.File(tmp_path / "whole.h5", "w") as file:
        file["x"] = values
        file["sample_ids"] = ["c", "d"]
        file["row_offsets"] = [0, 1, 3]
    identity = ("--dataset", "clips", "--channel", "tiny", "--rate-hz", "2", "--store", tmp_path / "store")
    for source in (
        ("npy", tmp_path / "npy"),
        ("hdf5", tmp_path / "arrays.h5"),
        ("hdf5", tmp_path / "whole.h5", "--values", "x"),
    ):
        result = invoke("import", *source, *identity)
        assert result.exit_code == 0, result.stderr
    feature_set = FeatureStore.open(tmp_path / "store").snapshot().feature_set("clips", "tiny")
    assert feature_set.sample_ids == ["a", "b", "c", "d"]
    assert feature_set["d"].timestamps.tolist() == [0, 0.5]


@pytest.mark.parametrize(
    ("form", "extra"), [("hdf5", ()), ("hdf5", ("--concatenated",)), ("safetensors", ())]
)
def test_export_and_import_again(tmp_path: Path, here: Path, form: str, extra: tuple[str, ...]) -> None:
    target = tmp_path / "target"
    result = invoke("export", "avsd/audio", target, "--format", form, "--store", here / "store", *extra)
    assert result.exit_code == 0, result.stderr
    assert "catalog version 1: 2 samples in" in result.stdout
    result = invoke("import", form, target, "--store", tmp_path / "other")
    assert result.exit_code == 0, result.stderr
    old, new = (
        FeatureStore.open(store).snapshot().feature_set("avsd", "audio")
        for store in (here / "store", tmp_path / "other")
    )
    assert new.record == old.record
    assert new.sample_ids == old.sample_ids == ["clips/a", "clips/b c"]
    for sample_id in old:
        assert new[sample_id].values.tobytes() == old[sample_id].values.tobytes()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("export", "avsd", "{tmp}/x", "--format", "hdf5"), "write dataset/channel"),
        (("export", "avsd/smell", "{tmp}/x", "--format", "hdf5"), "avsd/smell"),
        (("export", "avsd/audio", "{tmp}/x", "--format", "hdf5", "--version", "9"), "no catalog version 9"),
        (("export", "avsd/audio", "{tmp}/x", "--format", "safetensors", "--concatenated"), "--format hdf5"),
        (("export", "avsd/audio", "{tmp}/release", "--format", "hdf5"), "there already"),
        (("import", "npy", "{tmp}/gone", "--dataset", "d", "--channel", "c"), "there is no"),
        (("import", "npy", "{tmp}/release", "--dataset", "d", "--channel", "c"), "no file that matches"),
        (("import", "npy", "{tmp}/release", "--dataset", "d"), "--channel NAME"),
        (("import", "release", "{tmp}/release", "--kind", "audio"), "--dataset NAME"),
        (
            ("import", "release", "{tmp}/release", "--kind", "audio", "--dataset", "d", "--id-pattern", "("),
            "no regular expression",
        ),
        (
            ("import", "release", "{tmp}/release", "--kind", "audio", "--dataset", "d", "--made-with", "x"),
            "revision=2a1c",
        ),
        (("import", "release", "{tmp}/release", "--kind", "audio", "--dataset", "../d"), "folder name"),
        (("import", "hdf5", "{tmp}/release/clips/a.pt"), "cannot be opened as HDF5"),
        (("import", "safetensors", "{tmp}/release"), "feature_set.json"),
    ],
)
def test_bad_input_is_one_line(here: Path, arguments: tuple[str, ...], words: str) -> None:
    result = invoke(*(text.replace("{tmp}", str(here)) for text in arguments), "--store", here / "store")
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert words in line
    assert not (here / "x").exists()


def test_a_wrong_path_makes_no_store(tmp_path: Path) -> None:
    store = tmp_path / "store"
    result = invoke("import", "safetensors", tmp_path / "gone", "--store", store)
    assert result.exit_code == 1
    assert not store.exists()


def test_the_commands_import_nothing_heavy() -> None:
    code = (
        "import sys, pipelines.store_transfer_commands\n"
        "print([name for name in ('torch', 'h5py', 'numpy', 'deltalake') if name in sys.modules])"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert finished.stdout == "[]\n"
