"""MLVU: the official files of three kinds of question; one video is missing, one broken."""

from pathlib import Path

from miniatures.media import BROKEN, MISSING, write_annotations, write_broken_clip, write_clip
from miniatures.miniature import Miniature

KINDS = {"1_plotQA": "plotQA", "4_count": "count", "7_topic_reasoning": "topic_reasoning"}


def write(root: Path) -> None:
    for folder, kind in KINDS.items():
        questions = [
            {
                "video": f"{kind}_{number}.mp4",
                "duration": 480.0,
                "question": "What color is the main male character's coat?",
                "candidates": ["Yellow", "Red", "Green", "Blue"],
                "answer": "Blue",
                "question_type": kind,
            }
            for number in range(1, 3)
        ]
        write_annotations(root, f"{folder}.json", questions)
    videos = root / "videos"
    for seed, path in enumerate(["1_plotQA/plotQA_1", "1_plotQA/plotQA_2", "4_count/count_1"]):
        write_clip(videos / f"{path}.mp4", seed)
    write_broken_clip(videos / "7_topic_reasoning/topic_reasoning_1.mp4")


MINIATURE = Miniature(
    write,
    channels=("dense",),
    unusable={
        ("4_count/count_2.mp4", "video"): MISSING,
        ("7_topic_reasoning/topic_reasoning_1.mp4", "video"): BROKEN,
        ("7_topic_reasoning/topic_reasoning_2.mp4", "video"): MISSING,
    },
    test=(6, 3),
    metrics=("M-Avg",),
)
