"""The report of a retraining, and its text."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pipelines.config import Settings
from pipelines.retrain_news import News


class Verdict(Settings):
    """The challenger against the champion, item by item, on the `n` items that both answered.

    Values are the means over these items. `low` to `high` is the bootstrap 95% interval of the difference; the
    challenger is the better one on `won` items, the worse one on `lost`.
    """

    metric: str
    challenger: float
    champion: float
    difference: float
    low: float
    high: float
    n: int
    won: int
    lost: int
    tied: int
    not_shared: int

    def summary(self) -> str:
        """One line for people."""
        line = (
            f"{self.metric} {self.challenger:.4f} against {self.champion:.4f}, difference {self.difference:+.4f} "
            f"(95% interval {self.low:+.4f} to {self.high:+.4f}) on {self.n} items, "
            f"better on {self.won}, worse on {self.lost}"
        )
        return f"{line}; {self.not_shared} items are not answered by both" if self.not_shared else line


class RetrainReport(Settings):
    """What one retraining found and did.

    `samples` are those of the manifest; `extracted`, `failed` and `known_failures` count them by channel: done now,
    found unusable now, known to be. `champion` is the one afterwards, `before` the one at the start; `score` is the
    challenger's metric over all its items.
    """

    dataset: str
    decision: Literal["promoted", "not promoted", "nothing new"]
    reason: str
    snapshot: int
    samples: int
    extracted: dict[str, int]
    failed: dict[str, int]
    known_failures: dict[str, int]
    news: News
    challenger: Path | None
    before: Path | None
    champion: Path | None
    metric: str | None = None
    score: float | None = None
    verdict: Verdict | None = None

    def summary(self) -> str:
        """A few lines for people."""
        done = ", ".join(f"{channel} {count}" for channel, count in self.extracted.items())
        lines = [f"{self.dataset}: {self.samples} samples, extracted now: {done} (snapshot {self.snapshot})"]
        for what, counts in (("failed now", self.failed), ("failed before", self.known_failures)):
            found = ", ".join(f"{channel} {count}" for channel, count in counts.items() if count)
            lines += [f"{what}: {found}"] if found else []
        since = "so far" if self.before is None else f"since champion {self.before.name}"
        lines.append(f"new {since}: {self.news.summary()}")
        if self.challenger is not None:
            lines.append(f"challenger: {self.challenger}")
        if self.verdict is not None:
            lines.append(self.verdict.summary())
        elif self.score is not None:
            lines.append(f"{self.metric} {self.score:.4f}")
        lines += [f"{self.decision}: {self.reason}", f"champion: {self.champion or 'none'}"]
        return "\n".join(lines)
