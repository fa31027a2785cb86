"""`pave profile`: what a patch costs beside its base, without any weights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from transformers import LlavaOnevisionConfig

    from pave_model.cost import Cost, PatchCosts
    from pave_model.published_sizes import ChannelSize

ALL = "all"
_HEADER = ("base", "part", "parameters", "GFLOPs", "parameters / base", "FLOPs / base")


@click.command()
@click.option(
    "--base",
    "bases",
    multiple=True,
    required=True,
    help="0.5b, 7b, or a folder or hub id of a LLaVA-OneVision, of which only config.json is read. Repeatable.",
)
@click.option(
    "--channel",
    "channels",
    multiple=True,
    default=(ALL,),
    show_default=True,
    help="audio, dense, depth3d, exo, or all of them. Repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="JSON, with shares as fractions.")
def profile(bases: tuple[str, ...], channels: tuple[str, ...], as_json: bool) -> None:
    """Count the parameters and FLOPs that a patch adds to a base; needs no weights."""
    from pave_model.cost import patch_costs

    sizes = _channel_sizes(channels)
    costs = {name: patch_costs(_base_config(name), sizes) for name in dict.fromkeys(bases)}
    click.echo(json.dumps(_as_json(costs), indent=1) if as_json else _as_table(costs))


def _channel_sizes(names: Sequence[str]) -> dict[str, ChannelSize]:
    """The named channels' sizes. Raises PipelineError for a channel that was never published."""
    from pave_model.published_sizes import PUBLISHED_CHANNELS
    from pipelines.errors import PipelineError

    for name in names:
        if name not in (*PUBLISHED_CHANNELS, ALL):
            known = ", ".join((*PUBLISHED_CHANNELS, ALL))
            raise PipelineError(f"there is no channel {name!r} with published sizes; choose one of: {known}")
    return {name: size for name, size in PUBLISHED_CHANNELS.items() if name in names or ALL in names}


def _base_config(name: str) -> LlavaOnevisionConfig:
    from pave_model.published_sizes import PUBLISHED_BASES, published_base
    from pipelines.base_model import load_base_config

    return published_base(name) if name in PUBLISHED_BASES else load_base_config(name)


def _parts(costs: PatchCosts) -> dict[str, Cost]:
    """Every line of the report."""
    from pave_model.cost import Cost

    return {
        "vision": costs.vision,
        "language_model": costs.language_model,
        "base": costs.base,
        **{f"patch/{channel}": cost for channel, cost in costs.patches.items()},
        "lora": costs.lora,
        "lora_merged": Cost(0, 0),
    }


def _as_table(costs: Mapping[str, PatchCosts]) -> str:
    from pipelines.plain_table import plain_table

    rows = [
        (
            base,
            part,
            f"{cost.parameters:,}",
            f"{cost.flops / 1e9:,.1f}",
            f"{cost.parameters / of_base.base.parameters:.3%}",
            f"{cost.flops / of_base.base.flops:.3%}",
        )
        for base, of_base in costs.items()
        for part, cost in _parts(of_base).items()
    ]
    workloads = [
        f"{base}: {of_base.num_key_frames} key frames, prefill of {of_base.num_visual_tokens:,} visual and "
        f"{of_base.num_text_tokens} text tokens"
        for base, of_base in costs.items()
    ]
    return "\n".join([plain_table(_HEADER, rows), "", *workloads])


def _as_json(costs: Mapping[str, PatchCosts]) -> dict[str, object]:
    return {
        base: {
            "num_key_frames": of_base.num_key_frames,
            "num_visual_tokens": of_base.num_visual_tokens,
            "num_text_tokens": of_base.num_text_tokens,
            "parts": {
                part: {
                    **asdict(cost),
                    "parameters_of_base": cost.parameters / of_base.base.parameters,
                    "flops_of_base": cost.flops / of_base.base.flops,
                }
                for part, cost in _parts(of_base).items()
            },
        }
        for base, of_base in costs.items()
    }
