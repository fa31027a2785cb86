"""Reading chosen frames of a clip that is too long to be held, one by one. No picture is kept."""

from collections.abc import Callable, Generator
from itertools import chain
from pathlib import Path

from extractors.clip_requests import Indices, Made, Picture
from extractors.errors import MediaError
from extractors.heartbeat import beat, rest
from extractors.open_clip import OpenClip
from extractors.track_decoder import TrackDecoder


def stream_frames(
    path: Path, sample_id: str, indices: Indices, each: Callable[[Picture], Made]
) -> Generator[Made, None, None]:
    """Yield what `each` makes of the frames of rising `indices`; a repeated index gives the same object again.

    Decodes on all cores, from the start to the last of them; the file is closed with the generator. Raises `MediaError`
    for files that cannot be read, or end before the last index.
    """
    wanted = indices.tolist()
    given = 0
    with OpenClip(path, sample_id) as clip:
        if clip.video is not None:
            decoder = TrackDecoder(clip.video, sample_id, threads=True)
            pieces = (decoder.frames(packet) for packet in clip.packets([clip.video]))
            for index, frame in enumerate(chain(chain.from_iterable(pieces), decoder.rest())):
                if index == wanted[given]:
                    made = each(decoder.upright(frame))
                    while given < len(wanted) and wanted[given] == index:
                        rest()
                        yield made
                        beat()
                        given += 1
                    if given == len(wanted):
                        return
    reason = f"the video has fewer frames than when it was decoded first ({path})"
    raise MediaError(sample_id, reason, "leave it alone while it is extracted")
