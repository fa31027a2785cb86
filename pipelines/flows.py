"""The Prefect flows: `prepare`, `extract-<channel>`, `extract-all`, `train`, `evaluate`, `retrain`, `maintain`, `demo`.

A flow is one task around one plain function of this package (`flow_stage`), with one parameter, `config`.

`prefect.yaml` declares the deployments. The command `pave` calls the same functions with no server.
"""

from typing import TYPE_CHECKING, Any

from prefect import flow
from prefect.client.schemas import State

from extractors import CHANNELS
from pipelines.config import (
    DemoConfig,
    EvaluateConfig,
    ExtractAudioConfig,
    ExtractConfig,
    ExtractDenseConfig,
    ExtractDepth3dConfig,
    ExtractExoConfig,
    ExtractFramesConfig,
    PrepareConfig,
    TrainConfig,
)
from pipelines.extract_all import ExtractAllConfig
from pipelines.flow_slots import Slots, gpu_slots, writer_slots
from pipelines.flow_stage import run_stage
from pipelines.maintain import MaintainConfig
from pipelines.retrain_config import RetrainConfig

if TYPE_CHECKING:  # their modules load Ray, the Trainer and more; a flow that runs needs one of them
    from pipelines.demo import DemoReport
    from pipelines.evaluate_report import EvaluateReport
    from pipelines.extract import ExtractReport
    from pipelines.extract_all import ExtractAllReport
    from pipelines.maintain import MaintainReport
    from pipelines.manifest import PrepareReport
    from pipelines.meter import MeterReport
    from pipelines.retrain_report import RetrainReport
    from pipelines.train import TrainReport


@flow(name="prepare", persist_result=False, result_serializer="json")
def prepare(config: PrepareConfig) -> "PrepareReport | State[Any]":
    """From media to a manifest."""
    from pipelines.manifest import prepare as function

    return run_stage("prepare", lambda progress: function(config, progress))


@flow(name="extract-audio", persist_result=False, result_serializer="json")
def extract_audio(config: ExtractAudioConfig) -> "ExtractReport | State[Any]":
    """Features of the channel `audio` for what has none yet."""
    return _extract("audio", config)


@flow(name="extract-dense", persist_result=False, result_serializer="json")
def extract_dense(config: ExtractDenseConfig) -> "ExtractReport | State[Any]":
    """Features of the channel `dense` for what has none yet."""
    return _extract("dense", config)


@flow(name="extract-depth3d", persist_result=False, result_serializer="json")
def extract_depth3d(config: ExtractDepth3dConfig) -> "ExtractReport | State[Any]":
    """Features of the channel `depth3d` for what has none yet."""
    return _extract("depth3d", config)


@flow(name="extract-exo", persist_result=False, result_serializer="json")
def extract_exo(config: ExtractExoConfig) -> "ExtractReport | State[Any]":
    """Features of the channel `exo` for what has none yet."""
    return _extract("exo", config)


@flow(name="extract-frames", persist_result=False, result_serializer="json")
def extract_frames(config: ExtractFramesConfig) -> "ExtractReport | State[Any]":
    """Features of the channel `frames` for what has none yet."""
    return _extract("frames", config)


@flow(name="extract-all", persist_result=False, result_serializer="json")
def extract_all(config: ExtractAllConfig) -> "ExtractAllReport | State[Any]":
    """Features of several channels and datasets for what has none yet."""
    from pipelines.extract_all import extract_all as function

    written = [
        slot
        for extraction in config.extractions
        for slot in writer_slots(extraction.store, extraction.channels.given())
    ]
    # one order for all runs: two that wait for each other would wait for ever
    slots = [*sorted(set(written), key=lambda slot: slot.name), *_gpus(None)]
    return run_stage("extract-all", lambda progress: function(config, progress), slots)


@flow(name="train", persist_result=False, result_serializer="json")
def train(config: TrainConfig) -> "TrainReport | State[Any]":
    """One training of a patch on cached features."""
    from pipelines.train import train as function

    slots = _gpus(config.processes)
    return run_stage("train", lambda progress: function(config, progress), slots)


@flow(name="evaluate", persist_result=False, result_serializer="json")
def evaluate(config: EvaluateConfig) -> "EvaluateReport | MeterReport | State[Any]":
    """Answers and scores of one run, or of an unpatched base; with `meter` also what its channels are worth."""
    from pipelines.evaluate import evaluate as evaluation
    from pipelines.meter import side_channel_meter

    function = side_channel_meter if config.meter else evaluation
    return run_stage("evaluate", lambda progress: function(config, progress), _gpus(1))


@flow(name="retrain", persist_result=False, result_serializer="json")
def retrain(config: RetrainConfig) -> "RetrainReport | State[Any]":
    """What is new extracted and learned, and the patch promoted if it is better."""
    from pipelines.retrain import retrain as function

    channels = ["frames", *config.train.channels]
    slots = [*writer_slots(config.train.data.store, channels), *_gpus(None)]
    return run_stage("retrain", lambda progress: function(config, progress), slots)


@flow(name="maintain", persist_result=False, result_serializer="json")
def maintain(config: MaintainConfig) -> "MaintainReport | State[Any]":
    """A store checked, its parts brought to size, and what nobody needs removed."""
    from pipelines.maintain import maintain as function

    slots = writer_slots(config.store, CHANNELS)
    return run_stage("maintain", lambda progress: function(config, progress), slots)


@flow(name="demo", persist_result=False, result_serializer="json")
def demo(config: DemoConfig) -> "DemoReport | State[Any]":
    """The whole line on SideCue."""
    from pipelines.demo import demo as function

    return run_stage("demo", lambda progress: function(config, progress))


def _extract(channel: str, config: ExtractConfig) -> "ExtractReport | State[Any]":
    from pipelines.extract import extract

    gpus = [] if config.execution.device == "cpu" else _gpus(None)
    slots = [*writer_slots(config.store, [channel]), *gpus]
    return run_stage(f"extract-{channel}", lambda progress: extract(channel, config, progress), slots)


def _gpus(wanted: int | None) -> list[Slots]:
    from pipelines.this_machine import this_machine

    return gpu_slots(wanted, this_machine().gpus)
