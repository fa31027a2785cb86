"""The demo with several seeds, and what its patches, twins and altered channels reach, as a table in Markdown.

A demo that is finished is not made again. A cell has the accuracy of each seed, in per cent; the last line is one flat
JSON object.

    python benchmarks/demo_seeds.py [--seeds 0,1,2] [--channels audio,dense,exo,depth3d] [--out out/demo-seeds]
"""

import argparse
import json
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from pipelines.config import DemoConfig  # noqa: E402
from pipelines.demo import DemoReport, demo  # noqa: E402
from pipelines.demo_channels import WORLDS  # noqa: E402
from pipelines.progress import TerminalProgress  # noqa: E402


def main() -> None:
    """Run what is missing, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--channels", default=",".join(WORLDS))
    parser.add_argument("--out", type=Path, default=Path("out/demo-seeds"))
    options = parser.parse_args()
    channels = options.channels.split(",")
    reports = [report_of(options.out / seed, int(seed), channels) for seed in options.seeds.split(",")]
    cells: dict[tuple[str, str], dict[str, list[float]]] = {}
    chances = {}
    for report in reports:
        for row in report.rows:
            if row.channel != "video" and row.variant != "base":
                variants = cells.setdefault((row.channel, row.question), {})
                variants.setdefault(column(row.variant), []).append(row.accuracy)
                chances[row.question] = row.chance or 0.0
    columns = ("patch", "LoRA only", "zeroed", "shuffled", "shifted")
    print(f"| Patch | Question | Chance | {' | '.join(columns)} |")
    print(f"|---|---|---|{'---|' * len(columns)}")
    result: dict[str, float | str] = {"seeds": options.seeds}
    for (channel, question), variants in cells.items():
        shown = [", ".join(f"{100 * value:.1f}" for value in variants.get(name, [])) for name in columns]
        print(f"| {channel} | `{question}` | {chances[question]:.0%} | {' | '.join(shown)} |")
        for name, values in variants.items():
            result[f"demo/{channel}/{question}/{name}"] = min(values) if name == "patch" else max(values)
    result["demo/seconds"] = max(report.seconds for report in reports)
    print(json.dumps(result))


def report_of(out: Path, seed: int, channels: list[str]) -> DemoReport:
    """The demo of a seed, made where it is not there yet."""
    file = out / "report.json"
    if file.exists():
        return DemoReport.model_validate_json(file.read_text())
    config = DemoConfig.model_validate({"out": out, "seed": seed, "channels": channels})
    return demo(config, TerminalProgress)


def column(variant: str) -> str:
    """The column of a variant; of a patch with several channels, an altered one counts for its channel's own."""
    if variant == "lora_only":
        return "LoRA only"
    return variant.rpartition(" ")[2]


if __name__ == "__main__":
    main()
