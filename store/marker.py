"""The file store.json, which makes a folder a store and carries the version of its format."""

import json

from store.errors import StoreError, StoreFormatError, StoreNotFoundError
from store.location import Location

MARKER = "store.json"
FORMAT_VERSION = 2
_FORMAT = "pave-feature-store"


def write_marker(location: Location) -> None:
    """Writes it for a store of the newest format; raises OSError."""
    content = {"format": _FORMAT, "format_version": FORMAT_VERSION}
    location.write_bytes(MARKER, (json.dumps(content) + "\n").encode())


def read_format(location: Location) -> int:
    """The version of the store's format.

    Raises StoreNotFoundError where there is no store, StoreFormatError for what is none, or too new,
    StoreError when it cannot be read.
    """
    try:
        if not location.exists(MARKER):
            raise StoreNotFoundError(
                f"there is no feature store at {location.url}; check the path or extract first"
            )
        text = location.read_bytes(MARKER)
    except OSError as error:
        raise StoreError(
            f"cannot open a store at {location.url}: {error.strerror}; check the path and its permissions"
        ) from error
    try:
        content = json.loads(text)
        known, version = content["format"] == _FORMAT, int(content["format_version"])
    except (ValueError, KeyError, TypeError) as error:
        raise StoreFormatError(
            f"{location.url}/{MARKER} is not readable as a store's marker; restore it from a backup"
        ) from error
    if not known:
        raise StoreFormatError(f"{location.url}/{MARKER} belongs to something else; give another folder")
    if version > FORMAT_VERSION:
        raise StoreFormatError(
            f"the store at {location.url} has format {version}, newer than {FORMAT_VERSION}; "
            "upgrade this package"
        )
    return version


def check_current(location: Location) -> None:
    """Raises StoreFormatError for a store of an older format, and as `read_format` does."""
    version = read_format(location)
    if version < FORMAT_VERSION:
        raise StoreFormatError(
            f"the store at {location.url} has format {version}, older than {FORMAT_VERSION}; "
            f"run: pave store migrate --store {location.url}"
        )
