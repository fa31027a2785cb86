"""`pave store ui`: the feature store in a browser."""

from __future__ import annotations

import click

from pipelines.store_options import opened, store_option


@click.command()
@store_option
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to serve on. There is no authentication: another one shows the store to whoever reaches it.",
)
@click.option("--port", default=8377, show_default=True, type=click.IntRange(0, 65535))
def ui(url: str, host: str, port: int) -> None:
    """Serve a read-only page of the store: feature sets, versions, failures, and features as pictures."""
    import uvicorn

    from pipelines.store_app import store_app

    app = store_app(opened(url), host)
    click.echo(f"{url} at http://{host}:{port} (Ctrl-C ends)")
    uvicorn.run(app, host=host, port=port, log_level="warning")
