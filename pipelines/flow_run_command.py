"""`pave run FLOW`: a run of a flow's deployment on a Prefect server, or in this process."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipelines.up_command import home_option

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.client.orchestration import SyncPrefectClient

_POLL_SECONDS = 1.0
_AWAY_SECONDS = 60.0  # a server that restarts is back by then


@click.command()
@click.argument("flow")
@click.option(
    "--param",
    "params",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a setting of the deployment, such as store=/data/store or encoder.weights=FILE.",
)
@click.option(
    "--watch", is_flag=True, help="Show states and log lines until it ends; exit code 1 on failure."
)
@click.option(
    "--here",
    is_flag=True,
    help="Run in this process, with a temporary server where none runs; no worker is needed.",
)
@home_option
def run(flow: str, params: tuple[str, ...], watch: bool, here: bool, home: Path) -> None:
    """Run FLOW, such as extract-audio, as its deployment on a Prefect server.

    The server is that of PREFECT_API_URL, else that of `pave up`, else that of Prefect's profile, or with --here a
    temporary one. With --here log lines show without --watch.
    """
    from pipelines.flow_server import LocalServer
    from pipelines.flow_temporary_server import start_temporary_server

    server = LocalServer(home)
    # before prefect is imported
    if "PREFECT_API_URL" not in os.environ:
        environment = server.environment()
        if server.answers():
            os.environ.update(environment)
        elif here:
            url = start_temporary_server(server.home, environment)
            os.environ.update(environment | {"PREFECT_API_URL": url})
    if here:
        _run_here(flow, params)
    else:
        _run_by_worker(flow, params, watch)


def _run_here(flow: str, params: tuple[str, ...]) -> None:
    """Run a flow in this process, which must know its server before prefect is imported here."""
    from pipelines.flow_server import CHECKOUT
    from pipelines.yaml_file import read_yaml

    found: Any = _flow(flow)  # Flow's own type does not say what a call returns
    deployments = read_yaml(CHECKOUT / "prefect.yaml")["deployments"]
    names = {one["entrypoint"].rpartition(":")[2]: one["parameters"]["config"] for one in deployments}
    config = run_settings(flow, names[found.fn.__name__], params)
    os.chdir(CHECKOUT)  # where relative paths of a deployment start, as under a worker
    state = found(config=config, return_state=True)
    click.echo(f"state: {state.name}{f': {state.message}' if state.message else ''}")
    if not state.is_completed():
        raise click.exceptions.Exit(1)


def _run_by_worker(flow: str, params: tuple[str, ...], watch: bool) -> None:
    from httpx import HTTPError
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound
    from prefect.settings import get_current_settings

    from pipelines.errors import ServerError

    url = get_current_settings().api.url
    if url is None:
        raise ServerError("no Prefect server runs; start one with `pave up`, or set PREFECT_API_URL")

    with get_client(sync_client=True) as client:
        try:
            deployment = client.read_deployment_by_name(f"{flow}/default")
            config = run_settings(flow, deployment.parameters.get("config", {}), params)
            started = client.create_flow_run_from_deployment(deployment.id, parameters={"config": config})
            click.echo(f"{flow}: run {started.name}, {started.id}")
            if watch and not _watched(client, started.id):
                raise click.exceptions.Exit(1)
        except ObjectNotFound as error:
            names = ", ".join(sorted(_flows()))
            raise ServerError(
                f"the server has no deployment {flow}/default; deploy with `pave up`; flows are {names}"
            ) from error
        except HTTPError as error:
            raise ServerError(f"no Prefect server answers at {url}; start one with `pave up`") from error


def run_settings(flow: str, defaults: dict[str, Any], params: tuple[str, ...]) -> dict[str, Any]:
    """The settings of a run: the deployment's, with `params` in their places.

    Raises PipelineError in one line for settings that the flow does not take, ServerError for an unknown flow.
    """
    from pipelines.config import checked
    from pipelines.extract_settings import without_replaced_media
    from pipelines.setting_overrides import override

    schema = _flow(flow).fn.__annotations__["config"]
    values = override(without_replaced_media(defaults, [param.partition("=")[0] for param in params]), params)
    checked(schema, values, f"pave run {flow}")
    return values


def _flow(name: str) -> Flow[Any, Any]:
    """The flow of a name. Raises ServerError for an unknown one."""
    from pipelines.errors import ServerError

    flows = _flows()
    if name not in flows:
        raise ServerError(f"there is no flow {name!r}; flows are {', '.join(sorted(flows))}")
    return flows[name]


def _flows() -> dict[str, Flow[Any, Any]]:
    from prefect import Flow

    from pipelines import flows

    return {found.name: found for found in vars(flows).values() if isinstance(found, Flow)}


def _watched(client: SyncPrefectClient, run_id: Any) -> bool:
    """Show a run until it ends; whether it was completed. Raises HTTPError when the server stays away."""
    from httpx import HTTPError
    from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
    from prefect.client.schemas.sorting import LogSort

    logs_of_run = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run_id]))
    shown, state_shown, heard_at = 0, None, time.monotonic()
    while True:
        try:
            state = client.read_flow_run(run_id).state
            lines = client.read_logs(log_filter=logs_of_run, offset=shown, sort=LogSort.TIMESTAMP_ASC)
        except HTTPError as error:
            if time.monotonic() - heard_at > _AWAY_SECONDS:
                raise
            click.echo(f"the server does not answer ({error!r}); asking again", err=True)
            time.sleep(_POLL_SECONDS)
            continue
        heard_at = time.monotonic()
        for line in lines:
            click.echo(f"{line.timestamp.astimezone():%H:%M:%S} {line.message}")
        shown += len(lines)
        if state is not None and state.name != state_shown:
            state_shown = state.name
            click.echo(f"state: {state.name}{f': {state.message}' if state.message else ''}")
        if state is not None and state.is_final() and not lines:
            return bool(state.is_completed())
        if not lines:
            time.sleep(_POLL_SECONDS)
