"""The settings of `pave extract` from a recipe and options."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.config import EXTRACT_CONFIGS, SMALL_RANDOM_AUDIO, ExtractConfig, checked, read_yaml
from pipelines.errors import PipelineError
from pipelines.setting_overrides import override

# Options of one channel's encoder: option -> (channel, setting).
_ENCODER_OPTIONS = {
    "weights": ("audio", "weights"),
    "base": ("frames", "base"),
    "num_frames": ("frames", "num_frames"),
}
_SOURCES = ("videos", "manifest", "dataset")


def extract_settings(
    channel: str, recipe: Path | None, options: Mapping[str, Any], assignments: Sequence[str] = ()
) -> ExtractConfig:
    """The channel's settings: those of the YAML file `recipe`, then `options`, then `assignments`.

    Args: options: those given on the command line, by the name of their setting or encoder setting.

    Raises PipelineError in one line for settings that do not fit the channel or each other.
    """
    values = read_yaml(recipe) if recipe is not None else {}
    if "videos" in options or "manifest" in options:
        values = {name: value for name, value in values.items() if name not in _SOURCES}
    encoder: dict[str, Any] = {}
    for name, value in options.items():
        if name in _ENCODER_OPTIONS:
            owner, setting = _ENCODER_OPTIONS[name]
            if owner != channel:
                raise PipelineError(
                    f"--{name.replace('_', '-')} is for the channel {owner}, not for {channel}"
                )
            encoder[setting] = value
        elif name == "encoders":
            assignments = (f"execution.encoders={value}", *assignments)
        else:
            values = {**values, name: value}
    if encoder:
        values = {**values, "encoder": {**_encoder_defaults(values, encoder), **encoder}}
    if channel == "frames" and "encoder" not in values:
        raise PipelineError("the channel frames needs a base; give --base with its folder or hub id")
    where = f"pave extract {channel}" if recipe is None else str(recipe)
    return checked(EXTRACT_CONFIGS[channel], override(values, assignments), where)


def _encoder_defaults(values: Mapping[str, Any], encoder: Mapping[str, Any]) -> dict[str, Any]:
    if "encoder" in values:
        return dict(values["encoder"])
    # a random tower is for trying out: small; weights of a file have ImageBind's sizes
    if str(encoder.get("weights", "")).startswith("random:"):
        return SMALL_RANDOM_AUDIO.model_dump()
    return {}
