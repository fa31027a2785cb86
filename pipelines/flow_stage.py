"""One stage of a flow as a Prefect task around a plain function: what it shows while it runs, and how it ends.

A task is never a clip. It shows progress as artifacts and log lines, warnings of workers as log lines, and at the end
its report: as text, as a table, and as links to what was made. An expected error fails the run with the error's one
line as the state's message; Ctrl-C cancels it. Nothing is pickled: results are not kept, and what Prefect keeps of an
unexpected error is JSON.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

from httpx import HTTPError
from prefect import get_run_logger, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas import State
from prefect.states import Cancelled, Failed
from pydantic import BaseModel

from extractors.errors import ExtractorError
from pave_model.errors import PaveModelError
from pipelines.errors import PipelineError
from pipelines.flow_log import logs_in_the_run
from pipelines.flow_progress import ArtifactProgress, key_of
from pipelines.flow_slots import Slots, holding
from pipelines.progress import ProgressFactory
from pipelines.report_table import report_places, report_rows
from store.errors import StoreError
from tasks.instruction import TaskError

EXPECTED_ERRORS = (PipelineError, ExtractorError, PaveModelError, StoreError, TaskError)
INTERRUPTED = "interrupted; what was finished is kept, the same run goes on from there"
REPORT_LINES = 200  # a log line of Prefect's may have a megabyte
_PATIENCE_SECONDS = (
    60.0  # for a server that is away when the report is ready; Prefect waits so long for states
)
_RETRY_SECONDS = 2.0


class Report(Protocol):
    """What every plain function returns."""

    def summary(self) -> str:
        """A few lines for a person, failures included."""


AnyReport = TypeVar("AnyReport", bound=Report)


def run_stage(
    stage: str, function: Callable[[ProgressFactory], AnyReport], slots: Sequence[Slots] = ()
) -> AnyReport | State[Any]:
    """Run a stage as one task: its report, a failed state with an expected error's message, or a cancelled one.

    It holds `slots` meanwhile, and waits for them first.
    """

    @task(name=stage, persist_result=False, result_serializer="json", cache_policy=NO_CACHE)
    def work() -> AnyReport | State[Any]:
        try:
            with logs_in_the_run(), holding(slots):
                report = function(ArtifactProgress)
        except EXPECTED_ERRORS as error:
            return Failed(message=str(error))
        except KeyboardInterrupt:
            return Cancelled(message=INTERRUPTED)
        _show(stage, report)
        return report

    state = work(return_state=True)
    if state.is_completed():
        return state.result()
    # a state of its own, because the one of the task would become "1/1 states failed"
    made_by = Cancelled if state.is_cancelled() else Failed
    return made_by(message=state.message)


def _show(stage: str, report: Report) -> None:
    summary = shortened(report.summary())
    get_run_logger().info("%s", summary)
    create_artifact(
        lambda: create_markdown_artifact(
            f"```\n{summary}\n```", key=f"{stage}-report", description=f"{stage}: report"
        )
    )
    if not isinstance(report, BaseModel):
        return
    rows = report_rows(report)
    create_artifact(
        lambda: create_table_artifact(rows, key=f"{stage}-table", description=f"{stage}: report as a table")
    )
    for name, url in report_places(report).items():
        create_artifact(partial(_link, stage, name, url))


def _link(stage: str, name: str, url: str) -> None:
    create_link_artifact(url, link_text=url, key=key_of(f"{stage}-{name}"), description=f"{stage}: {name}")


def create_artifact(create: Callable[[], object]) -> None:
    """Call `create`, again while the server is away. One that stays away costs the artifact, not the work."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            create()
            return
        except HTTPError as error:
            if time.monotonic() > until:
                get_run_logger().warning("an artifact is lost, the server is away: %r", error)
                return
            time.sleep(_RETRY_SECONDS)


def shortened(summary: str) -> str:
    """A report's first lines, and how many more there are."""
    lines = summary.splitlines()
    more = len(lines) - REPORT_LINES
    if more <= 0:
        return summary
    return "\n".join([*lines[:REPORT_LINES], f"... and {more} more lines; the store has them all"])
