"""A small demo all the way: its report, and its page `pave demo-ui`.

The page gives the answers of the evaluation and honest messages, and one test walks through it in a browser.
"""

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from chromium_page import chromium_page, pave_serving
from deadly_extractors import DyingExtractor, SleepingExtractor
from pave_process import invoke
from PIL import Image
from test_demo import run_demo

from extractors.errors import MediaError
from pipelines import apart_process
from pipelines.demo_answers import check_upload, decode_upload, demo_patches
from pipelines.demo_panes import shown_media
from pipelines.errors import RunError
from store import FeatureStore
from tasks import sidecue, sidecue_world

SMALL = (
    "--channels",
    "audio",
    "--train-clips",
    "8",
    "--test-clips",
    "4",
    "--base-steps",
    "2",
    "--patch-steps",
    "2",
    "--seed",
    "3",
)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory, running_ray: str) -> Path:
    folder = tmp_path_factory.mktemp("ui") / "demo"
    run_demo(folder, *SMALL, RAY_ADDRESS=running_ray)
    return folder


@pytest.fixture(scope="module")
def silent(clips: dict[str, Path]) -> Path:
    return clips["bikes.mp4"]


def test_its_report_has_every_variant_of_every_question(out: Path) -> None:
    report = json.loads((out / "report.json").read_text())
    assert report["seed"] == 3
    rows = {(row["variant"], row["question"]): row for row in report["rows"]}
    assert {variant for variant, question in rows if question == "tone_colour"} == {
        "patch",
        "lora_only",
        "base",
        "audio zeroed",
        "audio shuffled",
        "audio shifted",
    }
    assert {question for variant, question in rows if variant == "base"} == {
        "tone_colour",
        "border_colour",
        "end_colour",
        "shape_count",
        "shape_kind",
    }
    for row in report["rows"]:
        assert row["n"] == 4
        assert row["chance"] == 0.25
        assert row["low"] <= row["accuracy"] <= row["high"]
    store = FeatureStore.open(out / "store", create=False)
    assert report["store_version"] == store.snapshot().version
    assert store.verify().ok
    page = (out / "report.html").read_text()
    assert page.count("data:video/mp4;base64,") == 3
    assert page.count("data:image/png;base64,") == 2  # the meter and the losses


def test_answers_are_those_of_the_evaluation(out: Path) -> None:
    patch = demo_patches(out)["audio"]
    folders = {
        "patched": out / "scores" / "audio",
        "LoRA only": out / "scores" / "audio" / "meter" / "twin",
        "base": out / "scores" / "base" / "audio",
    }
    for sample_id, clip in list(patch.clips.items())[:2]:
        reply = patch.ask(sample_id, clip.questions["tone_colour"])
        for name, folder in folders.items():
            lines = map(json.loads, (folder / "predictions.jsonl").read_text().splitlines())
            (expected,) = [line for line in lines if line["instruction_id"] == f"{sample_id}/tone_colour"]
            assert reply.texts[name] == expected["prediction"], name
            assert clip.answers["tone_colour"] == expected["answer"]
        (shares,) = reply.attention.values()
        assert shares.shape[1:] == (len(reply.frame_times), len(reply.step_times["audio"]))
        np.testing.assert_allclose(shares.sum(axis=2), 1, atol=1e-5)


def test_an_uploaded_clip_of_the_demo_gets_the_answers_of_its_features(out: Path) -> None:
    patch = demo_patches(out)["audio"]
    sample_id, clip = next(iter(patch.clips.items()))
    question = clip.questions["tone_colour"]
    cached, fresh = patch.ask(sample_id, question), patch.ask_upload(clip.media["video"], question)
    assert fresh.texts == cached.texts
    np.testing.assert_allclose(fresh.attention["audio"], cached.attention["audio"], atol=1e-2)


def test_clips_that_cannot_be_used_are_named_in_a_sentence(out: Path, silent: Path, tmp_path: Path) -> None:
    patch = demo_patches(out)["audio"]
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(os.urandom(20_000))
    with pytest.raises(MediaError, match="the uploaded clip"):
        check_upload(broken)
    with pytest.raises(MediaError, match="audio"):
        patch.ask_upload(silent, "What do you hear?")
    cut = tmp_path / "cut.mp4"
    whole = next(iter(patch.clips.values())).media["video"].read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MediaError):
        patch.ask_upload(cut, "What do you hear?")


def test_a_decoder_that_dies_or_hangs_is_a_message(
    clips: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MediaError, match="the decoder died"):
        decode_upload([DyingExtractor()], clips["bikes.mp4"])
    monkeypatch.setattr(apart_process, "MOST_SECONDS", 2)
    with pytest.raises(MediaError, match="takes over 2 s"):
        decode_upload([SleepingExtractor()], clips["bikes.mp4"])


@pytest.mark.parametrize(
    ("world", "channels"),
    [("flashes", ("audio", "dense")), ("takes", ("exo",)), ("rooms", ("depth3d",))],
)
def test_every_channel_has_a_picture(
    world: sidecue.WorldName, channels: tuple[str, ...], tmp_path: Path
) -> None:
    sidecue.make(tmp_path, sidecue.SideCueConfig(splits={"test": 1}, worlds=(world,)), workers=1)
    ((sample,), _) = sidecue.load(tmp_path)
    shown = shown_media({role: tmp_path / path for role, path in sample.media.items()}, channels)
    assert not shown.problems
    for picture in (shown.key_frames, *(shown.panes[channel] for channel in channels)):
        assert picture is not None
        pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20  # more than an empty frame with its text


def test_a_folder_without_a_demo_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no finished demo"):
        demo_patches(tmp_path)
    refused = invoke("demo-ui", "--out", tmp_path)
    assert refused.exit_code == 1
    assert "make one with: pave demo" in refused.stderr


PLAYER = "document.querySelector('#video video')"


@pytest.mark.timeout(300)
def test_a_walk_through_the_page_in_a_browser(out: Path, silent: Path, tmp_path: Path) -> None:
    broken, huge = tmp_path / "broken.mp4", tmp_path / "huge.mp4"
    broken.write_bytes(b"this is no video" * 1000)
    huge.write_bytes(bytes(6_500_000))
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with (
        chromium_page(1200, 1000) as browsed,
        pave_serving("demo-ui", "--out", out, "--max-upload-mb", 6, TMPDIR=str(temporary)) as address,
    ):
        assert list(temporary.glob("pave-demo-ui-*"))
        page = browsed.page
        page.goto(address)
        page.wait_for_function("document.querySelector('#frames img')?.naturalWidth > 300", timeout=60_000)
        page.wait_for_function("document.querySelector('#pane img')?.naturalWidth > 300")
        page.wait_for_function(f"{PLAYER}?.readyState >= 1 && {PLAYER}.duration > 5")
        second = page.context.browser.new_page()  # somebody else, who asks meanwhile
        second.goto(address)
        second.wait_for_function("document.querySelector('#frames img')?.naturalWidth > 300", timeout=60_000)
        page.click("#ask")
        second.click("#ask")
        for asker in (page, second):
            asker.wait_for_function(
                "document.querySelector('#attention img')?.naturalWidth > 300", timeout=60_000
            )
        second.close()
        assert page.input_value("#truth textarea, #truth input") in sidecue_world.COLOURS
        browsed.screenshot("demo-answered")

        def uploaded(path: Path) -> str:
            page.set_input_files("#upload input[type=file]", str(path))
            page.wait_for_function(
                "document.querySelector('#message')?.innerText.includes('does not work')", timeout=60_000
            )
            text = page.inner_text("#message")
            page.click("#upload button[aria-label='Clear']")
            page.wait_for_function("(document.querySelector('#message')?.innerText ?? '').trim().length == 0")
            return text

        demo_clip = next((out / "sidecue" / "audio" / "test").glob("*.mp4"))
        page.set_input_files("#upload input[type=file]", str(demo_clip))
        page.wait_for_function("document.querySelector('#message')?.innerText.includes('Uploaded.')")
        page.wait_for_function(f"{PLAYER}?.src.includes('pave-demo-ui') && {PLAYER}.readyState >= 1")
        page.click("#upload button[aria-label='Clear']")
        page.wait_for_function("(document.querySelector('#message')?.innerText ?? '').trim().length == 0")

        assert "the uploaded clip" in uploaded(broken)
        browsed.screenshot("demo-broken")
        assert "upload at most 6 MB" in uploaded(huge)
        assert "audio" in uploaded(silent)
        assert "Traceback" not in page.inner_text("body")
        assert not browsed.elsewhere
        assert not browsed.errors
    assert not list(temporary.glob("pave-demo-ui-*"))  # uploads do not stay
