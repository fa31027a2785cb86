"""The one look of all plots, and how they are written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Colours that colour-blind readers can tell apart (Okabe and Ito, 2008).
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999999")
INK, QUIET, LINE = "#1d2330", "#5b6475", "#d5d9e2"  # those of the pages
TIME_COLOURS = "viridis"  # early is dark
DPI = 120


@contextmanager
def drawn(out: Path | IO[bytes], width: float, height: float) -> Iterator[Figure]:
    """A figure of `width` x `height` inches to draw into, written to `out` as PNG at the end."""
    from cycler import cycler
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    style = {
        "axes.prop_cycle": cycler(color=COLOURS),
        "axes.edgecolor": QUIET,
        "axes.labelcolor": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.titlesize": "medium",
        "figure.titlesize": "medium",
        "font.size": 10,
        "grid.color": LINE,
        "grid.linewidth": 0.6,
        "legend.frameon": False,
        "text.color": INK,
        "xtick.color": QUIET,
        "ytick.color": QUIET,
    }
    with rc_context(style):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        figure.savefig(out, dpi=DPI, format="png")
