"""The same extraction command, with the store in an object store."""

import json
from pathlib import Path

import pytest
from pave_process import invoke, start_pave
from s3_server import BUCKET, s3_server


def test_features_go_to_an_object_store(
    clips: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = f"s3://{BUCKET}/team/features"
    folder = tmp_path / "clips"
    folder.mkdir()
    for name in ("bigbuckbunny.mp4", "bikes.mp4"):
        (folder / name).symlink_to(clips[name])
    with s3_server() as environment:
        run = start_pave(tmp_path, "extract", "audio", "--videos", "clips", "--store", store, **environment)
        report, errors = run.communicate(timeout=200)
        assert run.returncode == 0, errors
        assert "2 samples, 0 were done, 1 done now" in report
        assert "bikes.mp4: no audio track" in report
        assert f"store {store}, version 1" in report
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        found = invoke("store", "query", "SELECT * FROM features", "--format", "json", "--store", store)
        assert [row["sample_id"] for row in json.loads(found.stdout)] == ["bigbuckbunny.mp4"]
        assert "1 samples in 1 parts" in invoke("store", "verify", "--store", store).stdout
    assert not (tmp_path / "s3:").exists()
