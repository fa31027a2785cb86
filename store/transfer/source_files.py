"""The files of a folder that is imported, and which sample each belongs to."""

import os
import re
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from store.transfer.errors import (
    DuplicateSourceError,
    ImportSettingsError,
    OutsideFolderError,
    SourceNotFoundError,
    UnusableFileError,
)
from store.transfer.sample_names import is_text, printable


@dataclass(frozen=True)
class SkippedFile:
    """Something in the folder or file that belongs to no sample.

    Attributes:
        path: relative to the folder (POSIX), or the name inside the file.
        reason: why it was not imported.
    """

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@dataclass(frozen=True)
class IdRule:
    """From a relative POSIX path to a sample id.

    Attributes:
        pattern: regular expression for the whole path, with a named group `id`; `.` matches a newline too.
        form: format string over the named groups, such as "{id}.mp4".

    Raises ImportSettingsError for a pattern that is no regular expression or has no group `id`, and for a format
    string that asks for anything but named groups.
    """

    pattern: str
    form: str = "{id}"

    def __post_init__(self) -> None:
        try:
            groups = self._compiled().groupindex
        except re.error as error:
            raise ImportSettingsError(
                f"the id pattern {self.pattern!r} is no regular expression: {error}"
            ) from error
        if "id" not in groups:
            raise ImportSettingsError(f"the id pattern {self.pattern!r} has no group (?P<id>...); add it")
        try:
            fields = [name for _, name, _, _ in string.Formatter().parse(self.form) if name is not None]
        except ValueError as error:
            raise ImportSettingsError(f"the id format {self.form!r} cannot be read: {error}") from error
        unknown = [name for name in fields if name not in groups]
        if unknown or not fields:
            raise ImportSettingsError(
                f"the id format {self.form!r} must use the named groups {sorted(groups)} and nothing else"
            )

    def _compiled(self) -> re.Pattern[str]:
        return re.compile(self.pattern, re.DOTALL)  # re keeps the compiled pattern

    def __str__(self) -> str:
        return f"the id pattern {self.pattern!r}"

    def sample_ids(self, path: str) -> tuple[str, ...]:
        """The sample that the path belongs to, none when the pattern does not match."""
        match = self._compiled().fullmatch(path)
        return () if match is None else (self.form.format_map(match.groupdict(default="")),)


@dataclass(frozen=True)
class IdTable:
    """From a relative POSIX path, of a file or of the folder that it is in, to sample ids; a path may have several."""

    ids: Mapping[str, tuple[str, ...]]

    def __str__(self) -> str:
        return f"the names of {len(self.ids)} samples' files, such as {next(iter(self.ids), None)!r}"

    def sample_ids(self, path: str) -> tuple[str, ...]:
        """The samples that the path belongs to."""
        return self.ids.get(path) or self.ids.get(path.rpartition("/")[0], ())


@dataclass(frozen=True)
class FoundFiles:
    """What `find_files` found.

    Attributes:
        folder: absolute, without links.
        samples: sample id -> its files, relative to the folder; ids and files sorted.
        skipped: what belongs to no sample.
    """

    folder: Path
    samples: dict[str, list[str]]
    skipped: tuple[SkippedFile, ...]

    def one_per_sample(self) -> dict[str, str]:
        """Sample id -> its only file; raises DuplicateSourceError naming both files of a sample with two."""
        for sample_id, paths in self.samples.items():
            if len(paths) > 1:
                raise DuplicateSourceError(
                    f"{printable(paths[0])} and {printable(paths[1])} in {self.folder} are both sample "
                    f"{sample_id!r}; give an id pattern or format that tells them apart"
                )
        return {sample_id: path for sample_id, (path,) in self.samples.items()}


def find_files(folder: Path, rule: IdRule | IdTable) -> FoundFiles:
    """All files below the folder, by the sample that the rule gives them; links to folders are not followed.

    Raises SourceNotFoundError when there is no such folder, or no file in it matches.
    """
    if not folder.is_dir():
        raise SourceNotFoundError(f"{folder} is not a folder; check the path")
    folder = folder.resolve()
    samples: dict[str, list[str]] = {}
    skipped: list[SkippedFile] = []
    for path in sorted(_paths(folder, skipped)):
        sample_ids = rule.sample_ids(path)
        if not sample_ids:
            skipped.append(SkippedFile(printable(path), f"does not match {rule}"))
        elif not all(map(is_text, (path, *sample_ids))):
            skipped.append(SkippedFile(printable(path), "gives no sample id that is text; rename it"))
        else:
            for sample_id in sample_ids:
                samples.setdefault(sample_id, []).append(path)
    if not samples:
        example = f"; for example {skipped[0]}" if skipped else ""
        raise SourceNotFoundError(
            f"{folder} has no file that matches {rule}{example}; check the folder, the kind and the pattern"
        )
    return FoundFiles(folder, dict(sorted(samples.items())), tuple(skipped))


def file_inside(folder: Path, path: str) -> Path:
    """The file at the relative POSIX path, when it is a plain file inside the (resolved) folder.

    Raises OutsideFolderError when the name or a link leads out, UnusableFileError when it is no plain file.
    """
    where = str(folder / path)
    try:
        target = (folder / path).resolve(strict=True)
        if not target.is_relative_to(folder):
            raise OutsideFolderError(where, f"leads out of {folder}; copy the file into the folder")
        # a pipe would block and a device would never end
        if not target.is_file():
            raise UnusableFileError(where, "is not a plain file; remove it")
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a NUL byte in the name
        raise UnusableFileError(where, f"cannot be opened ({_reason(error)}); check it") from error
    return target


def _paths(folder: Path, skipped: list[SkippedFile]) -> Iterator[str]:
    """The relative POSIX paths of all files; folders that are not entered are added to `skipped`."""

    def relative(path: str) -> str:
        return Path(path).relative_to(folder).as_posix()

    def unreadable(error: OSError) -> None:
        skipped.append(SkippedFile(printable(relative(error.filename)), f"cannot be read: {error.strerror}"))

    for parent, folders, files in os.walk(folder, onerror=unreadable):
        for name in folders:
            if os.path.islink(os.path.join(parent, name)):
                path = printable(relative(os.path.join(parent, name)))
                skipped.append(
                    SkippedFile(path, "is a link to a folder, which is not followed; import its target")
                )
        yield from (relative(os.path.join(parent, name)) for name in files)


def _reason(error: Exception) -> str:
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else str(error)
