"""`pave why`: where a score comes from, whether that still holds, and what changed between two."""

from __future__ import annotations

import json
from pathlib import Path

import click

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("scores", metavar="SCORES.json [SCORES.json]", nargs=-1, type=_PATH, required=True)
@click.option("--diff", is_flag=True, help="What changed between two score files.")
@click.option("--samples", is_flag=True, help="List the evaluated samples with the hashes of their media.")
@click.option(
    "--check-media", is_flag=True, help="Read the evaluated media files again and compare their hashes."
)
@click.option("--manifest", type=_PATH, help="Where the media are. [default: beside the instructions]")
@click.option("--json", "as_json", is_flag=True, help="JSON.")
def why(
    scores: tuple[Path, ...],
    diff: bool,
    samples: bool,
    check_media: bool,
    manifest: Path | None,
    as_json: bool,
) -> None:
    """Print the chain behind a score: patch, run, base, snapshot, feature sets, media.

    Each link is compared with what is there now; exit code 1 when one no longer holds.
    """
    from pipelines.errors import PipelineError

    if len(scores) != 1 + diff:
        raise PipelineError("give one score file, or two with --diff")
    if diff:
        _print_diff(scores[0], scores[1], as_json)
        return
    from pipelines.lineage_chain import lineage_chain
    from pipelines.progress import TerminalProgress

    chain = lineage_chain(scores[0], check_media, manifest, TerminalProgress)
    if as_json:
        links = [{"what": link.what, **link.facts, "broken": link.broken} for link in chain.links]
        listed = dict(chain.samples) if samples else None
        click.echo(json.dumps({"links": links, "samples": listed, "broken": chain.broken}, indent=1))
    else:
        for link in chain.links:
            click.echo(link.what)
            for name, value in link.facts.items():
                click.echo(f"  {name}: {value}")
            for problem in link.broken:
                click.echo(f"  NO LONGER HOLDS: {problem}")
        if samples:
            click.echo("samples, evaluated")
            for sample_id, source_hash in chain.samples:
                click.echo(f"  {sample_id}: {source_hash or 'unknown'}")
        verdict = "every link holds" if not chain.broken else f"{len(chain.broken)} links no longer hold"
        click.echo(verdict if check_media else f"{verdict} (media files not read; --check-media does)")
    if chain.broken:
        raise click.exceptions.Exit(1)


def _print_diff(first: Path, second: Path, as_json: bool) -> None:
    from pipelines.lineage_diff import lineage_diff

    found = lineage_diff(first, second)
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    click.echo(f"A: {first}\nB: {second}")
    for subject, lines in found.items():
        click.echo(subject)
        for line in lines:
            click.echo(f"  {line}")
    if not found:
        click.echo("nothing differs")
