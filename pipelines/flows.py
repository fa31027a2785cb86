"""The Prefect flows: `prepare`, `extract-<channel>`, `train`, `evaluate`, `retrain`, `demo`.

A flow is one task around one plain function of this package (never a task per clip), with one parameter,
`config`. The task shows progress as artifacts and log lines, and its report as an artifact at the end. An
expected error fails the run with the error's one line as the state's message. Nothing is pickled: results are
not kept, and what Prefect keeps of an unexpected error is JSON.

`prefect.yaml` declares the deployments. The command `pave` calls the same functions with no server.
"""

import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar
from uuid import UUID

from httpx import HTTPError
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas import State
from prefect.states import Failed

from extractors.errors import ExtractorError
from pave_model.errors import PaveModelError
from pipelines.config import (
    DemoConfig,
    EvaluateConfig,
    ExtractAudioConfig,
    ExtractConfig,
    ExtractDenseConfig,
    ExtractDepth3dConfig,
    ExtractExoConfig,
    ExtractFramesConfig,
    PrepareConfig,
    TrainConfig,
)
from pipelines.errors import PipelineError
from pipelines.progress import ProgressFactory
from pipelines.retrain_config import RetrainConfig
from store.errors import StoreError
from tasks.instruction import TaskError

if TYPE_CHECKING:  # their modules load Ray, the Trainer and more; a flow that runs needs one of them
    from pipelines.demo import DemoReport
    from pipelines.evaluate_report import EvaluateReport
    from pipelines.extract import ExtractReport
    from pipelines.manifest import PrepareReport
    from pipelines.meter import MeterReport
    from pipelines.retrain_report import RetrainReport
    from pipelines.train import TrainReport

EXPECTED_ERRORS = (PipelineError, ExtractorError, PaveModelError, StoreError, TaskError)
ARTIFACT_SECONDS = 1.0  # between two updates of a progress artifact
LOG_SECONDS = 10.0  # between two log lines of progress
REPORT_LINES = 200  # a log line of Prefect's may have a megabyte


class Report(Protocol):
    """What every plain function returns."""

    def summary(self) -> str:
        """A few lines for a person, failures included."""


AnyReport = TypeVar("AnyReport", bound=Report)


@flow(name="prepare", persist_result=False, result_serializer="json")
def prepare(config: PrepareConfig) -> "PrepareReport | State[Any]":
    """From media to a manifest."""
    from pipelines.manifest import prepare as function

    return _run("prepare", lambda progress: function(config, progress))


@flow(name="extract-audio", persist_result=False, result_serializer="json")
def extract_audio(config: ExtractAudioConfig) -> "ExtractReport | State[Any]":
    """Features of the channel `audio` for what has none yet."""
    return _extract("audio", config)


@flow(name="extract-dense", persist_result=False, result_serializer="json")
def extract_dense(config: ExtractDenseConfig) -> "ExtractReport | State[Any]":
    """Features of the channel `dense` for what has none yet."""
    return _extract("dense", config)


@flow(name="extract-depth3d", persist_result=False, result_serializer="json")
def extract_depth3d(config: ExtractDepth3dConfig) -> "ExtractReport | State[Any]":
    """Features of the channel `depth3d` for what has none yet."""
    return _extract("depth3d", config)


@flow(name="extract-exo", persist_result=False, result_serializer="json")
def extract_exo(config: ExtractExoConfig) -> "ExtractReport | State[Any]":
    """Features of the channel `exo` for what has none yet."""
    return _extract("exo", config)


@flow(name="extract-frames", persist_result=False, result_serializer="json")
def extract_frames(config: ExtractFramesConfig) -> "ExtractReport | State[Any]":
    """Features of the channel `frames` for what has none yet."""
    return _extract("frames", config)


@flow(name="train", persist_result=False, result_serializer="json")
def train(config: TrainConfig) -> "TrainReport | State[Any]":
    """One training of a patch on cached features."""
    from pipelines.train import train as function

    return _run("train", lambda progress: function(config, progress))


@flow(name="evaluate", persist_result=False, result_serializer="json")
def evaluate(config: EvaluateConfig) -> "EvaluateReport | MeterReport | State[Any]":
    """Answers and scores of one run, or of an unpatched base; with `meter` also what its channels are worth."""
    from pipelines.evaluate import evaluate as evaluation
    from pipelines.meter import side_channel_meter

    function = side_channel_meter if config.meter else evaluation
    return _run("evaluate", lambda progress: function(config, progress))


@flow(name="retrain", persist_result=False, result_serializer="json")
def retrain(config: RetrainConfig) -> "RetrainReport | State[Any]":
    """What is new extracted and learned, and the patch promoted if it is better."""
    from pipelines.retrain import retrain as function

    return _run("retrain", lambda progress: function(config, progress))


@flow(name="demo", persist_result=False, result_serializer="json")
def demo(config: DemoConfig) -> "DemoReport | State[Any]":
    """The whole line on SideCue."""
    from pipelines.demo import demo as function

    return _run("demo", lambda progress: function(config, progress))


def _extract(channel: str, config: ExtractConfig) -> "ExtractReport | State[Any]":
    from pipelines.extract import extract

    return _run(f"extract-{channel}", lambda progress: extract(channel, config, progress))


def _run(stage: str, function: Callable[[ProgressFactory], AnyReport]) -> AnyReport | State[Any]:
    """Run a stage as one task: its report, or a failed state with an expected error's message."""

    @task(name=stage, persist_result=False, result_serializer="json", cache_policy=NO_CACHE)
    def run_stage() -> AnyReport | State[Any]:
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

    state = run_stage(return_state=True)
    # a state of its own, because the one of the task would become "1/1 states failed"
    return state.result() if state.is_completed() else Failed(message=state.message)


class ArtifactProgress:
    """Progress of a stage as a Prefect progress artifact and log lines; for use inside a run.

    A server that is away for a while costs news, not the work.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._logger = get_run_logger()

    def __enter__(self) -> Self:
        artifact = create_progress_artifact(0.0, artifact_key(self._label), self._label)
        assert isinstance(artifact, UUID)  # a coroutine would come only inside an event loop
        self._artifact = artifact
        self._started = self._shown_at = self._logged_at = time.monotonic()
        self._percent, self._line = 0.0, ""
        return self

    def __exit__(self, *_: object) -> None:
        if self._line:
            self._show()
            self._log()

    def update(self, done: int, total: int, failed: int = 0, note: str = "") -> None:
        """Take the new counts; they are shown when what is shown is old enough."""
        now = time.monotonic()
        self._percent = 100.0 * done / total if total else 100.0
        self._line = progress_line(self._label, done, total, failed, note, now - self._started)
        if now - self._shown_at >= ARTIFACT_SECONDS:
            self._shown_at = now
            self._show()
        if now - self._logged_at >= LOG_SECONDS:
            self._logged_at = now
            self._log()

    def _show(self) -> None:
        try:
            update_progress_artifact(self._artifact, self._percent, self._line)
        except HTTPError as error:
            self._logger.warning("the progress artifact of %r is out of date: %r", self._label, error)

    def _log(self) -> None:
        self._logger.info("%s", self._line)


def artifact_key(label: str) -> str:
    """The key of a stage's progress artifact: only lower-case letters, digits and dashes are allowed."""
    return re.sub(r"[^a-z0-9]+", "-", f"{label}-progress".lower()).strip("-")


def progress_line(label: str, done: int, total: int, failed: int, note: str, seconds: float) -> str:
    """One line of news: counts, items a second, seconds left."""
    rate = done / max(seconds, 1e-3)
    words = [f"{label}: {done}/{total}", f"{rate:.1f}/s" if rate >= 1 else f"{rate:.3f}/s"]
    if 0 < done < total:
        words.append(f"{(total - done) / rate:.0f} s left")
    if failed:
        words.append(f"{failed} failed")
    return ", ".join([*words, note] if note else words)


def shortened(summary: str) -> str:
    """A report's first lines, and how many more there are."""
    lines = summary.splitlines()
    more = len(lines) - REPORT_LINES
    if more <= 0:
        return summary
    return "\n".join([*lines[:REPORT_LINES], f"... and {more} more lines; the store has them all"])
