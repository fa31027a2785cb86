"""The demo's report: one self-contained HTML page with the table, the loss curves and three example clips."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.prediction_file import PREDICTIONS_FILE
from pipelines.train import TrainReport

NUM_EXAMPLES = 3


def write_report(
    out: Path, media: Path, report: Mapping[str, Any], trained: Mapping[str, TrainReport]
) -> None:
    """Write `out/report.html`. `media` is the SideCue folder, `report` the dumped `DemoReport`."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("pipelines", "."), undefined=StrictUndefined, autoescape=True
    )
    page = environment.get_template("demo_report.html").render(
        report=report,
        curves=_data_uri(_loss_curves(trained), "image/png"),
        examples=_examples(out, media),
        steps={variant: result.steps for variant, result in trained.items()},
    )
    (out / "report.html").write_text(page)


def _examples(out: Path, media: Path) -> list[dict[str, Any]]:
    """The first held-out clips, with the answers of all variants and the clip itself."""
    answers: dict[str, dict[str, dict[str, Any]]] = {
        variant: {
            item["instruction_id"]: item for item in _read_lines(out / "scores" / variant / PREDICTIONS_FILE)
        }
        for variant in ("patch", "lora_only", "base")
    }
    truth = {entry["number"]: entry for entry in json.loads((media / "truth" / "test.json").read_text())}
    examples = []
    for instruction_id, item in list(answers["patch"].items())[:NUM_EXAMPLES]:
        number = int(item["sample_id"].rsplit("-", 1)[1])
        video = media / "test" / f"{number:06d}.mp4"
        examples.append(
            {
                "sample_id": item["sample_id"],
                "question": item["question"],
                "answer": item["answer"],
                "predictions": {
                    variant: found[instruction_id]["prediction"] for variant, found in answers.items()
                },
                "tone_time": truth[number]["tone_time"],
                "video": _data_uri(video.read_bytes(), "video/mp4"),
            }
        )
    return examples


def _read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _loss_curves(trained: Mapping[str, TrainReport]) -> bytes:
    """PNG of the training losses of all variants."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.add_subplot()
    for variant, result in trained.items():
        axes.plot([step for step, _ in result.losses], [loss for _, loss in result.losses], label=variant)
    axes.set(xlabel="optimizer step", ylabel="loss (nats per trained token)")
    axes.set_ylim(bottom=0)
    axes.legend()
    picture = io.BytesIO()
    figure.savefig(picture, dpi=120)
    return picture.getvalue()


def _data_uri(content: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
