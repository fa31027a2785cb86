"""SQA3D: the official pairs of files of two splits; one room to answer in is missing, one has no poses."""

from pathlib import Path

from miniatures.media import MISSING, write_annotations, write_room, write_room_without_poses
from miniatures.miniature import Miniature

HEAD = {"info": {}, "license": {}, "data_type": "scannet", "data_subtype": "v2"}
SCENES = {
    "train": ["scene0801_00", "scene0801_00"],
    "test": ["scene0811_00", "scene0811_00", "scene0812_00", "scene0813_00"],
}
QUESTIONS = ["What color is the chair behind me?", "Is the door open?", "How many cups?", "Can I sit?"]
ANSWERS = ["brown", "no", "2", "yes"]


def write(root: Path) -> None:
    write_annotations(
        root, "answer_dict.json", [{a: n for n, a in enumerate(ANSWERS)}, dict(enumerate(ANSWERS))]
    )
    for split, scenes in SCENES.items():
        questions, annotations = [], []
        for number, scene_id in enumerate(scenes):
            question_id = 220602900000 + number + 100 * (split == "test")
            questions.append(
                {
                    "scene_id": scene_id,
                    "situation": "I am facing a whiteboard with a desk on my left.",
                    "alternative_situation": ["I look at the board.", "A desk is at my left hand."],
                    "question": QUESTIONS[number],
                    "question_id": question_id,
                }
            )
            answer = {"answer": ANSWERS[number], "answer_confidence": "yes", "answer_id": 1}
            annotations.append(
                {
                    "scene_id": scene_id,
                    "question_type": "N/A",
                    "answer_type": "other",
                    "question_id": question_id,
                    "answers": [answer],
                    "rotation": {"_x": 0, "_y": 0, "_z": -0.5, "_w": 0.75},
                    "position": {"x": 0.0, "y": -1.25, "z": 0},
                }
            )
        asked = {**HEAD, "task_type": "Situated question answering", "questions": questions}
        write_annotations(root, f"v1_balanced_questions_{split}_scannetv2.json", asked)
        answered = {**HEAD, "annotations": annotations}
        write_annotations(root, f"v1_balanced_sqa_annotations_{split}_scannetv2.json", answered)
    for name in ("scene0801_00", "scene0811_00"):
        write_room(root / "scenes" / name)
    write_room_without_poses(root / "scenes" / "scene0812_00")


MINIATURE = Miniature(
    write,
    channels=("depth3d",),
    unusable={
        ("scene0812_00", "scene"): "none of its 2 frames has a finite pose",
        ("scene0813_00", "scene"): MISSING,
    },
    train=(2, 2),
    test=(4, 2),
    metrics=("EM1", "EM1_refined"),
)
