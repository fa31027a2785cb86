"""The settings of `pave extract`, of one channel or several, from a recipe and options."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from extractors import extractor_class
from pipelines.config import (
    EXTRACT_CONFIGS,
    SMALL_RANDOM_AUDIO,
    SMALL_RANDOM_DENSE,
    SMALL_RANDOM_DEPTH3D,
    SMALL_RANDOM_EXO,
    ExtractConfig,
    ExtractTogetherConfig,
    TrainConfig,
    checked,
    read_yaml,
)
from pipelines.errors import PipelineError
from pipelines.manifest import MANIFEST
from pipelines.setting_overrides import override

# Options that are settings of encoders: option -> channels.
_ENCODER_OPTIONS = {
    "weights": ("audio", "dense", "depth3d", "exo"),
    "embedding": ("depth3d",),
    "base": ("frames",),
    "num_frames": ("frames", "exo"),
    "num_views": ("depth3d",),
}
_NO_BASE = "the channel frames needs a base; give --base with its folder or hub id"
_SOURCES = ("videos", "scenes", "images", "takes", "manifest")
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

    The recipe of a training with `features` gives their store and encoders, and the manifest of its instructions.

    Args: options: those given on the command line, by the name of their setting or encoder setting.

    Raises PipelineError in one line for settings that do not fit the channel or each other.
    """
    where = f"pave extract {channel}" if recipe is None else str(recipe)
    values, encoder, assignments = _sorted_options([channel], recipe, options, assignments)
    for name in encoder:
        if channel not in _ENCODER_OPTIONS[name]:
            raise PipelineError(f"{_flag(name)} is for {_owners(name)}, not for {channel}")
    if encoder:
        values = {**values, "encoder": {**_encoder_defaults(channel, values, encoder), **encoder}}
    if channel == "frames" and "encoder" not in values:
        raise PipelineError(_NO_BASE)
    return checked(EXTRACT_CONFIGS[channel], override(values, assignments), where)


def together_settings(
    channels: Sequence[str], recipe: Path | None, options: Mapping[str, Any], assignments: Sequence[str] = ()
) -> ExtractTogetherConfig:
    """As `extract_settings` for several channels, whose encoders are under `channels`.

    An option goes to all of them that have it; weights of several encoders are assignments such as
    `channels.audio.weights=FILE`.
    """
    where = f"pave extract {','.join(channels)}" if recipe is None else str(recipe)
    for channel in channels:
        extractor_class(channel)  # is there such a channel?
    if len(set(channels)) != len(channels):
        raise PipelineError(f"{where} names a channel twice")
    values, encoder, assignments = _sorted_options(channels, recipe, options, assignments)
    encoders: dict[str, Any] = {**values.get("channels", {})}
    for name, value in encoder.items():
        owners = [channel for channel in channels if channel in _ENCODER_OPTIONS[name]]
        if not owners:
            raise PipelineError(f"{_flag(name)} is for {_owners(name)}, not for {' or '.join(channels)}")
        if name == "weights" and len(owners) > 1:  # no file is of two encoders
            told = f"{_flag(name)} may be for {' or '.join(owners)}"
            raise PipelineError(f"{told}; give --set channels.{owners[0]}.{name}={value}")
        for channel in owners:
            encoders[channel] = {**encoders.get(channel, {}), name: value}
    values = override({**values, "channels": encoders}, assignments)
    encoders = values["channels"]
    if unasked := sorted(encoders.keys() - set(channels)):
        raise PipelineError(f"{where} has settings of {', '.join(unasked)}, which is not extracted")
    for channel in channels:
        given = dict(encoders.get(channel, {}))
        encoders = {**encoders, channel: {**_encoder_defaults(channel, {}, given), **given}}
    if "base" not in encoders.get("frames", {"base": None}):
        raise PipelineError(_NO_BASE)
    return checked(ExtractTogetherConfig, {**values, "channels": encoders}, where)


def random_channels(encoders: Mapping[str, BaseModel]) -> list[str]:
    """The channels among `encoders` whose encoder has random weights."""
    return [channel for channel, encoder in encoders.items() if getattr(encoder, "seed", None) is not None]


def without_replaced_media(values: Mapping[str, Any], given: Collection[str]) -> dict[str, Any]:
    """`values` without their media and the dataset's name, where a setting in `given` names others."""
    if not {*_SOURCES, "task"} & {*given}:
        return dict(values)
    return {
        name: value for name, value in values.items() if name not in (*_SOURCES, "task", "root", "dataset")
    }


def _sorted_options(
    channels: Sequence[str], recipe: Path | None, options: Mapping[str, Any], assignments: Sequence[str]
) -> tuple[dict[str, Any], dict[str, Any], Sequence[str]]:
    """The settings of recipe and options that are no encoder's, those that are, and the assignments."""
    values = _recipe_settings(channels, recipe) if recipe is not None else {}
    values = without_replaced_media(values, options)
    encoder: dict[str, Any] = {}
    for name, value in options.items():
        if name in _ENCODER_OPTIONS:
            encoder[name] = value
        elif name == "encoders":
            assignments = (f"execution.encoders={value}", *assignments)
        else:
            values = {**values, name: value}
    return values, encoder, assignments


def _recipe_settings(channels: Sequence[str], recipe: Path) -> dict[str, Any]:
    """The settings in the file: of an extraction, or those that the recipe of a training has for its features."""
    values = read_yaml(recipe)
    if values.get("features") is None:
        return values
    training = checked(TrainConfig, values, str(recipe))
    assert training.features is not None
    known = {name: encoder.model_dump() for name, encoder in training.features.given().items()}
    if unknown := [channel for channel in channels if channel not in known]:
        raise PipelineError(f"{recipe} has features of {', '.join(known)}, none of {', '.join(unknown)}")
    encoders = {channel: known[channel] for channel in channels}
    return {
        "store": training.data.store,
        "manifest": training.data.instructions.parent / MANIFEST,
        **({"encoder": encoders[channels[0]]} if len(channels) == 1 else {"channels": encoders}),
    }


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _owners(name: str) -> str:
    return " and ".join(_ENCODER_OPTIONS[name])


def settings_of_channels(
    channels: Sequence[str], options: Mapping[str, Any], assignments: Sequence[str] = ()
) -> dict[str, ExtractConfig]:
    """The settings of each channel alone, given as for all of them together. Raises as the functions above."""
    if len(channels) == 1:
        extractor_class(channels[0])  # is there such a channel?
        return {channels[0]: extract_settings(channels[0], None, options, assignments)}
    together = together_settings(channels, None, options, assignments)
    shared = together.model_dump(exclude={"channels"}, exclude_unset=True)
    encoders = together.channels.given()
    return {
        channel: checked(EXTRACT_CONFIGS[channel], {**shared, "encoder": encoders[channel]}, channel)
        for channel in channels
    }


def _encoder_defaults(channel: str, values: Mapping[str, Any], encoder: Mapping[str, Any]) -> dict[str, Any]:
    if "encoder" in values:
        return dict(values["encoder"])
    # a random tower is for trying out: small; weights of a file have the published sizes
    if channel in _SMALL_RANDOM and str(encoder.get("weights", "random:")).startswith("random:"):
        return _SMALL_RANDOM[channel].model_dump()
    return {}
