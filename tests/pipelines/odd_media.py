"""Files that are no usable clips, each in its own way."""

from pathlib import Path

import av


def write_text(path: Path) -> Path:
    """A text file under the name of a video."""
    path.write_text("Dear diary, today I was renamed to a video.\n" * 40)
    return path


def write_nothing(path: Path) -> Path:
    """A file of zero bytes."""
    path.touch()
    return path


def write_video_without_frames(path: Path) -> Path:
    """A whole mp4 with a video track that has no packets."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()
    return path
