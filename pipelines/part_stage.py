"""The last stage of an extraction: encoded samples become parts. No torch in here: workers that write start quickly."""

from collections.abc import Mapping

import pyarrow as pa

from pipelines.extract_rows import RESULTS, Failure, unpacked
from store.errors import SampleError
from store.features import FeatureSetRecord
from store.location import Location
from store.part_writer import PartWriter


def write(
    rows: pa.Table, location: Location, feature_sets: Mapping[str, FeatureSetRecord], part_bytes: int
) -> pa.Table:
    """Rows of `_Encoded` to parts: a row with its record as JSON in `part` for each, and one per failure in
    `failure`; what workers logged comes along in `log`.

    A channel's part is closed once it has `part_bytes`. Raises StoreError when a part cannot be written.
    """
    plain = rows.drop_columns("payload").to_pylist()
    results = [{"log": row["log"]} for row in plain if row["log"] is not None]
    for channel, feature_set in feature_sets.items():
        mine = [index for index, row in enumerate(plain) if row["channel"] == channel]
        while mine:
            with PartWriter(location, feature_set) as part:
                written = 0
                while mine and written < part_bytes:
                    row, index = plain[mine[0]], mine.pop(0)
                    failure = row["failure"]
                    if failure is None:
                        features, about = unpacked(rows, index)
                        try:
                            part.write(row["sample_id"], features, source_hash=row["source_hash"], **about)
                            written += sum(
                                array.nbytes for array in (features.values, *features.companions.values())
                            )
                        except SampleError as error:
                            failure = Failure(
                                row["sample_id"], channel, type(error).__name__, error.reason, True
                            ).to_json()
                    if failure is not None:
                        results.append({"failure": failure})
                results.append({"part": part.close().to_json()})
    return pa.Table.from_pylist(results, schema=RESULTS)
