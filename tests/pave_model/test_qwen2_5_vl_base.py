"""Qwen2.5-VL as a second family of bases: its own numbers when untrained, its positions, files and errors."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_patch import disturb
from tiny_qwen import (
    AUDIO,
    IMAGE_ID,
    NUM_STEPS,
    NUM_TOKENS,
    PAD_ID,
    VIDEO_ID,
    build_tiny_qwen,
    make_batch,
    plain_inputs,
    sample_of,
)
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from pave_model.base_fingerprint import base_fingerprint
from pave_model.config import LoraSettings, PatchConfig
from pave_model.errors import BaseMismatchError, PatchInputError
from pave_model.patched_model import PatchedVideoLLM
from pave_model.qwen2_5_vl_base import Qwen25VLFamily

CONFIG = PatchConfig(
    base="tiny",
    channels={"audio": AUDIO},
    lora=LoraSettings(r=4, alpha=8, dropout=0),
    newline="no_token",
)


def make_model(config: PatchConfig = CONFIG, trained: bool = True) -> PatchedVideoLLM:
    """In eval mode; trained means that patch and LoRA are far from their initial values."""
    torch.manual_seed(3)
    model = PatchedVideoLLM(build_tiny_qwen(), config).eval()
    if trained:
        disturb(model)
    return model


def cached(model: PatchedVideoLLM, batch: dict[str, Any]) -> dict[str, Any]:
    """The batch with tokens in place of pixels."""
    queries, visual = model.family.key_frame_tokens(model.base, batch["pixels"])
    rest = {name: value for name, value in batch.items() if name != "pixels"}
    return {**rest, "queries": queries, "visual": visual}


@torch.no_grad()
def test_a_fresh_patch_leaves_the_bases_own_logits() -> None:
    batch, base, model = make_batch(), build_tiny_qwen(), make_model(trained=False)
    text = {name: batch[name] for name in ("input_ids", "attention_mask")}
    theirs = plain_inputs(batch)
    # The base makes the tokens itself, from patches that a plain loop arranged.
    expected = base(**text, **theirs)
    torch.testing.assert_close(model(**batch).logits, expected.logits, rtol=0, atol=1e-5)
    # The same tokens handed over: the same bits.
    tokens = cached(model, batch)
    del theirs["pixel_values_videos"]
    outputs = {"video": BaseModelOutputWithPooling(pooler_output=list(tokens["visual"].flatten(1, 2)))}
    plain = base(**text, **theirs, mm_encoder_outputs=outputs).logits
    assert torch.equal(model(**tokens).logits, plain)
    disturb(model)
    assert not torch.allclose(model(**tokens).logits, plain, atol=1e-2)


@torch.no_grad()
def test_queries_are_the_merged_patches_in_row_order() -> None:
    base, batch = build_tiny_qwen(), make_batch()
    states: list[Tensor] = []
    base.model.visual.merger.register_forward_hook(lambda _, given, made: states.extend([given[0], made]))
    queries, visual = Qwen25VLFamily().key_frame_tokens(base, batch["pixels"])
    assert queries.shape == (2, NUM_STEPS, NUM_TOKENS, 16)
    assert visual.shape == (2, NUM_STEPS, NUM_TOKENS, 32)
    patches, merged = states  # in window order
    place = torch.cdist(visual.flatten(0, 2), merged).argmin(1)  # where each token was
    assert sorted(place.tolist()) == list(range(len(merged)))
    assert place.tolist() != sorted(place.tolist())
    expected = torch.stack([patches[4 * i : 4 * i + 4].mean(0) for i in place.tolist()])
    torch.testing.assert_close(queries.flatten(0, 2), expected)


def test_only_the_patch_and_the_llms_lora_are_trained() -> None:
    model, batch = make_model(), make_batch()
    labels = batch["input_ids"].masked_fill(batch["input_ids"] >= 50, -100)
    model(**batch, labels=labels, num_items_in_batch=11).loss.backward()
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    assert {name for name, p in model.named_parameters() if p.grad is not None} == trainable
    assert all(p.grad.any() for p in model.parameters() if p.grad is not None)
    projections = [f"self_attn.{p}_proj" for p in "qkvo"] + [f"mlp.{p}_proj" for p in ("gate", "up", "down")]
    lora = {
        f"llm.base_model.model.model.language_model.layers.{layer}.{projection}.lora_{side}.default.weight"
        for layer in range(2)
        for projection in projections
        for side in "AB"
    }
    assert {name for name in trainable if not name.startswith("patch.")} == lora
    # Values share the projection of the keys, so theirs is not trained.
    patch = {f"patch.{name}" for name, _ in model.patch.named_parameters() if ".v_linear." not in name}
    assert trainable - lora == patch


@torch.no_grad()
def test_pixels_and_cached_tokens_give_the_same_logits() -> None:
    model, batch = make_model(), make_batch()
    torch.testing.assert_close(model(**cached(model, batch)).logits, model(**batch).logits, rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_loss_alone_has_the_same_value() -> None:
    model, batch = make_model(), make_batch()
    labels = torch.full_like(batch["input_ids"], -100)
    labels[:, -2:] = batch["input_ids"][:, -2:]
    output = model(**batch, labels=labels, loss_alone=True)
    assert output.logits.shape[0] == labels[:, -2:].numel()
    torch.testing.assert_close(output.loss, model(**batch, labels=labels).loss)


@torch.no_grad()
def test_the_spacing_of_the_steps_reaches_the_positions() -> None:
    model, batch = make_model(), make_batch()
    times = batch.pop("frame_times")
    second_apart = torch.arange(NUM_STEPS, dtype=torch.float64).expand(2, -1) + 0.3
    unknown = model(**batch).logits
    assert torch.equal(model(**batch, frame_times=second_apart).logits, unknown)
    assert not torch.allclose(model(**batch, frame_times=times).logits, unknown, atol=1e-2)
    one_step = Qwen25VLFamily().inputs(
        model.base, batch["input_ids"], (1, 9), torch.zeros(2, 9, 32), times[:, :1]
    )
    assert one_step["second_per_grid_ts"].tolist() == [1, 1]


@torch.no_grad()
def test_greedy_tokens_do_not_depend_on_batch_mates_and_are_those_of_forward() -> None:
    model, batch = make_model(), make_batch()
    settings: dict[str, Any] = {
        "max_new_tokens": 6,
        "do_sample": False,
        "eos_token_id": None,
        "pad_token_id": PAD_ID,
        "suppress_tokens": [VIDEO_ID, IMAGE_ID, PAD_ID],
    }
    together = model.generate(**batch, **settings)
    assert together.shape == (2, 6)
    for i in range(2):
        alone = sample_of(batch, i)
        assert torch.equal(model.generate(**alone, **settings)[0], together[i])
        # Without a cache, positions are made anew for the whole text.
        alone["input_ids"] = torch.cat([alone["input_ids"], together[i : i + 1]], dim=1)
        alone["attention_mask"] = torch.ones_like(alone["input_ids"])
        logits = model(**alone).logits[0, -7:-1]
        logits[:, settings["suppress_tokens"]] = -torch.inf
        assert torch.equal(logits.argmax(-1), together[i])
    assert not torch.equal(model.generate(**{**batch, "side": {}, "side_lengths": {}}, **settings), together)


@torch.no_grad()
def test_a_patch_comes_back_and_other_bases_are_refused(tmp_path: Path) -> None:
    build_tiny_qwen().save_pretrained(tmp_path / "base")
    config = CONFIG.model_copy(update={"base": str(tmp_path / "base")})
    model, batch = make_model(config), make_batch()
    model.save_pretrained(tmp_path / "patch")
    expected = model(**batch).logits
    for base in (build_tiny_qwen(), None):
        loaded = PatchedVideoLLM.from_pretrained(tmp_path / "patch", base)
        ours, theirs = model.state_dict(), loaded.state_dict()
        assert list(ours) == list(theirs)
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
        assert torch.equal(loaded(**batch).logits, expected)
    with pytest.raises(BaseMismatchError, match="but the given base has"):
        PatchedVideoLLM.from_pretrained(tmp_path / "patch", build_tiny_qwen(seed=6))


def test_the_fingerprint_sees_settings_that_no_shape_shows() -> None:
    base = build_tiny_qwen()
    found = {base_fingerprint(base)}
    changes: list[tuple[Any, str, Any]] = [
        (base.config, "video_token_id", 50),
        (base.config.text_config, "rms_norm_eps", 1e-3),
        (base.config.text_config.rope_parameters, "mrope_section", [4, 2, 2]),
        (base.config.vision_config, "num_heads", 4),
        (base.config.vision_config, "window_size", 24),
        (base.config.vision_config, "fullatt_block_indexes", [0]),
        (base.config.vision_config, "tokens_per_second", 4),
    ]
    for place, name, value in changes:
        place.__setitem__(name, value) if isinstance(place, dict) else setattr(place, name, value)
        found.add(base_fingerprint(base))
    assert len(found) == 1 + len(changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"pixels": torch.zeros(2, 5, 3, 24, 24)},
            r"\(B, F, 3, H, H\) with F a multiple of 2 and H one of 8",
        ),
        ({"pixels": torch.zeros(2, 6, 3, 24, 32)}, r"have shape \(2, 6, 3, 24, 32\)"),
        ({"pixels": torch.zeros(2, 6, 3, 28, 28)}, "resize the key frames"),
        (
            {"frame_times": torch.zeros(2, 6)},
            r"\(2, 6\) for 2 samples of 3 time steps; pass one time for each",
        ),
        ({"frame_times": torch.tensor([[0, 1, 2], [2, 1, 0]])}, "sample 1 .* go backwards"),
        ({"frame_times": torch.tensor([[0, 1, torch.nan], [0, 1, 2]])}, "sample 0 .* not finite"),
    ],
)
def test_inputs_that_do_not_fit_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(PatchInputError, match=message):
        make_model()(**{**make_batch(), **change})


def test_there_are_no_newlines_and_frames_are_square() -> None:
    model, batch = make_model(CONFIG.model_copy(update={"newline": "grid"})), make_batch()
    for call in (lambda: model(**batch), lambda: model.num_video_tokens(NUM_STEPS, NUM_TOKENS)):
        with pytest.raises(PatchInputError, match="set newline: no_token"):
            call()
    model = make_model()
    assert model.num_video_tokens(NUM_STEPS, NUM_TOKENS) == 27
    oblong = {"queries": torch.zeros(2, 9, 3, 16), "visual": torch.zeros(2, 9, 3, 32)}
    del batch["pixels"], batch["frame_times"]
    with pytest.raises(PatchInputError, match="3 tokens of a time step are no square"):
        model(**batch, **oblong)
