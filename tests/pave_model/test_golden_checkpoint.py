"""The whole patched model against the original release: base, patch and LoRA of one tiny checkpoint."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from peft import set_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import load_file
from tiny_patch import golden_folder
from torch import Tensor
from torch.testing import assert_close
from transformers import LlavaOnevisionForConditionalGeneration

from pave_model.config import FusionConfig, LoraSettings, PatchConfig
from pave_model.patched_model import PatchedVideoLLM

pytestmark = pytest.mark.golden
FOLDER = golden_folder() / "checkpoint_case"


@dataclass(frozen=True)
class Case:
    """The release's inputs in our layout: one placeholder id per video token, sides (B, T, S_k, C_s)."""

    model: PatchedVideoLLM
    tensors: dict[str, Tensor]
    queries: Tensor
    visual: Tensor
    side: Tensor

    @property
    def num_tokens(self) -> int:
        return self.model.num_video_tokens(*self.queries.shape[1:3])

    def inputs(self, rows: slice) -> dict[str, Tensor | dict[str, Tensor]]:
        return {
            "queries": self.queries[rows],
            "visual": self.visual[rows],
            "side": {"audio": self.side[rows]},
            "side_lengths": {"audio": self.tensors["input.frame_num"][rows]},
        }

    def expand(self, ids: Tensor, values: Tensor, filler: int) -> Tensor:
        """Put `filler`, once per video token, where `ids` (L,) has the release's placeholder."""
        position = int((ids == -200).nonzero())
        video = torch.full((self.num_tokens,), filler)
        return torch.cat([values[:position], video, values[position + 1 :]])


def released_config(metadata: dict[str, str]) -> PatchConfig:
    config = json.loads(metadata["config"])
    patch, lora = config["patch"], config["lora"]
    audio = FusionConfig(
        side_dim=patch["input_dim"],
        query_dim=patch["query_input_dim"],
        output_dim=patch["output_dim"],
        embed_dim=patch["embed_dim"],
        hidden_dim=patch["cross_attn_hidden_dim"],
        num_heads=patch["num_cross_attn_head"],
        num_layers=patch["num_cross_attn_layer"],
    )
    return PatchConfig(
        base="base_hf", channels={"audio": audio}, lora=LoraSettings(r=lora["r"], alpha=lora["alpha"])
    )


def load_release(model: PatchedVideoLLM, folder: Path) -> None:
    """Rename the release's tensors (SPEC section 6) and load them."""
    adapter = load_file(folder / "adapter_model.safetensors")
    layers = "base_model.model.model.layers."
    renamed = {
        name.replace(layers, "base_model.model.model.language_model.layers."): tensor.float()
        for name, tensor in adapter.items()
    }
    assert not set_peft_model_state_dict(model.llm, renamed).unexpected_keys
    others = torch.load(folder / "non_lora_trainables.bin", weights_only=True)
    marker = "temporal_aggregator."
    patch = {name.split(marker)[1]: t.float() for name, t in others.items() if marker in name}
    model.patch["audio"].load_state_dict(patch)


@torch.no_grad()
def build_case(release: bool) -> Case:
    base = LlavaOnevisionForConditionalGeneration.from_pretrained(FOLDER / "base_hf", dtype=torch.float32)
    with safe_open(FOLDER / "expected_forward.safetensors", "pt") as file:
        config = released_config(file.metadata())
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
    model = PatchedVideoLLM(base, config).eval()
    if release:
        load_release(model, FOLDER / "checkpoint")
    frames = (tensors["input.pixel_u8"] / 255 - 0.5) / 0.5  # (B, F, 3, H, W)
    scale = base.config.vision_config.image_size // frames.shape[-1]
    frames = frames.repeat_interleave(scale, -1).repeat_interleave(scale, -2)
    vision = base.model.vision_tower(frames.flatten(0, 1), output_hidden_states=True).hidden_states[-1]
    pool, projector = base.model.apply_pooling, base.model.multi_modal_projector
    return Case(
        model=model,
        tensors=tensors,
        queries=pool(vision).unflatten(0, frames.shape[:2]),
        visual=pool(projector(vision)).unflatten(0, frames.shape[:2]),
        side=tensors["input.side"].permute(0, 2, 3, 4, 1).flatten(2, 3),
    )


@pytest.fixture(scope="module")
def released() -> Case:
    return build_case(release=True)


def training_rows(case: Case, sample: int) -> tuple[Tensor, Tensor]:
    """Unpadded ids and labels of a training example, the video expanded."""
    kept = case.tensors["input.attention_mask"][sample].bool()
    ids, labels = case.tensors["input.input_ids"][sample][kept], case.tensors["input.labels"][sample][kept]
    video_id = case.model.config.video_token_id
    return case.expand(ids, ids, video_id), case.expand(ids, labels, -100)


@torch.no_grad()
def test_queries_and_patch_output(released: Case) -> None:
    assert_close(released.queries, released.tensors["expected.query"], rtol=1e-5, atol=1e-5)
    fusion = released.model.patch["audio"]
    packed = fusion.pack(released.side, released.tensors["input.frame_num"], released.queries)
    output = fusion(released.queries, packed)
    assert_close(output.flatten(1, 2), released.tensors["expected.patch_output"], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_embeddings_logits_and_loss(released: Case) -> None:
    tensors = released.tensors
    length = tensors["expected.labels"].shape[1]
    batch = len(tensors["expected.labels"])
    input_ids = torch.zeros(batch, length, dtype=torch.int64)
    labels, attention_mask = torch.full_like(input_ids, -100), torch.zeros_like(input_ids)
    for sample in range(batch):
        ids, targets = training_rows(released, sample)
        input_ids[sample, : len(ids)] = ids
        labels[sample, : len(ids)] = targets
        attention_mask[sample, : len(ids)] = 1
    assert torch.equal(labels, tensors["expected.labels"])
    assert torch.equal(attention_mask, tensors["expected.attention_mask"].long())

    inputs = released.inputs(slice(None))
    output = released.model(input_ids, attention_mask, **inputs, labels=labels)
    assert_close(output.loss, tensors["expected.loss"].squeeze(), rtol=1e-5, atol=1e-5)
    video = released.model.video_tokens(**inputs)
    for sample in range(batch):
        begin = int(tensors["expected.video_token_start"][sample])
        end = begin + released.num_tokens
        embeds = tensors["expected.inputs_embeds"][sample, begin:end]
        assert_close(video[sample], embeds, rtol=1e-5, atol=1e-5)
        logits = output.logits[sample, end : int(attention_mask[sample].sum())]
        expected = tensors["expected.logits_after_video"][sample]
        assert_close(logits[:, : expected.shape[1]], expected[: len(logits)], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_greedy_tokens(released: Case) -> None:
    prefix = "expected.greedy_tokens.sample"
    samples = [int(name.removeprefix(prefix)) for name in released.tensors if name.startswith(prefix)]
    assert samples
    for sample in samples:
        prompt = released.tensors[f"input.eval_prompt_ids.sample{sample}"]
        ids = released.expand(prompt, prompt, released.model.config.video_token_id)[None]
        expected = released.tensors[f"{prefix}{sample}"]
        tokens = released.model.generate(
            ids,
            torch.ones_like(ids),
            **released.inputs(slice(sample, sample + 1)),
            max_new_tokens=len(expected),
            do_sample=False,
        )
        assert torch.equal(tokens[0], expected)


@torch.no_grad()
def test_a_fresh_patch_is_the_released_base() -> None:
    case = build_case(release=False)
    name = "expected.base_only.logits_after_video.sample0"
    ids, _ = training_rows(case, 0)
    output = case.model(ids[None], torch.ones(1, len(ids)), **case.inputs(slice(0, 1)))
    end = int(case.tensors["expected.video_token_start"][0]) + case.num_tokens
    assert_close(output.logits[0, end:], case.tensors[name], rtol=1e-5, atol=1e-5)
