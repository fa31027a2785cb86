"""ScanQA: one room to train on and one that is missing; of three to answer in, one has no poses, one is missing."""

from pathlib import Path

from miniatures.media import MISSING, write_annotations, write_room, write_room_without_poses
from miniatures.miniature import Miniature


def _question(split: str, number: int, scene_id: str) -> dict[str, object]:
    return {
        "answers": ["brown cabinet", "wooden cabinet"],
        "object_ids": [4],
        "object_names": ["cabinet"],
        "question": "What is next to the door?",
        "question_id": f"{split}-{scene_id[:-3]}-{number}",
        "scene_id": scene_id,
    }


def write(root: Path) -> None:
    train = ["scene0901_00", "scene0901_00", "scene0902_01"]
    val = ["scene0911_00", "scene0911_00", "scene0912_00", "scene0913_00"]
    for split, scenes in {"train": train, "val": val}.items():
        questions = [_question(split, number, scene) for number, scene in enumerate(scenes)]
        write_annotations(root, f"ScanQA_v1.0_{split}.json", questions)
    for name in ("scene0901_00", "scene0911_00"):
        write_room(root / "scenes" / name)
    write_room_without_poses(root / "scenes" / "scene0912_00")


MINIATURE = Miniature(
    write,
    channels=("depth3d",),
    unusable={
        ("scene0902_01", "scene"): MISSING,
        ("scene0912_00", "scene"): "none of its 2 frames has a finite pose",
        ("scene0913_00", "scene"): MISSING,
    },
    train=(3, 2),
    test=(4, 2),
    metrics=("EM1", "EM1_refined", "CIDEr", "METEOR", "ROUGE_L", "Bleu_4"),
)
