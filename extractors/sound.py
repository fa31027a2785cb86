"""The sound of a clip, put together frame by frame while its packets are read."""

from typing import Any

import av.audio.frame
import numpy as np

from extractors.clip_requests import Waveform
from extractors.errors import MediaError, MissingTrackError
from extractors.open_clip import OpenClip
from extractors.track_decoder import REENCODE, TrackDecoder

MIN_RATE, MAX_RATE = 1000, 768_000  # samples a second: a header that says less or more is wrong
MAX_CHANNELS = 64


class Sound:
    """A whole audio track of a clip, in the making.

    Raises `MissingTrackError` without the track `stream` (counted from 0), `MediaError` without its decoder.
    """

    def __init__(self, clip: OpenClip, stream: int) -> None:
        self._sample_id = clip.sample_id
        if not clip.audio:
            hint = "leave it out or give a file with sound"
            raise MissingTrackError(clip.sample_id, "no audio track", hint)
        if stream >= len(clip.audio):
            found = f"no audio track {stream}, the file has {len(clip.audio)}"
            raise MissingTrackError(clip.sample_id, found, "count the tracks from 0")
        self.track = clip.audio[stream]
        self._decoder = TrackDecoder(self.track, clip.sample_id)
        self._pieces: list[Waveform] = []
        self._layout: tuple[int, int] | None = None  # samples a second, channels

    def add(self, packet: Any) -> None:
        """Decode a packet of the track; None is a place that could not be read. Raises `MediaError`."""
        for frame in self._decoder.frames(packet):
            self._keep(frame)

    def finish(self) -> tuple[Waveform, int]:
        """The (channels, n) float32 samples in [-1, 1] and their number per second, after the last packet.

        Raises `MediaError` for sound that is broken, empty or not finite.
        """
        for frame in self._decoder.rest():
            self._keep(frame)
        pieces, self._pieces = self._pieces, []
        if self._layout is None or sum(piece.shape[1] for piece in pieces) == 0:
            reason = "the audio track holds no sound"
            raise MediaError(self._sample_id, reason, "leave it out or replace the file")
        waveform = np.concatenate(pieces, axis=1)
        if not np.isfinite(waveform).all():
            raise MediaError(self._sample_id, "the sound holds numbers that are not finite", REENCODE)
        # lossy codecs overshoot full scale a little
        return np.clip(waveform, -1.0, 1.0, out=waveform), self._layout[0]

    def _keep(self, frame: Any) -> None:
        layout = (frame.sample_rate, frame.layout.nb_channels)
        self._check(frame)
        self._layout = self._layout or layout
        if layout != self._layout:
            reason = f"the sound changes from {self._layout[0]} Hz, {self._layout[1]} channels on the way"
            raise MediaError(self._sample_id, reason, REENCODE)
        self._pieces.append(_float_samples(frame))

    def _check(self, frame: Any) -> None:
        rate, channels = frame.sample_rate, frame.layout.nb_channels
        if frame.format.name not in av.audio.frame.format_dtypes:
            raise MediaError(self._sample_id, f"sound samples of the type {frame.format.name}", REENCODE)
        if not MIN_RATE <= rate <= MAX_RATE or channels > MAX_CHANNELS:
            reason = f"sound of {rate} Hz with {channels} channels, which its header must have wrong"
            raise MediaError(self._sample_id, reason, "repair the header, or export the sound again")


def _float_samples(frame: Any) -> Waveform:
    """Return a decoded audio frame as (channels, n) float32; integers are scaled to [-1, 1)."""
    raw = frame.to_ndarray()
    if not frame.format.is_planar:
        raw = raw.reshape(-1, frame.layout.nb_channels).T
    if raw.dtype.kind == "f":
        samples = raw
    elif raw.dtype == np.uint8:
        samples = (raw.astype(np.float32) - 128) / 128
    else:
        samples = raw / float(2 ** (8 * raw.dtype.itemsize - 1))
    return np.asarray(samples, dtype=np.float32)
