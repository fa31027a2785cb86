"""The settings that a released checkpoint stores: its config.json and adapter_config.json.

What this package does not do is an error that names the setting: a checkpoint trained otherwise would load and
give wrong numbers. Settings without effect on a trained patch are not read.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from pydantic import ValidationError

from pave_model.config import LoraSettings, NewlinePosition
from pave_model.errors import CheckpointError
from pave_model.release_files import listed, read_json

# config.json: the only values that can be imported; an absent setting has this value in the release.
_MODEL_SETTINGS = {
    "temporal_aggregator_type": "pmv5",
    "feat_combine_method": "add",
    "train_addition_start_end_tokens": False,
    "mm_use_im_start_end": False,
    "mm_spatial_pool_mode": "bilinear",
}
# adapter_config.json: what must be there.
_LORA_SETTINGS = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "bias": "none"}
_LORA_NAMES = {"r": "r", "alpha": "lora_alpha", "dropout": "lora_dropout"}
_LORA_READ = {*_LORA_NAMES.values(), "target_modules", "base_model_name_or_path"}
_LORA_WITHOUT_EFFECT = {"auto_mapping", "inference_mode", "megatron_core", "peft_version", "revision"}
# Other ways to start (PiSSA, OLoRA, LoftQ) change the base's weights too, which the checkpoint does not hold.
_LORA_STARTS = (True, False, None, "gaussian")
_OFF: tuple[Any, ...] = (None, False, {}, [])
_REMEDY = "only checkpoints trained with the released settings can be imported"


@dataclass(frozen=True)
class ModelSettings:
    """What config.json says: newlines, name of the base, and sizes (None where it is silent)."""

    newline: NewlinePosition
    base_name: str | None
    hidden_size: int | None
    mm_hidden_size: int | None
    num_hidden_layers: int | None


@dataclass(frozen=True)
class AdapterSettings:
    """What adapter_config.json says: LoRA, the full names of its modules, name of the base."""

    lora: LoraSettings
    target_modules: frozenset[str]
    base_name: str | None


def read_model_settings(path: Path) -> ModelSettings:
    """Read config.json. Raises `CheckpointError` for settings that cannot be imported."""
    config = read_json(path)
    if config.get("model_type") != "pave_qwen2":
        raise CheckpointError(
            f"{path}: model_type is {config.get('model_type')!r}, not 'pave_qwen2'; give the unzipped folder of a "
            "released PAVE checkpoint"
        )
    problems = [
        _problem(name, config[name], value)
        for name, value in _MODEL_SETTINGS.items()
        if config.get(name, value) != value
    ]
    _refuse(path, problems)
    newline = config.get("mm_newline_position")
    if newline not in get_args(NewlinePosition):
        raise CheckpointError(
            f"{path}: mm_newline_position is {newline!r}, not one of {', '.join(get_args(NewlinePosition))}; "
            "set the one it was trained with (grid in all releases)"
        )
    return ModelSettings(
        newline=cast(NewlinePosition, newline),
        base_name=config.get("_name_or_path"),
        hidden_size=config.get("hidden_size"),
        mm_hidden_size=config.get("mm_hidden_size"),
        num_hidden_layers=config.get("num_hidden_layers"),
    )


def read_adapter_settings(path: Path) -> AdapterSettings:
    """Read adapter_config.json (peft 0.10). Raises `CheckpointError` for what cannot be imported."""
    config = read_json(path)
    problems = [
        _problem(name, config.get(name), value)
        for name, value in _LORA_SETTINGS.items()
        if config.get(name) != value
    ]
    known = _LORA_SETTINGS.keys() | _LORA_READ | _LORA_WITHOUT_EFFECT | {"init_lora_weights"}
    problems += [
        f"{name} is {value!r} (must be off)"
        for name, value in config.items()
        if name not in known and value not in _OFF
    ]
    if config.get("init_lora_weights") not in _LORA_STARTS:
        problems.append(_problem("init_lora_weights", config["init_lora_weights"], True))
    targets = config.get("target_modules")
    if not isinstance(targets, list) or not all(isinstance(name, str) for name in targets):
        problems.append(f"target_modules is {targets!r} (must be a list of full module names)")
    _refuse(path, problems)
    try:
        lora = LoraSettings.model_validate({key: config.get(name) for key, name in _LORA_NAMES.items()})
    except ValidationError as error:
        problems = [f"{_LORA_NAMES[str(item['loc'][0])]}: {item['msg']}" for item in error.errors()]
        raise CheckpointError(f"{path}: {listed(problems)}; download it again") from error
    return AdapterSettings(lora, frozenset(targets or []), config.get("base_model_name_or_path"))


def _problem(name: str, found: object, supported: object) -> str:
    return f"{name} is {found!r} (must be {supported!r})"


def _refuse(path: Path, problems: list[str]) -> None:
    if problems:
        raise CheckpointError(f"{path}: {listed(problems)}; {_REMEDY}")
