"""What the pages of a feature store are made of: what was asked, and the tables, links and pictures that answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from urllib.parse import urlencode

from starlette.exceptions import HTTPException

from store import FeatureSet, FeatureStore, Snapshot


@dataclass(frozen=True)
class Link:
    """A cell that leads somewhere."""

    text: str
    link: str


Cell: TypeAlias = str | int | Link


@dataclass(frozen=True)
class Table:
    """A table of a page; `numbers` are the columns that are aligned to the right, `nothing` is said without rows."""

    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str
    title: str = ""
    numbers: Sequence[int] = ()
    nothing: str = "Nothing."


@dataclass(frozen=True)
class Page:
    """What the template shows; forms and pagers are as `pages/store.html` reads them."""

    title: str
    sentences: Sequence[str] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[dict[str, str]] = ()
    texts: Sequence[str] = ()
    form: dict[str, Any] = field(default_factory=dict)
    pager: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """A request: the store, the pinned snapshot, and the other parameters of the query."""

    store: FeatureStore
    snapshot: Snapshot
    version: str | None
    parameters: dict[str, str]

    def link(self, page: str, **parameters: object) -> str:
        """The address of a page at the same version."""
        values = {name: str(value) for name, value in parameters.items()}
        if self.version is not None:
            values["version"] = self.version
        return f"{page}?{urlencode(values)}" if values else page

    def wanted(self, name: str) -> str:
        """A parameter that the page needs."""
        if name not in self.parameters:
            raise HTTPException(400, f"the address lacks {name!r}")
        return self.parameters[name]

    def number(self, name: str, default: int) -> int:
        """A parameter that is a whole number."""
        text = self.parameters.get(name, str(default))
        if not (text.isascii() and text.isdecimal() and len(text) < 12):
            raise HTTPException(400, f"{name!r} is {text!r}; it must be a whole number, 0 or more")
        return int(text)

    def kept(self, *names: str) -> dict[str, str]:
        """What a form sends along: the version, and these parameters."""
        kept = {name: self.parameters[name] for name in names}
        return kept if self.version is None else {**kept, "version": self.version}

    def feature_set(self, name: str) -> FeatureSet:
        """The feature set written dataset/channel/fingerprint. Raises StoreError where there is none."""
        parts = name.split("/")
        if len(parts) != 3:
            raise HTTPException(400, f"{name!r} names no feature set; write dataset/channel/fingerprint")
        return self.snapshot.feature_set(*parts)
