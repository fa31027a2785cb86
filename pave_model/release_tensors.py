"""The tensors of a released checkpoint, every one accounted for, under the names that they have in our model.

Shapes: r rank of LoRA, D width of the LLM, Q and K widths of all query heads and of all key heads, I width of
the LLM's MLP; C_s, C_v, E and d as in `fusion`.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor

from pave_model.config import FusionConfig, LoraSettings
from pave_model.errors import CheckpointError
from pave_model.fusion import FusionModule
from pave_model.release_files import check_tensors, listed, read_tensors

# Both are what the release's own saving leaves: peft's wrapping of its model class, and the class alone.
PATCH_PREFIXES = {
    "non_lora_trainables.bin": "base_model.model.model.temporal_aggregator.",
    "mm_projector.bin": "model.temporal_aggregator.",
}
_LAYERS = "base_model.model.model.layers."
_OUR_LAYERS = "base_model.model.model.language_model.layers."
# Output and input width of the seven projections of a decoder layer.
_PROJECTIONS = {
    "self_attn.q_proj": ("Q", "D"),
    "self_attn.k_proj": ("K", "D"),
    "self_attn.v_proj": ("K", "D"),
    "self_attn.o_proj": ("D", "Q"),
    "mlp.gate_proj": ("I", "D"),
    "mlp.up_proj": ("I", "D"),
    "mlp.down_proj": ("D", "I"),
}
_REMEDY = "download the checkpoint again; other kinds of patches cannot be imported"


def read_patch(path: Path, num_heads: int, rotary: bool) -> tuple[FusionConfig, dict[str, Tensor]]:
    """Configuration of the fusion module and its tensors (float32) from the release's file of the patch.

    Sizes are read from the tensors; heads and rotary positions are in no file. Raises `CheckpointError` when
    the tensors are not those of one fusion module.
    """
    prefix = PATCH_PREFIXES[path.name]
    tensors = read_tensors(path)
    config = _fusion_config(path, tensors, prefix, num_heads, rotary)
    with torch.device("meta"):
        module = FusionModule(**config.model_dump())
    shapes = {prefix + name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    check_tensors(path, tensors, shapes, _REMEDY)
    return config, {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}


def read_lora(
    path: Path, settings: LoraSettings, target_modules: frozenset[str], output_dim: int
) -> dict[str, Tensor]:
    """LoRA tensors (float32) under the names that peft gives them in our model.

    `output_dim` is D. Raises `CheckpointError` unless they are A and B of exactly the seven projections of the
    decoder layers 0, 1, ... and `target_modules` names the same modules.
    """
    tensors = read_tensors(path)
    numbers = {found[1] for name in tensors if (found := re.match(rf"{re.escape(_LAYERS)}(\d+)\.", name))}
    num_layers = len(numbers)
    rank, _ = _matrix(path, tensors, f"{_LAYERS}0.self_attn.q_proj.lora_A.weight")
    if rank != settings.r:
        raise CheckpointError(
            f"{path} has LoRA of rank {rank}, but r is {settings.r} in adapter_config.json; give a folder whose "
            "files belong together"
        )
    widths = {"D": output_dim}
    for letter, projection in (("Q", "self_attn.q_proj"), ("K", "self_attn.k_proj"), ("I", "mlp.gate_proj")):
        widths[letter] = _matrix(path, tensors, f"{_LAYERS}0.{projection}.lora_B.weight")[0]
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in range(num_layers):
        for projection, (rows, columns) in _PROJECTIONS.items():
            shapes[f"{_LAYERS}{layer}.{projection}.lora_A.weight"] = (settings.r, widths[columns])
            shapes[f"{_LAYERS}{layer}.{projection}.lora_B.weight"] = (widths[rows], settings.r)
    check_tensors(path, tensors, shapes, _REMEDY)
    _check_targets(path, num_layers, target_modules)
    return {_OUR_LAYERS + name.removeprefix(_LAYERS): tensor for name, tensor in tensors.items()}


def num_lora_layers(lora_tensors: Mapping[str, Tensor]) -> int:
    """How many decoder layers the tensors of `read_lora` are for."""
    return len(lora_tensors) // (2 * len(_PROJECTIONS))


def _fusion_config(
    path: Path, tensors: Mapping[str, Tensor], prefix: str, num_heads: int, rotary: bool
) -> FusionConfig:
    layer = re.compile(re.escape(f"{prefix}cross_attn_layers.") + r"(\d+)\.")
    embed_dim, side_dim = _matrix(path, tensors, f"{prefix}input_mapping.weight")
    hidden_dim, query_dim = _matrix(path, tensors, f"{prefix}query_input_mapping.weight")
    output_dim, _ = _matrix(path, tensors, f"{prefix}output_mapping.2.weight")
    layers = {found[1] for name in tensors if (found := layer.match(name))}
    if not layers:
        raise CheckpointError(f"{path} has no layer of cross-attention; {_REMEDY}")
    try:
        return FusionConfig(
            side_dim=side_dim,
            query_dim=query_dim,
            output_dim=output_dim,
            embed_dim=embed_dim,
            hidden_dim=hidden_dim,
            num_heads=num_heads,
            num_layers=len(layers),
            rotary=rotary,
        )
    except ValidationError as error:
        problems = [
            ": ".join([*map(str, item["loc"]), item["msg"].removeprefix("Value error, ")])
            for item in error.errors()
        ]
        raise CheckpointError(
            f"{path}: {listed(problems)}; give --heads and --rotary/--no-rotary as it was trained"
        ) from error


def _matrix(path: Path, tensors: Mapping[str, Tensor], name: str) -> tuple[int, int]:
    """Shape of a tensor that sizes are read from."""
    if name not in tensors:
        raise CheckpointError(f"{path} lacks {name!r}; {_REMEDY}")
    shape = tuple(tensors[name].shape)
    if len(shape) != 2:
        raise CheckpointError(f"{path}: {name!r} has shape {shape}, but should be a matrix; {_REMEDY}")
    return shape[0], shape[1]


def _check_targets(path: Path, num_layers: int, target_modules: frozenset[str]) -> None:
    expected = {f"model.layers.{layer}.{name}" for layer in range(num_layers) for name in _PROJECTIONS}
    differing = sorted(expected ^ target_modules)
    if differing:
        raise CheckpointError(
            f"{path} and target_modules of adapter_config.json differ in {listed(differing)}; LoRA must be on the "
            "seven projections of every decoder layer and nowhere else"
        )
