"""`pave up`, `pave down` and `pave status`: a Prefect server with worker and deployments on this machine."""

from __future__ import annotations

from pathlib import Path

import click

DEFAULT_HOME = Path("data/server")
home_option = click.option(
    "--home",
    type=click.Path(path_type=Path),
    default=DEFAULT_HOME,
    show_default=True,
    help="Folder with the server's database and logs.",
)


@click.command()
@click.option("--port", default=4200, show_default=True, type=click.IntRange(1, 65535), help="Of 127.0.0.1.")
@home_option
def up(port: int, home: Path) -> None:
    """Start a Prefect server, this checkout's deployments and a worker; what runs already is left alone."""
    from pipelines.flow_server import LocalServer

    server = LocalServer(home)
    server.up(port, lambda line: click.echo(line, err=True))
    click.echo(f"page: {str(server.url).removesuffix('/api')}, logs: {server.home}")
    click.echo("start a flow: pave run FLOW --watch; end all: pave down")
    click.echo(f"for the prefect command: export PREFECT_API_URL={server.url}")


@click.command()
@home_option
def down(home: Path) -> None:
    """End the server, its worker and the runs; the database stays, and so does what runs have finished."""
    from pipelines.flow_server import LocalServer

    LocalServer(home).down(click.echo)


@click.command()
@home_option
def status(home: Path) -> None:
    """Tell what of the server runs; exit code 1 when not all does."""
    from pipelines.flow_server import LocalServer

    server = LocalServer(home)
    answers, worker = server.answers(), server.has_worker()
    click.echo(f"server: {server.url if answers else 'not running'}")
    click.echo(f"worker: {f'running, {server.num_runs()} runs' if worker else 'not running'}")
    if not (answers and worker):
        raise click.exceptions.Exit(1)
