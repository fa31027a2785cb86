"""The README.md of a patch folder, in the form that the Hugging Face hub reads."""

import json
from collections.abc import Mapping

import yaml
from pydantic import JsonValue

from pave_model.config import PatchConfig


def model_card(
    patch: PatchConfig,
    base_fingerprint: str,
    lineage: Mapping[str, JsonValue],
    scores: Mapping[str, float],
    licences: Mapping[str, str],
) -> str:
    """Base, channels, LoRA, scores, licences and lineage of a patch, as Markdown with a YAML head."""
    head = {
        "base_model": patch.base,
        "base_model_relation": "adapter",
        "library_name": "pave-video",
        "pipeline_tag": "video-text-to-text",
        "tags": ["pave", *patch.channels],
    }
    channels = [
        f"- `{name}`: tokens of width {fusion.side_dim}, {fusion.num_layers} layers, {fusion.num_heads} heads, "
        + (
            "aligned evenly"
            if fusion.time_radius is None
            else f"aligned by time within {fusion.time_radius} s"
        )
        for name, fusion in patch.channels.items()
    ]
    lora = f"LoRA: r {patch.lora.r}, alpha {patch.lora.alpha}" if patch.lora else "LoRA: none"
    snapshot = lineage.get("snapshot")
    lines = [
        "---",
        yaml.safe_dump(head, sort_keys=False).rstrip(),
        "---",
        "",
        "# PAVE patch",
        "",
        f"Adapts the frozen base `{patch.base}` (fingerprint `{base_fingerprint}`) to side channels.",
        "It works on that base only; loading checks the fingerprint.",
        "",
        "Side channels:",
        "",
        *(channels or ["- none: this is the LoRA-only twin"]),
        "",
        lora,
        "",
        "Trained on features of " + ("an unnamed snapshot." if snapshot is None else f"snapshot {snapshot}."),
        "",
        "```python",
        "from pave_model.patched_model import PatchedVideoLLM",
        "",
        "model = PatchedVideoLLM.from_pretrained('FOLDER')  # this folder",
        "```",
        "",
        "## Scores",
        "",
        *(["| what | score |", "|---|---|"] if scores else ["Not evaluated yet."]),
        *(f"| {name} | {score:.4g} |" for name, score in scores.items()),
        "",
        "## Licences",
        "",
        "The patch is of use only with its base and the encoders of its channels; their licences hold too.",
        "",
        f"- base `{patch.base}`: see its own card",
        *(f"- encoder of `{channel}`: {licence}" for channel, licence in licences.items()),
        "",
        "## Lineage",
        "",
        "```json",
        json.dumps(lineage, indent=2),
        "```",
        "",
    ]
    return "\n".join(lines)
