"""`pave import-checkpoint`: checkpoints of the original release as patch folders."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pave_model.release_checkpoint import ReleasedCheckpoint

_path = click.Path(path_type=Path)


@click.command("import-checkpoint")
@click.argument("folder", type=_path)
@click.option(
    "--base", required=True, help="Folder or hub id of the base that it was trained on, transformers layout."
)
@click.option(
    "--channel", help="Side channel, such as audio or depth3d. [default: as the published name says]"
)
@click.option(
    "--heads", default=4, show_default=True, type=click.IntRange(min=1), help="Heads of the cross-attention."
)
@click.option(
    "--rotary/--no-rotary",
    default=None,
    help="Trained with 3-D rotary positions. [default: only where the name has v5_1_2]",
)
@click.option(
    "--out", type=_path, help="New folder, or a patch to be replaced. [default: patches/NAME OF FOLDER]"
)
def import_checkpoint(
    folder: Path, base: str, channel: str | None, heads: int, rotary: bool | None, out: Path | None
) -> None:
    """Turn FOLDER, an unzipped checkpoint of the original PAVE release, into a patch folder.

    docs/checkpoints.md explains the steps and the errors.
    """
    from pave_model.checkpoint import check_free
    from pave_model.release_checkpoint import published_channel, read_released_checkpoint
    from pipelines.errors import PipelineError

    if out is None:
        out = Path("patches") / folder.resolve().name
    check_free(out)  # before anything slow
    channel = channel or published_channel(folder)
    if channel is None:
        raise PipelineError(
            f"the name of {folder} does not tell its side channel, and no file does; give --channel, such as audio, "
            "dense or depth3d"
        )
    release = read_released_checkpoint(folder, heads, rotary)
    release.patch_config(base, channel)  # is the name usable? A base of 7B takes minutes to load

    from pave_model.release_import import import_release
    from pipelines.base_model import load_base_model

    model = import_release(release, load_base_model(base, dtype="auto"), base, channel)
    model.save_pretrained(out, lineage=release.lineage())
    click.echo(_summary(release, channel, base, out))


def _summary(release: ReleasedCheckpoint, channel: str, base: str, out: Path) -> str:
    fusion, lora = release.fusion, release.lora
    rotary = "with" if fusion.rotary else "no"
    tensors = f"{len(release.patch_tensors)} of the patch, {len(release.lora_tensors)} of LoRA"
    rows = {
        "channel": f"{channel}, tokens of width {fusion.side_dim}",
        "patch": (
            f"{fusion.num_layers} layers, {fusion.num_heads} heads, {rotary} rotary positions, embed_dim "
            f"{fusion.embed_dim}, hidden_dim {fusion.hidden_dim}, output_dim {fusion.output_dim}"
        ),
        "LoRA": f"r {lora.r}, alpha {lora.alpha}" if lora else "none",
        "newlines": release.newline,
        "tensors": tensors,
        "base": f"{base} (trained on {release.base_name})",
        "out": str(out),
    }
    return "\n".join(f"{name:9} {text}" for name, text in rows.items())
