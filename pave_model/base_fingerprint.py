"""Recognising the base model that a patch was trained on.

A patch is worthless, and silently so, on any other base. The fingerprint covers the settings that change the
numbers, the name and shape of every tensor, and a sample of every tensor's values. It reads the model in
memory, so it needs no weights file, and takes well under a second at 7B.

It does not depend on the dtype that a bfloat16 or float16 file was loaded in: values are rounded to bfloat16,
and those too small to survive float16 count as zero.
"""

import hashlib
import json

import torch
from torch import Tensor
from transformers import PreTrainedModel

from pave_model.base_family import family_of
from pave_model.errors import BaseMismatchError

_SAMPLES_PER_TENSOR = 64
_SMALLEST_NORMAL_FLOAT16 = 2.0**-14


def base_fingerprint(base: PreTrainedModel) -> str:
    """16 hex digits that identify a base, on any device.

    Raises `BaseMismatchError` when LoRA already wraps the base's layers, or the base is of no known family.
    """
    settings = family_of(base).identity(base.config)
    tensors = sorted(base.state_dict().items())
    if any(".lora_" in name for name, _ in tensors):
        raise BaseMismatchError("the base is already wrapped by LoRA; load a fresh base for each patch")
    shapes = [[name, list(tensor.shape)] for name, tensor in tensors]
    samples = torch.cat([_sample(tensor) for _, tensor in tensors])
    digest = hashlib.sha256(json.dumps([settings, shapes], sort_keys=True).encode())
    digest.update(samples.view(torch.int16).cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def _sample(tensor: Tensor) -> Tensor:
    """Up to 64 values (bfloat16), evenly spread over the flattened tensor."""
    flat = tensor.flatten()
    sample = flat[:: max(1, len(flat) // _SAMPLES_PER_TENSOR)][:_SAMPLES_PER_TENSOR].to(torch.bfloat16)
    return torch.where(sample.abs() <= _SMALLEST_NORMAL_FLOAT16, 0, sample)
