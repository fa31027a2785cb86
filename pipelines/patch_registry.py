"""The registry: which patches there are, and which of them is the champion.

    <registry>/events/00000001.json   one event each, never changed: register, promote, reject, rollback
    <registry>/.retraining            locked by the one process that retrains

The champion is what the events say when they are read in order. An event is written under a temporary name, fsynced
and then linked to the next number, which only one of several writers gets; the others read again and decide anew.
So a killed writer leaves an event that is complete, or none.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from pipelines.errors import RegistryError
from pipelines.patch_events import Kind, PatchEvent, PatchScore, PatchStates, patch_states
from pipelines.process_lock import lock_or_raise
from store.durable import sync_path

EVENTS = "events"
LOCK = ".retraining"


class PatchRegistry:
    """The events in a folder, which is made with the first of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._events = folder / EVENTS

    def events(self) -> list[PatchEvent]:
        """All of them, the oldest first. Raises RegistryError for one that is damaged or missing in between."""
        names = sorted(path.name for path in self._events.glob("[0-9]*.json"))
        if names != [_file_name(number) for number in range(1, len(names) + 1)]:
            raise RegistryError(f"{self._events} lacks an event before {names[-1]}; restore it from a backup")
        return [_read(self._events / name) for name in names]

    def states(self) -> PatchStates:
        """What the events say. Raises RegistryError for damaged ones."""
        return patch_states(self.events())

    def register(self, run: Path, snapshot: int, patch: dict[str, str], reason: str) -> PatchStates:
        """Make a finished run known; one that is known stays as it is."""

        def event(states: PatchStates) -> PatchEvent | None:
            if run.absolute() in states.patches:
                return None
            return _event("register", run, snapshot, patch, reason)

        return self._append(event)

    def promote(
        self, run: Path, reason: str, score: PatchScore | None = None, *, instead_of: Path | None
    ) -> PatchStates:
        """Make a registered run the champion, instead of the one that the caller took for it (None: there is none).

        Raises RegistryError for an unknown run, and when another has become the champion meanwhile.
        """
        return self._decide("promote", run, reason, score, instead_of)

    def reject(
        self, run: Path, reason: str, score: PatchScore | None = None, *, instead_of: Path | None
    ) -> PatchStates:
        """Note that a registered run is no better than the champion. Raises as `promote` does."""
        return self._decide("reject", run, reason, score, instead_of)

    def rollback(self, reason: str, to: str | Path | None = None) -> PatchStates:
        """Make the champion before this one the champion again, or the patch that is named.

        Raises RegistryError where there is none before, or the named one is unknown or the champion already.
        """

        def event(states: PatchStates) -> PatchEvent:
            if states.champion is None:
                raise RegistryError(f"{self.folder} has no champion yet; promote a run first")
            if to is None and len(states.champions) < 2:
                raise RegistryError(
                    f"there is no champion before {states.champion.run.name}; "
                    "name a patch of `pave patches ls`"
                )
            patch = states.patches[states.champions[-2]] if to is None else states.named(to)
            if patch.run == states.champion.run:
                raise RegistryError(f"{patch.run.name} is the champion already; name another")
            return _event(
                "rollback", patch.run, patch.snapshot, patch.patch, reason, against=states.champion.run
            )

        return self._append(event)

    @contextmanager
    def only_retraining(self) -> Iterator[None]:
        """Holds the lock of retraining, which goes with the process. Raises RegistryError while another has it."""
        with _writable(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            told = f"another retraining is at work with {self.folder}; wait for its end, or end it"
            lock_or_raise(descriptor, RegistryError(told))
            yield
        finally:
            os.close(descriptor)

    def _decide(
        self,
        kind: Literal["promote", "reject"],
        run: Path,
        reason: str,
        score: PatchScore | None,
        instead_of: Path | None,
    ) -> PatchStates:
        def event(states: PatchStates) -> PatchEvent:
            patch = states.named(run)
            champion = None if states.champion is None else states.champion.run
            if champion != (None if instead_of is None else instead_of.absolute()):
                raise RegistryError(
                    f"{champion} has become the champion meanwhile, not {instead_of}; compare with it and try again"
                )
            if kind == "promote" and champion == patch.run:
                raise RegistryError(f"{patch.run.name} is the champion already")
            return _event(kind, patch.run, patch.snapshot, patch.patch, reason, champion, score)

        return self._append(event)

    def _append(self, decide: Callable[[PatchStates], PatchEvent | None]) -> PatchStates:
        """Add the event that `decide` makes of what is there, asked again whenever another writer was quicker."""
        while True:
            events = self.events()
            event = decide(patch_states(events))
            if event is None:
                return patch_states(events)
            if self._write(event, len(events) + 1):
                return patch_states([*events, event])

    def _write(self, event: PatchEvent, number: int) -> bool:
        """Whether the number was free."""
        with _writable(self._events):
            self._events.mkdir(parents=True, exist_ok=True)
            temporary = self._events / f".{uuid.uuid4().hex}.part"
            try:
                temporary.write_text(event.model_dump_json(indent=1) + "\n", encoding="utf-8")
                sync_path(temporary)
                # unlike a rename, a link never replaces what is there
                os.link(temporary, self._events / _file_name(number))
            except FileExistsError:
                return False
            finally:
                temporary.unlink(missing_ok=True)
            sync_path(self._events)
        return True


def _event(
    kind: Kind,
    run: Path,
    snapshot: int,
    patch: dict[str, str],
    reason: str,
    against: Path | None = None,
    score: PatchScore | None = None,
) -> PatchEvent:
    return PatchEvent(
        kind=kind,
        run=run.absolute(),
        reason=reason,
        time=datetime.now(UTC),
        snapshot=snapshot,
        patch=patch,
        against=against,
        score=score,
    )


def _file_name(number: int) -> str:
    return f"{number:08d}.json"


def _read(path: Path) -> PatchEvent:
    try:
        return PatchEvent.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise RegistryError(
            f"{path} is no event of a registry ({reason}); restore it from a backup"
        ) from error


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RegistryError(
            f"cannot write to the registry {folder}: {error.strerror}; choose a folder that you may write to"
        ) from error
