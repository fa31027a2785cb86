"""Reading ahead: the same items in the same order, errors where they belong, and no thread that stays."""

import threading
import time
from collections.abc import Iterator

import pytest

from pipelines.read_ahead import read_ahead


def reading_threads() -> int:
    return sum(thread.name.startswith("read-ahead") for thread in threading.enumerate())


@pytest.mark.parametrize("number", [0, 1, 3])
@pytest.mark.parametrize("length", [0, 2, 10])
def test_the_items_are_the_same(number: int, length: int) -> None:
    assert list(read_ahead(iter(range(length)), number)) == list(range(length))
    assert reading_threads() == 0


def test_no_more_than_asked_for_are_taken_early() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(10):
            taken.append(item)
            yield item

    ahead = read_ahead(items(), 2)
    assert next(ahead) == 0
    deadline = time.monotonic() + 10
    while len(taken) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert taken == [0, 1, 2], "while the caller works on one, two are ready"
    ahead.close()
    assert reading_threads() == 0


def test_an_error_comes_in_the_place_of_its_item() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("damaged")

    ahead = read_ahead(items(), 2)
    assert [next(ahead), next(ahead)] == [1, 2]
    with pytest.raises(ValueError, match="damaged"):
        next(ahead)
    assert reading_threads() == 0
