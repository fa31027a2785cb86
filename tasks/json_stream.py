"""Reading a JSON text value by value, so that a long list never stands in memory whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, TextIO

_FIRST_CHARS = 1 << 16
MAX_VALUE_CHARS = 1 << 26  # one entry of a dataset is never this long; a damaged file may be
_WHITE_SPACE = " \t\n\r"


class JsonStreamError(ValueError):
    """The text is no JSON, or not of the wanted form; the reason in a few words."""


class JsonStream:
    """A reader of one JSON text. At most about twice the longest value is in memory."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._text = ""
        self._at = 0
        self._chars_dropped = 0
        self._decoder = json.JSONDecoder()

    @property
    def position(self) -> int:
        """How many characters have been read; where a value is damaged, it begins there."""
        return self._chars_dropped + self._at

    def array(self) -> Iterator[Any]:
        """The values of the array that comes next. Raises JsonStreamError."""
        self._take("[")
        if self._peek() != "]":
            yield self.value()
            while self._peek() == ",":
                self._take(",")
                yield self.value()
        self._take("]")

    def keys(self) -> Iterator[str]:
        """The keys of the object that comes next; whoever iterates reads the value after each. As `array`."""
        self._take("{")
        if self._peek() != "}":
            yield self._key()
            while self._peek() == ",":
                self._take(",")
                yield self._key()
        self._take("}")

    def value(self) -> Any:
        """The value that comes next, whole. Raises JsonStreamError."""
        self._peek()  # leaves white space behind
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except RecursionError as error:
                raise JsonStreamError("it is nested too deeply") from error
            except ValueError as error:  # also numbers of thousands of digits
                if not self._more():
                    raise JsonStreamError(_reason(error)) from error
                continue
            if end == len(self._text) and self._more():
                continue  # a number may go on
            self._at = end
            return value

    def end(self) -> None:
        """Check that nothing comes after. Raises JsonStreamError."""
        if self._peek():
            raise JsonStreamError("there is more after the end of the JSON value")

    def _key(self) -> str:
        if self._peek() != '"':
            raise JsonStreamError("the name of a field is missing")
        key: str = self.value()
        self._take(":")
        return key

    def _take(self, char: str) -> None:
        if self._peek() != char:
            raise JsonStreamError(f"expected {char!r}, found {self._peek()!r}")
        self._at += 1

    def _peek(self) -> str:
        """The next character that is no white space, or nothing at the end."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in _WHITE_SPACE:
                    return self._text[self._at]
                self._at += 1
            if not self._more():
                return ""

    def _more(self) -> bool:
        """Read as much again as is left unread; whether there was any."""
        left = self._text[self._at :]
        if len(left) > MAX_VALUE_CHARS:
            raise JsonStreamError(f"a value is not closed within {MAX_VALUE_CHARS} characters")
        new = self._file.read(max(_FIRST_CHARS, len(left)))
        self._chars_dropped += self._at
        self._text, self._at = left + new, 0
        return bool(new)


def _reason(error: ValueError) -> str:
    return error.msg if isinstance(error, json.JSONDecodeError) else str(error)
