"""From key frames to the vision tower's input, as the original release does it.

Pictures are resized to a square with Pillow's 8-bit bicubic filter, aspect ratio ignored (torch's bicubic
differs by up to 0.28), then scaled to [-1, 1]. Resized pictures travel between processes as uint8, a
quarter of the size; the numbers are the same.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from extractors.clip_requests import Picture

MEAN = 0.5
STD = 0.5


def resize_picture(picture: Picture, image_size: int) -> Picture:
    """Resize (H, W, 3) uint8 to (image_size, image_size, 3) uint8."""
    resized = Image.fromarray(picture).resize((image_size, image_size), Image.Resampling.BICUBIC)
    return np.asarray(resized)


def key_frame_pixels(frames: Sequence[Picture], image_size: int) -> npt.NDArray[np.uint8]:
    """Resize F pictures (H, W, 3) uint8, of any sizes, to (F, image_size, image_size, 3) uint8."""
    return np.stack([resize_picture(frame, image_size) for frame in frames])


def normalise_pixels(pixels: npt.NDArray[np.generic]) -> Tensor:
    """Turn (F, H, W, 3) uint8 into the tower's (F, 3, H, W) float32, (x / 255 - 0.5) / 0.5."""
    channels_first = torch.tensor(pixels).permute(0, 3, 1, 2).contiguous()
    return (channels_first.float() / 255 - MEAN) / STD
