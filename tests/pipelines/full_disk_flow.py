"""Run on a small disk, with a server: a flow whose store runs out of space, and once more with space. Prints JSON.

python full_disk_flow.py DISK MEDIA
"""

import json
import sys
from pathlib import Path

from fault_flows import config_of, extract_slowly

from pipelines.ray_extract import ray_session
from store import FeatureStore


def main(disk: Path, media: Path) -> None:
    """Both runs."""
    (disk / "000001.mp4").touch()  # no worker dies
    (disk / "filler").touch()
    config = config_of(media, disk / "store")
    found = []
    with ray_session():
        for _ in range(2):
            state = extract_slowly(config, disk, seconds=0.3, return_state=True)
            store = FeatureStore.open(disk / "store", create=False)
            ids = [row["sample_id"] for row in store.query("SELECT sample_id FROM features").to_pylist()]
            found.append({"state": state.name, "message": state.message, "ids": ids, "ok": store.verify().ok})
            (disk / "filler").unlink(missing_ok=True)
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
