"""How our HDF5 exports are laid out, and opening HDF5 files.

    /                     attributes: format, format_version, layout, num_samples
    /feature_set          the FeatureSetRecord as JSON (text)

  one dataset a sample (layout "per_sample"; NAME is the percent-encoded id):
    /values/NAME          (T, S, D); attribute `media`: JSON with duration, fps, n_frames, source_hash
    /companions/TENSOR/NAME       (T, S', D')
    /timestamps/NAME      (T,) float64

  concatenated (layout "concatenated"):
    /values, /companions/TENSOR   (sum T, S, D)
    /timestamps           (sum T,) float64
    /sample_ids           (n,) text; with attribute encoding="percent" when an id cannot be held as it is
    /row_offsets          (n + 1,) int64: sample i has the rows row_offsets[i] to row_offsets[i + 1]
    /media                (n,) text, the JSON of each sample

bfloat16 is uint16 with the attribute dtype="bfloat16"; nothing is compressed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from store.transfer.errors import UnusableFileError

Hdf5Layout = Literal["per_sample", "concatenated"]

FORMAT = "pave-feature-set"
FORMAT_VERSION = 1
RECORD = "feature_set"
PERCENT = "percent"


def tensor_path(name: str) -> str:
    """Where a tensor is; a companion may have any name, also one that is used beside it."""
    return name if name == "values" else f"companions/{name}"


@contextmanager
def opened_hdf5(path: Path) -> Iterator[Any]:
    """The file, open for reading; raises UnusableFileError when it is not there or no HDF5 file."""
    import h5py

    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise UnusableFileError(str(path), f"cannot be opened as HDF5 ({error}); check the file") from error
    with file:
        yield file
