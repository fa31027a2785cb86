"""LLaVA-Video-178K: two of its four files, with a third entry of an id and a video that is missing."""

from pathlib import Path

from miniatures.media import MISSING, write_annotations, write_clip
from miniatures.miniature import Miniature

ACTIVITYNET = "academic_source/activitynet/v_abc123.mp4"
YOUTUBE = "liwei_youtube_videos/videos/youtube_video_2024/ytb_zz-Z_9.mp4"
LOST = "academic_source/NextQA/0023/6971535794.mp4"


def _entry(name: str, video: str, *turns: str) -> dict[str, object]:
    texts = [f"<image>\n{turns[0]}", *turns[1:]]
    messages = [{"from": ("human", "gpt")[n % 2], "value": text} for n, text in enumerate(texts)]
    source = "0_30_s_academic_v0_1" if video.startswith("academic") else "0_30_s_youtube_v0_1"
    return {"id": name, "conversations": messages, "data_source": source, "video": video}


def write(root: Path) -> None:
    academic = [
        _entry("v_abc123", ACTIVITYNET, "What sport is shown?", "Archery."),
        _entry("v_abc123", ACTIVITYNET, "How many people?", "Two.", "Who wins?", "The person in red."),
        _entry("NextQA_0023", LOST, "What is the cat doing?", "Sleeping."),
        _entry("v_abc123", ACTIVITYNET, "A third entry, which the release drops?", "Yes."),
    ]
    write_annotations(root, "1_2_m_academic_oe_v0_1_qa_processed.json", academic)
    youtube = [_entry("ytb_zz-Z_9", YOUTUBE, "Where?", "At a café.")]
    write_annotations(root, "1_2_m_youtube_oe_v0_1_qa_processed.json", youtube)
    for seed, video in enumerate([ACTIVITYNET, YOUTUBE]):
        write_clip(root / "videos" / video, seed)


MINIATURE = Miniature(write, channels=("dense",), unusable={(LOST, "video"): MISSING}, train=(4, 3))
