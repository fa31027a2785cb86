"""The audio part of `imagebind_huge.pth` as a file of its own: 86 M of 1.2 B parameters, no pickle."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from extractors.errors import WeightsError
from extractors.imagebind_audio import ImageBindAudio, TowerSize, audio_tensors
from extractors.weights import check_fit


@dataclass(frozen=True)
class AudioPart:
    """What was written: numbers of tensors and of parameters (without buffers), and the bytes of the tensors."""

    num_tensors: int
    num_parameters: int
    num_bytes: int


def write_audio_part(checkpoint: Path, out: Path, size: TowerSize | None = None) -> AudioPart:
    """Write the audio branch's tensors of `checkpoint` to the new safetensors file `out`, all or nothing.

    Names and numbers stay as they are, so features of both files have the same fingerprint. The checkpoint
    is mapped: only the pages of its audio branch are read.

    Args: size: of the tower; default: ImageBind-huge's.

    Raises `WeightsError` when the checkpoint cannot be read or its audio branch is not complete, and when
    `out` exists, has no folder or is no name of a safetensors file.
    """
    if out.suffix != ".safetensors":
        raise WeightsError(f"{out} must end in .safetensors; give another name")
    if out.exists():
        raise WeightsError(f"{out} exists already; give another name, or remove it")
    if not out.parent.is_dir():
        raise WeightsError(f"there is no folder {out.parent} for {out.name}; make it")
    tensors = audio_tensors(checkpoint)
    with torch.device("meta"):
        tower = ImageBindAudio(size or TowerSize())
    check_fit(tower.state_dict(), tensors, "the ImageBind audio branch")
    temporary = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary)
        shutil.copymode(checkpoint, temporary)  # safetensors makes files that only their owner can read
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, out)
    finally:
        temporary.unlink(missing_ok=True)
    parameters = {name for name, _ in tower.named_parameters()}
    return AudioPart(
        len(tensors),
        sum(tensors[name].numel() for name in parameters),
        sum(tensor.nbytes for tensor in tensors.values()),
    )
