"""Reading real and written media files: what is found, and what is said when it cannot be read."""

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from small_media import read_sound, shown_number, write_sound, write_video

from extractors.errors import MediaError, MissingTrackError
from extractors.key_frames import key_frame_indices, read_key_frames
from extractors.media_info import probe

Reader = Callable[[Path, str], object]
READERS: list[Reader] = [probe, read_sound, lambda path, name: read_key_frames(path, name, 4)]


# --- probe ---


def test_probe_of_a_clip_with_sound(clips: dict[str, Path]) -> None:
    info = probe(clips["bigbuckbunny.mp4"], "x")
    assert (info.n_frames, info.fps, info.width, info.height, info.audio_streams) == (132, 25.0, 1280, 720, 1)
    assert info.duration == pytest.approx(5.312)
    assert "mp4" in info.container


def test_probe_of_a_clip_without_sound(clips: dict[str, Path]) -> None:
    info = probe(clips["bikes.mp4"], "x")
    assert (info.n_frames, info.fps, info.duration, info.audio_streams) == (250, 25.0, 10.0, 0)


@pytest.mark.parametrize("name", ["demo.m1v", "demo.swf", "demo.avi", "demo.mkv", "demo.flv", "demo.mpg"])
def test_probe_does_not_believe_headers(clips: dict[str, Path], name: str) -> None:
    # these headers say 0.12 s, nothing, 1443 frames, no frame count, ...
    info = probe(clips[name], "x")
    assert info.n_frames == 1441
    assert info.duration == pytest.approx(60.1, abs=0.15)
    assert info.fps == pytest.approx(24, abs=0.05)


def test_cover_art_is_no_video(clips: dict[str, Path]) -> None:
    info = probe(clips["withcover.mp3"], "x")
    assert (info.n_frames, info.fps, info.width, info.audio_streams) == (0, None, None, 1)
    with pytest.raises(MissingTrackError, match="no video track"):
        read_key_frames(clips["withcover.mp3"], "x", 4)


def test_tags_in_old_encodings_do_not_stop_the_reading(tmp_path: Path) -> None:
    path = write_video(tmp_path / "tagged.mkv", 5, title="a title long enough to find")
    path.write_bytes(path.read_bytes().replace(b"title long", b"\xe9\xff\xfe\xc3\x28 long"))
    assert probe(path, "x").n_frames == 5


# --- sound ---


@pytest.mark.parametrize(
    ("codec", "sample_format", "dtype", "scale"),
    [
        ("pcm_s16le", "s16", np.int16, 2**15),
        ("pcm_s32le", "s32", np.int32, 2**31),
        ("pcm_f32le", "flt", np.float32, 1),
        ("pcm_u8", "u8", np.uint8, 2**7),
    ],
)
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_sound_is_read_exactly(
    tmp_path: Path, codec: str, sample_format: str, dtype: type, scale: int, channels: int
) -> None:
    rng = np.random.default_rng(3)
    wave = rng.uniform(-1, 1, size=(channels, 30001))
    offset = 128 if dtype is np.uint8 else 0
    stored = (wave * (scale - 1) + offset).astype(dtype)
    path = write_sound(tmp_path / "sound.wav", [stored], 11025, codec, sample_format)
    found, rate = read_sound(path, "x")
    assert rate == 11025
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, ((stored.astype(np.float64) - offset) / scale).astype(np.float32))


def test_real_sound_has_all_channels_at_its_own_rate(clips: dict[str, Path]) -> None:
    wave, rate = read_sound(clips["bigbuckbunny.mp4"], "x")
    assert (wave.shape, rate) == ((6, 254976), 48000)
    assert 0.01 < np.abs(wave).max() <= 1.0


def test_overshoot_is_cut_at_full_scale(tmp_path: Path) -> None:
    loud = np.array([[0.5, 1.25, -3.0, -0.5] * 4000], dtype=np.float32)
    wave, _ = read_sound(write_sound(tmp_path / "loud.wav", [loud], 16000, "pcm_f32le", "flt"), "x")
    assert wave[0, :4].tolist() == [0.5, 1.0, -1.0, -0.5]


def test_the_track_is_chosen_by_number(tmp_path: Path) -> None:
    low, high = (np.full((1, 16000), level, dtype=np.int16) for level in (100, 9000))
    path = write_sound(tmp_path / "two.mkv", [low, high], 16000, "pcm_s16le", "s16")
    assert probe(path, "x").audio_streams == 2
    assert read_sound(path, "x", stream=1)[0][0, 0] == np.float32(9000 / 2**15)
    with pytest.raises(MissingTrackError, match="no audio track 2, the file has 2"):
        read_sound(path, "x", stream=2)


def test_sound_that_changes_its_channels_is_refused(tmp_path: Path) -> None:
    pieces = [
        write_sound(
            tmp_path / f"{channels}.aac", [np.zeros((channels, 16000), np.float32)], 16000, "aac", "flt"
        ).read_bytes()
        for channels in (1, 2)
    ]
    path = tmp_path / "both.aac"
    path.write_bytes(b"".join(pieces))
    with pytest.raises(MediaError, match="changes from 16000 Hz, 1 channels"):
        read_sound(path, "x")


def test_sound_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    wave = np.zeros((1, 16000), dtype=np.float32)
    wave[0, 77] = np.nan
    with pytest.raises(MediaError, match="not finite"):
        read_sound(write_sound(tmp_path / "nan.wav", [wave], 16000, "pcm_f32le", "flt"), "x")


# --- key frames ---


@pytest.mark.parametrize(("codec", "name"), [("ffv1", "a.mkv"), ("libx264", "a.mp4"), ("mpeg4", "a.avi")])
def test_key_frames_are_the_asked_ones_at_their_times(tmp_path: Path, codec: str, name: str) -> None:
    path = write_video(tmp_path / name, 101, codec=codec)
    found = read_key_frames(path, "x", 8)
    expected = key_frame_indices(101, 8)
    assert (
        [shown_number(frame) for frame in found.frames]
        == expected.tolist()
        == [0, 14, 28, 42, 57, 71, 85, 100]
    )
    np.testing.assert_allclose(found.timestamps, expected / 25, atol=1e-3)
    assert (found.n_frames, found.fps) == (101, 25.0)
    assert found.duration == pytest.approx(101 / 25, abs=1e-3)
    assert all(frame.shape == (48, 64, 3) and frame.dtype == np.uint8 for frame in found.frames)


def test_a_short_clip_repeats_frames_and_decodes_each_once(tmp_path: Path) -> None:
    shown = []

    def shrink(picture: np.ndarray) -> np.ndarray:
        shown.append(shown_number(picture))
        return picture[:2]

    found = read_key_frames(write_video(tmp_path / "short.mkv", 5), "x", 32, each=shrink)
    assert shown == [0, 1, 2, 3, 4]
    expected = [0] * 8 + [1] * 8 + [2] * 8 + [3] * 7 + [4]
    assert [shown_number(frame) for frame in found.frames] == expected
    assert found.frames[0].shape == (2, 64, 3)
    np.testing.assert_allclose(found.timestamps, np.array(expected) / 25, atol=1e-3)


def test_frames_are_counted_by_decoding(tmp_path: Path) -> None:
    # without its first key frame, H.264 gives no picture for the first packets
    whole = write_video(
        tmp_path / "whole.mp4", 120, "libx264", options={"g": "10", "bf": "0", "sc_threshold": "0"}
    )
    cut = tmp_path / "cut.mkv"
    with av.open(str(whole)) as source, av.open(str(cut), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.size]
        for packet in packets[1:]:
            packet.stream = stream
            target.mux(packet)
    assert probe(cut, "x").n_frames == 119
    found = read_key_frames(cut, "x", 4)
    assert found.n_frames == 110
    assert [shown_number(frame) for frame in found.frames] == [
        10 + index for index in key_frame_indices(110, 4)
    ]
    assert found.timestamps[0] == pytest.approx(10 / 25 - 1 / 25)


@pytest.mark.parametrize("rotation", [90, -90, 180])
def test_pictures_are_turned_upright(tmp_path: Path, rotation: int) -> None:
    path = write_video(tmp_path / "turned.mp4", 3, "libx264", rotation=rotation)
    upright = read_key_frames(path, "x", 1).frames[0]
    assert shown_number(np.rot90(upright, k=-rotation // 90)) == 0
    # the white bar at the right edge goes to the top, bottom or left edge
    edge = {90: upright[:8], -90: upright[-8:], 180: upright[:, :8]}[rotation]
    assert edge.min() > 200
    assert upright.mean() < 64


def test_raw_video_without_times_goes_by_its_rate(tmp_path: Path) -> None:
    path = write_video(tmp_path / "raw.h264", 50, "libx264")
    found = read_key_frames(path, "x", 3)
    assert [shown_number(frame) for frame in found.frames] == [0, 24, 49]
    np.testing.assert_allclose(found.timestamps, np.array([0, 24, 49]) / found.fps)
    assert found.duration == pytest.approx(50 / found.fps)


def test_times_count_from_the_start_of_the_clip(clips: dict[str, Path]) -> None:
    # the clocks of this file start at 0.52 s (sound) and 0.54 s (video)
    times = read_key_frames(clips["demo.mpg"], "x", 4).timestamps
    np.testing.assert_allclose(times, 0.0218 + np.array([0, 20, 40, 60]), atol=1e-3)


# --- what people read when it does not work ---


@pytest.mark.parametrize("read", READERS)
def test_files_that_are_no_media(tmp_path: Path, clips: dict[str, Path], read: Reader) -> None:
    empty, text = tmp_path / "empty.mp4", tmp_path / "text.mp4"
    empty.write_bytes(b"")
    text.write_text("this is not a video\n" * 50)
    cases = {
        empty: "the file is empty \\(0 bytes\\)",
        text: "not a media file that FFmpeg can open",
        clips["demo.txt"]: "not a media file but text",
        tmp_path / "nothing.mp4": "the file does not exist \\(.*nothing.mp4\\)",
        tmp_path: "the path is a folder",
    }
    for path, reason in cases.items():
        with pytest.raises(MediaError, match=f"^take 7: {reason}.*; [^\n]+$") as caught:
            read(path, "take 7")
        assert caught.value.sample_id == "take 7"


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("name", ["empty.mp4", "empty.avi", "empty.mkv"])
def test_video_without_frames(tmp_path: Path, read: Reader, name: str) -> None:
    path = write_video(tmp_path / name, 0, "libx264")
    reason = "no video frames and no sound|ends before any video frame|no audio track"
    with pytest.raises(MediaError, match=reason):
        read(path, "x")


def test_no_sound(clips: dict[str, Path]) -> None:
    with pytest.raises(MissingTrackError, match=r"^bikes: no audio track; "):
        read_sound(clips["bikes.mp4"], "bikes")


@pytest.mark.parametrize("read", READERS)
def test_an_interrupted_download(tmp_path: Path, clips: dict[str, Path], read: Reader) -> None:
    # the index of this mp4 is at its end
    data = clips["demo.mp4"].read_bytes()
    path = tmp_path / "half.mp4"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(MediaError, match="not a media file that FFmpeg can open"):
        read(path, "x")


def test_the_start_of_a_streamable_file_is_used(tmp_path: Path, clips: dict[str, Path]) -> None:
    for name in ("demo.mkv", "demo.rm"):
        data = clips[name].read_bytes()
        path = tmp_path / f"half_{name}"
        path.write_bytes(data[: len(data) // 2])
        info = probe(path, "x")
        assert 20 < info.duration < 40
        assert read_key_frames(path, "x", 4).timestamps[-1] <= info.duration
        wave, rate = read_sound(path, "x")
        assert wave.shape[1] / rate == pytest.approx(info.duration, abs=5)


def test_damaged_data_is_refused_without_noise(
    tmp_path: Path, clips: dict[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    data = bytearray(clips["demo.mp4"].read_bytes())
    third = len(data) // 3
    data[third : 2 * third] = np.random.default_rng(1).bytes(third)
    path = tmp_path / "damaged.mp4"
    path.write_bytes(data)
    with pytest.raises(MediaError, match=r"\d+ of 1441 video packets cannot be decoded; "):
        read_key_frames(path, "x", 4)
    with pytest.raises(MediaError, match=r"\d+ of 1296 audio packets cannot be decoded; "):
        read_sound(path, "x")
    assert capfd.readouterr() == ("", "")


def test_a_codec_that_nobody_knows(tmp_path: Path, clips: dict[str, Path]) -> None:
    path = tmp_path / "unknown.mp4"
    path.write_bytes(clips["demo.mp4"].read_bytes().replace(b"avc1", b"yyyy"))
    assert probe(path, "x").n_frames == 1441
    with pytest.raises(MediaError, match="FFmpeg has no decoder for the video track"):
        read_key_frames(path, "x", 4)
