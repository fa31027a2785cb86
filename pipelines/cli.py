"""The `pave` command: every pipeline as a plain function call, no server needed.

Only click is imported here: each command imports what it needs when it runs, so that `pave --help` is quick.
Errors that the user can mend are one line on stderr and exit code 1; any other exception is a bug and shows its
traceback.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from pipelines.checkpoint_commands import import_checkpoint
from pipelines.compare_command import compare
from pipelines.convert_command import convert_audio_weights
from pipelines.demo_ui_command import demo_ui
from pipelines.doctor_command import doctor
from pipelines.evaluate_command import evaluate
from pipelines.flow_run_command import run
from pipelines.patches_command import patches
from pipelines.plan_command import plan
from pipelines.profile_command import profile
from pipelines.recipes_command import recipes
from pipelines.retrain_command import retrain
from pipelines.store_commands import store
from pipelines.tasks_command import tasks
from pipelines.up_command import down, status, up
from pipelines.why_command import why
from tasks import TASKS

# Per channel: what it makes, with which encoder, and the licence of that encoder's published weights.
CHANNEL_TABLE = {
    "audio": ("one embedding a second of the sound", "ImageBind-huge, audio branch", "CC-BY-NC-SA 4.0"),
    "dense": ("five tokens a frame, two frames a second", "LanguageBind, video tower", "MIT"),
    "depth3d": (
        "patches of RGB-D views with their places in space",
        "CLIP ViT-L/14-336, LLaVA-3D position embedding",
        "MIT, CC-BY-NC-SA 4.0",
    ),
    "exo": ("tokens of every outside camera of a take", "SigLIP so400m-patch14-384", "Apache-2.0"),
    "frames": ("tokens of evenly spaced key frames", "vision tower of the base", "that of the base"),
}
# What to give for a channel whose small random tower is the default.
PUBLISHED_WEIGHTS = {
    "audio": "--weights imagebind_huge.pth",
    "dense": "--weights LanguageBind/LanguageBind_Video_merge",
    "depth3d": "--weights openai/clip-vit-large-patch14-336 --embedding ChaimZhu/LLaVA-3D-7B",
    "exo": "--weights google/siglip-so400m-patch14-384",
}

folder_option = click.Path(path_type=Path)
set_option = click.option(
    "--set", "sets", multiple=True, metavar="KEY=VALUE", help="Override a setting, such as data.split=test."
)


class OneLineErrors(click.Group):
    """A command group with the error policy of the module's docstring."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; typed errors end the program here."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo(
                "interrupted; what was finished is kept, the same command goes on from there", err=True
            )
            ctx.exit(130)
        except _mendable_errors() as error:
            message = str(error)
            if isinstance(error, OSError) and error.filename is not None:
                message = f"{error.filename}: {error.strerror}; choose a place that you may write to"
            click.echo(f"error: {' '.join(message.split())}", err=True)
            ctx.exit(1)


def _mendable_errors() -> tuple[type[Exception], ...]:
    """The errors that the user can mend; asked for when there is one, so that nothing is imported before."""
    from extractors.errors import ExtractorError
    from pave_model.errors import PaveModelError
    from pipelines.errors import PipelineError
    from store.errors import StoreError
    from tasks.instruction import TaskError

    places = (FileExistsError, PermissionError, NotADirectoryError, IsADirectoryError)
    return (PipelineError, StoreError, ExtractorError, PaveModelError, TaskError, *places)


@click.group(cls=OneLineErrors, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pave-video")
def pave() -> None:
    """Adapt a frozen video LLM to side channels: extract features, train a patch, evaluate it."""


@pave.group()
def sidecue() -> None:
    """SideCue, a generated dataset whose answers are in a side channel only."""


@sidecue.command("make")
@click.argument("root", type=folder_option)
@click.option(
    "--split", "splits", default="train=1200,test=240", show_default=True, help="Clips of each split."
)
@click.option(
    "--seed", default=0, show_default=True, help="Of the world; the same seed gives the same files."
)
@click.option(
    "--worlds", default="tones", show_default=True, help="Kinds of clips, comma-separated (docs/sidecue.md)."
)
@click.option(
    "--level", default="easy", show_default=True, help="How faint the cues are: easy, medium, hard."
)
def sidecue_make(root: Path, splits: str, seed: int, worlds: str, level: str) -> None:
    """Write SideCue's clips and annotations into the folder ROOT."""
    from pipelines.config import checked
    from pipelines.progress import TerminalProgress
    from tasks.sidecue import SideCueConfig, make

    names = [name.strip() for name in worlds.split(",")]
    settings = {"splits": _split_sizes(splits), "seed": seed, "worlds": names, "level": level}
    config = checked(SideCueConfig, settings, "pave sidecue make")
    with TerminalProgress("make SideCue") as stage:
        make(root, config, stage.update)
    click.echo(f"{sum(config.splits.values()) * len(names)} clips in {root}")


def _split_sizes(text: str) -> dict[str, int]:
    """`train=8,test=4` as a mapping."""
    from pipelines.errors import PipelineError

    sizes = {}
    for item in text.split(","):
        name, _, count = item.strip().partition("=")
        if not name.isidentifier() or not count.isdecimal() or name in sizes:
            raise PipelineError(f"--split {text!r} cannot be read; write it like train=1200,test=240")
        sizes[name] = int(count)
    return sizes


@pave.command()
@click.option("--videos", type=folder_option, help="A video file, or a folder that is searched for them.")
@click.option("--scenes", type=folder_option, help="An RGB-D scene, or a folder that is searched for them.")
@click.option("--images", type=folder_option, help="A folder of numbered pictures, or one of such folders.")
@click.option(
    "--takes", type=folder_option, help="A folder of several cameras' videos, or one of such folders."
)
@click.option("--task", help=f"A dataset that PAVE knows: {', '.join(sorted(TASKS))}; see `pave tasks`.")
@click.option("--root", type=folder_option, help="Where the files of the task are.")
@click.option("--out", type=folder_option, required=True, help="Folder for manifest.parquet.")
@click.option("--dataset", help="Name in the store; default: the task's or the folder's.")
def prepare(**options: Any) -> None:
    """List a dataset or a folder of videos, scenes, pictures or takes in a manifest."""
    from pipelines.config import PrepareConfig, checked
    from pipelines.manifest import prepare as function
    from pipelines.progress import TerminalProgress

    config = checked(PrepareConfig, _given(options), "pave prepare")
    click.echo(function(config, TerminalProgress).summary())


@pave.command()
@click.argument("channels")
@click.option("--videos", type=folder_option, help="A video file, or a folder that is searched for them.")
@click.option("--scenes", type=folder_option, help="An RGB-D scene, or a folder that is searched for them.")
@click.option("--images", type=folder_option, help="A folder of numbered pictures, or one of such folders.")
@click.option(
    "--takes", type=folder_option, help="A folder of several cameras' videos, or one of such folders."
)
@click.option("--manifest", type=folder_option, help="manifest.parquet from `pave prepare`.")
@click.option("--store", help="Folder of the feature store; made if missing. [default: data/store]")
@click.option("--dataset", help="Name in the store, without --manifest; default: the folder's.")
@click.option(
    "--weights",
    help="audio: imagebind_huge.pth or a hub id; dense, depth3d, exo: folder or hub id of LanguageBind, "
    "CLIP, SigLIP; or random:SEED for a small random tower.",
)
@click.option("--embedding", help="depth3d: LLaVA-3D checkpoint, a file, folder or hub id; or random:SEED.")
@click.option("--base", help="frames: folder or hub id of the base.")
@click.option("--num-frames", type=int, help="frames, exo: frames of a clip. [default: 32]")
@click.option("--num-views", type=int, help="depth3d: views of a scene. [default: 32]")
@click.option("--retry-failed", is_flag=True, default=None, help="Try again what failed for good.")
@click.option("--max-failure-fraction", type=float, help="Largest share of unusable media. [default: 0.1]")
@click.option("--encoders", type=int, help="Number of encode workers. [default: 1]")
@click.option(
    "--config", "recipe", type=folder_option, help="YAML with the settings, or a recipe of `pave train`."
)
@set_option
def extract(channels: str, recipe: Path | None, sets: tuple[str, ...], **options: Any) -> None:
    """Extract the features of CHANNELS into a store; what is there already is not done again.

    CHANNELS is a channel, or several such as frames,dense,audio, for which each file is opened once.
    """
    from extractors import extractor_class

    names = channels.split(",")
    for name in names:
        extractor_class(name)  # first of all: is there such a channel?
    from pipelines.extract import extract as extract_one
    from pipelines.extract import extract_together
    from pipelines.extract_settings import extract_settings, random_channels, together_settings
    from pipelines.progress import TerminalProgress

    if len(names) == 1:
        config = extract_settings(channels, recipe, _given(options), sets)
        encoders = {channels: config.encoder}  # type: ignore[attr-defined]  # channels' classes have it
    else:
        together = together_settings(names, recipe, _given(options), sets)
        encoders = together.channels.given()
    for name in random_channels(encoders):
        click.echo(
            f"warning: the {name} encoder has random weights, so the features mean little; "
            f"for real ones give {PUBLISHED_WEIGHTS[name]}",
            err=True,
        )
    report = (
        extract_one(channels, config, TerminalProgress)
        if len(names) == 1
        else extract_together(together, TerminalProgress)
    )
    click.echo(report.summary())


@pave.command("extract-all")
@click.argument("recipe", type=folder_option)
@set_option
def extract_all(recipe: Path, sets: tuple[str, ...]) -> None:
    """Extract everything that the YAML file RECIPE lists: several datasets, each with its channels."""
    from pipelines.config import checked, read_yaml
    from pipelines.extract_all import ExtractAllConfig
    from pipelines.extract_all import extract_all as function
    from pipelines.progress import TerminalProgress
    from pipelines.setting_overrides import override

    config = checked(ExtractAllConfig, override(read_yaml(recipe), sets), str(recipe))
    click.echo(function(config, TerminalProgress).summary())


@pave.command()
@click.argument("recipe", type=folder_option)
@click.option("--out", type=folder_option, help="The run folder; must not exist yet.")
@set_option
def train(recipe: Path, out: Path | None, sets: tuple[str, ...]) -> None:
    """Train a patch as the YAML file RECIPE says."""
    from pipelines.config import TrainConfig, checked, read_yaml
    from pipelines.progress import TerminalProgress
    from pipelines.setting_overrides import override
    from pipelines.train import train as function

    values = override(read_yaml(recipe), sets, **_given({"out": out}))
    config = checked(TrainConfig, values, str(recipe))
    click.echo(function(config, TerminalProgress).summary())


@pave.command()
@click.option("--out", type=folder_option, help="Folder of the demo. [default: out/demo]")
@click.option("--seed", type=int, help="Of the SideCue world. [default: 0]")
@click.option("--channels", help="Of audio, dense, exo, depth3d, separated by commas. [default: all]")
@click.option("--train-clips", type=int, help="Clips to train on, of each channel. [default: 700]")
@click.option("--test-clips", type=int, help="Held-out clips, of each channel. [default: 200]")
@click.option("--base-steps", type=int, help="Optimizer steps of the base. [default: 640]")
@click.option(
    "--patch-steps", type=int, help="Most optimizer steps of a patch; its twin takes as many. [default: 450]"
)
def demo(channels: str | None, **options: Any) -> None:
    """Everything on SideCue: data, base, features, each channel's patch and its LoRA-only twin, scores, report."""
    from pipelines.config import DemoConfig, checked
    from pipelines.demo import demo as function
    from pipelines.progress import TerminalProgress

    config = checked(
        DemoConfig, _given({"channels": channels and channels.split(","), **options}), "pave demo"
    )
    click.echo(function(config, TerminalProgress).summary())


@pave.group()
def inspect() -> None:
    """Look at a sample's media as a channel sees them."""


@inspect.command("depth3d")
@click.argument("sample")
@click.option("--out", type=folder_option, required=True, help="Folder for points.ply and scene.png.")
@click.option("--manifest", type=folder_option, help="SAMPLE is an id of this manifest, not a path.")
@click.option("--num-views", type=int, help="Views of the scene. [default: 32]")
@click.option("--depth-scale", type=float, help="Units of depth in a metre. [default: 1000]")
@click.option("--step", type=int, help="Every how many pixels are a point. [default: 2]")
def inspect_depth3d(sample: str, manifest: Path | None, **options: Any) -> None:
    """Draw the RGB-D scene SAMPLE, a folder or HDF5 file, as a point cloud with the path of its camera."""
    from pipelines.config import InspectSceneConfig, checked
    from pipelines.inspect_scene import inspect_scene

    scene = Path(sample)
    if manifest is not None:
        from pipelines.manifest import media_path

        scene = media_path(manifest, sample, "scene")
    config = checked(InspectSceneConfig, _given({"scene": scene, **options}), "pave inspect depth3d")
    click.echo(inspect_scene(config, sample if manifest is not None else scene.name).summary())


@pave.command()
def extractors() -> None:
    """List the channels: what each makes, with which encoder, and its licence."""
    from pipelines.plain_table import plain_table

    rows = [(channel, *columns) for channel, columns in CHANNEL_TABLE.items()]
    click.echo(plain_table(("channel", "features", "encoder", "licence"), rows))


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}


pave.add_command(store)
pave.add_command(compare)
pave.add_command(demo_ui)
pave.add_command(doctor)
pave.add_command(evaluate)
pave.add_command(evaluate, "eval")
pave.add_command(patches)
pave.add_command(profile)
pave.add_command(plan)
pave.add_command(recipes)
pave.add_command(retrain)
pave.add_command(tasks)
for command in (up, down, status, run):
    pave.add_command(command)
pave.add_command(why)
pave.add_command(import_checkpoint)
pave.add_command(convert_audio_weights)


def main() -> None:
    """Entry point of `pave`."""
    # Idle threads of torch otherwise spin, and slow down whatever shares the cores. Read when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    pave()


if __name__ == "__main__":
    main()
