"""`pave convert-audio-weights`: ImageBind's checkpoint without what the channel `audio` never reads."""

from __future__ import annotations

from pathlib import Path

import click

_path = click.Path(path_type=Path)


@click.command("convert-audio-weights")
@click.argument("checkpoint", type=_path)
@click.argument("out", type=_path)
def convert_audio_weights(checkpoint: Path, out: Path) -> None:
    """Write the audio branch of CHECKPOINT, an imagebind_huge.pth, to the new safetensors file OUT.

    Features that are made with either file have the same fingerprint.
    """
    from extractors.audio_weights_file import write_audio_part
    from pipelines.process_memory import peak_memory

    part = write_audio_part(checkpoint, out)
    click.echo(
        f"{out}: {part.num_parameters:,} parameters in {part.num_tensors} tensors, {part.num_bytes:,} bytes; "
        f"peak memory {peak_memory() / 2**20:,.0f} MiB"
    )
