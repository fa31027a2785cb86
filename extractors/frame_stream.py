"""Reading chosen frames of a clip that is too long to be held: first where they are, then one by one.

Both read the whole video in order and keep no picture.
"""

from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path

from extractors.errors import MediaError
from extractors.media import Indices, Made, Picture, decoded_frames, upright


def frame_times(path: Path, sample_id: str) -> list[float]:
    """Decode a video without making pictures: the seconds of each frame (NaN when it has no time).

    Raises `MediaError` for files that cannot be read or decoded.
    """
    with closing(decoded_frames(path, sample_id)) as frames:
        return [seconds for _, seconds in frames]


def stream_frames(
    path: Path, sample_id: str, indices: Indices, each: Callable[[Picture], Made]
) -> Generator[Made, None, None]:
    """Yield what `each` makes of the frames of rising `indices`; a repeated index gives the same object again.

    Decodes on all cores. Raises `MediaError` for files that cannot be read, or end before the last index.
    """
    wanted = indices.tolist()
    given = 0
    with closing(decoded_frames(path, sample_id, threads=True)) as frames:
        for index, (frame, _) in enumerate(frames):
            if index == wanted[given]:
                made = each(upright(frame))
                while given < len(wanted) and wanted[given] == index:
                    yield made
                    given += 1
                if given == len(wanted):
                    return
    reason = f"the video has fewer frames than when it was decoded first ({path})"
    raise MediaError(sample_id, reason, "leave it alone while it is extracted")
