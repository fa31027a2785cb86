"""Random features of the tiny base's sizes, in a real store."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ml_dtypes import bfloat16
from tiny_base import TOKENS, VISION, WIDTH

from store import Features, FeatureSetRecord, FeatureStore, TensorLayout

AUDIO = 8
LAYOUTS = {
    "frames": (
        TensorLayout("values", TOKENS, VISION, "bfloat16"),
        TensorLayout("visual", TOKENS, WIDTH, "bfloat16"),
    ),
    "audio": (TensorLayout("values", 1, AUDIO, "bfloat16"),),
}


def write_features(folder: Path, dataset: str, channel: str, steps: Sequence[tuple[str, int]]) -> None:
    """Features of so many steps for each sample id."""
    rng = np.random.default_rng(0)
    store = FeatureStore.open(folder)
    record = FeatureSetRecord(dataset, channel, "toy", "1", "f" * 16, LAYOUTS[channel], None, "none", {})
    store.register(record)
    with store.writer(record) as part:
        for sample_id, length in steps:
            values, *others = [
                rng.normal(size=(length, layout.tokens, layout.dim)).astype(bfloat16)
                for layout in record.tensors
            ]
            companions = dict(zip(["visual"], others, strict=False))
            part.write(sample_id, Features(values, np.arange(length, dtype=np.float64), companions))
    store.commit([part.close()])
