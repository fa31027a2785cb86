"""Miniatures of the published datasets, one file each, in the official layout that `tasks` reads."""

from miniatures import (
    avqa,
    avsd,
    egoexo4d,
    llava_video_178k,
    mlvu,
    music_avqa,
    mvbench,
    scanqa,
    sqa3d,
    videomme,
)

MINIATURES = {
    "avqa": avqa.MINIATURE,
    "avsd": avsd.MINIATURE,
    "egoexo4d": egoexo4d.MINIATURE,
    "llava_video_178k": llava_video_178k.MINIATURE,
    "mlvu": mlvu.MINIATURE,
    "music_avqa": music_avqa.MINIATURE,
    "mvbench": mvbench.MINIATURE,
    "scanqa": scanqa.MINIATURE,
    "sqa3d": sqa3d.MINIATURE,
    "videomme": videomme.MINIATURE,
}
