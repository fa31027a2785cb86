"""Checkpoint folders of the original PAVE release, read whole: settings, patch, LoRA, and nothing left over.

Two forms exist. A patch with LoRA:

    config.json                   the base's configuration and a few settings of PAVE
    adapter_config.json           LoRA settings as peft 0.10 writes them
    adapter_model.safetensors     LoRA tensors (or adapter_model.bin)
    non_lora_trainables.bin       the patch

A patch alone: config.json and mm_projector.bin. The patch's own configuration is in no file: sizes are read
from the tensors; heads, rotary positions and the side channel must be known, or follow from the published names.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue, ValidationError
from torch import Tensor

from pave_model.config import FusionConfig, LoraSettings, NewlinePosition, PatchConfig
from pave_model.errors import CheckpointError
from pave_model.release_files import sha256
from pave_model.release_settings import (
    AdapterSettings,
    ModelSettings,
    read_adapter_settings,
    read_model_settings,
)
from pave_model.release_tensors import PATCH_PREFIXES, num_lora_layers, read_lora, read_patch

CONFIG_FILE = "config.json"
ADAPTER_CONFIG_FILE = "adapter_config.json"
ADAPTER_FILES = ("adapter_model.safetensors", "adapter_model.bin")
PATCH_WITH_LORA, PATCH_ALONE = PATCH_PREFIXES
_WEIGHT_FILES = {*ADAPTER_FILES, PATCH_WITH_LORA, PATCH_ALONE}
_WEIGHT_SUFFIXES = {".bin", ".safetensors", ".pt", ".pth", ".ckpt"}
_NOT_READ = {"training_args.bin"}  # the Trainer's arguments, pickled


@dataclass(frozen=True)
class ReleasedCheckpoint:
    """What a released folder holds, under our names.

    `patch_tensors` have the names of `FusionModule`, `lora_tensors` those that peft gives them in our model; all
    are float32. `base_name` is the base in the release's own layout. `file_hashes`: sha256 of every file read.
    """

    folder: Path
    base_name: str
    fusion: FusionConfig
    newline: NewlinePosition
    lora: LoraSettings | None
    patch_tensors: Mapping[str, Tensor]
    lora_tensors: Mapping[str, Tensor]
    file_hashes: Mapping[str, str]

    def patch_config(self, base: str, channel: str) -> PatchConfig:
        """The patch's configuration on `base`. Raises `CheckpointError` for a name that no channel can have.

        Dense frames have their class token left out, as the release does when it loads them.
        """
        fusion = self.fusion.model_copy(update={"first_token": int(channel == "dense")})
        try:
            return PatchConfig(base=base, channels={channel: fusion}, lora=self.lora, newline=self.newline)
        except ValidationError as error:
            raise CheckpointError(
                f"channel {channel!r} or base {base!r} is no usable name; name the channel in lower case, such as audio"
            ) from error

    def lineage(self) -> dict[str, JsonValue]:
        """Where a patch imported from this folder comes from: folder, files, and the settings found (JSON)."""
        return {
            "imported_from": {
                "format": "original PAVE release",
                "folder": str(self.folder.resolve()),
                "base": self.base_name,
                "sha256": dict(self.file_hashes),
                "settings": {
                    "fusion": self.fusion.model_dump(mode="json"),
                    "rotary": self.fusion.rotary,
                    "newline": self.newline,
                    "lora": self.lora.model_dump(mode="json") if self.lora else None,
                },
            }
        }


def read_released_checkpoint(
    folder: str | Path, num_heads: int = 4, rotary: bool | None = None
) -> ReleasedCheckpoint:
    """Read a released folder, with or without LoRA.

    `num_heads` and `rotary` (3-D rotary positions) are in no file. `rotary=None`: as the published names say.
    Raises `CheckpointError`, in one line, for anything that is missing, left over, contradictory or damaged, and
    for settings that this package does not have.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is no folder; give the unzipped folder of a released checkpoint")
    if rotary is None:
        rotary = published_rotary(folder)
    model = read_model_settings(folder / CONFIG_FILE)
    patch_path, adapter_path = _weight_files(folder)
    fusion, patch_tensors = read_patch(patch_path, num_heads, rotary)
    adapter: AdapterSettings | None = None
    lora_tensors: Mapping[str, Tensor] = {}
    paths = [folder / CONFIG_FILE, patch_path]
    if adapter_path is not None:
        adapter = read_adapter_settings(folder / ADAPTER_CONFIG_FILE)
        lora_tensors = read_lora(adapter_path, adapter.lora, adapter.target_modules, fusion.output_dim)
        paths += [folder / ADAPTER_CONFIG_FILE, adapter_path]
    _check_sizes(folder / CONFIG_FILE, model, fusion, lora_tensors)
    return ReleasedCheckpoint(
        folder=folder,
        base_name=str((adapter and adapter.base_name) or model.base_name or "unknown"),
        fusion=fusion,
        newline=model.newline,
        lora=adapter.lora if adapter else None,
        patch_tensors=patch_tensors,
        lora_tensors=lora_tensors,
        file_hashes={path.name: sha256(path) for path in paths},
    )


def published_channel(folder: Path) -> str | None:
    """The side channel of a checkpoint with a published name; None where the name does not tell."""
    name = folder.resolve().name
    if name == "pave_v5_1_3_lora_7B":
        return "dense"
    found = [channel for part, channel in (("3d", "depth3d"), ("imagebind", "audio")) if part in name]
    return found[0] if len(found) == 1 else None


def published_rotary(folder: Path) -> bool:
    """Whether a checkpoint of this name has 3-D rotary positions: in the release, version 5.1.2 alone has."""
    return "v5_1_2" in folder.resolve().name


def _weight_files(folder: Path) -> tuple[Path, Path | None]:
    """File of the patch and file of the adapter. Raises `CheckpointError` unless the folder has one of two forms."""
    found = {path.name for path in folder.iterdir() if path.suffix in _WEIGHT_SUFFIXES} - _NOT_READ
    unknown = sorted(found - _WEIGHT_FILES)
    if unknown:
        raise CheckpointError(
            f"{folder} holds other weights too: {', '.join(unknown)}; give a folder of one released checkpoint"
        )
    adapters = found & set(ADAPTER_FILES)
    if found == {PATCH_ALONE} and not (folder / ADAPTER_CONFIG_FILE).exists():
        return folder / PATCH_ALONE, None
    if len(adapters) == 1 and found - adapters == {PATCH_WITH_LORA}:
        return folder / PATCH_WITH_LORA, folder / adapters.pop()
    raise CheckpointError(
        f"{folder} holds {', '.join(sorted(found)) or 'no weights'}; a released checkpoint is {PATCH_WITH_LORA} with "
        f"one of {' or '.join(ADAPTER_FILES)}, or {PATCH_ALONE} alone: complete the folder or remove what is too much"
    )


def _check_sizes(
    path: Path, model: ModelSettings, fusion: FusionConfig, lora_tensors: Mapping[str, Tensor]
) -> None:
    """Raise `CheckpointError` where config.json and the tensors disagree."""
    pairs = [
        ("hidden_size", model.hidden_size, fusion.output_dim),
        ("mm_hidden_size", model.mm_hidden_size, fusion.query_dim),
    ]
    if lora_tensors:
        pairs.append(("num_hidden_layers", model.num_hidden_layers, num_lora_layers(lora_tensors)))
    for name, said, found in pairs:
        if said is not None and said != found:
            raise CheckpointError(
                f"{path}: {name} is {said!r}, but the tensors beside it are for {found}; give a folder whose files "
                "belong together"
            )
