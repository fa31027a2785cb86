"""Several channels from one reading of a clip: how often files are opened, the same bits, separate failures."""

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from extractor_goldens import GOLDEN
from small_media import shown_number, write_sound, write_video

import extractors.dense
import extractors.track_decoder
from extractors.audio import AudioExtractor
from extractors.clip_reader import read_clip
from extractors.clip_requests import ChosenFrames, PictureRequest, SoundRequest
from extractors.config import AudioConfig, DenseConfig, ExoConfig, FramesConfig
from extractors.contract import Decoded, Extractor, Sample
from extractors.dense import DenseExtractor, LongClip
from extractors.errors import MediaError, MissingTrackError
from extractors.exo import ExoExtractor
from extractors.frames import FramesExtractor
from extractors.heartbeat import on_beat
from extractors.joint_decoding import decode_together
from extractors.key_frames import key_frame_indices, read_key_frames

SampleOf = Callable[[str], Sample]
SMALL = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
BASE = GOLDEN / "pave_patch" / "checkpoint_case" / "base_hf"
REOPENED = {"m1v"}  # raw video has no times to go back to
QUICK = ("flv", "gif", "m1v", "mp4", "ogg", "swf", "webm")
SLOW = (*("3g2", "3gp", "asf", "avi", "f4v", "m4v", "mkv", "mov", "mpeg", "mpg", "ogv", "rm", "vob", "wmv"),)


def audio_of(stream: int = 0) -> AudioExtractor:
    config = AudioConfig(weights="random:1", embed_dim=8, num_blocks=1, num_heads=2, out_dim=4, stream=stream)
    return AudioExtractor(config)


@pytest.fixture(scope="module")
def channels() -> list[Extractor]:
    """Frames, dense and audio, none of them loaded."""
    dense = DenseConfig.model_validate({"weights": "random:7", "random_size": SMALL})
    return [FramesExtractor(FramesConfig(base=str(BASE), num_frames=4)), DenseExtractor(dense), audio_of()]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that FFmpeg opens, as it does so."""
    names: list[str] = []
    real = av.open

    def counting(file: str, *args: Any, **settings: Any) -> Any:
        names.append(Path(file).name)
        return real(file, *args, **settings)

    monkeypatch.setattr(av, "open", counting)
    return names


@pytest.fixture
def beats() -> Iterator[list[None]]:
    """One entry a beat."""
    found: list[None] = []
    on_beat(lambda: found.append(None))
    yield found
    on_beat(None)


def alone(extractor: Extractor, sample: Sample) -> Decoded | Exception:
    try:
        return extractor.decode(sample)
    except MediaError as error:
        return error


def same(one: Decoded | Exception, other: Decoded | Exception) -> None:
    """The same to the last bit, or the same words."""
    assert type(one) is type(other)
    if isinstance(one, Exception):
        assert str(one) == str(other)
        return
    assert isinstance(other, Decoded)
    assert one.tensors.keys() == other.tensors.keys()
    for name, array in one.tensors.items():
        assert array.dtype == other.tensors[name].dtype
        np.testing.assert_array_equal(array, other.tensors[name])
    for each in {field.name for field in fields(one)} - {"tensors"}:
        np.testing.assert_equal(getattr(one, each), getattr(other, each))


@pytest.mark.parametrize(
    "ending", [*QUICK, *(pytest.param(ending, marks=pytest.mark.slow) for ending in SLOW)]
)
def test_a_file_is_opened_once_for_all_channels_and_gives_what_it_gives_alone(
    sample_of: SampleOf, channels: list[Extractor], opened: list[str], ending: str
) -> None:
    sample = sample_of(f"demo.{ending}")
    times = 2 if ending in REOPENED else 1
    together = decode_together(channels, sample)
    assert len(opened) == times
    for extractor, found in zip(channels, together, strict=True):
        opened.clear()
        same(found, alone(extractor, sample))
        assert len(opened) == (1 if extractor.channel == "audio" else times)


def test_every_container_is_rewound_or_known_not_to_be(clips: dict[str, Path]) -> None:
    found = {name.removeprefix("demo.") for name in clips if name.startswith("demo.")} - {"txt"}
    assert found == {*QUICK, *SLOW}


def test_channels_of_their_own_files_are_decoded_beside(
    sample_of: SampleOf, channels: list[Extractor], opened: list[str], tmp_path: Path
) -> None:
    exo = ExoExtractor(ExoConfig(weights="random:0", num_frames=2))
    camera = write_video(tmp_path / "camera.mkv", 5)
    opened.clear()
    clip = sample_of("bikes.mp4")
    sample = Sample("take", "takes", {**clip.media, "exo/one": camera})
    found = decode_together([exo, *channels], sample)
    assert opened == ["bikes.mp4", "camera.mkv"]
    for extractor, one in zip([exo, *channels], found, strict=True):
        same(one, alone(extractor, sample))
    without = decode_together([exo, *channels], clip)
    assert isinstance(without[0], MediaError)
    assert isinstance(without[1], Decoded)
    assert decode_together([], clip) == []


def test_one_without_its_track_leaves_the_others(sample_of: SampleOf, channels: list[Extractor]) -> None:
    silent = decode_together(channels, sample_of("bikes.mp4"))
    assert [type(found) for found in silent] == [Decoded, Decoded, MissingTrackError]
    heard = decode_together(channels, sample_of("demo.ogv"))
    assert isinstance(heard[2], Decoded)
    for found in heard[:2]:
        assert isinstance(found, MediaError)
        assert "1074 of 1440 video packets cannot be decoded" in str(found)
    cover = decode_together(channels, sample_of("withcover.mp3"))
    assert [type(found) for found in cover] == [MissingTrackError, MissingTrackError, Decoded]
    nothing = decode_together(channels, sample_of("demo.txt"))
    assert [type(found) for found in nothing] == [MediaError] * 3


def test_two_tracks_of_sound_are_one_reading(tmp_path: Path, opened: list[str]) -> None:
    rng = np.random.default_rng(0)
    tracks = [rng.integers(-9000, 9000, size=(1, 48000)).astype(np.int16) for _ in range(2)]
    path = write_sound(tmp_path / "two.mkv", tracks, 16000, "pcm_s16le", "s16")
    opened.clear()
    sample = Sample("two", "clips", {"video": path})
    wanted = [audio_of(1), audio_of(0), audio_of(2), audio_of(1)]
    found = decode_together(wanted, sample)
    assert opened == ["two.mkv"]
    for extractor, one in zip(wanted, found, strict=True):
        same(one, alone(extractor, sample))
    assert isinstance(found[2], MissingTrackError)
    assert isinstance(found[0], Decoded)
    assert isinstance(found[1], Decoded)
    assert not np.array_equal(found[0].tensors["mel"], found[1].tensors["mel"])


def test_a_fault_in_one_channel_is_its_result(sample_of: SampleOf, channels: list[Extractor]) -> None:
    class Faulty(FramesExtractor):
        def clip_request(self, sample: Sample) -> PictureRequest[Any, Decoded]:
            request = super().clip_request(sample)
            return PictureRequest(request.choose, self.fault, request.finish)

        def fault(self, picture: np.ndarray) -> np.ndarray:
            raise ZeroDivisionError("in each")

    class Unready(FramesExtractor):
        def clip_request(self, sample: Sample) -> PictureRequest[Any, Decoded]:
            raise KeyError("not ready")

    config = FramesConfig(base=str(BASE), num_frames=2)
    sample = sample_of("carphone_pristine.mp4")
    found = decode_together([Faulty(config), *channels, Unready(config)], sample)
    assert [type(one) for one in found] == [
        *(ZeroDivisionError, Decoded, Decoded, MissingTrackError),
        KeyError,
    ]
    same(found[1], alone(channels[0], sample))


def test_a_long_clip_is_not_held_beside_key_frames(
    channels: list[Extractor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: list[str]
) -> None:
    path = write_video(tmp_path / "long.mp4", 127, "libx264", fps=2)
    monkeypatch.setattr(extractors.dense, "MAX_FRAMES_HELD", 64)
    opened.clear()
    sample = Sample("long", "clips", {"video": path})
    frames, dense = decode_together(channels[:2], sample)
    assert opened == ["long.mp4"]
    assert isinstance(dense, LongClip)
    assert not dense.tensors
    assert len(dense.indices) == 120
    same(frames, alone(channels[0], sample))
    same(dense, alone(channels[1], sample))


# --- passes ---


def shown(count: int) -> PictureRequest[int, ChosenFrames[int]]:
    """Ask for frames evenly over a clip of `write_video`: their numbers."""
    return PictureRequest(
        lambda found, fps: key_frame_indices(found, count), shown_number, lambda found: found
    )


def without_its_first_key_frame(folder: Path, ending: str) -> Path:
    """A clip of 119 packets, which give the pictures 10 to 119."""
    settings = {"g": "10", "bf": "0", "sc_threshold": "0"}
    whole, cut = write_video(folder / "whole.mp4", 120, "libx264", options=settings), folder / f"cut.{ending}"
    with av.open(str(whole)) as source, av.open(str(cut), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in [packet for packet in source.demux(video=0) if packet.size][1:]:
            packet.stream = stream
            target.mux(packet)
    return cut


@pytest.mark.parametrize(("ending", "times"), [("mp4", 1), ("ts", 1), ("mkv", 3)])
def test_fewer_frames_than_packets_are_chosen_among_again(
    tmp_path: Path, opened: list[str], ending: str, times: int
) -> None:
    # Matroska goes back to its first key frame only, which is not its first packet here
    path = without_its_first_key_frame(tmp_path, ending)
    opened.clear()
    found = read_clip(path, "x", [shown(4), shown(7)])
    assert opened == [path.name] * times
    for one, count in zip(found, (4, 7), strict=True):
        assert isinstance(one, ChosenFrames)
        assert one.frames == [10 + index for index in key_frame_indices(110, count)]


def test_a_file_that_changes_between_the_passes_is_named(tmp_path: Path) -> None:
    raw, other = (write_video(tmp_path / f"{length}.m1v", length, "mpeg1video") for length in (40, 30))
    data = other.read_bytes()

    def replace(found: int, fps: float | None) -> np.ndarray:
        raw.write_bytes(data)  # raw video is opened again after this
        return key_frame_indices(found, 4)

    request = PictureRequest(replace, shown_number, lambda found: found)
    (found,) = read_clip(raw, "x", [request])
    assert isinstance(found, MediaError)
    assert "the file was changed while it was read" in str(found)


def test_reading_beats(tmp_path: Path, beats: Sequence[None]) -> None:
    path = write_video(tmp_path / "a.mkv", 30)
    read_key_frames(path, "x", 2)
    assert len(beats) >= 3 * 30  # packets twice, frames once
    on_beat(None)
    before = len(beats)
    read_key_frames(path, "x", 2)
    assert len(beats) == before


# --- headers that cannot be true ---


def test_pictures_that_are_too_large_are_not_decoded(
    tmp_path: Path, clips: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytearray(clips["demo.gif"].read_bytes())
    data[6:10] = b"\xff\xff\xff\xff"  # 65,535 x 65,535
    huge = tmp_path / "huge.gif"
    huge.write_bytes(data)
    with pytest.raises(MediaError, match=r"packets cannot be decoded|pictures of 65535 x 65535 pixels"):
        read_key_frames(huge, "x", 4)
    monkeypatch.setattr(extractors.track_decoder, "MAX_PIXELS", 64 * 48 - 1)
    small = write_video(tmp_path / "small.mp4", 5, "libx264")
    with pytest.raises(MediaError, match=r"^x: pictures of 64 x 48 pixels are more than can be held; "):
        read_key_frames(small, "x", 4)
    # FFmpeg's own limit: what the header says is not what the packets hold
    monkeypatch.setattr(extractors.track_decoder, "check_size", lambda *size: None)
    with pytest.raises(MediaError, match=r"^x: 5 of 5 video packets cannot be decoded; "):
        read_key_frames(small, "x", 4)


@pytest.mark.parametrize(("channels_said", "rate"), [(1, 2**31 - 1), (1, 1), (255, 48000)])
def test_sound_of_absurd_headers_is_refused(tmp_path: Path, channels_said: int, rate: int) -> None:
    path = write_sound(tmp_path / "a.wav", [np.zeros((1, 48000), np.int16)], 48000, "pcm_s16le", "s16")
    data = bytearray(path.read_bytes())
    header = data.index(b"fmt ") + 8
    data[header + 2 : header + 8] = struct.pack("<HI", channels_said, rate)
    data[header + 12 : header + 14] = struct.pack("<H", 2 * channels_said)
    path.write_bytes(data)
    (found,) = read_clip(path, "x", [SoundRequest(0, lambda waveform, rate: rate)])
    assert isinstance(found, MediaError)
    assert f"sound of {rate} Hz with {channels_said} channels" in str(found)
