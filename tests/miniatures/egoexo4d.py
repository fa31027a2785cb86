"""Ego-Exo4D: two takes to train on; of four to judge, two lack a camera, one its ego video, one everything."""

from pathlib import Path

from miniatures.media import BROKEN, MISSING, write_annotations, write_broken_clip, write_clip
from miniatures.miniature import Miniature

TAKES = {
    "train": ["xyz_basketball_01_1", "xyz_climb_02"],
    "val": ["xyz_violin_03", "xyz_violin_04", "xyz_soccer_05", "xyz_soccer_06"],
}
LEVELS = ["Novice", "Early Expert", "Intermediate Expert", "Late Expert"]
CAMERAS = {"ego": "aria01_214-1", "exo1": "cam01", "exo2": "cam02"}


def take_uid(take: str) -> str:
    """The id of a take."""
    return f"11111111-aaaa-4bbb-8ccc-0000000000{take.split('_')[2]}"


def _media(take: str, camera: str) -> str:
    return f"takes/{take}/frame_aligned_videos/downscaled/448/{camera}.mp4"


def write(root: Path) -> None:
    for split, takes in TAKES.items():
        entries = [
            {
                "task_id": 6002,
                "task_name": "Basketball Drills - Reverse Layup",
                "scenario_name": "Basketball",
                "university_id": "xyz",
                "origin_participant_id": "30",
                "take_uid": take_uid(take),
                "video_paths": {
                    view: f"takes/{take}/frame_aligned_videos/{camera}.mp4"
                    for view, camera in CAMERAS.items()
                },
                "proficiency_score": level,
            }
            for take, level in zip(takes, LEVELS, strict=False)
        ]
        write_annotations(root, f"proficiency_demonstrator_{split}.json", {"annotations": entries})
    whole = [(take, camera) for take in TAKES["train"] for camera in CAMERAS.values()]
    parts = [("xyz_violin_03", camera) for camera in ("aria01_214-1", "cam01")]
    parts += [("xyz_violin_04", camera) for camera in ("aria01_214-1", "cam02")]
    parts += [("xyz_soccer_05", camera) for camera in ("cam01", "cam02")]
    for seed, (take, camera) in enumerate(whole + parts):
        write_clip(root / _media(take, camera), seed)
    write_broken_clip(root / _media("xyz_violin_04", "cam01"))


MINIATURE = Miniature(
    write,
    channels=("exo",),
    unusable={
        (take_uid("xyz_violin_03"), "exo/cam02"): MISSING,
        (take_uid("xyz_violin_04"), "exo/cam01"): BROKEN,
        (take_uid("xyz_soccer_05"), "video"): MISSING,
        **{(take_uid("xyz_soccer_06"), role): MISSING for role in ("video", "exo/cam01", "exo/cam02")},
    },
    train=(2, 2),
    test=(4, 2),
    metrics=("accuracy",),
)
