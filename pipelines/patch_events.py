"""What happens to patches, and what a list of such events says: which patches there are, and which is the champion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import Field

from pipelines.config import Settings
from pipelines.errors import RegistryError

Kind: TypeAlias = Literal["register", "promote", "reject", "rollback"]
State: TypeAlias = Literal["champion", "former champion", "rolled back", "not promoted", "registered"]
_STATE_AFTER: dict[Kind, State] = {
    "register": "registered",
    "promote": "champion",
    "reject": "not promoted",
    "rollback": "champion",
}
_STATE_OF_REPLACED: dict[Kind, State] = {"promote": "former champion", "rollback": "rolled back"}


class PatchScore(Settings):
    """A score, and how much better than the champion of that moment it is: `low` to `high`, where there was one."""

    metric: str
    value: float | None
    file: Path = Field(description="its scores.json")
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None


class PatchEvent(Settings):
    """What happened to a patch. `run` is its run folder, absolute; `rollback` makes it the champion again.

    `against` is the champion before the event. `patch` is sha256 by name of the patch's files.
    """

    kind: Kind
    run: Path
    reason: str = Field(min_length=1)
    time: datetime
    snapshot: int
    patch: dict[str, str]
    against: Path | None = None
    score: PatchScore | None = None


@dataclass(frozen=True)
class KnownPatch:
    """One patch of the registry: `event` is the last that changed its state, `score` the newest it got."""

    run: Path
    snapshot: int
    patch: dict[str, str]
    state: State
    event: PatchEvent
    score: PatchScore | None


@dataclass(frozen=True)
class PatchStates:
    """What the events up to the newest say.

    Attributes:
        num_events: how many there are.
        champions: the run folders that a rollback can go to, the present champion last.
        patches: by run folder, in the order in which they came.
    """

    num_events: int
    champions: tuple[Path, ...]
    patches: dict[Path, KnownPatch]

    @property
    def champion(self) -> KnownPatch | None:
        """The patch in use; None before the first promotion."""
        return self.patches[self.champions[-1]] if self.champions else None

    def named(self, name: str | Path) -> KnownPatch:
        """The patch of a run folder, or of one's name. Raises RegistryError where none or several have it."""
        path = Path(name).absolute()
        if path in self.patches:
            return self.patches[path]
        found = [patch for patch in self.patches.values() if patch.run.name == str(name)]
        if len(found) == 1:
            return found[0]
        if found:
            folders = ", ".join(str(patch.run) for patch in found)
            raise RegistryError(f"several patches are named {name}; give the folder, one of: {folders}")
        known = ", ".join(patch.run.name for patch in self.patches.values()) or "(none yet)"
        raise RegistryError(f"the registry has no patch {name}; name one of: {known}")


def patch_states(events: Sequence[PatchEvent]) -> PatchStates:
    """What a list of events, the oldest first, says."""
    champions: list[Path] = []
    patches: dict[Path, KnownPatch] = {}
    for event in events:
        before = patches.get(event.run)
        if event.kind == "promote":
            champions.append(event.run)
        elif event.kind == "rollback":
            if event.run in champions:
                while champions[-1] != event.run:
                    champions.pop()
            else:
                champions[-1:] = [event.run]
        score = event.score or (None if before is None else before.score)
        state = _STATE_AFTER[event.kind]
        patches[event.run] = KnownPatch(event.run, event.snapshot, event.patch, state, event, score)
        if event.against is not None and event.kind in _STATE_OF_REPLACED:
            replaced = _STATE_OF_REPLACED[event.kind]
            patches[event.against] = replace(patches[event.against], state=replaced, event=event)
    return PatchStates(len(events), tuple(champions), patches)
