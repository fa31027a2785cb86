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

from extractors.key_pictures import SCENE
from pipelines.demo_channels import DemoPatch
from pipelines.demo_panes import CAPTIONS, channel_pane, key_frames_pane
from pipelines.meter import MeterReport
from pipelines.page_templates import page_template
from pipelines.plot_style import drawn
from pipelines.prediction_file import PREDICTIONS_FILE
from pipelines.sidecue_base import BaseTraining
from pipelines.train import TrainReport

if TYPE_CHECKING:
    from pipelines.demo import MeasuredPatch

NUM_EXAMPLES = 3


def write_report(out: Path, report: Mapping[str, Any], measured: Sequence[MeasuredPatch]) -> None:
    """Write `out/report.html`; `report` is the dumped `DemoReport`."""
    sections = [_section(out, report, found) for found in measured]
    page = page_template("demo_report.html").render(report=report, sections=sections)
    (out / "report.html").write_text(page)


def _section(out: Path, report: Mapping[str, Any], found: MeasuredPatch) -> dict[str, Any]:
    """What the template shows of a patch."""
    name, meter = found.patch.name, found.scored if isinstance(found.scored, MeterReport) else None
    return {
        "title": found.patch.title,
        "why": found.patch.why,
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
    examples = []
    for instruction_id, item in list(answers["patch"].items())[:NUM_EXAMPLES]:
        roles = {role: media / path for role, path in files[item["sample_id"]].items()}
        examples.append(
            {
                "sample_id": item["sample_id"],
                "question": item["question"],
                "answer": item["answer"],
                "predictions": {
                    variant: found[instruction_id]["prediction"] for variant, found in answers.items()
                },
                "videos": [
                    (role, _data_uri(path.read_bytes(), "video/mp4"))
                    for role, path in roles.items()
                    if role != SCENE
                ],
                "pictures": [
                    (caption, _data_uri(picture, "image/png")) for caption, picture in _scene_pictures(roles)
                ],
            }
        )
    return examples


def _scene_pictures(roles: Mapping[str, Path]) -> list[tuple[str, bytes]]:
    """Captions and PNGs of what a browser cannot play: an RGB-D scene."""
    if SCENE not in roles:
        return []
    return [
        (CAPTIONS["frames"], key_frames_pane(roles, BaseTraining().num_frames)),
        (CAPTIONS["depth3d"], channel_pane("depth3d", roles)),
    ]


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
