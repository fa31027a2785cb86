"""Music-AVQA: real and synthetic videos, questions with blanks; one video is missing, one broken, one silent."""

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

REAL, SYNTHETIC = "videos/MUSIC-AVQA-videos-Real", "videos/MUCIS-AVQA-videos-Synthetic"
QUESTIONS = [
    ('["Audio", "Counting"]', "How many musical instruments were heard?", "[]", "two"),
    ('["Visual", "Location"]', "Is there a <Object> in the entire video?", '["accordion"]', "no"),
    (
        '["Audio-Visual", "Comparative"]',
        "Is the <Object> on the <LR> louder?",
        '["violin", "left"]',
        "yes",
    ),
]


def _questions(first: int, video_ids: list[str]) -> list[dict[str, object]]:
    return [
        {
            "video_id": video_id,
            "question_id": first + number,
            "type": kind,
            "question_content": question,
            "templ_values": values,
            "question_deleted": 0,
            "anser": answer,
        }
        for number, (video_id, (kind, question, values, answer)) in enumerate(
            zip(video_ids, QUESTIONS * 2, strict=False)
        )
    ]


def write(root: Path) -> None:
    # two of the three types are trained on twice
    write_annotations(root, "avqa-train.json", _questions(11, ["00001234", "00001234", "sv00000912"]))
    test = ["00005678", "va00000077", "00005678", "00000404", "va00000500", "00000000"]
    write_annotations(root, "avqa-test.json", _questions(91, test))
    for seed, path in enumerate(
        [f"{REAL}/00001234", f"{SYNTHETIC}/sv00000912", f"{REAL}/00005678", f"{SYNTHETIC}/va00000077"]
    ):
        write_clip(root / f"{path}.mp4", seed)
    write_broken_clip(root / SYNTHETIC / "va00000500.mp4")
    write_silent_clip(root / REAL / "00000000.mp4")


MINIATURE = Miniature(
    write,
    channels=("audio",),
    unusable={("va00000500", "video"): BROKEN, ("00000404", "video"): MISSING},
    train=(5, 5),
    test=(6, 3),
    metrics=("Overall Accuracy",),
)
