"""Errors of the feature store. `str(error)` is one line that names the thing and the remedy."""


class StoreError(Exception):
    """Base of every error that the store raises on purpose."""


class StoreNotFoundError(StoreError):
    """There is no store at this place."""


class StoreFormatError(StoreError):
    """The folder is not a store, or a store of a format that this version cannot read."""


class UnsafeNameError(StoreError):
    """A dataset, channel, fingerprint or tensor name that cannot be a folder name."""


class LayoutConflictError(StoreError):
    """Two different layouts claim the same feature set."""


class UnknownFeatureSetError(StoreError):
    """No feature set, or more than one, answers the description."""


class DamagedPartError(StoreError):
    """A part on disk is missing, cut short, or not laid out as the format says."""


class QueryError(StoreError):
    """An SQL statement that is wrong or not allowed."""


class SampleError(StoreError):
    """Something is wrong with one sample.

    Args:
        sample_id: the sample, as the caller named it.
        reason: what is wrong and what to do, without the sample's name.
    """

    def __init__(self, sample_id: str, reason: str) -> None:
        super().__init__(sample_id, reason)
        self.sample_id = sample_id
        self.reason = reason

    def __str__(self) -> str:
        return f"sample {self.sample_id!r}: {self.reason}"


class SampleIdError(SampleError):
    """A sample id is empty, not text, or used twice where it must be unique."""


class FeatureShapeError(SampleError):
    """A tensor has another shape, dtype or number of time steps than the feature set says."""


class FeatureValueError(SampleError):
    """A tensor holds NaN or infinity."""


class MissingSampleError(SampleError, KeyError):
    """The feature set has no such sample."""

    __str__ = SampleError.__str__
