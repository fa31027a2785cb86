"""The report of an evaluation, and its text."""

from __future__ import annotations

from pathlib import Path

from pipelines.config import Settings
from pipelines.feature_dataset import Coverage
from pipelines.prediction_file import SCORES_FILE
from pipelines.score_rows import PublishedComparison, Score
from pipelines.score_table import group_table, metric_table, published_table


class EvaluateReport(Settings):
    """The scores, what they rest on, and where they and the predictions were written.

    `task` is whose published scorer was used, null for exact match. `not_answered` are the instructions whose sample
    lacks features; they count nowhere. `denominator` says which items the published evaluation counts.
    """

    out: Path
    model: str
    dataset: str
    split: str
    task: str | None
    headline: str
    snapshot: int
    coverage: Coverage
    not_answered: tuple[str, ...]
    denominator: str
    scores: tuple[Score, ...]
    missing_groups: tuple[str, ...]
    absent_metrics: dict[str, str]
    published: tuple[PublishedComparison, ...]

    def summary(self) -> str:
        """Tables for people, and below them what the scores rest on."""
        rule = f"the published evaluation of {self.task}" if self.task else "exact match"
        lines = [f"{self.dataset}, split {self.split}: {self.model}, scored by {rule}"]
        tables = (
            metric_table(self.scores, self.headline),
            group_table(self.scores),
            published_table(self.published),
        )
        for table in filter(None, tables):
            lines += [*table.splitlines(), ""]
        for reason in dict.fromkeys(self.absent_metrics.values()):
            names = [name for name, given in self.absent_metrics.items() if given == reason]
            lines.append(f"absent: {', '.join(names)}: {reason}")
        if self.missing_groups:
            lines.append(f"no items of: {', '.join(self.missing_groups)}")
        covered = self.coverage
        lines.append(
            f"{covered.with_features} of {covered.instructions} instructions and "
            f"{covered.samples_with_features} of {covered.samples} samples had features "
            f"(snapshot {self.snapshot})"
        )
        if self.not_answered:
            lines.append(f"not answered, and in no score: {len(self.not_answered)}, listed in {SCORES_FILE}")
        lines += [self.denominator, f"predictions and scores: {self.out}"]
        return "\n".join(lines)
