"""The records that extractors exchange, their fingerprint, the errors, and finding a channel."""

import math
import pickle
import subprocess
import sys
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from extractors import CHANNELS, extractor_class
from extractors.contract import Decoded, Features, FeatureSpec, TensorSpec
from extractors.errors import ExtractorError, MediaError, MissingTrackError, UnknownChannelError

SPEC = FeatureSpec(
    channel="frames",
    extractor="tower",
    version="1",
    tensors=(TensorSpec("values", 2, 3, "float32"), TensorSpec("visual", 2, 5, "float32")),
    rate_hz=None,
    licence="MIT",
    identity={"weights": {"sha256": "00ff"}, "layers": [1, 2], "mean": 0.5, "head": None, "on": True},
)


def decoded(times: list[float]) -> Decoded:
    return Decoded("clip 1", {}, np.array(times), 4.0, 25.0, 100)


def tensors(steps: int, **changes: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"values": torch.ones(steps, 2, 3), "visual": torch.ones(steps, 2, 5)} | changes


def test_the_fingerprint_is_16_hex_digits_and_does_not_depend_on_order() -> None:
    fingerprint = SPEC.fingerprint()
    assert len(fingerprint) == 16
    assert set(fingerprint) <= set("0123456789abcdef")
    reordered = OrderedDict(reversed(SPEC.identity.items()))
    assert replace(SPEC, identity=reordered).fingerprint() == fingerprint
    assert pickle.loads(pickle.dumps(SPEC)).fingerprint() == fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"channel": "audio"},
        {"extractor": "other"},
        {"version": "2"},
        {"tensors": SPEC.tensors[:1]},
        {"rate_hz": 1.0},
        {"identity": dict(SPEC.identity) | {"mean": 0.25}},
        {"identity": dict(SPEC.identity) | {"head": False}},
    ],
)
def test_whatever_changes_the_numbers_changes_the_fingerprint(change: dict[str, object]) -> None:
    assert replace(SPEC, **change).fingerprint() != SPEC.fingerprint()


def test_the_licence_does_not_change_the_fingerprint() -> None:
    assert replace(SPEC, licence="unknown").fingerprint() == SPEC.fingerprint()


@pytest.mark.parametrize(
    "value", [Path("/x"), np.float32(1), {1, 2}, math.nan, math.inf, b"x", {1: "x"}, torch.float32]
)
def test_the_fingerprint_refuses_what_json_cannot_hold(value: object) -> None:
    with pytest.raises(TypeError, match=r"spec\.identity"):
        replace(SPEC, identity={"deep": [{"value": value}]}).fingerprint()  # type: ignore[dict-item]


def test_good_features_pass_the_check() -> None:
    features = Features.checked(SPEC, decoded([0.0, 0.0, 1.5]), tensors(3))
    assert (features.sample_id, features.duration, features.fps, features.n_frames) == (
        "clip 1",
        4.0,
        25.0,
        100,
    )
    Features.checked(SPEC, decoded([math.nan, math.nan]), tensors(2))


@pytest.mark.parametrize(
    ("times", "change", "message"),
    [
        ([0.0, 1.0], {"visual": torch.ones(3, 2, 5)}, "'visual' is .*3, 2, 5"),
        ([0.0, 1.0], {"values": torch.ones(2, 1, 3)}, "'values' is"),
        ([0.0, 1.0], {"values": torch.ones(2, 2, 3, dtype=torch.float16)}, "float16"),
        ([0.0, 1.0], {"values": torch.full((2, 2, 3), torch.nan)}, "NaN"),
        ([0.0, 1.0], {"more": torch.ones(2, 2, 3)}, "more"),
        ([1.0, 0.0], {}, "rising"),
        ([], {}, "rising"),
    ],
)
def test_features_that_break_the_spec_are_refused(
    times: list[float], change: dict[str, torch.Tensor], message: str
) -> None:
    with pytest.raises(ExtractorError, match=f"clip 1: frames features.*{message}"):
        Features.checked(SPEC, decoded(times), tensors(len(times), **change))


@pytest.mark.parametrize("kind", [MediaError, MissingTrackError])
def test_media_errors_are_one_line_and_survive_pickling(kind: type[MediaError]) -> None:
    error = pickle.loads(pickle.dumps(kind("clip 1", "no sound", "add some")))
    assert type(error) is kind
    assert (error.sample_id, error.reason, error.hint) == ("clip 1", "no sound", "add some")
    assert str(error) == "clip 1: no sound; add some"


def test_an_unknown_channel_names_the_known_ones() -> None:
    with pytest.raises(UnknownChannelError, match=r"no channel 'smell'; choose one of: audio, .*frames"):
        extractor_class("smell")


@pytest.mark.parametrize("channel", sorted(CHANNELS))
def test_every_channel_has_its_class(channel: str) -> None:
    assert extractor_class(channel).channel == channel


def test_the_package_and_its_records_import_nothing_heavy() -> None:
    code = (
        "import sys, extractors, extractors.contract;"
        "print(sorted({'torch', 'transformers', 'av', 'PIL', 'pydantic'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[2]
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_no_package_is_imported_that_would_decode_differently() -> None:
    for channel in CHANNELS:
        extractor_class(channel)
    assert not {"torchvision", "torchaudio", "decord", "pytorchvideo"} & set(sys.modules)
