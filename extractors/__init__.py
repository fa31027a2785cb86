"""Media decoding and one feature extractor per channel: plain classes, usable alone from Python.

An extractor is made from its config, is picklable until `load(device)`, decodes a sample on the CPU and
encodes decoded samples on one device:

    extractor = extractor_class("audio")(config)
    extractor.load("cpu")
    features = extractor.encode([extractor.decode(sample)])

Adding a channel is one file in this package, its settings in `config`, and one line in `CHANNELS`.
"""

from importlib import import_module
from typing import Any

from extractors.errors import UnknownChannelError

CHANNELS = {
    "audio": "extractors.audio:AudioExtractor",
    "dense": "extractors.dense:DenseExtractor",
    "depth3d": "extractors.depth3d:Depth3dExtractor",
    "exo": "extractors.exo:ExoExtractor",
    "frames": "extractors.frames:FramesExtractor",
}


def extractor_class(channel: str) -> type[Any]:
    """Return the extractor class of `channel`, importing only that channel's module.

    Raises `UnknownChannelError`, which names the known channels.
    """
    if channel not in CHANNELS:
        known = ", ".join(sorted(CHANNELS))
        raise UnknownChannelError(f"there is no channel {channel!r}; choose one of: {known}")
    module, name = CHANNELS[channel].split(":")
    found: type[Any] = getattr(import_module(module), name)
    return found
