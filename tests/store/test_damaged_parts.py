"""Cut and flipped bytes anywhere in a part: `verify` tells the truth, and reading raises or is right."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny_store import TinyStore, assert_same

from store.errors import DamagedPartError

LENGTHS = ((1, 5), (3, 2))
TENSOR_FILES = ("values/c/0/0/0", "visual/c/0/0/0", "timestamps/c/0")
SMALL_FILES = ("row_offsets/c/0", "crc32c/c/0")
METADATA_FILES = tuple(
    f"{array}zarr.json" for array in ("", "values/", "visual/", "timestamps/", "row_offsets/", "crc32c/")
)
ALL_FILES = (*TENSOR_FILES, *SMALL_FILES, *METADATA_FILES)
FLIPS_PER_FILE = 8


def assert_other_part_is_good(tiny: TinyStore) -> None:
    """The samples of the second part read well and nothing is said against them."""
    assert {problem.part for problem in tiny.store.verify().problems} == {tiny.parts[0]}
    feature_set = tiny.store.snapshot().feature_set("avsd", "audio")
    for sample_id in list(tiny.samples)[2:]:
        assert_same(feature_set[sample_id], tiny.samples[sample_id])


@pytest.mark.parametrize("file", ALL_FILES)
def test_truncated_file_is_found(make_store: Callable[..., TinyStore], file: str) -> None:
    tiny = make_store(lengths=LENGTHS)
    path = tiny.path() / file
    content = path.read_bytes()
    for size in (len(content) - 1, len(content) // 2, 0):
        path.write_bytes(content[:size])
        assert_other_part_is_good(tiny)
    path.write_bytes(content)
    assert tiny.store.verify().ok


@pytest.mark.parametrize("file", TENSOR_FILES)
def test_reading_a_truncated_sample_raises(make_store: Callable[..., TinyStore], file: str) -> None:
    tiny = make_store(lengths=LENGTHS)
    path = tiny.path() / file
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    feature_set = tiny.store.snapshot().feature_set("avsd", "audio")
    whole, cut = list(tiny.samples)[:2]
    assert_same(feature_set[whole], tiny.samples[whole])
    with pytest.raises(DamagedPartError, match=rf"{file} .*verify"):
        feature_set[cut]
    tensor = file.partition("/")[0]
    if tensor != "timestamps":
        layout = tiny.record.tensor(tensor)
        out = np.empty((2, 5, layout.tokens, layout.dim), layout.numpy_dtype)
        with pytest.raises(DamagedPartError, match=file):
            feature_set.read_into([whole, cut], out, tensor=tensor)


@pytest.mark.parametrize("file", ALL_FILES)
def test_flipped_bits_do_not_fool_verify(make_store: Callable[..., TinyStore], file: str) -> None:
    """Either the part is named, or the byte matters to no sample (such as a word of the licence)."""
    tiny = make_store(lengths=LENGTHS)
    feature_set = tiny.store.snapshot().feature_set("avsd", "audio")
    path = tiny.path() / file
    content = path.read_bytes()
    places = random.Random(file)
    num_found = 0
    for _ in range(FLIPS_PER_FILE):
        offset, bit = places.randrange(len(content)), places.randrange(8)
        damaged = bytearray(content)
        damaged[offset] ^= 1 << bit
        path.write_bytes(damaged)
        report = tiny.store.verify()
        assert {problem.part for problem in report.problems} <= {tiny.parts[0]}
        if report.ok:
            assert file not in (*TENSOR_FILES, *SMALL_FILES), (offset, bit)
            for sample_id, sample in tiny.samples.items():
                assert_same(feature_set[sample_id], sample)
        num_found += not report.ok
    assert num_found > 0


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda array: array["codecs"][0]["configuration"]["chunk_shape"].clear(), id="no size"),
        pytest.param(
            lambda array: array["codecs"][0]["configuration"].update(chunk_shape=[0, 2, 3]), id="size 0"
        ),
        pytest.param(
            lambda array: array["codecs"][0]["configuration"].update(chunk_shape=[6.5, 2, 3]), id="size 6.5"
        ),
        pytest.param(lambda array: array.update(codecs=[]), id="no codec"),
        pytest.param(lambda array: array.update(attributes=None), id="no attributes"),
    ],
)
def test_broken_metadata_of_a_tensor_is_found(
    make_store: Callable[..., TinyStore], damage: Callable[[dict[str, object]], None]
) -> None:
    tiny = make_store(lengths=LENGTHS)
    edit_json(tiny.path() / "values/zarr.json", damage)
    assert_other_part_is_good(tiny)


@pytest.mark.parametrize("sample_ids", [None, "ab", [[], {}], ["only one"], ["the same", "the same"]])
def test_broken_sample_ids_are_found(make_store: Callable[..., TinyStore], sample_ids: object) -> None:
    tiny = make_store(lengths=LENGTHS)
    edit_json(tiny.path() / "zarr.json", lambda part: part["attributes"].update(sample_ids=sample_ids))
    assert_other_part_is_good(tiny)


def edit_json(path: Path, damage: Callable[[dict[str, object]], None]) -> None:
    content = json.loads(path.read_text())
    damage(content)
    path.write_text(json.dumps(content))
