"""`pave plan`: the report, the YAML that an extraction takes, and errors."""

import shutil
from pathlib import Path

import pytest
from click.testing import Result
from pave_process import invoke

from pipelines.config import SMALL_RANDOM_AUDIO
from pipelines.errors import PipelineError
from pipelines.extract_forecast import plan_path
from pipelines.extract_settings import extract_settings, settings_of_channels


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, clips: dict[str, Path]) -> Path:
    """A folder with the manifest of two clips, one of them silent."""
    folder = tmp_path_factory.mktemp("plan")
    (folder / "clips").mkdir()
    for name in ("bigbuckbunny.mp4", "bikes.mp4"):
        shutil.copy(clips[name], folder / "clips")
    assert invoke("prepare", "--videos", folder / "clips", "--out", folder / "manifest").exit_code == 0
    return folder


@pytest.fixture(scope="module")
def planned(prepared: Path) -> Result:
    """The plan of the channel audio, with its file."""
    options = ("--out", prepared / "plan.yaml", "--set", "execution.device=cpu")
    return invoke("plan", prepared / "manifest", "--channel", "audio", *options)


def test_the_report_says_what_all_of_it_takes(planned: Result) -> None:
    assert planned.exit_code == 0
    first, second, *lines = planned.stdout.splitlines()
    assert first == "audio on cpu: 1 of 1 samples could be done"
    assert second.startswith("warning: a small random encoder was measured")
    assert [line.split()[0] for line in lines if line][:5] == [
        "sample",
        "bigbuckbunny.mp4",
        "stage",
        "decode",
        "encode",
    ]
    assert "all 1 usable of 2 samples, 5.3 s of media: " in planned.stdout
    assert "; the limit is: " in planned.stdout


def test_an_extraction_takes_the_plan_as_it_is(planned: Result, prepared: Path, running_ray: str) -> None:
    path = prepared / "plan.yaml"
    assert planned.stdout.endswith(f"  pave extract audio --config {path}\n")
    config = extract_settings("audio", path, {})
    assert config.manifest == prepared / "manifest"
    assert config.encoder == SMALL_RANDOM_AUDIO  # type: ignore[attr-defined]
    execution = config.execution
    assert execution.decoders is not None
    assert execution.decoders >= 1 <= execution.encoders
    assert (execution.device, execution.gpus_per_encoder) == ("cpu", 1.0)
    result = invoke("extract", "audio", "--config", path, "--store", prepared / "store")
    assert (result.exit_code, "2 samples, 0 were done, 1 done now" in result.stdout) == (0, True)


def test_several_channels_have_a_file_each() -> None:
    assert plan_path(Path("a/plan.yaml"), "audio", ["audio"]) == Path("a/plan.yaml")
    assert plan_path(Path("a/plan.yaml"), "exo", ["audio", "exo"]) == Path("a/plan-exo.yaml")


def test_options_go_to_the_channels_that_have_them() -> None:
    found = settings_of_channels(
        ["audio", "exo", "frames"], {"manifest": Path("m"), "base": "b", "num_frames": 3}
    )
    assert found["exo"].encoder.num_frames == found["frames"].encoder.num_frames == 3  # type: ignore[attr-defined]
    for channels, options, reason in (
        (
            ["audio", "exo"],
            {"weights": "w"},
            "--weights may be for audio or exo; give --set channels.audio.weights=w",
        ),
        (["audio", "exo"], {"num_views": 3}, "--num-views is for depth3d, not for audio or exo"),
        (["frames"], {}, "the channel frames needs a base; give --base"),
    ):
        with pytest.raises(PipelineError, match=reason):
            settings_of_channels(channels, {"manifest": Path("m"), **options})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--channel", "smell"], "there is no channel 'smell'; choose one of: audio"),
        (["--channel", "audio", "--set", "spoon=1"], "pave extract audio: spoon: Extra inputs"),
        (["--channel", "audio", "--out", "none/plan.yaml"], "there is no folder none for plan.yaml"),
        (["--channel", "audio", "--weights", "none.pth"], "there is no weights file none.pth"),
        (["--channel", "depth3d"], "none of the probed samples can be done by depth3d"),
    ],
)
def test_errors_are_one_line(prepared: Path, options: list[str], words: str) -> None:
    result = invoke("plan", prepared / "manifest", *options, "--samples", 1)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("error: ")
    assert words in result.stderr.splitlines()[-1]
