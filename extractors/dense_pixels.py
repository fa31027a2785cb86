"""The pixels that the dense tower sees of a picture, as the original release makes them.

Pictures are resized bilinearly without anti-aliasing, so that an output pixel depends on four input pixels only.
The rows and columns of these are picked out of the 8-bit picture where it is decoded; only they travel, never more
bytes than the square would have and a tenth of them where a small video is enlarged. Where the tower is they become
the square: the resized whole, of which the middle is kept, is never made. The places are computed as torch's
`interpolate` computes them: a float32 scale, rounded once.

Letters: N pictures, H and W of a whole picture, R and C rows and columns picked of it, S the side of the square.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from extractors.clip_requests import Indices, Picture

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_PICTURES_AT_ONCE = 4  # what stays in the processor's cache


class PickedPicture(NamedTuple):
    """What a square depends on: `pixels` (R, C, 3) uint8 of a picture of `size` (H, W)."""

    pixels: Picture
    size: tuple[int, int]


@dataclass(frozen=True)
class CropGeometry:
    """How a picture becomes a square: resized to `height` x `width`, of which a square from `top`, `left`."""

    height: int
    width: int
    top: int
    left: int


def crop_geometry(height: int, width: int, image_size: int) -> CropGeometry:
    """Resize the short side to `image_size` and crop the centre; halves of a pixel go to the even one."""
    if width < height:
        resized = (math.floor((height / width) * image_size), image_size)
    else:
        resized = (image_size, math.floor((width / height) * image_size))
    top, left = (round((size - image_size) / 2) for size in resized)
    return CropGeometry(*resized, top, left)


def pick(picture: Picture, image_size: int) -> PickedPicture:
    """Pick what the square of a picture (H, W, 3) uint8 depends on."""
    height, width, _ = picture.shape
    rows, columns = _sides(height, width, image_size)
    # as rows of numbers: numpy is slow where the last axis is short
    numbers = picture.reshape(height, 3 * width).take(rows.needed, axis=0)
    picked = numbers.take(((3 * columns.needed)[:, None] + np.arange(3)).ravel(), axis=1)
    return PickedPicture(picked.reshape(len(rows.needed), len(columns.needed), 3), (height, width))


def squares(pixels: Tensor, size: tuple[int, int], image_size: int) -> Tensor:
    """Turn picked pixels (N, R, C, 3) uint8 into the tower's (N, 3, S, S) float32 with CLIP's mean and std.

    Args: size: (H, W) of the pictures of which they were picked.
    """
    rows, columns = (side.to(pixels.device) for side in _sides(*size, image_size))
    mean, std = (
        torch.tensor(values, device=pixels.device)[:, None, None] for values in (CLIP_MEAN, CLIP_STD)
    )
    shift, scale = -mean / std, 1 / (255 * std)
    found = torch.empty(len(pixels), 3, image_size, image_size, device=pixels.device)
    at_once = _PICTURES_AT_ONCE if pixels.device.type == "cpu" else len(pixels)
    for some, place in zip(torch.split(pixels, at_once), torch.split(found, at_once), strict=True):
        torch.addcmul(shift, _resized(some, rows, columns), scale, out=place)
    return found


def _resized(pixels: Tensor, rows: "_Side", columns: "_Side") -> Tensor:
    """(N, R, C, 3) uint8 to (N, 3, S, S) float32 in 0 to 255: first across, then down."""
    numbers = pixels.transpose(1, 2).contiguous().flatten(2)  # (N, C, 3R): whole rows of numbers are fetched
    left, right = (numbers.index_select(1, place).float() for place in (columns.before, columns.after))
    across = torch.lerp(left, right, columns.weight[:, None])  # (N, S, 3R)
    across = across.view(*across.shape[:2], -1, 3).permute(0, 3, 2, 1).contiguous()  # (N, 3, R, S)
    above, below = (across.index_select(2, place) for place in (rows.before, rows.after))
    return torch.lerp(above, below, rows.weight[:, None])  # (N, 3, S, S)


class _Side(NamedTuple):
    """Along one side: the places `needed`, rising, and for each pixel of the square the two of these that it lies
    between and the weight of the second."""

    needed: Indices
    before: Tensor  # (S,) int64
    after: Tensor
    weight: Tensor  # (S,) float32

    def to(self, device: torch.device) -> "_Side":
        return _Side(self.needed, self.before.to(device), self.after.to(device), self.weight.to(device))


@lru_cache(maxsize=8)
def _sides(height: int, width: int, image_size: int) -> tuple[_Side, _Side]:
    """Rows and columns; the same for all pictures of a clip, not to be changed."""
    geometry = crop_geometry(height, width, image_size)
    return (
        _side(height, geometry.height, geometry.top, image_size),
        _side(width, geometry.width, geometry.left, image_size),
    )


def _side(size: int, resized: int, first: int, count: int) -> _Side:
    """For `count` pixels from `first` of a side resized from `size` to `resized`."""
    scale = np.float64(np.float32(size) / np.float32(resized))
    places = (scale * (np.arange(first, first + count) + 0.5) - 0.5).astype(np.float32).clip(0, size - 1)
    before = places.astype(np.int64)
    after = np.minimum(before + 1, size - 1)
    needed, at = np.unique(np.concatenate([before, after]), return_inverse=True)
    weight = places - before.astype(np.float32)
    return _Side(needed, torch.from_numpy(at[:count]), torch.from_numpy(at[count:]), torch.from_numpy(weight))
