"""Decoding the video of a clip for all requests that want pictures of it."""

from typing import Any

from extractors.chosen_pictures import ChosenPictures
from extractors.clip_requests import ChosenFrames, PictureRequest
from extractors.errors import MediaError
from extractors.media_info import MediaInfo
from extractors.open_clip import NotRewoundError, OpenClip, PacketTrace
from extractors.track_decoder import REENCODE, TrackDecoder, seconds_of


class PictureReader:
    """Reads the pictures of `requests`, by any key, from a clip whose video packets have been counted and traced.

    `failures` are the exceptions that functions of single requests raised, by key.
    """

    def __init__(
        self,
        clip: OpenClip,
        info: MediaInfo,
        trace: PacketTrace,
        requests: dict[int, PictureRequest[Any, Any]],
    ) -> None:
        self._clip = clip
        self._info = info
        self._trace = trace
        self._wanted = {key: ChosenPictures(request, info) for key, request in requests.items()}
        self._times: list[float] = []  # of all frames
        self.failures: dict[int, Exception] = {}

    def read(self) -> None:
        """Decode the video, as often as needed. Raises `MediaError` when it gives no pictures for anyone."""
        self._choose(self._info.n_frames)
        if not self._wanted:
            return
        self._times = self._decode()
        if len(self._times) != self._info.n_frames:  # a packet may give no picture, or two
            self._choose(len(self._times))
            if not all(pictures.complete for pictures in self._wanted.values()):
                self._times = self._decode(expected=len(self._times))

    def take(self, key: int) -> ChosenFrames[Any]:
        """Give what was read for a request that did not fail, and hold it no longer."""
        return self._wanted.pop(key).found(self._times)

    def _choose(self, num_frames: int) -> None:
        for key, pictures in list(self._wanted.items()):
            try:
                pictures.choose(num_frames)
            except Exception as error:  # it is this request's alone
                self._fail(key, error)

    def _fail(self, key: int, error: Exception) -> None:
        self.failures[key] = error
        del self._wanted[key]

    def _decode(self, expected: int | None = None) -> list[float]:
        """Decode all of the video and make the pictures that are missing; the seconds of its frames.

        A second reading must give the packets of the first, and the `expected` number of frames; where it does not,
        the file is opened again.
        """
        try:
            times = self._pass(reopened=False)
            if expected is None or len(times) == expected:
                return times
        except NotRewoundError:
            pass
        for pictures in self._wanted.values():
            pictures.forget()
        self._clip.reopen()
        try:
            return self._pass(reopened=True)
        except NotRewoundError as error:
            reason = f"the file was changed while it was read ({self._clip.path})"
            raise MediaError(self._clip.sample_id, reason, "leave it alone while it is extracted") from error

    def _pass(self, reopened: bool) -> list[float]:
        clip, times = self._clip, list[float]()
        packets = clip.video_again(self._trace, reopened)  # `clip.video` may be another object from here on
        decoder = TrackDecoder(clip.video, clip.sample_id)
        for packet in packets:
            for frame in decoder.frames(packet):
                self._see(frame, decoder, times)
        for frame in decoder.rest():
            self._see(frame, decoder, times)
        if not times:
            raise MediaError(clip.sample_id, "no frame of the video can be decoded", REENCODE)
        return times

    def _see(self, frame: Any, decoder: TrackDecoder, times: list[float]) -> None:
        index = len(times)
        times.append(seconds_of(frame, self._clip.video, self._clip.start))
        wanting = [key for key, pictures in self._wanted.items() if pictures.wants(index)]
        if not wanting:
            return
        picture = decoder.upright(frame)
        for key in wanting:
            try:
                self._wanted[key].add(index, picture)
            except Exception as error:  # it is this request's alone
                self._fail(key, error)
