"""The channel `depth3d`: what LLaVA-3D sees of an RGB-D scene, before it pools in space.

Per view the CLIP tokens of its patches, each with the embedding of the place in space that the patch shows:
"values" (V, P, D). The companion "centres" (V, P, 3) keeps those places, in metres of the axis-aligned world,
always as float32: bfloat16 would move them by centimetres.
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import CLIPVisionConfig

from extractors.back_projection import back_project_pixels, patch_pixels
from extractors.config import Depth3dConfig, random_seed
from extractors.contract import JSON, Decoded, Features, FeatureSpec, Sample, TensorSpec
from extractors.errors import ExtractorError
from extractors.position_embedding_3d import PositionEmbedding3D, build_embedding, embedding_identity
from extractors.rgbd_scene import open_scene
from extractors.scene_views import read_views
from extractors.true_float32 import true_float32
from extractors.vision_tower import TowerSource, VisionTower

VERSION = "1"  # of the code: raise it with every change of the numbers beyond rounding
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
CLIP_LICENCE = "MIT (CLIP)"
EMBEDDING_LICENCE = "CC-BY-NC-SA 4.0 (LLaVA-3D position embedding)"
# a random tower is for trying out: small, but with the published patches
SMALL_CLIP = CLIPVisionConfig(
    image_size=336,
    patch_size=14,
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=2,
    num_attention_heads=2,
    hidden_act="quick_gelu",
)
_VIEWS_AT_ONCE = 32  # bounds memory when many views are asked for


class Depth3dExtractor:
    """RGB-D scene to (V, P, D) and (V, P, 3); see `extractors.contract.Extractor`."""

    channel = "depth3d"

    def __init__(self, config: Depth3dConfig) -> None:
        self.config = config
        self.tower = TowerSource("clip", config.weights, SMALL_CLIP)
        self._device = "cpu"
        self._modules: tuple[VisionTower, PositionEmbedding3D] | None = None

    @cached_property
    def spec(self) -> FeatureSpec:
        """The spec; reads the weights once to hash them. Raises `WeightsError`."""
        config, dim = self.config, self.tower.config.hidden_size
        return FeatureSpec(
            channel=self.channel,
            extractor="llava-3d-patches",
            version=VERSION,
            tensors=(
                TensorSpec("values", self.tower.grid**2, dim, config.dtype),
                TensorSpec("centres", self.tower.grid**2, 3, "float32"),
            ),
            rate_hz=None,
            licence=_licence(config),
            identity={
                **self.tower.identity(),
                "embedding": embedding_identity(config.embedding, dim),
                "resize": "pillow-bicubic-short-side, centre crop",
                "depth_resize": "nearest-short-side, centre crop",
                "mean": MEAN,
                "std": STD,
                "num_views": config.num_views,
                "view_choice": "floor-stride",
                "patch_place": "top-left-pixel",
                "depth_scale": config.depth_scale,
                "dtype": config.dtype,
            },
        )

    def load(self, device: str) -> None:
        """Put tower and embedding on `device`. Raises `WeightsError`."""
        embedding = build_embedding(self.config.embedding, self.tower.config.hidden_size)
        self._modules = self.tower.build().to(device), embedding.to(device)
        self._device = device

    def decode(self, sample: Sample) -> Decoded:
        """Read the views of the sample's "scene": "pixels" (V, c, c, 3) uint8, "centres" (V, P, 3) float32.

        A scene has no clock: `timestamps` are NaN. The attributes name the frames, and say how many had no
        finite pose and whether the world was axis-aligned. Raises `MediaError`.
        """
        with open_scene(sample.path("scene"), sample.sample_id) as scene:
            size = self.tower.config.image_size
            views = read_views(scene, sample.sample_id, self.config.num_views, size, self.config.depth_scale)
            attributes: dict[str, JSON] = {
                "frames": [scene.names[frame] for frame in views.frames.tolist()],
                "frames_without_pose": len(scene.names) - len(scene.tracked),
                "axis_aligned": scene.axis_alignment is not None,
            }
            num_frames = len(scene.names)
        pixels = patch_pixels(size, self.tower.grid)
        depths = views.depths[:, pixels[:, None], pixels]  # (V, g, g)
        centres = back_project_pixels(depths, pixels, pixels, views.intrinsics, views.poses)
        return Decoded(
            sample.sample_id,
            {"pixels": views.colours, "centres": centres.reshape(len(centres), -1, 3)},
            np.full(len(centres), np.nan),
            duration=None,
            fps=None,
            n_frames=num_frames,
            attributes=attributes,
        )

    @true_float32()
    def encode(self, batch: Sequence[Decoded]) -> list[Features]:
        """Make "values" and "centres" of each sample. Raises `ExtractorError` before `load`."""
        if self._modules is None:
            raise ExtractorError("the depth3d extractor has no weights yet; call load(device) before encode")
        tower, embedding = self._modules
        dtype = getattr(torch, self.config.dtype)
        features = []
        with torch.inference_mode():
            for decoded in batch:
                centres = torch.tensor(decoded.tensors["centres"])
                pixels = normalise_pixels(decoded.tensors["pixels"])
                # a sample is never mixed with others, so its numbers do not depend on the batch
                pieces = [
                    tower(view.to(self._device)) + embedding(places.to(self._device))
                    for view, places in zip(
                        torch.split(pixels, _VIEWS_AT_ONCE), torch.split(centres, _VIEWS_AT_ONCE), strict=True
                    )
                ]
                values = torch.cat(pieces).to("cpu", dtype)
                features.append(Features.checked(self.spec, decoded, {"values": values, "centres": centres}))
        return features


def normalise_pixels(pixels: npt.NDArray[np.generic]) -> Tensor:
    """Turn (V, c, c, 3) uint8 into CLIP's (V, 3, c, c) float32, (x / 255 - mean) / std."""
    scaled = torch.tensor(pixels).permute(0, 3, 1, 2).contiguous().float() / 255
    mean, std = (torch.tensor(numbers).reshape(3, 1, 1) for numbers in (MEAN, STD))
    return (scaled - mean) / std


def _licence(config: Depth3dConfig) -> str:
    published = {CLIP_LICENCE: config.weights, EMBEDDING_LICENCE: config.embedding}
    licences = [licence for licence, source in published.items() if random_seed(source) is None]
    return ", ".join(licences) or "none (random weights)"
