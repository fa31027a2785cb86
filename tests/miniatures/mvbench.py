"""MVBench: three of its tasks; a clip that two of them ask about, one that is missing and one broken."""

from pathlib import Path

from miniatures.media import BROKEN, MISSING, write_annotations, write_broken_clip, write_clip
from miniatures.miniature import Miniature

CLIP, OTHER = "star/Charades_segment/ZS9XR_0.0_3.0.mp4", "clevrer/video_validation/video_10009.mp4"
BAD, LOST = "clevrer/video_validation/video_10010.mp4", "nturgbd_convert/S001.mp4"


def _question(video: str, **more: object) -> dict[str, object]:
    candidates = ["Put down the cup.", "Opened the door.", "Took the food."]
    question = "What happened after the person took the food?"
    name = video.rpartition("/")[2]
    return {"video": name, "question": question, "candidates": candidates, "answer": candidates[1], **more}


def write(root: Path) -> None:
    segment = {"start": 0.0, "end": 2.0, "accurate_start": 0.5, "accurate_end": 1.5, "question_id": "Int_T1"}
    write_annotations(root, "action_sequence.json", [_question(CLIP, **segment)])
    write_annotations(root, "object_interaction.json", [_question(CLIP, **segment)])
    write_annotations(root, "moving_direction.json", [_question(OTHER), _question(BAD)])
    write_annotations(root, "fine_grained_pose.json", [_question(LOST)])
    for seed, video in enumerate([CLIP, OTHER]):
        write_clip(root / "videos" / video, seed)
    write_broken_clip(root / "videos" / BAD)


MINIATURE = Miniature(
    write,
    channels=("dense",),
    unusable={(BAD, "video"): BROKEN, (LOST, "video"): MISSING},
    test=(5, 3),
    metrics=("accuracy", "mean_of_tasks"),
)
