"""AVQA: a clip with two questions and one without sound to train on; of four to answer, one is missing, one broken."""

from pathlib import Path

from miniatures.media import (
    BROKEN,
    MISSING,
    write_annotations,
    write_broken_clip,
    write_clip,
    write_silent_clip,
)
from miniatures.miniature import Miniature


def _question(number: int, video_name: str, video_id: int) -> dict[str, object]:
    return {
        "id": number,
        "video_name": video_name,
        "video_id": video_id,
        "question_text": "What is the animal making the sound in the video?",
        "multi_choice": ["dog", "cat", "duck", "train"],
        "answer": number % 4,
        "question_relation": ("Sound", "Both", "View")[number % 3],
        "question_type": ("Come From", "Which", "Happening")[number % 3],
    }


def write(root: Path) -> None:
    train = [("-aBcD_eFg12_000030", 9001), ("-aBcD_eFg12_000030", 9001), ("silent00000_000007", 9002)]
    val = [("valVid00001_000010", 7001), ("valVid00002_000020", 7002), ("broken00000_000001", 7003)]
    val.append(("missing0000_000002", 7004))
    write_annotations(root, "train_qa.json", [_question(n, *video) for n, video in enumerate(train)])
    write_annotations(root, "val_qa.json", [_question(n, *video) for n, video in enumerate(val, start=100)])
    for seed, name in enumerate(["-aBcD_eFg12_000030", "valVid00001_000010", "valVid00002_000020"]):
        write_clip(root / "videos" / f"{name}.mp4", seed)
    write_silent_clip(root / "videos" / "silent00000_000007.mp4")
    write_broken_clip(root / "videos" / "broken00000_000001.mp4")


MINIATURE = Miniature(
    write,
    channels=("audio",),
    unusable={("broken00000_000001", "video"): BROKEN, ("missing0000_000002", "video"): MISSING},
    train=(3, 2),
    test=(4, 2),
    metrics=("accuracy",),
)
