"""`pave store ...`: checking a feature store, and keeping it small and quick."""

from __future__ import annotations

from datetime import timedelta

import click

from pipelines.store_options import opened, size, snapshot_of, store_option


@click.command()
@store_option
def verify(url: str) -> None:
    """Read every committed byte and check it; exit code 1 when something is wrong."""
    from pipelines.progress import TerminalProgress

    store = opened(url)
    with TerminalProgress("verify") as stage:
        report = store.verify(stage.update)
    for problem in report.problems:
        click.echo(f"problem: {problem}")
    click.echo(
        f"catalog version {report.version}: {report.num_rows} samples in {report.num_parts} parts, "
        f"{size(report.num_bytes)}; {len(report.problems)} problems, {len(report.orphans)} orphans (harmless)"
    )
    if not report.ok:
        raise click.exceptions.Exit(1)


@click.command()
@click.option(
    "--target-mb", default=128, show_default=True, type=click.IntRange(1), help="Size of the new parts."
)
@store_option
def compact(target_mb: int, url: str) -> None:
    """Move the samples of small parts into big ones, while others read and write."""
    from pipelines.progress import TerminalProgress

    store = opened(url)
    with TerminalProgress("compact") as stage:
        report = store.compact(target_mb * 1_000_000, stage.update)
    for reason in report.left_alone:
        click.echo(f"left alone: {reason}")
    click.echo(
        f"catalog version {report.version}: moved {report.num_samples} samples ({size(report.num_bytes)}) "
        f"from {report.num_parts_before} parts to {report.num_parts_after}; "
        "`pave store vacuum` removes the old ones when nobody can read them any more"
    )
    if report.left_alone:
        raise click.exceptions.Exit(1)


@click.command()
@click.option(
    "--grace",
    default="7d",
    show_default=True,
    help="Keep what was the newest within this time, such as 7d, 12h or 0d, and unfinished writes as old.",
)
@click.option("--yes", is_flag=True, help="Remove; without it nothing is changed.")
@store_option
def vacuum(grace: str, yes: bool, url: str) -> None:
    """List the parts that no readable version needs, and with --yes remove them.

    Versions that were replaced before the grace period become unreadable, unless they have a tag.
    """
    report = opened(url).vacuum(_duration(grace), dry_run=not yes)
    for kind, parts in (("superseded", report.superseded), ("orphan", report.orphans)):
        for part in parts:
            click.echo(f"{kind}: {part}")
    count = len(report.superseded) + len(report.orphans)
    done = "removed" if yes else "would remove"
    click.echo(
        f"{done} {count} parts, {size(report.num_bytes)}; {report.num_parts_kept} parts stay; "
        f"readable are catalog version {report.oldest} and newer, and the tagged ones"
    )
    if not yes and count:
        click.echo("nothing was changed; add --yes to remove them")


@click.command()
@click.option("--grace-days", default=7.0, show_default=True, help="As --grace of `pave store vacuum`.")
@store_option
def maintain(grace_days: float, url: str) -> None:
    """Verify, and if all is sound compact and vacuum; what a schedule would do."""
    from pipelines.config import checked
    from pipelines.maintain import MaintainConfig
    from pipelines.maintain import maintain as function
    from pipelines.progress import TerminalProgress

    config = checked(MaintainConfig, {"store": url, "grace_days": grace_days}, "pave store maintain")
    click.echo(function(config, TerminalProgress).summary())


@click.command()
@store_option
def migrate(url: str) -> None:
    """Bring a store that an older version of this package made to the newest format."""
    from store.migrate import migrate_store

    before, after = migrate_store(url)
    click.echo(
        f"{url} has format {after} already" if before == after else f"{url}: format {before} -> {after}"
    )


@click.command()
@click.argument("name")
@click.argument("version", required=False)
@store_option
def tag(name: str, version: str | None, url: str) -> None:
    """Give a catalog version (the newest, or VERSION) a NAME; no vacuum removes its features then."""
    store = opened(url)
    click.echo(f"{name} is catalog version {store.tag(name, snapshot_of(store, version).version)}")


@click.command()
@click.argument("name")
@store_option
def untag(name: str, url: str) -> None:
    """Take a tag away."""
    opened(url).untag(name)


@click.command()
@store_option
def tags(url: str) -> None:
    """List the tags."""
    from pipelines.plain_table import plain_table

    rows = [
        (tag.name, tag.version, f"{tag.time.astimezone():%Y-%m-%d %H:%M:%S}")
        for tag in opened(url).tags().values()
    ]
    click.echo(plain_table(("tag", "version", "given"), rows))


COMMANDS = (verify, compact, vacuum, maintain, migrate, tag, untag, tags)


def _duration(text: str) -> timedelta:
    """7d, 12h, 30m or 10s."""
    from pipelines.errors import PipelineError

    units = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}
    number, unit = text[:-1], text[-1:]
    if unit not in units or not number.isdecimal():
        raise PipelineError(f"--grace {text!r} is no time; write it like 7d, 12h, 30m or 10s")
    return timedelta(**{units[unit]: int(number)})
