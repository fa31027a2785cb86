"""Attention of each key frame's tokens over its own chunk of the side channel, by one of several kernels.

All compute softmax(Q K^T / sqrt(d/h)) V per key frame and head, for the whole batch in one call:

- `sdpa`: torch's scaled_dot_product_attention over chunks padded to the longest, with a mask. Runs anywhere.
- `varlen`: torch.nn.attention.varlen over unpadded chunks; CUDA, half precision.
- `flash_attention_2`: the variable-length kernel of the package flash-attn; CUDA, half precision.
- `folded`: for chunks of few tokens. The scores x W_q^T k are computed as x (W_q^T k): a product for each of
  the few keys replaces the projection of the many queries. The heads' keys are laid side by side with zeros
  elsewhere, so that all heads are one matrix product. Runs anywhere; not with rotary positions.

Shapes: P key frames of the batch, S tokens of a key frame, K = M S_k tokens of the longest chunk, d width,
h heads.
"""

import importlib.util
import logging
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  (the name everybody reads as torch's)

from pave_model.errors import PatchInputError

AttentionBackend = Literal["auto", "sdpa", "varlen", "flash_attention_2", "folded"]
VARIABLE_LENGTH = ("varlen", "flash_attention_2")
_HALF = (torch.float16, torch.bfloat16)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class KeySlots:
    """Which of the padded (P, K) key slots exist.

    `mask` (P, K) bool, or None when all do. The other two are there for the variable-length kernels alone:
    `existing` (R,) int64, the slots of the P K that exist, and `offsets` (P + 1,) int32, where each key frame's
    chunk begins among them.
    """

    mask: Tensor | None
    existing: Tensor | None = None
    offsets: Tensor | None = None


def key_slots(
    valid: Tensor | None, sizes: Tensor, tokens_per_step: int, backend: AttentionBackend
) -> KeySlots:
    """Slots of the keys from those of the steps.

    `valid` (P, M) bool or None and `sizes` (P,) int64, the steps of each chunk; each step has S_k tokens.
    """
    mask = None if valid is None else valid.repeat_interleave(tokens_per_step, dim=1)
    if backend not in VARIABLE_LENGTH:
        return KeySlots(mask)
    offsets = F.pad((sizes * tokens_per_step).cumsum(0), (1, 0)).to(torch.int32)
    return KeySlots(mask, None if mask is None else mask.flatten().nonzero().squeeze(1), offsets)


def attend(query: Tensor, key: Tensor, value: Tensor, slots: KeySlots, backend: AttentionBackend) -> Tensor:
    """query (P, h, S, d/h), key and value (P, h, K, d/h) -> (P, S, d). `backend` is a resolved one."""
    if backend not in VARIABLE_LENGTH:
        mask = None if slots.mask is None else slots.mask[:, None, None]
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return attended.transpose(1, 2).flatten(2)
    frames, _, tokens, _ = query.shape
    kernel = _varlen if backend == "varlen" else _flash_attention_2
    attended = kernel(
        query.transpose(1, 2).flatten(0, 1),  # (P S, h, d/h)
        _existing(key, slots.existing),
        _existing(value, slots.existing),
        torch.arange(frames + 1, dtype=torch.int32, device=query.device) * tokens,
        slots.offsets,
        tokens,
        key.shape[2],
    )
    return attended.reshape(frames, tokens, -1)


def attend_folded(
    tokens: Tensor, weight: Tensor, bias: Tensor, key: Tensor, value: Tensor, mask: Tensor | None
) -> Tensor:
    """Attention of `tokens` (P, S, d), not yet projected, over key and value (P, h, K, d/h) -> (P, S, d).

    `weight` (d, d) and `bias` (d,) are those of the query projection, `mask` (P, K) bool or None.
    """
    frames, heads, slots, width = key.shape
    key = key * width**-0.5
    # W_q^T k of every head, head by head: (h, P K, d/h) x (h, d/h, d).
    folded = key.transpose(0, 1).flatten(1, 2) @ weight.view(heads, width, -1)
    folded = folded.view(heads, frames, slots, -1).transpose(0, 1).flatten(1, 2)  # (P, h K, d)
    offset = (key * bias.view(heads, 1, width)).sum(-1)  # b_q^T k: (P, h, K)
    if mask is not None:
        offset = offset.masked_fill(~mask[:, None], -torch.inf)
    scores = torch.baddbmm(offset.flatten(1)[:, None], tokens, folded.transpose(1, 2))  # (P, S, h K)
    share = scores.view(frames, -1, heads, slots).softmax(-1).flatten(2)
    own = torch.eye(heads, dtype=value.dtype, device=value.device)[:, None, :, None]
    # (P, h, K, h, d/h) -> (P, h K, d): a head's values in its own channels, zeros in those of the others.
    beside = (value[:, :, :, None] * own).flatten(3).flatten(1, 2)
    return torch.bmm(share, beside)


def resolve_backend(
    wanted: AttentionBackend,
    sizes: tuple[int, int, int, int],
    device_type: str,
    dtype: torch.dtype,
    padded: bool,
    rotary: bool,
) -> AttentionBackend:
    """The kernel for these inputs: `wanted`, or for `auto` the one with the least work that runs here.

    `sizes` are S, K, d and h; `padded` says whether chunks differ in size. The choice is logged once (INFO).
    Raises `PatchInputError` where `wanted` cannot run here.
    """
    chosen = wanted
    tokens, keys, width, heads = sizes
    if wanted == "auto":
        # Multiplications a key frame: projected keys and S x h K twice, against projected queries and S x K twice.
        folded = keys * width * (width + 2 * tokens * heads)
        plain = tokens * width * (width + 2 * keys)
        if not rotary and folded < plain:
            chosen = "folded"
        elif padded and backend_obstacle("varlen", device_type, dtype, width // heads) is None:
            chosen = "varlen"
        else:
            chosen = "sdpa"
    elif why := backend_obstacle(wanted, device_type, dtype, width // heads, rotary):
        raise PatchInputError(f"attention '{wanted}' cannot run here: {why}; choose 'auto' or 'sdpa'")
    _log_choice(chosen, wanted, device_type, dtype)
    return chosen


def backend_obstacle(
    backend: AttentionBackend, device_type: str, dtype: torch.dtype, head_dim: int, rotary: bool = False
) -> str | None:
    """Why `backend` cannot run on such inputs, or None when it can. `head_dim` is d / h."""
    if backend == "folded":
        return "it knows no rotary positions" if rotary else None
    if backend not in VARIABLE_LENGTH:
        return None
    if device_type != "cuda":
        return f"it needs a CUDA device, not '{device_type}'"
    if dtype not in _HALF:
        return f"it needs float16 or bfloat16, not {str(dtype).removeprefix('torch.')}"
    if head_dim % 8 or head_dim > 256:
        return f"it needs heads of 8, 16, ... 256 channels, not {head_dim}"
    if backend == "flash_attention_2" and importlib.util.find_spec("flash_attn") is None:
        return "the package flash-attn is not installed (pip install 'pave-video[cuda]')"
    return None


@lru_cache
def _log_choice(chosen: str, wanted: str, device_type: str, dtype: torch.dtype) -> None:
    _log.info("attention of the patch: %s (asked for: %s; %s, %s)", chosen, wanted, device_type, dtype)


def _existing(padded: Tensor, existing: Tensor | None) -> Tensor:
    """(P, h, K, d/h) -> the existing slots of all key frames, (R, h, d/h)."""
    slots = padded.transpose(1, 2).flatten(0, 1)
    return slots if existing is None else slots[existing]


def _varlen(
    query: Tensor, key: Tensor, value: Tensor, from_q: Tensor, from_k: Tensor | None, most_q: int, most_k: int
) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    attended = varlen_attn(query, key, value, from_q, from_k, most_q, most_k)
    assert isinstance(attended, Tensor)  # it returns more only where more is asked for
    return attended


def _flash_attention_2(
    query: Tensor, key: Tensor, value: Tensor, from_q: Tensor, from_k: Tensor | None, most_q: int, most_k: int
) -> Tensor:
    from flash_attn import flash_attn_varlen_func

    attended: Tensor = flash_attn_varlen_func(query, key, value, from_q, from_k, most_q, most_k)
    return attended
