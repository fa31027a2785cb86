"""`pave doctor`: what is there, what is missing and what to do, and when that is an error."""

import sys
from pathlib import Path

import pytest
from pave_process import invoke

from pipelines import doctor_command


def lines_of(text: str) -> dict[str, str]:
    """Each thing's line."""
    return {line[9:21].strip(): line for line in text.splitlines()}


def test_what_the_core_needs_is_here(tmp_path: Path) -> None:
    result = invoke("doctor", "--store", tmp_path / "not" / "made" / "yet")
    assert result.exit_code == 0, result.stdout
    lines = lines_of(result.stdout)
    for core in ("python", "torch", "ray", "ffmpeg", "store", "temporary"):
        assert lines[core].startswith("ok "), lines[core]
    assert f"free at {tmp_path}" in lines["store"]
    assert lines.keys() >= {"cuda", "hub cache", "java", "extra eval", "extra lmms"}
    assert not (tmp_path / "not").exists()


def test_what_is_optional_is_told_without_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    result = invoke("doctor", "--store", tmp_path)
    assert result.exit_code == 0
    java = lines_of(result.stdout)["java"]
    assert java.startswith("missing ")
    assert java.endswith("install Java 8 or newer (Debian: apt-get install default-jre-headless) (optional)")


def test_what_the_core_lacks_is_exit_code_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    result = invoke("doctor", "--store", tmp_path / "file")
    assert result.exit_code == 1
    assert lines_of(result.stdout)["store"].endswith("cannot be written; choose another folder with --store")
    monkeypatch.setattr(doctor_command, "_MIN_FREE", 10**18)
    monkeypatch.setitem(sys.modules, "av", None)
    result = invoke("doctor", "--store", tmp_path)
    assert result.exit_code == 1
    lines = lines_of(result.stdout)
    assert "free some, or choose another --store" in lines["store"]
    assert "does not load" in lines["ffmpeg"]
    assert lines["python"].startswith("ok ")  # the other checks go on


def test_a_store_elsewhere_is_not_measured() -> None:
    result = invoke("doctor", "--store", "s3://bucket/store")
    assert "s3://bucket/store: not on this machine" in lines_of(result.stdout)["store"]
