"""What the demo does for each channel: its part of SideCue, its encoder, and the patches that are trained.

The encoders are small: random ones, but for exo, whose encoder is the vision tower of the base as in the published
patches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from pydantic import BaseModel
from transformers import CLIPVisionConfig, CLIPVisionModel

from extractors.config import AudioConfig, DenseConfig, Depth3dConfig, ExoConfig, FramesConfig
from extractors.depth3d import SMALL_CLIP
from pave_model.config import LoraSettings
from pipelines.base_model import hide_weight_bars, load_base_model
from pipelines.config import ChannelEncoders, ExecutionConfig, ExtractTogetherConfig, FusionSizes
from pipelines.sidecue_base import BaseTraining
from tasks.sidecue import WorldName

# The media of a channel's part, which has a folder of its own.
WORLDS: dict[str, tuple[WorldName, ...]] = {
    "audio": ("tones",),
    "dense": ("flashes",),
    "exo": ("takes",),
    "depth3d": ("rooms",),
}
# As small as the tower of `random:SEED`, for pictures of SideCue's size: 6 x 6 patches.
SIDECUE_CLIP = CLIPVisionConfig.from_dict({**SMALL_CLIP.to_dict(), "image_size": 84})


@dataclass(frozen=True)
class DemoPatch:
    """A patch and its LoRA-only twin.

    Attributes:
        name: of its runs and scores.
        part: the channel whose media it is trained and asked on.
        questions: the question types.
        channels: its side channels.
        title, why: of its section in the report.
        start_from: patches whose fusion module of a channel it begins with, by channel.
    """

    name: str
    part: str
    questions: tuple[str, ...]
    channels: dict[str, FusionSizes]
    title: str
    why: str
    start_from: Mapping[str, str] = field(default_factory=dict)


def _sizes(time_radius: float | None, first_token: int = 0) -> FusionSizes:
    return FusionSizes(embed_dim=128, hidden_dim=128, time_radius=time_radius, first_token=first_token)


# A window of ImageBind reaches one second to each side. Dense frames belong to the nearest key frames, which are up to
# 0.9 s apart.
AUDIO, DENSE = _sizes(1.0), _sizes(0.5)
PATCHES: dict[str, DemoPatch] = {
    patch.name: patch
    for patch in (
        DemoPatch(
            "audio",
            "audio",
            ("tone_colour",),
            {"audio": AUDIO},
            "What is the sound worth?",
            "The scene changes its colour every second or so, and one short tone sounds. The question is which colour "
            "was on screen at that moment; the picture alone cannot tell.",
        ),
        DemoPatch(
            "dense",
            "dense",
            ("flash_first", "flash_second"),
            {"dense": DENSE},
            "What are densely sampled frames worth?",
            "The picture flashes twice, each time between two key frames. The questions are about the colours of the "
            "flashes, which only frames that are sampled more densely show.",
        ),
        DemoPatch(
            "exo",
            "exo",
            ("behind_colour", "behind_kind"),
            {"exo": _sizes(0.5)},
            "What is a second camera worth?",
            "A box hides a sign. Only the camera behind the box sees its colour and the shape on it.",
        ),
        # With the distance to learn beside it, which ball is nearer is learned sooner and more surely.
        DemoPatch(
            "depth3d",
            "depth3d",
            ("nearer_ball", "ball_distance"),
            {"depth3d": _sizes(None)},
            "What is depth worth?",
            "Two balls look equally large but are not equally far away. Pictures alone tell neither which is nearer "
            "nor how many metres away it is.",
        ),
        DemoPatch(
            "depth3d-pose",
            "depth3d",
            ("ball_side",),
            {"depth3d": _sizes(None)},
            "What are camera poses worth?",
            "The same rooms; the camera faces anywhere. The question is on which side the balls are for somebody who "
            "faces north, which only the poses tell.",
        ),
    )
}
# What needs two channels at once, and what each of them makes of it alone.
JOINT = DemoPatch(
    "audio+dense",
    "dense",
    ("flash_at_tone",),
    {"audio": AUDIO, "dense": DENSE},
    "What are sound and dense frames worth together?",
    "A tone sounds during one of the two flashes. The sound tells when, the dense frames tell the colour; the question "
    "needs both. Its modules start from those that were trained for sound and for dense frames above.",
    # from nothing it may learn the flashes and never hear the tone
    start_from={"audio": "audio", "dense": "dense"},
)
ALONE = tuple(
    DemoPatch(
        f"{channel}-alone",
        JOINT.part,
        JOINT.questions,
        {channel: sizes},
        f"The same question with {channel} alone",
        "A patch of one of the two channels, begun and trained as that of both.",
        {channel: JOINT.start_from[channel]},
    )
    for channel, sizes in JOINT.channels.items()
)
LORA = LoraSettings(r=16, alpha=16, dropout=0.0)


def _part_channels(part: str, chosen: Sequence[str]) -> list[str]:
    """The channels that are extracted from the media of a part, where the demo is of the `chosen` ones."""
    joint = part == JOINT.part and set(JOINT.channels) <= set(chosen)
    return ["frames", *(JOINT.channels if joint else (part,))]


def extraction(part: str, chosen: Sequence[str], out: Path, seed: int) -> ExtractTogetherConfig:
    """How the demo in `out` extracts what it needs of a part, where it is of the `chosen` channels."""
    encoders = {channel: _encoder(channel, out / "base", seed) for channel in _part_channels(part, chosen)}
    return ExtractTogetherConfig(
        store=str(out / "store"),
        manifest=out / "prepared" / part / "manifest.parquet",
        channels=ChannelEncoders.model_validate(encoders),
        execution=ExecutionConfig(part_samples=64),  # small parts, so that the progress moves
    )


def _encoder(channel: str, base: Path, seed: int) -> BaseModel:
    """The encoder of a channel; the towers are made beside the folder `base`."""
    num_frames = BaseTraining().num_frames
    if channel == "frames":
        return FramesConfig(base=str(base), num_frames=num_frames)
    if channel == "audio":
        return AudioConfig(
            weights=f"random:{seed}", embed_dim=64, num_blocks=2, num_heads=4, out_dim=64, stream=0
        )
    if channel == "dense":
        return DenseConfig(weights=f"random:{seed}")
    tower = str(_write_tower(channel, base, seed))
    if channel == "exo":
        return ExoConfig(weights=tower, num_frames=num_frames)
    return Depth3dConfig(weights=tower, embedding=f"random:{seed}", num_views=num_frames)


def _write_tower(channel: str, base: Path, seed: int) -> Path:
    """Write the image tower of `exo` or `depth3d` beside the base, in the transformers layout; its folder."""
    folder = base.parent / "towers" / channel
    hide_weight_bars()
    if channel == "exo":
        tower = load_base_model(str(base)).model.vision_tower
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            tower = CLIPVisionModel(SIDECUE_CLIP)
    tower.save_pretrained(folder)
    return folder
