"""Seeded random weights, for towers that are tried out without a download."""

import torch
from torch import Tensor, nn

_TABLE_STD = 0.02
# tables that do not show it by their shape (1, ..., D)
_TABLES = ("class_embedding", "position_embedding.weight")


def random_tensors(seed: int, module: nn.Module) -> dict[str, Tensor]:
    """Return float32 tensors for all parameters of `module`, which may be on the meta device.

    Matrices are normal with variance 1 / fan-in, which keeps what is seen or heard visible in the features;
    tables of classes and positions are normal with deviation 0.02; norms and biases are the identity. The
    numbers depend on the seed and on order and shapes of the parameters; torch's own seed stays as it is.
    """
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, parameter in module.named_parameters():
        table = name.endswith(_TABLES) or (parameter.ndim > 1 and len(parameter) == 1)
        if parameter.ndim == 1 and not table:
            tensors[name] = torch.full(parameter.shape, 1.0 if name.endswith("weight") else 0.0)
        else:
            deviation = _TABLE_STD if table else parameter[0].numel() ** -0.5
            tensors[name] = torch.empty(parameter.shape).normal_(0.0, deviation, generator=generator)
    return tensors
