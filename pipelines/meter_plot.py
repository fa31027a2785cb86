"""The side-channel meter as a plot: the run as it is beside every variant, by question type."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.plot_style import INK, drawn

if TYPE_CHECKING:
    from pipelines.meter import MeterReport


def write_meter_plot(report: MeterReport, path: Path) -> None:
    """Bars of the headline metric for each group; the whiskers are the 95% interval of the paired difference."""
    groups = list(report.values)
    variants = list(dict.fromkeys(row.variant for row in report.rows))
    width = 0.8 / (len(variants) + 1)
    with drawn(path, 4.0 + 1.2 * len(groups) + 0.2 * len(variants), 4) as figure:
        axes = figure.add_subplot()
        axes.bar(
            [index - 0.4 + width / 2 for index in range(len(groups))],
            [report.values[group] for group in groups],
            width,
            label="as it is",
            color=INK,
        )
        for number, variant in enumerate(variants, start=1):
            rows = {row.group: row for row in report.rows if row.variant == variant}
            shown = [group for group in groups if group in rows]
            axes.bar(
                [groups.index(group) - 0.4 + (number + 0.5) * width for group in shown],
                [rows[group].value for group in shown],
                width,
                yerr=[
                    # of the difference, around the variant's value
                    [max(0.0, rows[group].high - rows[group].worth) for group in shown],
                    [max(0.0, rows[group].worth - rows[group].low) for group in shown],
                ],
                label=variant,
            )
        chances = {
            score.group or "all": score.chance
            for score in report.evaluation.scores
            if score.chance is not None
        }
        for index, group in enumerate(groups):
            if group in chances:
                axes.plot([index - 0.4, index + 0.4], [chances[group]] * 2, ":", color=INK, linewidth=1)
        axes.set_xticks(range(len(groups)), groups, rotation=20, ha="right")
        axes.set(ylabel=f"{report.metric} (chance dotted)", title="what the side channels are worth")
        axes.set_ylim(bottom=0)
        axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))  # beside the bars
