"""Errors of importing into a store and exporting from it. `str(error)` is one line."""

from store.errors import StoreError


class ImportSettingsError(StoreError):
    """The settings of an import contradict themselves or the files."""


class SourceNotFoundError(StoreError):
    """The folder or file to import is not there, or holds nothing that the import can take."""


class DuplicateSourceError(StoreError):
    """Two files, or two places in one file, claim the same sample."""


class UnusableFileError(StoreError):
    """One file cannot give the features of a sample.

    Args:
        where: the file, and the place in it where there are several.
        reason: what is wrong and what to do, without the file's name.
    """

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(where, reason)
        self.where = where
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.where}: {' '.join(self.reason.split())}"


class OutsideFolderError(UnusableFileError):
    """A link or a name leads out of the folder that is imported."""


class ExportError(StoreError):
    """An export cannot be written, or its target is there already."""
