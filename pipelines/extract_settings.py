"""The settings of `pave extract` from a recipe and options."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from extractors import extractor_class
from pipelines.config import (
    EXTRACT_CONFIGS,
    SMALL_RANDOM_AUDIO,
    SMALL_RANDOM_DENSE,
    SMALL_RANDOM_DEPTH3D,
    SMALL_RANDOM_EXO,
    ExtractConfig,
    checked,
    read_yaml,
)
from pipelines.errors import PipelineError
from pipelines.setting_overrides import override

# Options that are settings of encoders: option -> channels.
_ENCODER_OPTIONS = {
    "weights": ("audio", "dense", "depth3d", "exo"),
    "embedding": ("depth3d",),
    "base": ("frames",),
    "num_frames": ("frames", "exo"),
    "num_views": ("depth3d",),
}
_SOURCES = ("videos", "scenes", "takes", "manifest")
_SMALL_RANDOM = {
    "audio": SMALL_RANDOM_AUDIO,
    "dense": SMALL_RANDOM_DENSE,
    "depth3d": SMALL_RANDOM_DEPTH3D,
    "exo": SMALL_RANDOM_EXO,
}


def extract_settings(
    channel: str, recipe: Path | None, options: Mapping[str, Any], assignments: Sequence[str] = ()
) -> ExtractConfig:
    """The channel's settings: those of the YAML file `recipe`, then `options`, then `assignments`.

    Args: options: those given on the command line, by the name of their setting or encoder setting.

    Raises PipelineError in one line for settings that do not fit the channel or each other.
    """
    values = read_yaml(recipe) if recipe is not None else {}
    if options.keys() & set(_SOURCES):
        values = {name: value for name, value in values.items() if name not in (*_SOURCES, "dataset")}
    encoder: dict[str, Any] = {}
    for name, value in options.items():
        if name in _ENCODER_OPTIONS:
            owners = " and ".join(_ENCODER_OPTIONS[name])
            if channel not in _ENCODER_OPTIONS[name]:
                raise PipelineError(f"--{name.replace('_', '-')} is for {owners}, not for {channel}")
            encoder[name] = value
        elif name == "encoders":
            assignments = (f"execution.encoders={value}", *assignments)
        else:
            values = {**values, name: value}
    if encoder:
        values = {**values, "encoder": {**_encoder_defaults(channel, values, encoder), **encoder}}
    if channel == "frames" and "encoder" not in values:
        raise PipelineError("the channel frames needs a base; give --base with its folder or hub id")
    where = f"pave extract {channel}" if recipe is None else str(recipe)
    return checked(EXTRACT_CONFIGS[channel], override(values, assignments), where)


def settings_of_channels(
    channels: Sequence[str], options: Mapping[str, Any], assignments: Sequence[str] = ()
) -> dict[str, ExtractConfig]:
    """The settings of several channels at once: an option of encoders goes to the channels that have it.

    Raises UnknownChannelError, and PipelineError for an option that no channel has or that cannot mean several.
    """
    for channel in channels:
        extractor_class(channel)
    for name in options.keys() & _ENCODER_OPTIONS.keys():
        having = [channel for channel in channels if channel in _ENCODER_OPTIONS[name]]
        option = f"--{name.replace('_', '-')}"
        if not having:
            owners = " and ".join(_ENCODER_OPTIONS[name])
            raise PipelineError(f"{option} is for {owners}, not for {' or '.join(channels)}")
        if name == "weights" and len(having) > 1:
            raise PipelineError(f"{option} could be for {' or '.join(having)}; give one channel at a time")
    return {
        channel: extract_settings(
            channel,
            None,
            {
                name: value
                for name, value in options.items()
                if name not in _ENCODER_OPTIONS or channel in _ENCODER_OPTIONS[name]
            },
            assignments,
        )
        for channel in channels
    }


def _encoder_defaults(channel: str, values: Mapping[str, Any], encoder: Mapping[str, Any]) -> dict[str, Any]:
    if "encoder" in values:
        return dict(values["encoder"])
    # a random tower is for trying out: small; weights of a file have the published sizes
    if channel in _SMALL_RANDOM and str(encoder.get("weights", "random:")).startswith("random:"):
        return _SMALL_RANDOM[channel].model_dump()
    return {}
