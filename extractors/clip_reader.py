"""Reading a clip for several requests: the file is opened once and read in passes.

1. The wanted sound is decoded. Where pictures are wanted, the packets of all tracks are counted on the way.
2. The video is decoded, once for all requests for pictures: each chooses among as many frames as there are packets.
3. Only where decoding gave another number of frames, and a request then wants other pictures: it is decoded again.

Between the passes the container goes back to its start. Where it cannot do so exactly the file is opened again:
of the usual containers that is raw video, which carries no times (m1v), and Matroska that starts between key frames.

What goes wrong for one request is its result; the others go on.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeAlias, TypeVar

from extractors.clip_requests import ClipRequest, PictureRequest, Result, SoundRequest
from extractors.media_info import MediaInfo, PacketCount, check_video
from extractors.open_clip import OpenClip, PacketTrace
from extractors.picture_reader import PictureReader
from extractors.sound import Sound

_Value = TypeVar("_Value")
_Arguments = ParamSpec("_Arguments")
_Outcomes: TypeAlias = dict[int, Any]  # by the request's place: what it makes, or the exception instead


def read_one(path: Path, sample_id: str, request: ClipRequest[Result]) -> Result:
    """Read a clip for one request. Raises `MediaError`, and what the request's functions raise."""
    (found,) = read_clip(path, sample_id, [request])
    if isinstance(found, Exception):
        raise found
    return found


def read_clip(
    path: Path, sample_id: str, requests: Sequence[ClipRequest[Result]]
) -> list[Result | Exception]:
    """Read a clip for all requests: what each makes, or the exception instead of it, in their order.

    Exceptions are `MediaError` for what cannot be read, or what the request's functions raised.
    """
    sounds = {place: each for place, each in enumerate(requests) if isinstance(each, SoundRequest)}
    pictures = {place: each for place, each in enumerate(requests) if isinstance(each, PictureRequest)}
    outcomes: _Outcomes = {}
    try:
        with OpenClip(path, sample_id) as clip:
            count, trace = (PacketCount(clip), PacketTrace()) if pictures else (None, None)
            _read_sounds(clip, sounds, count, trace, outcomes)
            if count is not None and trace is not None:
                info = count.info()
                check_video(info, sample_id)
                _read_pictures(clip, pictures, info, trace, outcomes)
    except Exception as error:  # what is done stays, whatever it was
        outcomes = dict.fromkeys(range(len(requests)), error) | outcomes
    return [outcomes[place] for place in range(len(requests))]


def _read_sounds(
    clip: OpenClip,
    requests: dict[int, SoundRequest[Any]],
    count: PacketCount | None,
    trace: PacketTrace | None,
    outcomes: _Outcomes,
) -> None:
    """The first pass. With a count all tracks are counted, and the video's packets are traced."""
    found: dict[int, Sound | Exception] = {  # by stream: requests may share one
        stream: _attempt(Sound, clip, stream) for stream in {each.stream for each in requests.values()}
    }
    listening = {sound.track.index: stream for stream, sound in found.items() if isinstance(sound, Sound)}
    tracks = [track for track in clip.audio if track.index in listening] if count is None else count.tracks
    for packet in clip.packets(tracks) if tracks else ():
        if packet is not None and count is not None and trace is not None:
            count.add(packet)
            if packet.stream is clip.video:
                trace.add(packet)
        heard = list(listening) if packet is None else [packet.stream.index]
        for index in heard:
            sound = found.get(listening.get(index, -1))
            if isinstance(sound, Sound):
                error = _attempt(sound.add, packet)
                if error is not None:
                    found[listening.pop(index)] = error
    for stream in list(found):
        sound = found.pop(stream)
        waveform = _attempt(sound.finish) if isinstance(sound, Sound) else sound
        for place in [place for place, request in requests.items() if request.stream == stream]:
            if isinstance(waveform, Exception):
                outcomes[place] = waveform
            else:
                outcomes[place] = _attempt(requests[place].make, *waveform)
        del sound, waveform  # hours of sound are not held beside the pictures


def _read_pictures(
    clip: OpenClip,
    requests: dict[int, PictureRequest[Any, Any]],
    info: MediaInfo,
    trace: PacketTrace,
    outcomes: _Outcomes,
) -> None:
    """The other passes."""
    reader = PictureReader(clip, info, trace, requests)
    reader.read()
    for place, request in requests.items():
        failed = reader.failures.get(place)
        outcomes[place] = failed if failed is not None else _attempt(request.finish, reader.take(place))


def _attempt(
    function: Callable[_Arguments, _Value], *args: _Arguments.args, **kwargs: _Arguments.kwargs
) -> _Value | Exception:
    """What `function` returns, or raises: that must not take the other requests' results away."""
    try:
        return function(*args, **kwargs)
    except Exception as error:
        return error
