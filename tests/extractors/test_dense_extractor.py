"""The channel `dense` on clips: the contract, which frames it sees when, clips that are too long to hold."""

import pickle
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from extractor_contract import ExtractorContract, same_bits
from pydantic import ValidationError
from small_media import shown_number, write_video

import extractors.dense
from extractors.config import DenseConfig
from extractors.contract import Decoded, Sample
from extractors.dense import DenseExtractor, LongClip
from extractors.dense_frames import dense_frame_indices
from extractors.dense_pixels import pick
from extractors.errors import ExtractorError, MediaError, MissingTrackError
from extractors.frame_stream import stream_frames

SMALL = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
SampleOf = Callable[[str], Sample]


def extractor_of(**changes: object) -> DenseExtractor:
    """A small extractor."""
    values = {"weights": "random:7", "random_size": SMALL, "dtype": "float32"} | changes
    return DenseExtractor(DenseConfig.model_validate(values))


def loaded(**changes: object) -> DenseExtractor:
    """A small extractor, ready to encode."""
    extractor = extractor_of(**changes)
    extractor.load("cpu")
    return extractor


def sample_at(path: Path) -> Sample:
    """The sample of a file."""
    return Sample("clip", "clips", {"video": path})


class TestDenseExtractor(ExtractorContract):
    clip_names = ("carphone_pristine.mp4", "bikes.mp4")
    bad_names = ("short.wav", "withcover.mp3", "demo.txt")

    def make(self, dtype: str = "float32") -> DenseExtractor:
        return extractor_of(dtype=dtype)


class TestDenseExtractorOfLongClips(TestDenseExtractor):
    """The same contract for clips that are not held."""

    @pytest.fixture(autouse=True)
    def _hold_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(extractors.dense, "MAX_FRAMES_HELD", 0)


def test_two_frames_a_second_in_whole_chunks_at_their_times(sample_of: SampleOf) -> None:
    decoded = extractor_of(random_size=SMALL | {"image_size": 224}).decode(sample_of("bikes.mp4"))
    indices = dense_frame_indices(250, 25.0)
    assert len(indices) == 16  # of 20 frames in ten seconds
    assert (indices[0], indices[-1]) == (0, 249)
    np.testing.assert_allclose(decoded.timestamps, indices / 25, atol=1e-6)
    pixels = decoded.tensors["pixels"]
    assert (pixels.shape, pixels.dtype) == ((16, 272, 273, 3), np.uint8)
    assert decoded.tensors["size"].tolist() == [272, 640]
    assert (decoded.duration, decoded.fps, decoded.n_frames) == (10.0, 25.0, 250)


def test_a_short_clip_repeats_frames_up_to_the_minimum(tmp_path: Path) -> None:
    path = write_video(tmp_path / "short.mkv", 5)
    assert len(extractor_of().decode(sample_at(path)).timestamps) == 8
    decoded = extractor_of(min_frames=17).decode(sample_at(path))
    expected = dense_frame_indices(5, 25.0, 17)
    assert len(expected) == 16
    np.testing.assert_allclose(decoded.timestamps, expected / 25, atol=1e-3)


def test_a_video_of_one_still_is_refused(tmp_path: Path) -> None:
    # an hour of a picture would be 7,200 times the same features
    path = tmp_path / "still.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for seconds in (0, 3600):
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
            frame.pts = seconds
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(MediaError, match=r"^clip: the video has one picture in 18\d\d s; "):
        extractor_of().decode(sample_at(path))


def test_video_that_is_missing_is_named(sample_of: SampleOf) -> None:
    with pytest.raises(MissingTrackError, match=r"^withcover\.mp3: no video track; "):
        extractor_of().decode(sample_of("withcover.mp3"))


# --- clips that are too long to hold ---


@pytest.fixture
def held_and_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Decoded, Decoded]:
    """A clip of 96 steps, three pieces, held and streamed."""
    path = write_video(tmp_path / "long.mp4", 127, "libx264", fps=2)
    held = extractor_of().decode(sample_at(path))
    monkeypatch.setattr(extractors.dense, "MAX_FRAMES_HELD", 64)
    return path, held, extractor_of().decode(sample_at(path))


def test_a_streamed_clip_has_the_same_features(held_and_streamed: tuple[Path, Decoded, Decoded]) -> None:
    _, held, streamed = held_and_streamed
    assert isinstance(streamed, LongClip)
    assert not isinstance(held, LongClip)
    assert len(pickle.dumps(streamed)) < 10_000
    assert (held.duration, held.fps, held.n_frames) == (streamed.duration, streamed.fps, streamed.n_frames)
    extractor = loaded()
    one, two, again = extractor.encode([held, pickle.loads(pickle.dumps(streamed)), streamed])
    assert len(one.timestamps) == 120
    assert same_bits(one, two)
    assert same_bits(one, again)


def test_a_file_that_was_replaced_meanwhile_is_named(
    held_and_streamed: tuple[Path, Decoded, Decoded],
) -> None:
    path, _, streamed = held_and_streamed
    write_video(path, 100, "libx264", fps=2)
    with pytest.raises(MediaError, match=r"^clip: the video has fewer frames than when it was decoded first"):
        loaded().encode([streamed])
    path.unlink()
    with pytest.raises(MediaError, match=r"^clip: the file does not exist"):
        loaded().encode([streamed])


def test_frames_are_streamed_in_order_and_repeated(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 30, "libx264")
    indices = np.array([0, 3, 3, 3, 17, 28])
    shown = [shown_number(picture) for picture in stream_frames(path, "x", indices, lambda picture: picture)]
    assert shown == indices.tolist()


def test_a_clip_whose_pictures_change_their_size_is_read_again(tmp_path: Path) -> None:
    small, large, both = (tmp_path / f"{name}.h264" for name in ("small", "large", "both"))
    write_video(small, 40, "libx264")
    write_video(large, 24, "libx264", scale=2)
    both.write_bytes(small.read_bytes() + large.read_bytes())
    decoded = extractor_of(min_frames=64).decode(sample_at(both))  # every frame
    assert isinstance(decoded, LongClip)
    first, second = (
        extractor_of(min_frames=count).decode(sample_at(path)) for path, count in ((small, 40), (large, 24))
    )
    assert not isinstance(second, LongClip)
    values, *apart = (found.tensors["values"] for found in loaded().encode([decoded, first, second]))
    torch.testing.assert_close(values, torch.cat(apart), rtol=0, atol=1e-5)


def test_frames_of_long_clips_are_counted_by_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # without its first key frame, H.264 gives no picture for the first packets
    whole = write_video(
        tmp_path / "whole.mp4", 120, "libx264", options={"g": "10", "bf": "0", "sc_threshold": "0"}, fps=2
    )
    cut = tmp_path / "cut.mkv"
    with av.open(str(whole)) as source, av.open(str(cut), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in [packet for packet in source.demux(video=0) if packet.size][1:]:
            packet.stream = stream
            target.mux(packet)
    held = extractor_of().decode(sample_at(cut))
    monkeypatch.setattr(extractors.dense, "MAX_FRAMES_HELD", 64)
    streamed = extractor_of().decode(sample_at(cut))
    assert isinstance(streamed, LongClip)
    assert held.n_frames == streamed.n_frames == 110
    assert len(held.timestamps) == 104
    assert same_bits(*loaded().encode([held, streamed]))


def peak_of(extractor: DenseExtractor, path: Path, num_steps: int) -> int:
    """Most bytes that numpy and Python held while a clip of `num_steps` steps was decoded and encoded.

    This sees pictures, pixels and times, but not torch's memory.
    """
    tracemalloc.start()
    features = extractor.encode([extractor.decode(sample_at(path))])[0]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(features.timestamps) == num_steps
    return peak


@pytest.mark.slow
def test_memory_does_not_grow_with_the_clip(tmp_path: Path) -> None:
    extractor = loaded()
    clips = {
        minutes: write_video(tmp_path / f"{minutes}.mp4", minutes * 60, "mpeg4", fps=1)
        for minutes in (1, 3, 6)
    }
    peak_of(extractor, clips[1], 120)  # what is imported and kept at first
    short, long = (peak_of(extractor, clips[minutes], 120 * minutes) for minutes in (3, 6))
    assert short < 2 * 2**20
    assert long - short < 200 * 3 * 120  # per step its index and time, little beside the 12 kB of its pixels


@pytest.mark.slow
def test_two_hours_at_constant_memory(tmp_path: Path) -> None:
    extractor = loaded()
    peak_of(extractor, write_video(tmp_path / "short.mp4", 60, "mpeg4", fps=1), 120)
    path = write_video(tmp_path / "long.mp4", 7200, "mpeg4", fps=1)
    assert peak_of(extractor, path, 14400) < 4 * 2**20


# --- identity and settings ---


def test_the_fingerprint_is_that_of_the_numbers() -> None:
    others = [
        extractor_of(),
        extractor_of(weights="random:8"),
        extractor_of(tower="clip"),
        extractor_of(min_frames=16),
        extractor_of(dtype="float16"),
        *(
            extractor_of(random_size=SMALL | change)
            for change in ({"num_attention_heads": 4}, {"hidden_act": "quick_gelu"}, {"layer_norm_eps": 1e-6})
        ),
    ]
    assert len({other.spec.fingerprint() for other in others}) == len(others)
    one, two = extractor_of(), loaded()
    assert one.spec == two.spec
    assert one.spec.licence == "none (random weights)"


def test_time_is_mixed_within_chunks_of_one_kind_only() -> None:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, size=(16, 48, 64, 3), dtype=np.uint8)
    changed = pictures.copy()
    changed[3] = 255 - changed[3]

    def values_of(extractor: DenseExtractor, frames: np.ndarray) -> torch.Tensor:
        pixels = np.stack([pick(frame, 32).pixels for frame in frames])
        decoded = Decoded("x", {"pixels": pixels, "size": np.array([48, 64])}, np.arange(16.0), 16.0, 1.0, 16)
        return extractor.encode([decoded])[0].tensors["values"]

    for kind, seen in (("languagebind", set(range(8))), ("clip", {3})):
        extractor = loaded(tower=kind)
        difference = (values_of(extractor, pictures) - values_of(extractor, changed)).abs().amax(dim=(1, 2))
        assert set(difference.nonzero()[:, 0].tolist()) == seen


def test_numbers_too_large_for_the_stored_type_are_no_features() -> None:
    extractor = loaded(dtype="float16")
    assert extractor._tower is not None
    with torch.no_grad():
        extractor._tower.encoder.layers[0].mlp["fc2"].bias.fill_(1e6)
    black = {"pixels": np.zeros((8, 32, 32, 3), np.uint8), "size": np.array([32, 32])}
    decoded = Decoded("x", black, np.arange(8.0), 8.0, 1.0, 8)
    with pytest.raises(ExtractorError, match="NaN or infinite"):
        extractor.encode([decoded])


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": "int8"},
        {"tower": "siglip"},
        {"min_frames": 0},
        {"batch_size": 4},
        {"random_size": SMALL | {"num_attention_heads": 3}},
        {"random_size": SMALL | {"hidden_act": "relu"}},
        {"random_size": SMALL | {"patch_size": 32}},
        {"random_size": SMALL | {"hiden_size": 8}},
    ],
)
def test_wrong_settings_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        extractor_of(**change)
