"""The demo's report: one self-contained HTML page with a section for each patch.

A section has the table of accuracies, what the channel is worth with the meter's plot, the loss curves and three
held-out examples.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.demo_channels import DemoPatch
from pipelines.meter import MeterReport
from pipelines.plot_style import drawn
from pipelines.prediction_file import PREDICTIONS_FILE
from pipelines.train import TrainReport

if TYPE_CHECKING:
    from pipelines.demo import MeasuredPatch

NUM_EXAMPLES = 3
TITLES = {
    "audio": "What is the sound worth?",
    "dense": "What are densely sampled frames worth?",
    "exo": "What is a second camera worth?",
    "depth3d": "What are depth and camera pose worth?",
    "audio+dense": "What are sound and dense frames worth together?",
    "audio-alone": "The same question with the sound alone",
    "dense-alone": "The same question with the dense frames alone",
}
WHY = {
    "audio": "The scene changes its colour every second or so, and one short tone sounds. The question is which colour "
    "was on screen at that moment; the picture alone cannot tell.",
    "dense": "The background flashes twice, each time between two key frames. The questions are about the colours of "
    "the flashes, which only frames that are sampled more densely show.",
    "exo": "A box hides a sign. Only the camera behind the box sees its colour and the shape on it.",
    "depth3d": "Two balls look equally large but are not equally far away, and the camera faces anywhere. Pictures "
    "alone tell neither distances nor directions.",
    "audio+dense": "A tone sounds during one of the two flashes. The sound tells when, the dense frames tell the "
    "colour; the question needs both.",
}


def write_report(out: Path, report: Mapping[str, Any], measured: Sequence[MeasuredPatch]) -> None:
    """Write `out/report.html`; `report` is the dumped `DemoReport`."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("pipelines", "pages"), undefined=StrictUndefined, autoescape=True
    )
    page = environment.get_template("demo_report.html").render(
        report=report, sections=[_section(out, report, found) for found in measured]
    )
    (out / "report.html").write_text(page)


def _section(out: Path, report: Mapping[str, Any], found: MeasuredPatch) -> dict[str, Any]:
    """What the template shows of a patch."""
    name, meter = found.patch.name, found.scored if isinstance(found.scored, MeterReport) else None
    return {
        "title": TITLES[name],
        "why": WHY.get(name, ""),
        "rows": [
            row
            for row in report["rows"]
            if row["channel"] == name
            or (row["variant"] == "base" and row["question"] in found.patch.questions)
        ],
        "curves": _data_uri(_loss_curves(found.trained), "image/png"),
        "steps": {variant: result.steps for variant, result in found.trained.items()},
        "sentences": () if meter is None else meter.sentences,
        "meter": None
        if meter is None
        else _data_uri((out / "scores" / name / "meter" / "meter.png").read_bytes(), "image/png"),
        "examples": _examples(out, found.patch) if meter is not None else [],
    }


def _examples(out: Path, patch: DemoPatch) -> list[dict[str, Any]]:
    """The first held-out items, with the answers of all variants and what can be seen of the sample."""
    scores = out / "scores"
    folders = {"patch": scores / patch.name, "lora_only": scores / patch.name / "meter" / "twin"}
    folders["base"] = scores / "base" / patch.part
    answers: dict[str, dict[str, dict[str, Any]]] = {
        variant: {item["instruction_id"]: item for item in _read_lines(folder / PREDICTIONS_FILE)}
        for variant, folder in folders.items()
    }
    media = out / "sidecue" / patch.part
    files = {
        entry["sample_id"]: entry["media"]
        for entry in json.loads((media / "annotations" / "test.json").read_text())
    }
    return [
        {
            "sample_id": item["sample_id"],
            "question": item["question"],
            "answer": item["answer"],
            "predictions": {
                variant: found[instruction_id]["prediction"] for variant, found in answers.items()
            },
            "videos": [
                (role, _data_uri((media / path).read_bytes(), "video/mp4"))
                for role, path in files[item["sample_id"]].items()
                if path.endswith(".mp4")
            ],
            "pictures": [
                (kind, _data_uri(_first_picture(media / path / kind), "image/png"))
                for role, path in files[item["sample_id"]].items()
                if role == "scene"
                for kind in ("color", "depth")
            ],
        }
        for instruction_id, item in list(answers["patch"].items())[:NUM_EXAMPLES]
    ]


def _first_picture(folder: Path) -> bytes:
    """PNG of the first colour or depth picture of a scene; depth is stretched to what an eye can see."""
    import numpy as np
    from PIL import Image

    first = min(folder.iterdir(), key=lambda path: int(path.stem))
    with Image.open(first) as opened:
        pixels = np.asarray(opened)
    if pixels.ndim == 2:
        pixels = (255.0 * pixels / max(1, int(pixels.max()))).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="png")
    return buffer.getvalue()


def _read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _loss_curves(trained: Mapping[str, TrainReport]) -> bytes:
    """PNG of the training losses of all variants."""
    picture = io.BytesIO()
    with drawn(picture, 7, 3.5) as figure:
        axes = figure.add_subplot()
        for variant, result in trained.items():
            axes.plot([step for step, _ in result.losses], [loss for _, loss in result.losses], label=variant)
        axes.set(xlabel="optimizer step", ylabel="loss (nats per trained token)")
        axes.set_ylim(bottom=0)
        axes.legend()
    return picture.getvalue()


def _data_uri(content: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
