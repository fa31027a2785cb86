"""Which catalog versions stay readable: tags, and how far the vacuums have gone.

The table `retention` is a list of events, in the order of their commits: `tag` and `untag` of a name, and
`vacuum`, whose version is the oldest that it kept. A version is readable when no vacuum went past it, or when
a tag names it.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from store import catalog
from store.errors import StoreError
from store.features import check_name
from store.location import Location


@dataclass(frozen=True)
class Tag:
    """A name for a catalog version; `time`, UTC, is when it was given."""

    name: str
    version: int
    time: datetime


@dataclass(frozen=True)
class Retention:
    """What is kept.

    Attributes:
        oldest: every version from here on is readable.
        tags: by name; their versions are readable, too.
    """

    oldest: int
    tags: dict[str, Tag]

    @property
    def versions_before(self) -> list[int]:
        """The readable versions before `oldest`, sorted."""
        return sorted({tag.version for tag in self.tags.values() if tag.version < self.oldest})

    def keeps(self, version: int) -> bool:
        """Whether the version is readable."""
        return version >= self.oldest or version in self.versions_before


def read_retention(location: Location) -> Retention:
    """What is kept now."""
    oldest = 0
    tags: dict[str, Tag] = {}
    events = catalog.read(location, "retention").sort_by([("commit_seq", "ascending")])
    for row in events.to_pylist():
        if row["event"] == "vacuum":
            oldest = max(oldest, row["version"])
        elif row["event"] == "tag":
            tags[row["name"]] = Tag(row["name"], row["version"], row["time"])
        else:
            tags.pop(row["name"], None)
    return Retention(oldest, dict(sorted(tags.items())))


def add_tag(location: Location, name: str, version: int) -> None:
    """Gives a name to a readable version; the same again is harmless.

    Raises UnsafeNameError for a name that cannot be a file's, StoreError for a name that another version has
    and for a version that is no longer readable.
    """
    check_name("tag", name)

    def event(_: int) -> list[dict[str, object]]:
        kept = read_retention(location)
        there = kept.tags.get(name)
        if there is not None and there.version != version:
            raise StoreError(
                f"the tag {name!r} names catalog version {there.version}; choose another, or untag it first"
            )
        check_kept(location, kept, version)
        return [] if there is not None else [_event("tag", name, version)]

    catalog.append(location, "retention", event)


def remove_tag(location: Location, name: str) -> None:
    """Takes a name away, and with it the protection of its version; raises StoreError for an unknown one."""

    def event(_: int) -> list[dict[str, object]]:
        return [_event("untag", name, tagged_version(location, name))]

    catalog.append(location, "retention", event)


def tagged_version(location: Location, name: str) -> int:
    """The version that a tag names; raises StoreError naming the tags there are."""
    tags = read_retention(location).tags
    if name not in tags:
        there = ", ".join(tags) or "(none)"
        raise StoreError(f"{location.url} has no tag {name!r}; its tags are {there}")
    return tags[name].version


def check_kept(location: Location, kept: Retention, version: int) -> None:
    """Raises StoreError for a version whose features a vacuum may have removed."""
    if not kept.keeps(version):
        tagged = "".join(f", {tag.version} (tag {name})" for name, tag in kept.tags.items())
        raise StoreError(
            f"catalog version {version} of {location.url} was vacuumed; the readable ones are "
            f"{kept.oldest} and newer{tagged}"
        )


def record_vacuum(location: Location, oldest: int) -> Retention:
    """Makes all versions before `oldest` but the tagged ones unreadable, before their parts are removed."""
    catalog.append(location, "retention", [_event("vacuum", "", oldest)])
    return read_retention(location)


def _event(event: str, name: str, version: int) -> dict[str, object]:
    return {"event": event, "name": name, "version": version, "time": datetime.now(UTC)}
