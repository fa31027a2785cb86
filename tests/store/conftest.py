"""Fixtures of the store's tests."""

from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_store

pytest.register_assert_rewrite(
    "contract_of_bad_input",
    "contract_of_reading",
    "contract_of_tables",
    "contract_of_versions",
    "contract_of_writing",
)


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[..., tiny_store.TinyStore]:
    """Factory of tiny real stores below the test's folder; see `tiny_store.make_store`."""

    def make(name: str = "store", **arguments: object) -> tiny_store.TinyStore:
        return tiny_store.make_store(tmp_path / name, **arguments)

    return make
