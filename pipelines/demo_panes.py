"""What can be seen of a clip in the demo's page, as pictures: key frames, and the media of each side channel."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from extractors.clip_reader import read_one
from extractors.clip_requests import ChosenFrames, Picture, PictureRequest, SoundRequest, Waveform
from extractors.contract import EXO_ROLE
from extractors.dense_frames import dense_frame_indices
from extractors.errors import MediaError
from extractors.joint_decoding import ROLE
from extractors.key_frames import read_key_frames
from extractors.key_pictures import SCENE
from extractors.rgbd_scene import open_scene
from extractors.scene_views import view_indices
from pipelines.demo_answers import check_upload
from pipelines.plot_style import COLOURS, drawn
from pipelines.sidecue_base import BaseTraining

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CAPTIONS = {
    "frames": "Key frames: all that base and LoRA-only twin see.",
    "audio": "The sound (full scale is 1), over seconds.",
    "dense": "The frames of the channel dense, two a second.",
    "exo": "What the outside camera sees.",
    "depth3d": "Depth in metres of some views; north is known from the camera poses.",
}
_MOST_PICTURES = 16
_WIDTH = 9.0  # inches


@dataclass(frozen=True)
class ShownMedia:
    """A clip's pictures as PNG: its key frames, and a pane by channel, None where a channel cannot be shown.

    `problems` say why.
    """

    key_frames: bytes
    panes: Mapping[str, bytes | None]
    problems: tuple[str, ...]


def shown_media(media: Mapping[str, Path], channels: Sequence[str]) -> ShownMedia:
    """The pictures of a sample. Raises MediaError where it has no key frames."""
    panes: dict[str, bytes | None] = {}
    problems = []
    for channel in channels:
        try:
            panes[channel] = channel_pane(channel, media)
        except MediaError as error:
            panes[channel] = None
            problems.append(str(error))
    return ShownMedia(key_frames_pane(media, BaseTraining().num_frames), panes, tuple(problems))


def shown_upload(path: Path, channels: Sequence[str]) -> ShownMedia:
    """The pictures of an uploaded clip. Raises MediaError for one that cannot be used."""
    check_upload(path)
    return shown_media({ROLE: path}, channels)


def key_frames_pane(media: Mapping[str, Path], num_frames: int) -> bytes:
    """PNG of the key frames, of the video or the scene. Raises MediaError."""
    if SCENE in media:
        with open_scene(media[SCENE], "the scene") as scene:
            chosen = view_indices(len(scene.names), num_frames)
            return _strip([scene.colour(int(number)) for number in chosen], [f"view {n}" for n in chosen])
    found = read_key_frames(media["video"], "the clip", num_frames)
    return _strip(found.frames, [f"{time:.1f} s" for time in found.timestamps])


def channel_pane(channel: str, media: Mapping[str, Path]) -> bytes:
    """PNG of what a side channel is made of. Raises MediaError."""
    return _PANES[channel](media)


def _sound(media: Mapping[str, Path]) -> bytes:
    def keep(waveform: Waveform, rate: int) -> tuple[Waveform, int]:
        return waveform, rate

    waveform, rate = read_one(media["video"], "the clip", SoundRequest(0, keep))
    loudness = waveform.mean(axis=0)
    every = max(1, rate // 2000)  # more points than pixels show nothing
    picture = io.BytesIO()
    with drawn(picture, _WIDTH, 1.9) as figure:
        axes = figure.add_subplot()
        axes.plot(np.arange(len(loudness))[::every] / rate, loudness[::every], linewidth=0.6)
        axes.set(xlabel="time (s)", ylabel="amplitude", ylim=(-1, 1), xlim=(0, len(loudness) / rate))
    return picture.getvalue()


def _dense(media: Mapping[str, Path]) -> bytes:
    def keep(found: ChosenFrames[Picture]) -> ChosenFrames[Picture]:
        return found

    request = PictureRequest(
        lambda count, fps: dense_frame_indices(count, fps), lambda picture: picture, keep
    )
    found = read_one(media["video"], "the clip", request)
    return _strip(found.frames, [f"{time:.1f} s" for time in found.timestamps])


def _outside(media: Mapping[str, Path]) -> bytes:
    pictures, names = [], []
    for role, path in sorted(media.items()):
        if role.startswith(EXO_ROLE):
            found = read_key_frames(path, "the take", 4)
            pictures += found.frames
            names += [f"{role.removeprefix(EXO_ROLE)}, {time:.1f} s" for time in found.timestamps]
    return _strip(pictures, names, columns=4)


def _depth(media: Mapping[str, Path]) -> bytes:
    with open_scene(media[SCENE], "the scene") as scene:
        chosen = [int(number) for number in view_indices(len(scene.names), 4)]
        depths = np.stack([scene.depth(number) / 1000 for number in chosen])
        poses = [scene.poses[number] for number in chosen]
    picture = io.BytesIO()
    with drawn(picture, _WIDTH, 2.6) as figure:
        for place, (depth, number, pose) in enumerate(zip(depths, chosen, poses, strict=True)):
            axes = figure.add_subplot(1, 4, place + 1)
            # one scale for all; 0 is no reading
            shown = axes.imshow(np.ma.masked_equal(depth, 0), cmap="viridis_r", vmin=0, vmax=depths.max())
            heading = (
                np.degrees(np.arctan2(pose[0, 2], pose[1, 2])) % 360
            )  # from y, which is north, clockwise
            axes.set_title(f"view {number}, heading {heading:.0f}°", fontsize=8)
            axes.set_axis_off()
        figure.colorbar(shown, ax=figure.axes, label="depth (m)")
    return picture.getvalue()


_PANES: dict[str, Callable[[Mapping[str, Path]], bytes]] = {
    "audio": _sound,
    "dense": _dense,
    "exo": _outside,
    "depth3d": _depth,
}


def attention_pane(
    attention: Mapping[str, NDArray[np.float32]],
    step_times: Mapping[str, NDArray[np.float64]],
    frame_times: NDArray[np.float64],
) -> bytes:
    """PNG of the attention of the last layer: a row a key frame, over the time steps of each channel.

    `attention` by channel (layers, F, T); times in seconds, NaN where there is no clock.
    """
    picture = io.BytesIO()
    with drawn(picture, _WIDTH, 2.8 * len(attention)) as figure:
        panels = figure.subplots(len(attention), 1, squeeze=False)[:, 0]
        for axes, (channel, shares) in zip(panels, attention.items(), strict=True):
            times = step_times[channel]
            with_clock = bool(np.isfinite(times).all() and np.isfinite(frame_times).all())
            shown = axes.imshow(shares[-1], aspect="auto", cmap="Blues", vmin=0, vmax=1, origin="lower")
            _name_ticks(axes.set_xticks, times if with_clock else np.arange(len(times)), 14)
            _name_ticks(axes.set_yticks, frame_times if with_clock else np.arange(len(frame_times)), 10)
            unit = "s" if with_clock else "number"
            axes.set(xlabel=f"time step of {channel} ({unit})", ylabel=f"key frame ({unit})")
            axes.grid(visible=False)
            figure.colorbar(shown, ax=axes, label="share of attention")
    return picture.getvalue()


def _name_ticks(set_ticks: Callable[..., Any], values: NDArray[Any], most: int) -> None:
    places = np.arange(0, len(values), -(-len(values) // most))
    form = "{:.0f}" if np.issubdtype(values.dtype, np.integer) else "{:.1f}"
    set_ticks(places, [form.format(values[place]) for place in places])


def _strip(pictures: Sequence[Picture], names: Sequence[str], columns: int = 10) -> bytes:
    """PNG of pictures in rows, each with its name; of many every n-th."""
    every = -(-len(pictures) // _MOST_PICTURES)
    pictures, names = pictures[::every], names[::every]
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    out = io.BytesIO()
    with drawn(out, _WIDTH, rows * (_WIDTH / columns + 0.25)) as figure:
        _draw_grid(figure, pictures, names, rows, columns)
    return out.getvalue()


def _draw_grid(
    figure: Figure, pictures: Sequence[Picture], names: Sequence[str], rows: int, columns: int
) -> None:
    for place, (picture, name) in enumerate(zip(pictures, names, strict=True)):
        axes = figure.add_subplot(rows, columns, place + 1)
        axes.imshow(picture)
        axes.set_title(name, fontsize=8, color=COLOURS[0])
        axes.set_axis_off()
