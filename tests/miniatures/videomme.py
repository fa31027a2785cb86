"""VideoMME: the hub's Parquet file; a video of each length, of which one is missing, and one broken."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from miniatures.media import BROKEN, MISSING, write_broken_clip, write_clip
from miniatures.miniature import Miniature

VIDEOS = {"yt_AAAAAAAA1": "short", "yt_BBBBBBBB2": "medium", "yt_CCCCCCCC3": "long", "yt_DDDDDDDD4": "short"}


def write(root: Path) -> None:
    rows = [
        {
            "video_id": f"{number:03d}",
            "duration": duration,
            "domain": "Knowledge",
            "sub_category": "Astronomy",
            "url": f"https://www.youtube.com/watch?v={name}",
            "videoID": name,
            "question_id": f"{number:03d}-1",
            "task_type": "Counting Problem",
            "question": "How many moons are drawn on the board?",
            "options": ["A. Two.", "B. Three.", "C. Four.", "D. Five."],
            "answer": "ABCD"[number % 4],
        }
        for number, (name, duration) in enumerate(VIDEOS.items(), start=1)
    ]
    (root / "annotations").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), root / "annotations" / "test-00000-of-00001.parquet")
    write_clip(root / "videos" / "yt_AAAAAAAA1.mp4", 0)
    write_clip(root / "videos" / "yt_BBBBBBBB2.MP4", 1)
    write_broken_clip(root / "videos" / "yt_CCCCCCCC3.mp4")


MINIATURE = Miniature(
    write,
    channels=("dense",),
    unusable={("yt_CCCCCCCC3", "video"): BROKEN, ("yt_DDDDDDDD4", "video"): MISSING},
    test=(4, 2),
    metrics=("accuracy",),
)
