"""Planning an extraction: probe a few samples of a manifest, then say what all of it takes and how to run it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipelines.config import ExtractConfig
from pipelines.errors import ManifestError
from pipelines.extract import extractor_of
from pipelines.extract_advice import Advice, Work, advise, whole_manifest
from pipelines.extract_probe import Probe, probe, usable_rows
from pipelines.manifest import read_manifest
from pipelines.progress import ProgressFactory, silent
from pipelines.this_machine import Machine, this_machine


@dataclass(frozen=True)
class Forecast:
    """What was measured of one channel, what that makes for the whole manifest, and the advice for `machine`.

    `num_samples` is that of the manifest, with the samples that the channel cannot use.
    """

    config: ExtractConfig
    num_samples: int
    probe: Probe
    work: Work
    machine: Machine
    advice: Advice


def forecast(
    channel: str, config: ExtractConfig, num_samples: int, progress: ProgressFactory = silent
) -> Forecast:
    """Probe `num_samples` samples of the configuration's manifest; the store is not touched.

    Raises UnknownChannelError; ManifestError when there is no manifest or it has no usable sample; WeightsError
    for an encoder that cannot be loaded; PipelineError when no probe succeeded or the device is not there.
    """
    extractor = extractor_of(channel, config)
    if config.manifest is None:
        raise ManifestError("a plan needs a manifest; make one with: pave prepare")
    manifest = read_manifest(config.manifest)
    durations = [row["duration"] for row in usable_rows(manifest, channel)]
    if not durations:
        raise ManifestError(f"{config.manifest} has no sample that {channel} can use; see its column error")
    machine = this_machine()
    device = config.execution.device
    if device == "auto":
        device = "cuda" if machine.gpus else "cpu"
    found = probe(extractor, manifest, num_samples, device, progress)
    work = whole_manifest(found, durations, config.execution.batch_bytes)
    return Forecast(config, len(manifest.table), found, work, machine, advise(work, machine, device))


def plan_path(out: Path, channel: str, channels: Sequence[str]) -> Path:
    """Where the plan of one of the channels goes: `out`, or NAME-CHANNEL beside it where there are several."""
    return out if len(channels) == 1 else out.with_name(f"{out.stem}-{channel}{out.suffix}")


def write_plan(forecast: Forecast, path: Path) -> None:
    """Write the settings of an extraction as advised, for `pave extract CHANNEL --config`."""
    path.write_text(yaml.safe_dump(_settings(forecast), sort_keys=False))


def _settings(forecast: Forecast) -> dict[str, Any]:
    config, advice = forecast.config, forecast.advice
    assert config.manifest is not None
    execution = config.execution.model_copy(
        update={
            "device": forecast.probe.device,
            "decoders": advice.decoders,
            "encoders": advice.encoders,
            "gpus_per_encoder": advice.gpus_per_encoder,
        }
    )
    values = config.model_dump(mode="json", exclude_unset=True)
    return {
        **values,
        "manifest": str(config.manifest.absolute()),
        "encoder": config.model_dump(mode="json")["encoder"],
        "execution": execution.model_dump(mode="json"),
    }
