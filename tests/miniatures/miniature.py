"""What a miniature of a dataset promises: how it is written, and what of it can be used."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Miniature:
    """A few samples in the official layout of a dataset, with real media.

    Attributes:
        write: puts annotations and media below a root.
        channels: the side channels that the published patches of the dataset use.
        unusable: (sample, role) of each file that is missing or broken -> words of the reason.
        train: instructions of the split `train`, and those with features of every channel; None without that split.
        test: the same of the split that the published evaluation scores.
        metrics: names that it has.
    """

    write: Callable[[Path], None]
    channels: tuple[str, ...]
    unusable: Mapping[tuple[str, str], str]
    train: tuple[int, int] | None = None
    test: tuple[int, int] | None = None
    metrics: tuple[str, ...] = ()
