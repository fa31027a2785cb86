"""A released checkpoint on a base of the transformers layout: the patched model with the release's numbers."""

from transformers import LlavaOnevisionForConditionalGeneration

from pave_model.checkpoint import PatchFiles, PatchRecord
from pave_model.errors import BaseMismatchError
from pave_model.patched_model import PatchedVideoLLM
from pave_model.release_checkpoint import ReleasedCheckpoint
from pave_model.release_tensors import num_lora_layers

_ADAPTED = "base_model.model."  # what peft puts before the names of the base


def import_release(
    release: ReleasedCheckpoint,
    base: LlavaOnevisionForConditionalGeneration,
    base_name: str,
    channel: str,
) -> PatchedVideoLLM:
    """The patched model, in eval mode, with every tensor of the release. `base` is modified as usual.

    `base_name` (folder or hub id) is what the saved patch will name. Raises `BaseMismatchError`, before the base
    is touched, when the checkpoint was trained on a base of other sizes.
    """
    config = release.patch_config(base_name, channel)
    _check_base(release, base, base_name)
    model = PatchedVideoLLM(base, config)
    files = PatchFiles(
        PatchRecord(patch=config, base_fingerprint=model.base_fingerprint, lineage=release.lineage()),
        {f"{channel}.{name}": tensor for name, tensor in release.patch_tensors.items()},
        release.lora_tensors,
    )
    model.load_tensors(release.folder, files)
    return model.eval()


def _check_base(
    release: ReleasedCheckpoint, base: LlavaOnevisionForConditionalGeneration, base_name: str
) -> None:
    text, vision = base.config.text_config, base.config.vision_config
    sizes: dict[str, tuple[int, int]] = {
        "width of the LLM": (text.hidden_size, release.fusion.output_dim),
        "width of the vision tower": (vision.hidden_size, release.fusion.query_dim),
    }
    if release.lora_tensors:
        sizes["number of LLM layers"] = (text.num_hidden_layers, num_lora_layers(release.lora_tensors))
    differing = {name: pair for name, pair in sizes.items() if pair[0] != pair[1]}
    if not differing:
        differing = _differing_projections(release, base)
    for name, (ours, theirs) in differing.items():
        raise BaseMismatchError(
            f"{release.folder} was trained on '{release.base_name}', and '{base_name}' is not its twin: {name} is "
            f"{ours}, the checkpoint's {theirs}; give --base the twin in the transformers layout, such as "
            "llava-hf/llava-onevision-qwen2-7b-ov-hf for lmms-lab/llava-onevision-qwen2-7b-ov"
        )


def _differing_projections(
    release: ReleasedCheckpoint, base: LlavaOnevisionForConditionalGeneration
) -> dict[str, tuple[int, int]]:
    """Widths of the base's projections that LoRA tensors do not fit: (base, checkpoint) by name."""
    weights = base.state_dict()
    differing = {}
    for name, tensor in release.lora_tensors.items():
        module, matrix = name.removeprefix(_ADAPTED).split(".lora_")
        out_features, in_features = weights[f"{module}.weight"].shape
        expected, found = (
            (in_features, tensor.shape[1]) if matrix[0] == "A" else (out_features, tensor.shape[0])
        )
        if expected != found:
            differing[f"{'input' if matrix[0] == 'A' else 'output'} width of {module}"] = (expected, found)
    return differing
