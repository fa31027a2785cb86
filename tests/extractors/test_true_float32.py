"""Encoding runs in float32 and leaves torch's settings as they were."""

import numpy as np
import pytest
import torch

from extractors import CHANNELS, extractor_class
from extractors.audio import AudioExtractor
from extractors.config import AudioConfig
from extractors.contract import Decoded


def precisions() -> list[str]:
    return [torch.backends.cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision]


def test_encode_sets_true_float32_and_gives_the_settings_back() -> None:
    config = AudioConfig(weights="random:1", embed_dim=8, num_blocks=1, num_heads=2, out_dim=4)
    extractor = AudioExtractor(config)
    extractor.load("cpu")
    seen: list[list[str]] = []
    assert extractor._tower is not None
    extractor._tower.register_forward_pre_hook(lambda *_: seen.append(precisions()))
    before = precisions()
    decoded = Decoded("x", {"mel": np.zeros((1, 1, 128, 204), np.float32)}, np.ones(1), 2.0, None, None)
    extractor.encode([decoded])
    assert seen == [["ieee", "ieee"]]
    assert precisions() == before != seen[0]


@pytest.mark.parametrize("channel", sorted(CHANNELS))
def test_every_channel_does_so(channel: str) -> None:
    assert hasattr(extractor_class(channel).encode, "__wrapped__")
