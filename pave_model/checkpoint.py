"""A patch on disk: one folder that is complete or not there at all.

    config.json                 settings, fingerprint of the base, lineage
    patch.safetensors           fusion modules, keys `<channel>.<name in the module>`
    adapter_model.safetensors   LoRA tensors as peft names them
    adapter_config.json         with it, `PeftModel.from_pretrained` loads the adapter alone
    README.md                   model card

A LoRA-only patch has no patch.safetensors, a patch without LoRA no adapter files.
"""

import copy
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from peft import PeftConfig
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pave_model.config import PatchConfig
from pave_model.errors import CheckpointError
from pave_model.model_card import model_card

CONFIG_FILE = "config.json"
PATCH_FILE = "patch.safetensors"
ADAPTER_FILE = "adapter_model.safetensors"
ADAPTER_CONFIG_FILE = "adapter_config.json"
CARD_FILE = "README.md"
_FILES = {CONFIG_FILE, PATCH_FILE, ADAPTER_FILE, ADAPTER_CONFIG_FILE, CARD_FILE}


class PatchRecord(BaseModel):
    """What config.json holds.

    `lineage` says where the patch comes from: run, data snapshot, encoders, ... `scores` are numbers by the name
    of what was measured, such as `test, tone_colour: accuracy`; `licences` those of each channel's encoder.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = 1
    patch: PatchConfig
    base_fingerprint: str
    lineage: Mapping[str, JsonValue]
    scores: Mapping[str, float] = Field(default_factory=dict)
    licences: Mapping[str, str] = Field(default_factory=dict)


@dataclass(frozen=True)
class PatchFiles:
    """A patch folder's content: the record, and tensors by the names they have in the files."""

    record: PatchRecord
    patch_tensors: Mapping[str, Tensor]
    adapter_tensors: Mapping[str, Tensor]


def write_checkpoint(folder: Path, files: PatchFiles, adapter_config: PeftConfig | None) -> None:
    """Write the folder under a temporary name beside it, then rename it.

    An earlier patch at the same place is replaced. Raises `CheckpointError` when the folder holds anything
    else, or cannot be written.
    """
    check_free(folder)
    token = uuid.uuid4().hex[:8]
    unfinished = folder.with_name(f".{folder.name}.{token}.unfinished")
    replaced = folder.with_name(f".{folder.name}.{token}.replaced")
    try:
        unfinished.mkdir(parents=True)
        _write_files(unfinished, files, adapter_config)
        if folder.exists():
            folder.rename(replaced)
        unfinished.rename(folder)
        shutil.rmtree(replaced, ignore_errors=True)
    except OSError as error:
        raise CheckpointError(f"cannot write {folder}: {error}; choose a writable folder") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def check_free(folder: Path) -> None:
    """Raise `CheckpointError` when a patch cannot be written to `folder`, because it holds anything else."""
    if folder.exists() and not (folder.is_dir() and {path.name for path in folder.iterdir()} <= _FILES):
        raise CheckpointError(f"{folder} holds other files than a patch; choose an empty or new folder")


def read_checkpoint(folder: Path) -> PatchFiles:
    """Read a folder of `write_checkpoint`.

    Raises `CheckpointError` when it is missing, damaged or incomplete.
    """
    record = _read_record(folder)
    return PatchFiles(
        record,
        _read_tensors(folder / PATCH_FILE) if record.patch.channels else {},
        _read_tensors(folder / ADAPTER_FILE) if record.patch.lora else {},
    )


def record_scores(folder: Path, scores: Mapping[str, float]) -> None:
    """Add scores to a saved patch: to its config.json and to its model card. Equal names are replaced.

    Raises `CheckpointError` when there is no patch in `folder` or its files cannot be written.
    """
    record = _read_record(folder)
    record = record.model_copy(update={"scores": {**record.scores, **scores}})
    try:
        for name, text in ((CARD_FILE, _card(record)), (CONFIG_FILE, _config(record))):
            unfinished = folder / f".{name}.{uuid.uuid4().hex[:8]}.unfinished"
            unfinished.write_text(text, encoding="utf-8")
            unfinished.replace(folder / name)
    except OSError as error:
        raise CheckpointError(f"cannot write {folder}: {error}; choose a writable folder") from error


def _write_files(folder: Path, files: PatchFiles, adapter_config: PeftConfig | None) -> None:
    if files.patch_tensors:
        _write_tensors(files.patch_tensors, folder / PATCH_FILE)
    if adapter_config is not None:
        _write_tensors(files.adapter_tensors, folder / ADAPTER_FILE)
        adapter_config = copy.copy(adapter_config)
        adapter_config.base_model_name_or_path = files.record.patch.base
        adapter_config.inference_mode = True
        adapter_config.save_pretrained(str(folder))
    (folder / CARD_FILE).write_text(_card(files.record), encoding="utf-8")
    (folder / CONFIG_FILE).write_text(_config(files.record), encoding="utf-8")


def _card(record: PatchRecord) -> str:
    return model_card(record.patch, record.base_fingerprint, record.lineage, record.scores, record.licences)


def _config(record: PatchRecord) -> str:
    return record.model_dump_json(indent=2) + "\n"


def _read_record(folder: Path) -> PatchRecord:
    try:
        return PatchRecord.model_validate_json((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{folder} is no patch folder ({error}); give one that was saved") from error
    except ValidationError as error:
        raise CheckpointError(
            f"{folder / CONFIG_FILE} does not describe a patch of this version: {_first_line(error)}; "
            "save the patch again"
        ) from error


def _write_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, path)


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot read {path}: {error}; save or copy the patch again") from error
    return tensors


def _first_line(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'file'}: {first['msg']}"
