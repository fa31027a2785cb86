"""LLaVA-3D's embedding of a patch's place in space: a small network on its coordinates in metres."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from extractors.checkpoint import checkpoint_tensors
from extractors.config import random_seed
from extractors.contract import JSON
from extractors.errors import WeightsError
from extractors.random_weights import random_tensors
from extractors.weights import check_fit, tensors_hash

_OWNER = "positional_embedding."
_EPS = 1e-5
# Deviation of a random embedding's first biases; without them its norm leaves nothing but the direction of a place.
_OFFSET = 1.0
_GAIN = 4.0  # of a random embedding's last layer: what a random tower makes of the pictures must not drown the places


class PositionEmbedding3D(nn.Module):
    """Points (..., 3) in metres to (..., D); no sinusoids, and nothing is normalised before."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.position_embedding_head = nn.Sequential(
            nn.Linear(3, dim), nn.LayerNorm(dim, eps=_EPS), nn.ReLU(), nn.Linear(dim, dim)
        )

    def forward(self, points: Tensor) -> Tensor:
        """Return (..., D)."""
        embedding: Tensor = self.position_embedding_head(points)
        return embedding


def read_embedding_tensors(source: str, dim: int) -> dict[str, Tensor]:
    """Read the six tensors out of a LLaVA-3D checkpoint: a file, a folder or a hub id; the rest is skipped.

    Any prefix of the names up to "positional_embedding." is allowed. Raises `WeightsError` when they are
    missing, unreadable, there twice or not of width `dim`.
    """
    expected = _empty(dim).state_dict()
    found = checkpoint_tensors(source, lambda name: _short(name) in expected)
    tensors = {_short(name): tensor for name, tensor in found.items()}
    if not found or len(tensors) != len(found):
        how_often = "several 3D position embeddings" if found else "no 3D position embedding"
        raise WeightsError(f"{source!r} has {how_often}; give the LLaVA-3D checkpoint")
    check_fit(expected, tensors, f"the 3D position embedding of width {dim} of {source!r}")
    return tensors


def build_embedding(source: str, dim: int) -> PositionEmbedding3D:
    """The embedding of a checkpoint, or a random one for `random:<seed>`. Raises `WeightsError`."""
    seed = random_seed(source)
    if seed is not None:
        return random_embedding(seed, dim)
    return load_embedding(read_embedding_tensors(source, dim), dim)


def embedding_identity(source: str, dim: int) -> dict[str, JSON]:
    """All that changes the embedding's numbers. Raises `WeightsError`."""
    seed = random_seed(source)
    if seed is not None:
        return {"random_seed": seed, "gain": _GAIN, "offset": _OFFSET}
    return {"sha256": tensors_hash(read_embedding_tensors(source, dim))}


def load_embedding(tensors: Mapping[str, Tensor], dim: int) -> PositionEmbedding3D:
    """Build the module from `read_embedding_tensors`, in float32 and eval mode."""
    module = _empty(dim)
    module.load_state_dict(tensors, assign=True)
    return module.float().eval()


def random_embedding(seed: int, dim: int) -> PositionEmbedding3D:
    """Build the module with seeded random weights, as different for different places as a learned one."""
    module = _empty(dim)
    last = len(module.position_embedding_head) - 1
    tensors = random_tensors(seed, module)
    tensors[f"position_embedding_head.{last}.weight"] *= _GAIN
    offsets = torch.Generator().manual_seed(seed + 1)  # not the numbers that the weights begin with
    tensors["position_embedding_head.0.bias"] = torch.empty(dim).normal_(0.0, _OFFSET, generator=offsets)
    return load_embedding(tensors, dim)


def _short(name: str) -> str:
    """Map a checkpoint's tensor name to the name here."""
    return name.rpartition(_OWNER)[2]


def _empty(dim: int) -> PositionEmbedding3D:
    with torch.device("meta"):
        return PositionEmbedding3D(dim)
