"""The settings of each channel's extractor: what is computed. Flows, recipes and the command line are made of them.

This file needs neither torch nor the extractors, so that flows and commands start fast.
"""

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from extractors.contract import DType
from extractors.key_pictures import PictureChoice

VideoTowerKind = Literal["languagebind", "clip"]
Pooling = Literal["bilinear", "average", "max"]

POOLED_SIDE = 2  # the patches of a dense frame are averaged to 2 x 2
_RANDOM = re.compile(r"random:(\d+)")


def random_seed(source: str) -> int | None:
    """Return the seed of `random:<seed>`, None for weights that come from somewhere."""
    found = _RANDOM.fullmatch(source)
    return int(found[1]) if found else None


class AudioConfig(BaseModel):
    """Settings of the audio extractor.

    `weights`: path of `imagebind_huge.pth` or a safetensors file with its names, a hub id 'org/name', or
    `random:<seed>` for a random tower. The sizes default to ImageBind-huge's. `stream` counts the file's
    audio tracks from 0. `dtype` is the stored type; the tower always runs in float32.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: str
    embed_dim: int = Field(768, gt=0)
    num_blocks: int = Field(12, gt=0)
    num_heads: int = Field(12, gt=0)
    out_dim: int = Field(1024, gt=0)
    stream: int = Field(0, ge=0)
    dtype: DType = "bfloat16"

    @model_validator(mode="after")
    def _heads_divide(self) -> "AudioConfig":
        if self.embed_dim % self.num_heads:
            raise ValueError(f"embed_dim {self.embed_dim} is no multiple of num_heads {self.num_heads}")
        return self

    @property
    def seed(self) -> int | None:
        """The seed of a random tower, None for weights from a file."""
        return random_seed(self.weights)


class VideoTowerSize(BaseModel):
    """The shape of a tower; names are those of published configs, defaults LanguageBind's (ViT-L/14).

    `num_frames` are the frames of a chunk; without `add_time_attn` they are not mixed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    hidden_size: int = Field(default=1024, gt=0)
    intermediate_size: int = Field(default=4096, gt=0)
    num_hidden_layers: int = Field(default=24, gt=1)
    num_attention_heads: int = Field(default=16, gt=0)
    image_size: int = Field(default=224, gt=0)
    patch_size: int = Field(default=14, gt=0)
    hidden_act: Literal["gelu", "quick_gelu"] = "gelu"
    layer_norm_eps: float = Field(default=1e-5, gt=0)
    add_time_attn: bool = True
    num_frames: int = Field(default=8, gt=0)

    @model_validator(mode="after")
    def _possible(self) -> "VideoTowerSize":
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is no multiple of the {self.num_attention_heads} heads"
            )
        if self.image_size // self.patch_size < POOLED_SIDE:
            raise ValueError(
                f"pictures of {self.image_size} pixels have too few patches of {self.patch_size}"
            )
        return self


# a random tower is for trying out: small, but with the published patches
SMALL_VIDEO_TOWER = VideoTowerSize(
    hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=2
)


class DenseConfig(BaseModel):
    """Settings of the dense extractor.

    `weights`: folder or hub id of LanguageBind_Video_merge or Video-LLaVA-7B, or `random:<seed>` for a random
    tower of `random_size`. `tower`: "languagebind", or "clip" for checkpoints without temporal attention
    (Video-LLaVA-7B-hf), which give other features. At least `min_frames` are asked of a clip, rounded down to
    whole chunks. `dtype` is the stored type; the tower always runs in float32.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: str
    tower: VideoTowerKind = "languagebind"
    min_frames: int | None = Field(default=None, gt=0)
    random_size: VideoTowerSize = SMALL_VIDEO_TOWER
    dtype: DType = "float16"

    @property
    def seed(self) -> int | None:
        """The seed of a random tower, None for weights from files."""
        return random_seed(self.weights)


class ExoConfig(BaseModel):
    """Settings of the exo extractor.

    `weights`: folder or hub id of SigLIP (so400m-patch14-384) in the transformers layout, or `random:<seed>`
    for a small random tower. `num_frames` per camera. `pooling` of the patches to half the grid's side; the
    published features use bilinear, which rounds up. `dtype` is the stored type; the tower runs in float32.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: str
    num_frames: int = Field(default=32, gt=0)
    pooling: Pooling = "bilinear"
    dtype: DType = "bfloat16"

    @property
    def seed(self) -> int | None:
        """The seed of a random tower, None for weights from files."""
        return random_seed(self.weights)


class Depth3dConfig(BaseModel):
    """Settings of the depth3d extractor.

    `weights`: folder or hub id of CLIP (ViT-L/14-336) in the transformers layout, or `random:<seed>` for a
    small random tower. `embedding`: file, folder or hub id of the LLaVA-3D checkpoint, of which only the
    position embedding is read, or `random:<seed>`. `depth_scale`: units of the depth pictures in a metre.
    `dtype` is the stored type of "values"; everything runs in float32.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: str
    embedding: str
    num_views: int = Field(default=32, gt=0)
    depth_scale: float = Field(default=1000.0, gt=0, allow_inf_nan=False)
    dtype: DType = "bfloat16"

    @property
    def seed(self) -> int | None:
        """The seed of a random tower or embedding, None when the weights of both come from files."""
        seeds = [random_seed(self.weights), random_seed(self.embedding)]
        return next((seed for seed in seeds if seed is not None), None)


class FramesConfig(BaseModel):
    """Settings of the frames extractor.

    `base`: folder or hub id of a LLaVA-OneVision checkpoint in the transformers layout; sizes come from its
    config. `num_frames` key frames a clip. `dtype` is the stored type; the tower always runs in float32.
    `scene_frames` and `image_frames` say which pictures of an RGB-D scene and of a folder of pictures are key
    frames (`extractors.key_pictures.KeyPictures.chosen`); with "views" and as many key frames as views, key
    frame i is view i of depth3d.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: str
    num_frames: int = Field(32, gt=0)
    dtype: DType = "bfloat16"
    scene_frames: PictureChoice = "views"
    image_frames: PictureChoice = "first"
