"""Decoding a sample for several channels at once: a clip that some of them share is read once for all."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from extractors.clip_reader import read_clip, read_one
from extractors.clip_requests import ClipRequest
from extractors.contract import Decoded, Extractor, Sample

ROLE = "video"


@runtime_checkable
class ReadsClip(Protocol):
    """An extractor whose `decode` is `decode_clip`: it reads nothing but the sample's "video" file."""

    def clip_request(self, sample: Sample) -> ClipRequest[Decoded] | None:
        """What it wants of the clip, and how that becomes `Decoded`; None for a sample that it reads otherwise."""


def decode_clip(extractor: ReadsClip, sample: Sample) -> Decoded:
    """Decode the "video" file for one extractor. Raises `MediaError`."""
    path = sample.path(ROLE)
    request = extractor.clip_request(sample)
    assert request is not None  # `decode` comes here for clips only
    return read_one(path, sample.sample_id, request)


def decode_together(extractors: Sequence[Extractor], sample: Sample) -> list[Decoded | Exception]:
    """Decode a sample for several extractors: one result each, in their order, bit-identical to `decode`.

    The "video" file is opened once for all that read it (`extractors.clip_reader` has the one exception); the others
    decode after it. What one raises is its result, `MediaError` or not, and takes no other's away.
    """
    results: dict[int, Decoded | Exception] = {}
    requests: dict[int, ClipRequest[Decoded]] = {}
    for place, extractor in enumerate(extractors):
        if isinstance(extractor, ReadsClip):
            try:
                request = extractor.clip_request(sample)
            except Exception as error:  # whatever it is, it is this channel's alone
                results[place] = error
                continue
            if request is not None:
                requests[place] = request
    if requests:
        try:
            found = read_clip(sample.path(ROLE), sample.sample_id, list(requests.values()))
        except Exception as error:
            found = [error] * len(requests)
        results.update(zip(requests, found, strict=True))
    for place, extractor in enumerate(extractors):
        if place not in results:
            try:
                results[place] = extractor.decode(sample)
            except Exception as error:
                results[place] = error
    return [results[place] for place in range(len(extractors))]
