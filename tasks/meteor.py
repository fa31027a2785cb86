"""METEOR 1.5 of tokenized texts: the Java program in pycocoevalcap's folder, with that package's settings.

The package's own wrapper waits for ever when the program has ended early, so this is another one.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np

from tasks.scoring import percentile_interval, resampled_totals
from tasks.task_scores import Metric, ScoringError

_COMMAND = ("java", "-jar", "-Xmx2G", "meteor-1.5.jar", "-", "-", "-stdio", "-l", "en", "-norm")
# positions in the statistics of an item: lengths of both texts, chunks, matches in both texts
_REPLY, _REFERENCE, _CHUNKS, _IN_REPLY, _IN_REFERENCE = 0, 1, 20, 21, 22


def meteor_metric(replies: Sequence[str], references: Sequence[Sequence[str]]) -> Metric:
    """METEOR as a fraction; no mean of the items' values. Raises ScoringError where the program fails."""
    with _Meteor() as program:
        lines = [
            program.statistics(reply, of_item) for reply, of_item in zip(replies, references, strict=True)
        ]
        *items, value = program.scores(lines)
        statistics = np.array([line.split() for line in lines], dtype=np.float64)
        # In a corpus the program counts no chunk for a reply that is its reference: it is not in pieces.
        whole = (
            (statistics[:, _CHUNKS] == 1)
            & (statistics[:, _REPLY] == statistics[:, _IN_REPLY])
            & (statistics[:, _REFERENCE] == statistics[:, _IN_REFERENCE])
        )
        statistics[whole, _CHUNKS] = 0
        resampled = [
            program.scores([" ".join(f"{number:.1f}" for number in totals)])[-1]
            for totals in resampled_totals(statistics)
        ]
    return Metric(value, tuple(items), "corpus", percentile_interval(np.array(resampled)))


class _Meteor:
    """The running program: one line in, one or more lines out."""

    def __enter__(self) -> _Meteor:
        from pycocoevalcap.meteor import meteor as package

        self.process = subprocess.Popen(
            _COMMAND,
            cwd=Path(package.__file__).parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            _close(pipe)

    def statistics(self, reply: str, references: Sequence[str]) -> str:
        """The counts of one item, as the program writes them."""
        text = reply.replace("|||", "").replace("  ", " ")
        return self._ask(" ||| ".join(("SCORE", *references, text)))[0]

    def scores(self, statistics: Sequence[str]) -> list[float]:
        """The score of each item, then that of all together."""
        answers = self._ask(" ||| ".join(("EVAL", *statistics)), len(statistics) + 1)
        return [float(answer) for answer in answers]

    def _ask(self, line: str, num_answers: int = 1) -> list[str]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # the program has ended: no answer comes either
            self.process.stdin.write(f"{line}\n".encode("utf-8", "replace"))
            self.process.stdin.flush()
        answers = [self.process.stdout.readline().decode().strip() for _ in range(num_answers)]
        if not all(answers):
            raise ScoringError(
                f"METEOR's Java program ended with exit code {self.process.wait()}; it needs 2 GB of memory, so free "
                "some and score again"
            )
        return answers


def _close(pipe: IO[bytes] | None) -> None:
    """Close it, whatever is left in it for a program that has ended."""
    assert pipe is not None
    with contextlib.suppress(BrokenPipeError):
        pipe.close()
