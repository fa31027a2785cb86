"""AVSD: two dialogs to train on, four to answer; the videos of two of those are missing and broken."""

from pathlib import Path

from miniatures.media import BROKEN, MISSING, write_annotations, write_broken_clip, write_clip
from miniatures.miniature import Miniature


def write(root: Path) -> None:
    answers = ["a man and a woman .", "yes , a radio plays .", "no .", "in the kitchen .", "he leaves ."]
    turns = [{"question": f"what is it {number} ?", "answer": text} for number, text in enumerate(answers)]
    dialog = {"script": "a person folds a blanket", "summary": None, "data": turns}
    longer = {**dialog, "data": turns + turns + turns[:2]}
    write_annotations(root, "avsd_train.json", {"QK7M2": dialog, "B04Z1": longer})
    dialogs = [
        {
            "image_id": name,
            "caption": "a person is in a room",
            "summary": "a person walks about",
            "dialog": turns[: count + 1],
        }
        for count, name in enumerate(["0BZAD", "S8T3K", "WQ2XY", "LOST0"])
    ]
    info = {"version": "1.0", "year": "2022"}
    name = "mock_test_set4DSTC10-AVSD_from_DSTC7_singref.json"
    write_annotations(root, name, {"info": info, "dialogs": dialogs, "type": "test"})
    train, test = root / "videos/Charades_v1_480", root / "videos/Charades_vu17_test"
    for seed, path in enumerate([train / "QK7M2", train / "B04Z1", test / "0BZAD", test / "S8T3K"]):
        write_clip(path.with_suffix(".mp4"), seed)
    write_broken_clip(test / "WQ2XY.mp4")


MINIATURE = Miniature(
    write,
    channels=("audio", "dense"),
    unusable={("WQ2XY", "video"): BROKEN, ("LOST0", "video"): MISSING},
    train=(3, 3),
    test=(4, 2),
    metrics=("CIDEr", "METEOR", "ROUGE_L", "Bleu_4"),
)
