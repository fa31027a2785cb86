"""The channel `frames`: key-frame tokens of the base's own vision tower, from which patches are trained.

Per key frame S tokens twice: "values", the query tokens (F, S, C_v) before the projector, and the companion
"visual", the tokens (F, S, D) that the language model sees.

Key frames come from the sample's "video" if it has one, else from its "scene", else from its "images"; a file
that cannot be used is an error, and no other takes its place.
"""

import re
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from transformers import LlavaOnevisionConfig

from extractors.clip_requests import Picture, PictureRequest
from extractors.config import FramesConfig
from extractors.contract import JSON, Decoded, Features, FeatureSpec, Sample, TensorSpec
from extractors.errors import ExtractorError
from extractors.joint_decoding import ROLE, decode_clip
from extractors.key_frames import KeyFrames, key_frame_request
from extractors.key_pictures import IMAGES, SCENE, decode_key_pictures
from extractors.pictures import MEAN, STD, key_frame_pixels, normalise_pixels, resize_picture
from extractors.true_float32 import true_float32
from extractors.vision_base import (
    VisionBase,
    load_vision_base,
    num_layers_used,
    num_tokens,
    read_config,
    read_tensors,
)
from extractors.weights import tensors_hash

__all__ = ["FramesExtractor", "key_frame_pixels", "normalise_pixels"]

VERSION = "1"  # of the code: raise it with every change of the numbers beyond rounding
_RELEASED_BASE = re.compile(r"llava-hf/llava-onevision-.*")
_FRAMES_AT_ONCE = 32  # bounds memory when many frames are asked for


class FramesExtractor:
    """Video or pictures to (F, S, C_v) and (F, S, D); see `extractors.contract.Extractor`."""

    channel = "frames"

    def __init__(self, config: FramesConfig) -> None:
        self.config = config
        self._device = "cpu"
        self._vision: VisionBase | None = None

    @cached_property
    def base_config(self) -> LlavaOnevisionConfig:
        """The base's config. Raises `WeightsError`."""
        return read_config(self.config.base)

    @cached_property
    def spec(self) -> FeatureSpec:
        """The spec; reads the vision weights once to hash them. Raises `WeightsError`."""
        config, base = self.config, self.base_config
        vision = base.vision_config
        released = _RELEASED_BASE.fullmatch(config.base) is not None
        return FeatureSpec(
            channel=self.channel,
            extractor="llava-onevision-frames",
            version=VERSION,
            tensors=(
                TensorSpec("values", num_tokens(base), vision.hidden_size, config.dtype),
                TensorSpec("visual", num_tokens(base), base.text_config.hidden_size, config.dtype),
            ),
            rate_hz=None,
            licence="Apache-2.0 (LLaVA-OneVision base)" if released else "unknown",
            identity={
                "weights": {"sha256": tensors_hash(read_tensors(config.base, base))},
                "layers": num_layers_used(base),
                "heads": vision.num_attention_heads,
                "norm_eps": vision.layer_norm_eps,
                "activation": vision.hidden_act,
                "projector_activation": base.projector_hidden_act,
                "patch_size": vision.patch_size,
                "image_size": vision.image_size,
                "resize": "pillow-bicubic-square",
                "mean": MEAN,
                "std": STD,
                "pool": "bilinear-half",
                "num_frames": config.num_frames,
                "frame_choice": "linspace-truncated",
                "dtype": config.dtype,
                **_other_choices(config),
            },
        )

    def load(self, device: str) -> None:
        """Put tower and projector on `device`. Raises `WeightsError`."""
        tensors = read_tensors(self.config.base, self.base_config)
        self._vision = load_vision_base(tensors, self.base_config).to(device)
        self._device = device

    def decode(self, sample: Sample) -> Decoded:
        """Read the key frames of the sample: tensor "pixels" (F, H, W, 3) uint8, resized.

        `timestamps` are the frames' times, NaN where there is no "video". Raises `MediaError`.
        """
        role = self._picture_role(sample)
        if role is None:
            return decode_clip(self, sample)
        choice = self.config.scene_frames if role == SCENE else self.config.image_frames
        return decode_key_pictures(
            role, sample.path(role), sample.sample_id, self.config.num_frames, choice, self._resized
        )

    def clip_request(self, sample: Sample) -> PictureRequest[Picture, Decoded] | None:
        """The pictures that `decode` reads of a clip. Raises `WeightsError`: the base's config has their size."""
        if self._picture_role(sample) is not None:
            return None

        def finish(found: KeyFrames) -> Decoded:
            pixels = np.stack(found.frames)  # (F, H, W, 3)
            return Decoded(
                sample.sample_id,
                {"pixels": pixels},
                found.timestamps,
                found.duration,
                found.fps,
                found.n_frames,
            )

        return key_frame_request(self.config.num_frames, self._resized, finish)

    @true_float32()
    def encode(self, batch: Sequence[Decoded]) -> list[Features]:
        """Make "values" and "visual" of each sample. Raises `ExtractorError` before `load`."""
        if self._vision is None:
            raise ExtractorError("the frames extractor has no weights yet; call load(device) before encode")
        dtype = getattr(torch, self.config.dtype)
        features = []
        with torch.inference_mode():
            for decoded in batch:
                pixels = decoded.tensors["pixels"]
                # a sample is never mixed with others, so its numbers do not depend on the batch
                pieces = [
                    self._vision(normalise_pixels(pixels[first : first + _FRAMES_AT_ONCE]).to(self._device))
                    for first in range(0, len(pixels), _FRAMES_AT_ONCE)
                ]
                values, visual = (torch.cat(part).to("cpu", dtype) for part in zip(*pieces, strict=True))
                tensors = {"values": values, "visual": visual}
                features.append(Features.checked(self.spec, decoded, tensors))
        return features

    def _picture_role(self, sample: Sample) -> str | None:
        """The role that pictures come from where there is no clip; None: from "video"."""
        if ROLE in sample.media:
            return None
        return next((role for role in (SCENE, IMAGES) if role in sample.media), None)

    def _resized(self, picture: Picture) -> Picture:
        return resize_picture(picture, self.base_config.vision_config.image_size)


def _other_choices(config: FramesConfig) -> dict[str, JSON]:
    """The choices of pictures that are not the defaults: those are older than their fields."""
    names = ("scene_frames", "image_frames")
    fields = FramesConfig.model_fields
    return {name: getattr(config, name) for name in names if getattr(config, name) != fields[name].default}
