"""One stage of a flow as a Prefect task around a plain function: what it shows while it runs, and how it ends.

A task is never a clip. It shows progress as artifacts and log lines, and its report as an artifact at the end. An
expected error fails the run with the error's one line as the state's message. Nothing is pickled: results are not
kept, and what Prefect keeps of an unexpected error is JSON.
"""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas import State
from prefect.states import Failed

from extractors.errors import ExtractorError
from pave_model.errors import PaveModelError
from pipelines.errors import PipelineError
from pipelines.flow_progress import ArtifactProgress
from pipelines.progress import ProgressFactory
from store.errors import StoreError
from tasks.instruction import TaskError

EXPECTED_ERRORS = (PipelineError, ExtractorError, PaveModelError, StoreError, TaskError)
REPORT_LINES = 200  # a log line of Prefect's may have a megabyte


class Report(Protocol):
    """What every plain function returns."""

    def summary(self) -> str:
        """A few lines for a person, failures included."""


AnyReport = TypeVar("AnyReport", bound=Report)


def run_stage(stage: str, function: Callable[[ProgressFactory], AnyReport]) -> AnyReport | State[Any]:
    """Run a stage as one task: its report, or a failed state with an expected error's message."""

    @task(name=stage, persist_result=False, result_serializer="json", cache_policy=NO_CACHE)
    def work() -> AnyReport | State[Any]:
        try:
            report = function(ArtifactProgress)
        except EXPECTED_ERRORS as error:
            return Failed(message=str(error))
        summary = shortened(report.summary())
        get_run_logger().info("%s", summary)
        create_markdown_artifact(
            f"```\n{summary}\n```", key=f"{stage}-report", description=f"{stage}: report"
        )
        return report

    state = work(return_state=True)
    # a state of its own, because the one of the task would become "1/1 states failed"
    return state.result() if state.is_completed() else Failed(message=state.message)


def shortened(summary: str) -> str:
    """A report's first lines, and how many more there are."""
    lines = summary.splitlines()
    more = len(lines) - REPORT_LINES
    if more <= 0:
        return summary
    return "\n".join([*lines[:REPORT_LINES], f"... and {more} more lines; the store has them all"])
