"""The video tower of LanguageBind, and the plain CLIP tower: pictures to the tokens of the last layer but one.

LanguageBind's is a CLIP tower whose layers first mix the t frames of a chunk at each place. Released features
are `hidden_states[-2]`: the last layer and the last norm are never run, so they are not made or loaded.

Letters: K chunks, t frames of a chunk, F frames (K * t, one chunk after another), N tokens of a frame (1 class
token + the patches, row by row), D width.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from extractors.config import POOLED_SIDE, VideoTowerSize
from extractors.random_weights import random_tensors


def quick_gelu(x: Tensor) -> Tensor:
    """OpenAI's approximation of GELU."""
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "quick_gelu": quick_gelu}


class Attention(nn.Module):
    """Multi-head self-attention over the second axis."""

    def __init__(self, size: VideoTowerSize) -> None:
        super().__init__()
        self.num_heads = size.num_attention_heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (
            nn.Linear(size.hidden_size, size.hidden_size) for _ in range(4)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, n, D) to (B, n, D)."""
        query, key, value = (
            projection(x).view(*x.shape[:2], self.num_heads, -1).transpose(1, 2)  # (B, heads, n, D / heads)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        attended = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        out: Tensor = self.out_proj(attended)
        return out


class Layer(nn.Module):
    """Pre-norm transformer layer; with `add_time_attn` the frames of a chunk are mixed before."""

    def __init__(self, size: VideoTowerSize) -> None:
        super().__init__()
        dim, eps = size.hidden_size, size.layer_norm_eps
        self.num_frames = size.num_frames
        self.has_time = size.add_time_attn
        self.activation = ACTIVATIONS[size.hidden_act]
        if self.has_time:
            self.temporal_embedding = nn.Parameter(torch.zeros(1, size.num_frames, dim))
            self.temporal_layer_norm1 = nn.LayerNorm(dim, eps=eps)
            self.temporal_attn = Attention(size)
        self.layer_norm1 = nn.LayerNorm(dim, eps=eps)
        self.self_attn = Attention(size)
        self.layer_norm2 = nn.LayerNorm(dim, eps=eps)
        self.mlp = nn.ModuleDict(
            {
                "fc1": nn.Linear(dim, size.intermediate_size),
                "fc2": nn.Linear(size.intermediate_size, dim),
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        """(F, N, D) to (F, N, D)."""
        if self.has_time:
            x = self._mixed_in_time(x)
        x = x + self.self_attn(self.layer_norm1(x))
        change: Tensor = self.mlp["fc2"](self.activation(self.mlp["fc1"](self.layer_norm2(x))))
        return x + change

    def _mixed_in_time(self, x: Tensor) -> Tensor:
        chunks = x.view(-1, self.num_frames, *x.shape[1:])  # (K, t, N, D)
        chunks = chunks + self.temporal_embedding[:, :, None]
        normed = self.temporal_layer_norm1(chunks).transpose(1, 2)  # (K, N, t, D)
        change = self.temporal_attn(normed.flatten(0, 1)).view_as(normed).transpose(1, 2)
        mixed: Tensor = (chunks + change).flatten(0, 1)
        return mixed


class Embeddings(nn.Module):
    """Pictures (F, 3, H, W) to tokens (F, N, D): patches, class token, position table."""

    def __init__(self, size: VideoTowerSize) -> None:
        super().__init__()
        dim, num_patches = size.hidden_size, (size.image_size // size.patch_size) ** 2
        self.class_embedding = nn.Parameter(torch.zeros(dim))
        self.patch_embedding = nn.Conv2d(3, dim, size.patch_size, size.patch_size, bias=False)
        self.position_embedding = nn.Embedding(1 + num_patches, dim)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return (F, N, D)."""
        patches = self.patch_embedding(pixels).flatten(2).transpose(1, 2)  # (F, N - 1, D)
        class_token = self.class_embedding.expand(len(pixels), 1, -1)
        tokens: Tensor = torch.cat([class_token, patches], dim=1) + self.position_embedding.weight
        return tokens


class Encoder(nn.Module):
    """The layers but the last, one after another."""

    def __init__(self, size: VideoTowerSize) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(size) for _ in range(size.num_hidden_layers - 1))

    def forward(self, x: Tensor) -> Tensor:
        """(F, N, D) to (F, N, D)."""
        for layer in self.layers:
            x = layer(x)
        return x


class VideoTower(nn.Module):
    """Normalised pictures (F, 3, H, W) to tokens (F, N, D); F is a multiple of t where frames are mixed."""

    def __init__(self, size: VideoTowerSize) -> None:
        super().__init__()
        self.embeddings = Embeddings(size)
        self.pre_layrnorm = nn.LayerNorm(size.hidden_size, eps=size.layer_norm_eps)  # the published spelling
        self.encoder = Encoder(size)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return (F, N, D)."""
        tokens: Tensor = self.encoder(self.pre_layrnorm(self.embeddings(pixels)))
        return tokens


def pool_tokens(tokens: Tensor) -> Tensor:
    """(F, N, D) to (F, 5, D): the class token, and the means of the four quarters of the patches' grid."""
    num_frames, num_tokens, dim = tokens.shape
    side = math.isqrt(num_tokens - 1)
    grid = tokens[:, 1:].transpose(1, 2).reshape(num_frames, dim, side, side)
    quarters = F.adaptive_avg_pool2d(grid, POOLED_SIDE).flatten(2).transpose(1, 2)
    return torch.cat([tokens[:, :1], quarters], dim=1)


def random_video_tower(seed: int, size: VideoTowerSize) -> VideoTower:
    """Build a tower with seeded random weights (`random_tensors`), in float32 and eval mode."""
    with torch.device("meta"):
        tower = VideoTower(size)
    tower.load_state_dict(random_tensors(seed, tower), assign=True)
    return tower.eval()
