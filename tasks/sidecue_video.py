"""Writes the video files of SideCue."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.sidecue_world import FPS, SAMPLE_RATE

# A predicted frame keeps a trace of those before it, and a quality is reached by quantizers that depend on them.
PREDICTED = {"crf": "20"}
ALONE = {"qp": "20", "g": "1"}


def write_video(
    path: Path,
    frames: NDArray[np.uint8],
    sound: NDArray[np.float32] | None = None,
    frames_alone: bool = False,
) -> None:
    """Write an mp4 with H.264 video, and mono AAC where there is sound. One thread, so that the bytes are repeatable.

    With `frames_alone` a decoded frame depends on its own pixels only: other frames leave no trace in it.

    ``frames``: (N, H, W, 3) uint8 at `FPS`; ``sound``: (n,) float32 at `SAMPLE_RATE`. The folder is made.
    """
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    with av.open(str(temporary), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        video = container.add_stream(
            "libx264",
            rate=FPS,
            options={"preset": "ultrafast", **(ALONE if frames_alone else PREDICTED), "threads": "1"},
        )
        video.width, video.height, video.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        if sound is not None:
            audio = container.add_stream(
                "aac", rate=SAMPLE_RATE, layout="mono", options={"b": "64k", "aac_coder": "fast"}
            )
        for picture in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode())
        if sound is not None:
            block = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
            block.sample_rate = SAMPLE_RATE
            container.mux(audio.encode(block))
            container.mux(audio.encode())
    os.replace(temporary, path)
