"""Sample ids as names of files and of entries in a container, and back.

An id is any text; a name has only ASCII letters, digits, '_', '-', '.', '~' and '%', and no dot first, so that it
never means another folder. Everything else is percent-encoded UTF-8.
"""

import hashlib
from urllib.parse import quote, unquote

# File systems allow 255 bytes; an ending and a temporary prefix must fit as well.
_MAX_FILE_NAME = 200


def encode_name(sample_id: str) -> str:
    """The id as a name; `decode_name` gives it back."""
    name = quote(sample_id, safe="")
    return f"%2E{name[1:]}" if name.startswith(".") else name


def decode_name(name: str) -> str:
    """The id that `encode_name` made the name of; raises UnicodeDecodeError when it is no such name."""
    return unquote(name, errors="strict")


def file_name(sample_id: str, ending: str) -> str:
    """A file name for the id, which is shortened where it is too long: keep the id beside the file."""
    name = encode_name(sample_id)
    if len(name) > _MAX_FILE_NAME:
        digest = hashlib.sha256(sample_id.encode()).hexdigest()[:16]
        name = f"{name[: _MAX_FILE_NAME - len(digest) - 1]}~{digest}"
    return name + ending


def is_text(sample_id: str) -> bool:
    """Whether the id is not empty and valid Unicode (a file name may be neither)."""
    try:
        sample_id.encode()
    except UnicodeEncodeError:
        return False
    return sample_id != ""


def printable(text: str) -> str:
    """The text on one line and without what cannot be encoded."""
    return text.encode(errors="backslashreplace").decode().replace("\n", "\\n")
