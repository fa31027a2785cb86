"""Rows between the stages: they carry arrays as they are, and hold no memory once they are gone."""

import ml_dtypes
import numpy as np
import psutil
import pytest

from pipelines.extract_rows import ROWS, Failure, result_row, unpacked

ROW = {"sample_id": "clip", "channel": "dense", "source_hash": "0" * 8}
MIB = 2**20


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24, dtype=np.float32).reshape(2, 3, 4),
        np.asfortranarray(np.arange(6, dtype=np.int64).reshape(2, 3)),
        np.zeros((0, 5), np.float32),
        np.array(3.0),
        np.ones((2, 3), ml_dtypes.bfloat16),
    ],
    ids=["rows", "columns", "empty", "scalar", "bfloat16"],
)
def test_arrays_come_out_as_they_went_in(array: np.ndarray) -> None:
    table = result_row(ROW, {"one": array, "other": array + 1})
    assert table.schema == ROWS
    found = unpacked(table, 0)
    assert found["one"].dtype == array.dtype
    np.testing.assert_array_equal(found["one"], array)
    np.testing.assert_array_equal(found["other"], array + 1)


def test_a_failure_has_no_payload() -> None:
    table = result_row(ROW, Failure("clip", "dense", "MediaError", "it is broken", True))
    assert table.schema == ROWS
    assert table["payload"].null_count == 1


def test_rows_that_are_gone_hold_no_memory() -> None:
    def make(times: int) -> int:
        for _ in range(times):
            result_row(ROW, np.ones(32 * MIB, np.uint8))
        return int(psutil.Process().memory_info().rss)

    before = make(2)
    assert make(10) - before < 64 * MIB  # 320 went through
