"""`pave plan`: what an extraction will cost, and how many workers suit this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pipelines.extract_forecast import Forecast

_path = click.Path(path_type=Path)
_MIB = 2**20


@click.command()
@click.argument("manifest", type=_path)
@click.option(
    "--channel", "channels", required=True, metavar="CHANNEL[,CHANNEL...]", help="What would be extracted."
)
@click.option(
    "--samples", default=5, show_default=True, type=click.IntRange(min=1), help="Samples that are tried."
)
@click.option("--store", help="Feature store of the plan; it is not touched.")
@click.option("--weights", help="As in `pave extract`.")
@click.option("--embedding", help="As in `pave extract`.")
@click.option("--base", help="As in `pave extract`.")
@click.option("--num-frames", type=int, help="As in `pave extract`.")
@click.option("--num-views", type=int, help="As in `pave extract`.")
@click.option(
    "--set", "sets", multiple=True, metavar="KEY=VALUE", help="A setting, such as execution.device=cpu."
)
@click.option(
    "--out",
    type=_path,
    help="YAML for `pave extract CHANNEL --config`; of several channels NAME-CHANNEL.yaml.",
)
def plan(
    manifest: Path,
    channels: str,
    samples: int,
    sets: tuple[str, ...],
    out: Path | None,
    **options: Any,
) -> None:
    """Try a few samples of MANIFEST and say what all of it takes: hours, bytes, workers.

    docs/planning-an-extraction.md explains the numbers.
    """
    from pipelines.errors import PipelineError
    from pipelines.extract_forecast import forecast, plan_path, write_plan
    from pipelines.extract_settings import settings_of_channels
    from pipelines.progress import TerminalProgress

    if out is not None and not out.parent.is_dir():
        raise PipelineError(f"there is no folder {out.parent} for {out.name}; make it")
    given = {name: value for name, value in options.items() if value is not None}
    names = [name.strip() for name in channels.split(",")]
    for channel, config in settings_of_channels(names, {"manifest": manifest, **given}, sets).items():
        result = forecast(channel, config, samples, TerminalProgress)
        click.echo(_report(channel, result))
        if out is not None:
            path = plan_path(out, channel, names)
            write_plan(result, path)
            click.echo(f"  pave extract {channel} --config {path}")


def _report(channel: str, forecast: Forecast) -> str:
    from pipelines.plain_table import plain_table

    probe, work, machine, advice = forecast.probe, forecast.work, forecast.machine, forecast.advice
    tried = len(probe.samples) + len(probe.failures)
    lines = [f"{channel} on {probe.device}: {len(probe.samples)} of {tried} samples could be done"]
    if getattr(forecast.config.encoder, "seed", None) is not None:  # type: ignore[attr-defined]  # every channel's class has it
        lines.append(
            "warning: a small random encoder was measured; for the published one give its weights, "
            "as in pave extract"
        )
    lines += [f"failed: {item.stage}: {item.message}" for item in probe.failures]
    header = ("sample", "media s", "decode s", "encode s", "decoded MiB", "stored MiB")
    rows = [
        (
            item.sample_id,
            "-" if item.duration is None else f"{item.duration:.1f}",
            f"{item.decode_seconds:.3f}",
            f"{item.encode_seconds:.3f}",
            f"{item.decoded_bytes / _MIB:.2f}",
            f"{item.stored_bytes / _MIB:.3f}",
        )
        for item in probe.samples
    ]
    lines += ["", plain_table(header, rows), "", _stages(forecast), ""]
    media = "" if work.media_seconds is None else f", {_time(work.media_seconds)} of media"
    lines.append(
        f"all {work.num_samples} usable of {forecast.num_samples} samples{media}: "
        f"{_size(work.stored_bytes)} in the store, "
        f"{_time(work.decode_seconds)} of decoding, {_time(work.encode_seconds)} of encoding"
    )
    gpus = f", {_count(machine.gpus, 'GPU')}" if machine.gpus else ""
    lines.append(
        f"on {_count(machine.cores, 'core')}{gpus}, {_size(machine.memory_bytes)} free: "
        f"{_count(advice.decoders, 'decoder')}, "
        f"{_count(advice.encoders, 'encoder')}; the limit is: {advice.limit}; about {_time(advice.seconds)}"
    )
    if advice.memory_bytes > advice.memory_allowed:
        lines.append(
            f"warning: one decoder and one encoder may take {_size(advice.memory_bytes)}, more than the "
            f"{_size(advice.memory_allowed)} that workers should; free memory, or leave the longest samples out"
        )
    return "\n".join(lines)


def _stages(forecast: Forecast) -> str:
    from pipelines.plain_table import plain_table

    probe, work = forecast.probe, forecast.work

    def rate(seconds: float) -> str:
        return "-" if not work.media_seconds else f"{seconds / work.media_seconds:.4f}"

    rows = [
        (
            "decode",
            f"{work.decode_seconds / work.num_samples:.3f}",
            rate(work.decode_seconds),
            "-",
            _size(probe.decode_peak_bytes),
            "-",
        ),
        (
            "encode",
            f"{work.encode_seconds / work.num_samples:.3f}",
            rate(work.encode_seconds),
            f"{probe.load_seconds:.1f}",
            _size(probe.encode_peak_bytes),
            _size(probe.gpu_peak_bytes) if probe.gpu_peak_bytes else "-",
        ),
    ]
    header = ("stage", "s per sample", "s per media s", "load s", "peak memory", "peak GPU memory")
    return plain_table(header, rows)


def _size(num_bytes: float) -> str:
    for unit, length in (("GiB", 2**30), ("MiB", _MIB)):
        if num_bytes >= length:
            return f"{num_bytes / length:.1f} {unit}"
    return f"{num_bytes / 2**10:.1f} KiB"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _time(seconds: float) -> str:
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"
