"""What every extractor must hold to: a test class that each channel's tests inherit."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from extractors.contract import Decoded, Extractor, Features, Sample
from extractors.errors import ExtractorError, MediaError

SampleOf = Callable[[str], Sample]


def open_files() -> int:
    """Return the number of open file descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))


def same_bits(one: Features, other: Features) -> bool:
    """Say whether two results are the same to the last bit."""
    return (
        one.sample_id == other.sample_id
        and np.array_equal(one.timestamps, other.timestamps, equal_nan=True)
        and one.attributes == other.attributes
        and one.tensors.keys() == other.tensors.keys()
        and all(torch.equal(one.tensors[name], other.tensors[name]) for name in one.tensors)
    )


class ExtractorContract:
    """Inherit as Test..., give the attributes and `make`."""

    clip_names: tuple[str, ...]  # real clips of different length that the channel can use
    bad_names: tuple[str, ...]  # real files that it cannot use
    role = "video"  # of the media that it reads
    times: Literal["rising", "shared", "none"] = "rising"  # shared: several steps have one time

    def make(self, dtype: str = "float32") -> Extractor:
        """Return a fresh extractor, not loaded."""
        raise NotImplementedError

    @pytest.fixture
    def extractor(self) -> Extractor:
        """A loaded extractor."""
        extractor = self.make()
        extractor.load("cpu")
        return extractor

    @pytest.fixture
    def batch(self, sample_of: SampleOf) -> list[Decoded]:
        """Decoded real clips."""
        extractor = self.make()
        return [extractor.decode(sample_of(name)) for name in self.clip_names]

    @pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
    def test_features_are_what_the_spec_says(self, batch: list[Decoded], dtype: str) -> None:
        extractor = self.make(dtype)
        extractor.load("cpu")
        spec = extractor.spec
        assert spec.channel == extractor.channel
        assert (spec.tensors[0].name, spec.tensors[0].dtype) == ("values", dtype)
        for decoded, features in zip(batch, extractor.encode(batch), strict=True):
            assert features.sample_id == decoded.sample_id
            assert list(features.tensors) == [tensor.name for tensor in spec.tensors]
            for tensor in spec.tensors:
                stored = features.tensors[tensor.name]
                assert tuple(stored.shape) == (len(features.timestamps), tensor.tokens, tensor.dim)
                assert stored.dtype == getattr(torch, tensor.dtype)
                assert stored.device.type == "cpu"
            assert features.timestamps.dtype == np.float64
            json.dumps(features.attributes, allow_nan=False)
            if self.times == "none":
                assert np.isnan(features.timestamps).all()
                continue
            steps = np.diff(features.timestamps)
            assert np.all(steps > 0 if self.times == "rising" else steps >= 0)
            assert features.duration is not None
            assert 0 <= features.timestamps[0] <= features.timestamps[-1] <= features.duration

    def test_two_extractors_give_the_same_bits(self, sample_of: SampleOf, extractor: Extractor) -> None:
        other = self.make()
        other.load("cpu")
        sample = sample_of(self.clip_names[0])
        one, two = (each.encode([each.decode(sample)])[0] for each in (extractor, other))
        assert same_bits(one, two)
        assert extractor.spec.fingerprint() == other.spec.fingerprint()

    def test_the_batch_does_not_change_a_sample(self, extractor: Extractor, batch: list[Decoded]) -> None:
        alone = [extractor.encode([decoded])[0] for decoded in batch]
        together = extractor.encode(batch)
        reversed_order = extractor.encode(batch[::-1])[::-1]
        for one, two, three in zip(alone, together, reversed_order, strict=True):
            assert same_bits(one, two)
            assert same_bits(one, three)
        assert not torch.equal(alone[0].tensors["values"][:2], alone[1].tensors["values"][:2])
        assert extractor.encode([]) == []

    def test_it_and_what_it_decodes_can_be_pickled(self, batch: list[Decoded], extractor: Extractor) -> None:
        fresh = self.make()
        fingerprint = fresh.spec.fingerprint()
        copy = pickle.loads(pickle.dumps(fresh))
        copy.load("cpu")
        assert copy.spec.fingerprint() == fingerprint
        sent = pickle.loads(pickle.dumps(batch[:1]))
        for array in sent[0].tensors.values():
            array.flags.writeable = False  # as arrays that come out of shared memory
        assert same_bits(copy.encode(sent)[0], extractor.encode(batch[:1])[0])

    def test_the_stored_type_is_part_of_the_fingerprint(self) -> None:
        found = {self.make(dtype).spec.fingerprint() for dtype in ("bfloat16", "float16", "float32")}
        assert len(found) == 3

    def test_files_are_closed(self, sample_of: SampleOf, tmp_path: Path) -> None:
        extractor = self.make()
        text = tmp_path / "text.mp4"
        text.write_text("no video here\n")
        bad = [*(sample_of(name) for name in self.bad_names), Sample("text", "d", {self.role: text})]
        extractor.decode(sample_of(self.clip_names[0]))
        before = open_files()
        for _ in range(2):
            extractor.decode(sample_of(self.clip_names[0]))
            for sample in bad:
                with pytest.raises(MediaError):
                    extractor.decode(sample)
        assert open_files() == before

    def test_encode_needs_load(self, batch: list[Decoded]) -> None:
        with pytest.raises(ExtractorError, match=r"load\(device\)"):
            self.make().encode(batch[:1])

    def test_a_sample_without_the_clip_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(MediaError, match=f"^take 7: the sample has no '{self.role}' file; ") as caught:
            self.make().decode(Sample("take 7", "d", {"other": tmp_path}))
        assert caught.value.sample_id == "take 7"
