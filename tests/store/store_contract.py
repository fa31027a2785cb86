"""What every place that can hold a store must do. A test class per place inherits this and gives `url`."""

import pytest
from contract_of_bad_input import BadInputTests
from contract_of_reading import ReadingTests
from contract_of_tables import TableTests
from contract_of_versions import VersionTests
from contract_of_writing import WritingTests

from store.feature_store import FeatureStore


class PlaceTests(WritingTests, ReadingTests, TableTests, VersionTests):
    """The part that depends on the place. Inherit, and define the fixture `url` (a place with no store yet)."""

    @pytest.fixture
    def store(self, url: str) -> FeatureStore:
        return FeatureStore.open(url)


class FeatureStoreTests(PlaceTests, BadInputTests):
    """All of it."""
