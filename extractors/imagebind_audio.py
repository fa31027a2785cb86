"""The audio branch of ImageBind as a small module with the parameter names of the published checkpoint.

The published package loads 1.2 B parameters to use 86 M and needs libraries that we do not want; this
module takes only the audio branch out of `imagebind_huge.pth` (or a safetensors file with the same names).

Letters: K windows, N tokens of a window (1 class token + the patches), E embed_dim, D out_dim.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from extractors.errors import WeightsError
from extractors.mel import NUM_MEL_BINS, TARGET_LENGTH
from extractors.random_weights import random_tensors
from extractors.weights import check_fit, open_tensors

AUDIO_NAME = re.compile(r"modality_(preprocessors|trunks|heads|postprocessors)\.audio\.")

_STEM_EPS = 1e-5
_EPS = 1e-6
_LOGIT_SCALE = 20.0
_MAX_SCALE = 100.0


@dataclass(frozen=True)
class TowerSize:
    """The size of the tower; the defaults are ImageBind-huge's."""

    embed_dim: int = 768
    num_blocks: int = 12
    num_heads: int = 12
    out_dim: int = 1024
    num_mel_bins: int = NUM_MEL_BINS
    target_length: int = TARGET_LENGTH
    kernel: int = 16
    stride: int = 10
    mlp_ratio: int = 4


class AudioStem(nn.Module):
    """Mels (K, 1, bins, frames) to tokens (K, N, E): patches, layer norm, class token, position table."""

    def __init__(self, size: TowerSize) -> None:
        super().__init__()
        rows = (size.num_mel_bins - size.kernel) // size.stride + 1
        columns = (size.target_length - size.kernel) // size.stride + 1
        self.cls_token = nn.Parameter(torch.zeros(1, 1, size.embed_dim))
        self.rgbt_stem = nn.ModuleDict(
            {
                "proj": nn.Conv2d(1, size.embed_dim, size.kernel, size.stride, bias=False),
                "norm_layer": nn.LayerNorm(size.embed_dim, eps=_STEM_EPS),
            }
        )
        table = torch.zeros(1, 1 + rows * columns, size.embed_dim)
        self.pos_embedding_helper = nn.ParameterDict({"pos_embed": nn.Parameter(table)})

    def forward(self, mel: Tensor) -> Tensor:
        """Return (K, N, E), the patches in row-major order (mel, then time)."""
        grid = self.rgbt_stem["proj"](mel)  # (K, E, rows, columns)
        patches: Tensor = self.rgbt_stem["norm_layer"](grid.flatten(2).transpose(1, 2))  # (K, N-1, E)
        cls_token = self.cls_token.expand(len(mel), -1, -1)
        tokens: Tensor = torch.cat([cls_token, patches], dim=1) + self.pos_embedding_helper["pos_embed"]
        return tokens


class Block(nn.Module):
    """Pre-norm transformer block whose attention sees one more, learned, key and value."""

    def __init__(self, size: TowerSize) -> None:
        super().__init__()
        embed_dim, inner_dim = size.embed_dim, size.mlp_ratio * size.embed_dim
        self.attn = nn.MultiheadAttention(embed_dim, size.num_heads, add_bias_kv=True, batch_first=True)
        self.norm_1 = nn.LayerNorm(embed_dim, eps=_EPS)
        self.norm_2 = nn.LayerNorm(embed_dim, eps=_EPS)
        self.mlp = nn.ModuleDict(
            {
                "fc1": nn.Linear(embed_dim, inner_dim),
                "fc2": nn.Linear(inner_dim, embed_dim),
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        """(K, N, E) to (K, N, E)."""
        normed = self.norm_1(x)
        x = x + self.attn(normed, normed, normed, need_weights=False)[0]
        change: Tensor = self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm_2(x))))
        return x + change


class Trunk(nn.Module):
    """The blocks, one after another, with no norm before them."""

    def __init__(self, size: TowerSize) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(size) for _ in range(size.num_blocks))

    def forward(self, x: Tensor) -> Tensor:
        """(K, N, E) to (K, N, E)."""
        for block in self.blocks:
            x = block(x)
        return x


class ClassToken(nn.Module):
    """(K, N, E) to the class token's (K, E)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the first token."""
        return x[:, 0]


class Normalise(nn.Module):
    """(K, D) to unit L2 norm."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the rows divided by their norms."""
        return F.normalize(x, dim=-1)


class LogitScale(nn.Module):
    """(K, D) times a fixed temperature: every output has norm 20."""

    def __init__(self) -> None:
        super().__init__()
        self.log_logit_scale: Tensor
        self.register_buffer("log_logit_scale", torch.tensor(math.log(_LOGIT_SCALE)))

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled rows."""
        return x * self.log_logit_scale.exp().clamp(max=_MAX_SCALE)


class ImageBindAudio(nn.Module):
    """The tower: normalised log-mels (K, 1, 128, 204) to one embedding of norm 20 a window, (K, D)."""

    def __init__(self, size: TowerSize) -> None:
        super().__init__()
        head = nn.Sequential(
            nn.LayerNorm(size.embed_dim, eps=_EPS),
            ClassToken(),
            nn.Linear(size.embed_dim, size.out_dim, bias=False),
        )
        self.modality_preprocessors = nn.ModuleDict({"audio": AudioStem(size)})
        self.modality_trunks = nn.ModuleDict({"audio": Trunk(size)})
        self.modality_heads = nn.ModuleDict({"audio": head})
        self.modality_postprocessors = nn.ModuleDict({"audio": nn.Sequential(Normalise(), LogitScale())})

    def forward(self, mel: Tensor) -> Tensor:
        """Return (K, D)."""
        tokens = self.modality_trunks["audio"](self.modality_preprocessors["audio"](mel))
        embedding: Tensor = self.modality_postprocessors["audio"](self.modality_heads["audio"](tokens))
        return embedding


def audio_tensors(path: Path) -> dict[str, Tensor]:
    """Read the audio branch's tensors of a checkpoint (mapped, not copied); the rest is skipped.

    Raises `WeightsError` when the file is missing, unreadable or has no audio branch.
    """
    tensors = open_tensors(path, AUDIO_NAME.match)
    if not tensors:
        raise WeightsError(f"{path} has no ImageBind audio branch; give imagebind_huge.pth or its audio part")
    return tensors


def load_tower(tensors: Mapping[str, Tensor], size: TowerSize) -> ImageBindAudio:
    """Build the tower from a checkpoint's tensors, in float32 and eval mode.

    Raises `WeightsError` listing missing and unexpected names and wrong shapes.
    """
    with torch.device("meta"):
        tower = ImageBindAudio(size)
    check_fit(tower.state_dict(), tensors, "the ImageBind audio branch")
    tower.load_state_dict(tensors, assign=True)
    return tower.float().eval()


def random_tower(seed: int, size: TowerSize) -> ImageBindAudio:
    """Build a tower with seeded random weights (`random_tensors`), in float32 and eval mode."""
    with torch.random.fork_rng(devices=[]):  # making the layers draws from torch's own seed
        tower = ImageBindAudio(size)
    tower.load_state_dict(tower.state_dict() | random_tensors(seed, tower))
    return tower.eval()
