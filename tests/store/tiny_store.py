"""Builds tiny real stores: records, random features, and the two together on disk."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from store.feature_store import FeatureStore
from store.features import Array, Features, FeatureSetRecord, TensorLayout

VALUES = TensorLayout("values", 2, 3, "bfloat16")
COMPANION = TensorLayout("visual", 4, 5, "float16")


def make_record(**changes: Any) -> FeatureSetRecord:
    """A feature set with bfloat16 values (T, 2, 3) and a float16 companion (T, 4, 5)."""
    fields = {
        "dataset": "avsd",
        "channel": "audio",
        "extractor": "imagebind-audio",
        "version": "1",
        "fingerprint": "0123456789abcdef",
        "tensors": (VALUES, COMPANION),
        "rate_hz": 1.0,
        "licence": "CC-BY-NC-SA-4.0",
        "config": {"window_seconds": 2},
    }
    return FeatureSetRecord(**(fields | changes))


def make_features(record: FeatureSetRecord, steps: int, seed: int) -> Features:
    """Random features of `steps` time steps in the record's layouts."""
    generator = np.random.default_rng(seed)
    tensors = {
        layout.name: generator.standard_normal((steps, layout.tokens, layout.dim)).astype(layout.numpy_dtype)
        for layout in record.tensors
    }
    values = tensors.pop("values")
    return Features(values, np.arange(steps) + generator.random(), tensors)


RECORD = make_record()


def features(steps: int, seed: int = 0) -> Features:
    """Random features of `RECORD`."""
    return make_features(RECORD, steps, seed)


def same_bits(left: Array, right: Array) -> bool:
    """Equal dtype, shape and bytes."""
    return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()


def assert_same(left: Features, right: Features) -> None:
    """Both have the same bits in every array."""
    assert same_bits(left.values, right.values)
    assert same_bits(left.timestamps, right.timestamps)
    assert left.companions.keys() == right.companions.keys()
    assert all(same_bits(left.companions[name], right.companions[name]) for name in left.companions)


def add_part(store: FeatureStore, record: FeatureSetRecord, samples: Mapping[str, Features]) -> str:
    """Writes and commits one part; returns its path relative to the store."""
    store.register(record)
    with store.writer(record) as writer:
        for sample_id, features in samples.items():
            writer.write(sample_id, features, duration=4.0, fps=25.0, n_frames=100, source_hash="a1")
    part = writer.close()
    store.commit([part])
    return part.part


@dataclass(frozen=True)
class TinyStore:
    """A store on disk with one feature set, and what was put into it.

    Attributes:
        parts: paths of the committed parts, relative to the store.
        samples: sample id -> features.
    """

    store: FeatureStore
    record: FeatureSetRecord
    parts: tuple[str, ...]
    samples: dict[str, Features]

    @property
    def root(self) -> Path:
        """Folder of the store, which is a local one."""
        assert self.store.location.folder is not None
        return self.store.location.folder

    def path(self, part: int = 0) -> Path:
        """Folder of a committed part."""
        return self.root / self.parts[part]


def make_store(
    root: Path, lengths: tuple[tuple[int, ...], ...] = ((1, 5), (3, 2)), **changes: Any
) -> TinyStore:
    """A store with one part per entry of `lengths`, one sample per number in it (its time steps)."""
    store = FeatureStore.open(root)
    record = make_record(**changes)
    samples: dict[str, Features] = {}
    parts = []
    for part_lengths in lengths:
        part = {}
        for steps in part_lengths:
            part[f"clips/{len(samples) + len(part)} ünï.mp4"] = make_features(record, steps, seed=steps)
        parts.append(add_part(store, record, part))
        samples |= part
    return TinyStore(store, record, tuple(parts), samples)
