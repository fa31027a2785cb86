"""All configuration: pydantic models that are the parameters of flows and functions and the schema of YAML files.

Identity (what is computed: encoder, patch, data) and execution (where and how fast: workers, sizes of parts)
are separate fields; only identity goes into fingerprints.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from extractors.config import AudioConfig, DenseConfig, Depth3dConfig, ExoConfig, FramesConfig
from pave_model.config import LoraSettings, NewlinePosition, PatchExecution, TooLong
from pipelines.errors import PipelineError
from pipelines.yaml_file import read_yaml as read_yaml

# Small towers with random weights, so that extraction can be tried without a download. Their features hold a
# little information about the media; for real features give the published weights.
SMALL_RANDOM_AUDIO = AudioConfig(
    weights="random:0", embed_dim=64, num_blocks=2, num_heads=4, out_dim=64, stream=0
)
SMALL_RANDOM_DENSE = DenseConfig(weights="random:0")
SMALL_RANDOM_DEPTH3D = Depth3dConfig(weights="random:0", embedding="random:0")
SMALL_RANDOM_EXO = ExoConfig(weights="random:0")


class Settings(BaseModel):
    """Base of all configurations: frozen, and unknown names are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class MediaFolders(Settings):
    """Where media lie; one of the four is given where no manifest or known dataset is."""

    videos: Path | None = Field(
        default=None, description="a video file, or a folder that is searched for them"
    )
    scenes: Path | None = Field(
        default=None, description="an RGB-D scene, or a folder that is searched for them"
    )
    images: Path | None = Field(
        default=None, description="a folder of numbered pictures, or one of such folders"
    )
    takes: Path | None = Field(
        default=None, description="a folder with the videos of several cameras, or one of such folders"
    )


class PrepareConfig(MediaFolders):
    """From media to a manifest: either a folder of them, or the `root` of a known dataset (`task`)."""

    task: str | None = Field(default=None, description="name of a dataset that PAVE knows, such as sidecue")
    root: Path | None = Field(default=None, description="where the official files of `task` are")
    dataset: str | None = Field(
        default=None, description="name in the store; default: the task's or folder's"
    )
    out: Path = Field(
        default=Path("manifest"), description="folder for manifest.parquet (and instructions.parquet)"
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        sources = (self.videos, self.scenes, self.images, self.takes, self.task)
        if sum(source is not None for source in sources) != 1 or (self.task is None) != (self.root is None):
            raise ValueError(
                "give either one of videos, scenes, images and takes, or task together with root"
            )
        return self


class ExecutionConfig(Settings):
    """Where and how fast; changes no number."""

    decoders: int | None = Field(
        default=None, ge=1, description="decode tasks at once; default: as many as find a core"
    )
    encoders: int = Field(default=1, ge=1, description="number of encode workers")
    gpus_per_encoder: float = Field(
        default=1.0,
        gt=0,
        allow_inf_nan=False,
        description="of each encode worker on cuda; 0.5: two share a GPU",
    )
    batch_bytes: int = Field(
        default=64 * 2**20, ge=1, description="decoded bytes that are encoded in one call, roughly"
    )
    stall_seconds: float = Field(
        default=60.0, gt=0, le=86400, description="a file that gives nothing for so long is given up"
    )
    decode_memory_bytes: int = Field(
        default=8 * 2**30, ge=2**20, description="most memory that decoding one sample may take"
    )
    device: str = Field(default="auto", description="cpu, cuda, or auto: cuda where there is one")
    part_samples: int = Field(default=256, ge=1, description="most samples in a part")
    part_bytes: int = Field(default=128 * 2**20, ge=1, description="most bytes in a part, roughly")
    commit_seconds: float = Field(
        default=10.0, ge=0, description="finished parts become visible at least this often"
    )


class ExtractConfig(MediaFolders):
    """What every channel's extraction needs; the channel's own class adds its `encoder`."""

    store: str = Field(default="data/store", description="folder of the feature store; made if missing")
    manifest: Path | None = Field(default=None, description="manifest.parquet from `pave prepare`")
    dataset: str | None = Field(
        default=None, description="name in the store, without a manifest; default: the folder's"
    )
    max_failure_fraction: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="the extraction fails when a larger share of the media is unusable",
    )
    retry_failed: bool = Field(
        default=False, description="try files again that failed before and did not change"
    )
    execution: ExecutionConfig = ExecutionConfig()

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        sources = (self.videos, self.scenes, self.images, self.takes, self.manifest)
        if sum(source is not None for source in sources) != 1:
            raise ValueError("give one of videos, scenes, images, takes and manifest")
        if self.dataset is not None and self.manifest is not None:
            raise ValueError("dataset does not go with a manifest, which names its own")
        return self


class ExtractAudioConfig(ExtractConfig):
    """Extraction of the channel `audio`."""

    encoder: AudioConfig = SMALL_RANDOM_AUDIO


class ExtractDenseConfig(ExtractConfig):
    """Extraction of the channel `dense`."""

    encoder: DenseConfig = SMALL_RANDOM_DENSE


class ExtractDepth3dConfig(ExtractConfig):
    """Extraction of the channel `depth3d`."""

    encoder: Depth3dConfig = SMALL_RANDOM_DEPTH3D


class ExtractExoConfig(ExtractConfig):
    """Extraction of the channel `exo`."""

    encoder: ExoConfig = SMALL_RANDOM_EXO


class ExtractFramesConfig(ExtractConfig):
    """Extraction of the channel `frames`, with the vision tower of the base that will be patched."""

    encoder: FramesConfig


class ChannelEncoders(Settings):
    """The encoders of channels that are extracted together."""

    audio: AudioConfig | None = None
    dense: DenseConfig | None = None
    depth3d: Depth3dConfig | None = None
    exo: ExoConfig | None = None
    frames: FramesConfig | None = None

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not self.given():
            raise ValueError("give the encoder of at least one channel")
        return self

    def given(self) -> dict[str, BaseModel]:
        """The encoders that are given, by channel."""
        return {name: encoder for name, encoder in self if encoder is not None}


class ExtractTogetherConfig(ExtractConfig):
    """Extraction of several channels, for which each file is opened once."""

    channels: ChannelEncoders


EXTRACT_CONFIGS: dict[str, type[ExtractConfig]] = {
    "audio": ExtractAudioConfig,
    "dense": ExtractDenseConfig,
    "depth3d": ExtractDepth3dConfig,
    "exo": ExtractExoConfig,
    "frames": ExtractFramesConfig,
}


class InspectSceneConfig(Settings):
    """What is looked at of an RGB-D scene, and where the point cloud and the picture go."""

    scene: Path = Field(description="folder in ScanNet's exported layout, or an HDF5 file")
    out: Path = Field(description="folder for points.ply and scene.png")
    num_views: int = Field(default=32, gt=0)
    depth_scale: float = Field(
        default=1000.0, gt=0, allow_inf_nan=False, description="units of depth in a metre"
    )
    step: int = Field(default=2, gt=0, description="every how many pixels of a row and column are a point")


class FusionSizes(Settings):
    """Sizes of a channel's fusion module that are free to choose; the others follow from base and features."""

    embed_dim: int = Field(default=512, gt=0)
    hidden_dim: int = Field(default=512, gt=0)
    num_heads: int = Field(default=4, gt=0)
    num_layers: int = Field(default=2, gt=0)
    value_projection: Literal["tied", "untied"] = Field(
        default="tied", description="tied: values are the keys, as in the published patches"
    )
    rotary: bool = Field(
        default=False, description="rotary positions in time and space; heads of 128 channels"
    )
    time_radius: float | None = Field(
        default=None, ge=0, description="seconds: align by time; null: evenly, as the published patches"
    )
    first_token: int = Field(
        default=0, ge=0, description="of a time step; 1 leaves out the class token of dense, as published"
    )


class DataConfig(Settings):
    """Which instructions and features a training or evaluation reads, and how long their sequences may be."""

    store: str
    instructions: Path = Field(description="instructions.parquet from `pave prepare`")
    split: str
    question_types: tuple[str, ...] | None = Field(default=None, description="default: all")
    snapshot: int | str | None = Field(
        default=None, description="version of the store, or a tag; default: the newest, then pinned"
    )
    fingerprints: dict[str, str] = Field(
        default={}, description="channel -> feature set, where the store has several of a channel"
    )
    max_missing_fraction: float = Field(
        default=0.0, ge=0, le=1, description="share of instructions that may lack features; they are reported"
    )
    max_length: int | None = Field(
        default=32768, gt=0, description="most tokens of a sample, its video's included; null: any number"
    )
    too_long: TooLong = Field(
        default="error", description="truncate: longer samples lose their end, as in the original release"
    )


class PublishedScore(Settings):
    """A number that was published for what a recipe trains; evaluation puts its own beside it.

    `metric` is named as by the task's scorer, its group behind a comma. `value` is in percent, of captions times 100.
    `source` tells where it stands. `dataset` is the task it is of, where a run is scored on several.
    """

    metric: str = Field(min_length=1)
    value: float = Field(allow_inf_nan=False)
    source: str = Field(min_length=1)
    dataset: str | None = None


class TrainConfig(Settings):
    """One training of a patch. The defaults of the optimizer are those of the published patches."""

    name: str | None = Field(default=None, description="of the recipe, for lists")
    task: str | None = Field(
        default=None, description="dataset that PAVE knows and this trains on, for lists"
    )
    features: ChannelEncoders | None = Field(
        default=None,
        description="encoders of the channels, for `pave extract --config`; those of frames lack their base",
    )
    base: str = Field(description="folder or hub id of the base, in the transformers layout")
    out: Path = Field(description="the run folder; must not exist yet")
    data: DataConfig
    channels: dict[str, FusionSizes] = Field(
        default={"audio": FusionSizes()}, description="side channels; empty: the LoRA-only twin"
    )
    start_from: dict[str, Path] = Field(
        default={},
        description="run folders of patches on the same base: fusion modules start from theirs, by channel",
    )
    lora: LoraSettings | None = LoraSettings()
    newline: NewlinePosition = "grid"
    epochs: float = Field(default=1.0, gt=0)
    max_steps: int | None = Field(default=None, gt=0, description="overrides epochs")
    enough_loss: float | None = Field(
        default=None, gt=0, description="ends the training at the first entry of the loss curve that is below"
    )
    batch_size: int = Field(default=4, gt=0, description="most examples of a forward pass of one process")
    accumulation: int = Field(
        default=4,
        gt=0,
        description="an optimizer step has batch_size times this many examples, by however many processes",
    )
    learning_rate: float = Field(default=2e-5, gt=0)
    patch_learning_rate: float | None = Field(
        default=None, gt=0, description="of the fusion modules, where it differs"
    )
    lora_learning_rate: float | None = Field(default=None, gt=0, description="of LoRA, where it differs")
    execution: PatchExecution = PatchExecution()
    warmup_fraction: float = Field(default=0.03, ge=0, lt=1)
    max_grad_norm: float = Field(default=0.1, gt=0)
    bf16: bool = Field(default=False, description="mixed precision; for GPUs")
    seed: int = 42
    group_by_length: bool = Field(
        default=True, description="put examples of similar length into a batch, so that little is padded"
    )
    loader_workers: int = Field(
        default=0, ge=0, description="processes that read batches; 0: a thread of the training does"
    )
    prefetch: int = Field(
        default=2, ge=0, description="batches that are read ahead, by the thread or by each worker; 0: none"
    )
    trackers: tuple[str, ...] = Field(
        default=("tensorboard",),
        description="where curves go beside the run folder's own, by the names of transformers' report_to",
    )
    log_every: int = Field(default=10, gt=0, description="steps between two entries of the loss curve")
    save_every: int | None = Field(
        default=500,
        gt=0,
        description="steps between two checkpoints, from which a killed run goes on; null: none",
    )
    processes: int = Field(default=1, gt=0, description="on each node; one a GPU")
    nodes: int = Field(default=1, gt=0, description="machines; the same command runs on each, see node_rank")
    node_rank: int = Field(default=0, ge=0, description="which of the nodes this is")
    rendezvous: str | None = Field(
        default=None, pattern=r"^.+:\d+$", description="host:port of node 0, where there are several nodes"
    )
    published: tuple[PublishedScore, ...] = Field(
        default=(), description="what was published for such a run; changes no number, evaluation shows it"
    )

    @property
    def num_processes(self) -> int:
        """Of all nodes."""
        return self.processes * self.nodes

    @property
    def share(self) -> tuple[int, int]:
        """Batch size and accumulation of each of the processes: together they are those of one process alone."""
        examples = self.batch_size * self.accumulation // self.num_processes
        batch = max(size for size in range(1, self.batch_size + 1) if examples % size == 0)
        return batch, examples // batch

    @model_validator(mode="after")
    def _starts_are_of_channels(self) -> Self:
        if unknown := sorted(self.start_from.keys() - self.channels.keys()):
            raise ValueError(
                f"start_from names {', '.join(unknown)}, which channels does not have; add it there"
            )
        return self

    @model_validator(mode="after")
    def _processes_fit(self) -> Self:
        if self.batch_size * self.accumulation % self.num_processes:
            raise ValueError(
                f"batch_size x accumulation, {self.batch_size} x {self.accumulation}, cannot be divided among "
                f"{self.num_processes} processes; change one of them"
            )
        if self.node_rank >= self.nodes:
            raise ValueError(f"node_rank {self.node_rank} must be below nodes, {self.nodes}")
        if self.nodes > 1 and (self.rendezvous is None or self.data.snapshot is None):
            raise ValueError(
                "several nodes need rendezvous, and data.snapshot so that all of them read the same"
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _frames_of_the_base(cls, values: Any) -> Any:
        """Key frames come from the tower of `base`, also where that is overridden."""
        features = values.get("features") if isinstance(values, Mapping) else None
        if not isinstance(features, Mapping) or not isinstance(features.get("frames"), Mapping):
            return values
        frames = {"base": values.get("base"), **features["frames"]}
        return {**values, "features": {**features, "frames": frames}}


# Settings of a training that change no weight: names, places, and where and how fast.
WITHOUT_EFFECT = frozenset(
    {"name", "task", "features", "out", "published", "trackers", "loader_workers", "prefetch"}
    | {"log_every", "save_every", "processes", "nodes", "node_rank", "rendezvous"}
)

Alteration: TypeAlias = Literal["zeroed", "shuffled", "shifted"]


class EvaluateConfig(Settings):
    """Greedy generation and scores of one run on one split, or of its unpatched base."""

    run: Path | None = Field(default=None, description="run folder of a training")
    base: str | None = Field(default=None, description="evaluate this base without a patch")
    data: DataConfig
    out: Path = Field(description="folder for predictions.jsonl and scores.json")
    newline: NewlinePosition = Field(default="grid", description="with base; a run brings its own")
    batch_size: int = Field(default=16, gt=0)
    max_new_tokens: int | None = Field(
        default=None,
        gt=0,
        description="longest reply; default: what the task's published numbers were made with",
    )
    task: str | None = Field(
        default=None, description="score as this task; default: as the one of the dataset's name"
    )
    allow_missing_metrics: bool = Field(
        default=False, description="go on without metrics whose tools (Java, pycocoevalcap) are not installed"
    )
    published: tuple[PublishedScore, ...] | None = Field(
        default=None, description="published numbers to stand beside the scores; default: the run's"
    )
    altered: dict[str, Alteration] = Field(
        default={},
        description="side channel -> how what it tells is taken away, see pipelines.altered_features",
    )
    meter: bool = Field(default=False, description="measure what each side channel of the run is worth")
    twin: Path | None = Field(
        default=None, description="with meter: run folder of the same training without side channels"
    )
    bootstrap_samples: int = Field(default=2000, gt=0)
    seed: int = 0

    @model_validator(mode="after")
    def _one_model(self) -> Self:
        if (self.run is None) == (self.base is None):
            raise ValueError("give either run or base")
        return self


DemoChannel = Literal["audio", "dense", "exo", "depth3d"]


class DemoConfig(Settings):
    """The demo on SideCue."""

    out: Path = Path("out/demo")
    channels: tuple[DemoChannel, ...] = Field(
        default=get_args(DemoChannel), min_length=1, description="side channels, each once"
    )
    seed: int = Field(default=0, ge=0)
    train_clips: int = Field(default=700, gt=0, description="of each channel")
    test_clips: int = Field(default=200, gt=0, description="held out, of each channel")
    base_steps: int = Field(
        default=640,
        gt=0,
        description="optimizer steps of the base; what it cannot do with what it sees, no patch teaches it",
    )
    patch_steps: int = Field(
        default=450, gt=0, description="most optimizer steps of a patch; its twin takes as many as it"
    )


AnySettings = TypeVar("AnySettings", bound=BaseModel)


def load_yaml(path: Path, schema: type[AnySettings], **overrides: Any) -> AnySettings:
    """Read a YAML file as `schema`; `overrides` replace top-level fields.

    Raises PipelineError in one line when the file cannot be read or does not fit.
    """
    return checked(schema, {**read_yaml(path), **overrides}, str(path))


def checked(schema: type[AnySettings], values: dict[str, Any], where: str) -> AnySettings:
    """`values` as `schema`. Raises PipelineError in one line that names each wrong setting."""
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in item['loc']) or 'settings'}: {item['msg'].removeprefix('Value error, ')}"
            for item in error.errors()
        )
        raise PipelineError(f"{where}: {problems}") from error
