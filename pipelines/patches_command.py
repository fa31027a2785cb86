"""`pave patches ls | promote | rollback`: the registry of patches by hand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pipelines.patch_events import KnownPatch
    from pipelines.patch_registry import PatchRegistry

_PATH = click.Path(path_type=Path)
_HEADER = ("", "patch", "state", "since", "snapshot", "metric", "score", "against the champion", "run folder")
registry_option = click.option(
    "--registry",
    "folder",
    type=_PATH,
    default=Path("data/patches"),
    show_default=True,
    help="Folder of the registry.",
)


@click.group()
def patches() -> None:
    """The patches that were trained, and which of them is in use."""


@patches.command("ls")
@registry_option
@click.option("--json", "as_json", is_flag=True, help="Every event as a line of JSON, the oldest first.")
def list_patches(folder: Path, as_json: bool) -> None:
    """List all patches in the order in which they came; the champion has a star."""
    from pipelines.plain_table import plain_table

    registry = _registry(folder)
    if as_json:
        for event in registry.events():
            click.echo(event.model_dump_json())
        return
    known = registry.states().patches
    click.echo(plain_table(_HEADER, [_row(patch) for patch in known.values()]))
    click.echo()
    for patch in known.values():
        click.echo(f"{patch.run.name}: {patch.event.kind} on {_when(patch)}: {patch.event.reason}")
        for problem in _problems(patch):
            click.echo(f"{patch.run.name}: {problem}")


@patches.command()
@click.argument("run", type=_PATH)
@click.option("--reason", required=True, help="Why; it is kept.")
@registry_option
def promote(run: Path, reason: str, folder: Path) -> None:
    """Make the patch of RUN, a run folder or the name of a known patch, the champion."""
    from pipelines.errors import RegistryError
    from pipelines.lineage import patch_hashes
    from pipelines.patch_registry import PatchRegistry
    from pipelines.run_folder import PATCH_FOLDER, read_run

    registry = PatchRegistry(folder)
    states = registry.states()
    place = run if run.is_dir() else states.named(run).run
    content = read_run(place)
    hashes = patch_hashes(place / PATCH_FOLDER)
    if hashes != content.get("patch", hashes):
        raise RegistryError(f"the patch in {place} is not the one that was trained there; restore it")
    registry.register(place, content["snapshot"], hashes, reason)
    before = None if states.champion is None else states.champion.run
    registry.promote(place, reason, instead_of=before)
    click.echo(f"champion: {place.absolute()}" + ("" if before is None else f", instead of {before}"))
    click.echo(_kept(place, content))


@patches.command()
@click.argument("patch", required=False)
@click.option("--reason", default="rolled back by hand", show_default=True, help="Why; it is kept.")
@registry_option
def rollback(patch: str | None, reason: str, folder: Path) -> None:
    """Go back to the champion before this one, or to PATCH. No retraining promotes what was rolled back."""
    from pipelines.errors import RegistryError
    from pipelines.run_folder import read_run

    registry = _registry(folder)
    states = registry.states()
    if patch is not None:
        target = states.named(patch)
    elif len(states.champions) > 1:
        target = states.patches[states.champions[-2]]
    else:
        target = None  # the registry says what is wrong
    if target is not None:
        read_run(target.run)
        if problems := _problems(target):
            raise RegistryError(f"cannot go back to {target.run}: {problems[0]}")
    before = states.champion
    states = registry.rollback(reason, None if target is None else target.run)
    assert states.champion is not None
    assert before is not None  # else rollback has raised
    click.echo(f"champion: {states.champion.run}, instead of {before.run}")


def _registry(folder: Path) -> PatchRegistry:
    """A registry that is there. Raises RegistryError."""
    from pipelines.errors import RegistryError
    from pipelines.patch_registry import EVENTS, PatchRegistry

    if not (folder / EVENTS).is_dir():
        raise RegistryError(
            f"there is no registry {folder}; `pave retrain` or `pave patches promote` makes one"
        )
    return PatchRegistry(folder)


def _row(patch: KnownPatch) -> tuple[object, ...]:
    score = patch.score
    interval = "-"
    if score is not None and score.difference is not None:
        interval = f"{score.difference:+.4f} ({score.low:+.4f} to {score.high:+.4f})"
    return (
        "*" if patch.state == "champion" else "",
        patch.run.name,
        patch.state,
        _when(patch),
        patch.snapshot,
        "-" if score is None else score.metric,
        "-" if score is None or score.value is None else f"{score.value:.4f}",
        interval,
        patch.run,
    )


def _when(patch: KnownPatch) -> str:
    return f"{patch.event.time.astimezone():%Y-%m-%d %H:%M:%S}"


def _problems(patch: KnownPatch) -> list[str]:
    """What is not as the registry has it."""
    from pipelines.lineage import patch_hashes
    from pipelines.run_folder import PATCH_FOLDER

    if not (patch.run / PATCH_FOLDER).is_dir():
        return ["its patch is gone; restore the run folder"]
    if patch_hashes(patch.run / PATCH_FOLDER) != patch.patch:
        return ["its patch has other content than when it was registered; restore it"]
    return []


def _kept(run: Path, content: dict[str, Any]) -> str:
    """Tag the snapshot that a run was trained on; says so, or why the store cannot keep it."""
    from store import FeatureStore, StoreError

    url, version, name = (
        content["config"]["data"]["store"],
        content["snapshot"],
        f"patch-{run.absolute().name}",
    )
    try:
        FeatureStore.open(url, create=False).tag(name, version)
    except StoreError as error:
        return f"its features are not kept: {error}"
    return f"store {url} keeps the features of snapshot {version} (tag {name})"
