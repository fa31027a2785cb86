"""Float32 that is float32 on a GPU too."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def true_float32() -> Iterator[None]:
    """Run convolutions and matrix products in float32; around or on (`@true_float32()`) every `encode`.

    By default torch rounds the inputs of cuDNN's convolutions to TF32's ten bits on GPUs since Ampere, so that features
    would depend on the device. The settings are given back afterwards, as training in the same process may want others.
    """
    settings = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)  # type: ignore[attr-defined]
    before = [setting.fp32_precision for setting in settings]
    try:
        for setting in settings:
            setting.fp32_precision = "ieee"
        yield
    finally:
        for setting, value in zip(settings, before, strict=True):
            setting.fp32_precision = value
