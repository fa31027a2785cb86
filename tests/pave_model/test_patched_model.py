"""The patched model: identity at the start, what is trainable, batches, dtypes, training, and its errors."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny_patch import AUDIO, NUM_FRAMES, PAD_ID, disturb, labels_of
from torch import Tensor
from transformers import LlavaOnevisionForConditionalGeneration, Trainer, TrainingArguments
from transformers.modeling_outputs import BaseModelOutputWithPooling

from pave_model.config import LoraSettings, PatchConfig
from pave_model.errors import BaseMismatchError, PatchInputError
from pave_model.patched_model import PatchedVideoLLM
from pave_model.video_tokens import place_newlines

MakeModel = Callable[..., PatchedVideoLLM]
MakeBase = Callable[[], LlavaOnevisionForConditionalGeneration]
MakeBatch = Callable[..., dict[str, Any]]
LORA = LoraSettings(r=4, alpha=8, dropout=0)


def base_logits(base: LlavaOnevisionForConditionalGeneration, batch: dict[str, Any]) -> Tensor:
    """The unpatched base on the same frames, with the newlines of the release."""
    tokens = place_newlines(batch["visual"], base.model.image_newline, "grid")
    logits: Tensor = base(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        mm_encoder_outputs={"video": BaseModelOutputWithPooling(pooler_output=tokens)},
    ).logits
    return logits


def sample_of(batch: dict[str, Any], index: int) -> dict[str, Any]:
    """One sample of a left-padded batch, without any padding."""
    one = slice(index, index + 1)
    begin = int((batch["attention_mask"][index] == 0).sum())
    length = int(batch["side_lengths"]["audio"][index])
    return {
        "input_ids": batch["input_ids"][one, begin:],
        "attention_mask": batch["attention_mask"][one, begin:],
        "queries": batch["queries"][one],
        "visual": batch["visual"][one],
        "side": {"audio": batch["side"]["audio"][one, :length]},
        "side_lengths": {"audio": batch["side_lengths"]["audio"][one]},
    }


@torch.no_grad()
def test_a_fresh_patch_leaves_the_logits_bit_identical(
    make_model: MakeModel, make_base: MakeBase, make_batch: MakeBatch
) -> None:
    batch = make_batch()
    fresh = make_model(trained=False)
    assert torch.equal(fresh(**batch).logits, base_logits(make_base(), batch))
    disturb(fresh)
    assert not torch.equal(fresh(**batch).logits, base_logits(make_base(), batch))


def test_exactly_lora_and_the_patch_are_trainable(make_model: MakeModel) -> None:
    projections = [f"self_attn.{p}_proj" for p in "qkvo"] + [f"mlp.{p}_proj" for p in ("gate", "up", "down")]
    lora = {
        f"llm.base_model.model.model.language_model.layers.{layer}.{projection}.lora_{side}.default.weight"
        for layer in range(2)
        for projection in projections
        for side in "AB"
    }
    linear = ["input_mapping", "query_input_mapping", "output_mapping.0", "output_mapping.2", "output_norm"]
    for layer in range(2):
        parts = ("attn.q_linear", "attn.k_linear", "ffn.0")
        linear += [f"cross_attn_layers.{layer}.{part}" for part in parts]
    patch = {f"patch.audio.{module}.{kind}" for module in linear for kind in ("weight", "bias")}
    patch |= {f"patch.audio.cross_attn_layers.{layer}.ffn.{i}.weight" for layer in range(2) for i in (1, 3)}

    def trainable(config: PatchConfig) -> set[str]:
        return {name for name, p in make_model(config).named_parameters() if p.requires_grad}

    assert trainable(PatchConfig(base="tiny", channels={"audio": AUDIO}, lora=LORA)) == lora | patch
    assert trainable(PatchConfig(base="tiny", channels={}, lora=LORA)) == lora
    assert trainable(PatchConfig(base="tiny", channels={"audio": AUDIO}, lora=None)) == patch


@torch.no_grad()
def test_channels_add_up(make_model: MakeModel, make_batch: MakeBatch) -> None:
    config = PatchConfig(
        base="tiny", channels={"audio": AUDIO, "dense": AUDIO}, lora=None, newline="no_token"
    )
    model = make_model(config)
    batch = make_batch()
    side = {"audio": batch["side"]["audio"], "dense": torch.randn(2, 9, 3, 6)}
    lengths = {"audio": batch["side_lengths"]["audio"], "dense": torch.tensor([9, 2])}
    tokens = model.video_tokens(batch["queries"], batch["visual"], side, lengths)
    updates = [model.patch[name](side[name], lengths[name], batch["queries"]) for name in ("audio", "dense")]
    torch.testing.assert_close(tokens, (batch["visual"] + sum(updates)).flatten(1, 2))


@torch.no_grad()
def test_the_patch_is_float32_on_any_base_and_under_autocast(
    make_base: MakeBase, make_model: MakeModel, make_batch: MakeBatch, patch_config: PatchConfig
) -> None:
    batch = make_batch()
    inputs = [batch[name] for name in ("queries", "visual", "side", "side_lengths")]
    exact = make_model()
    expected = exact.video_tokens(*inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(exact.video_tokens(*inputs), expected)

    half = PatchedVideoLLM(make_base().to(torch.bfloat16), patch_config).eval()
    half.patch.load_state_dict(exact.patch.state_dict())
    assert {p.dtype for p in half.patch.parameters()} == {torch.float32}
    tokens = half.video_tokens(*inputs)
    assert tokens.dtype == torch.bfloat16
    # The sum was rounded once, at the end; the newlines were rounded with the base.
    assert torch.equal(tokens, expected.to(torch.bfloat16))
    assert half(**batch).logits.isfinite().all()


@torch.no_grad()
def test_greedy_tokens_do_not_depend_on_batch_mates(make_model: MakeModel, make_batch: MakeBatch) -> None:
    model = make_model()
    batch = make_batch(text_lengths=(3, 9, 6), side_lengths=(7, 3, 12))
    settings = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None, "pad_token_id": PAD_ID}
    together = model.generate(**batch, **settings)
    assert together.shape == (3, 6)
    for i in range(3):
        assert torch.equal(model.generate(**sample_of(batch, i), **settings)[0], together[i])
    # The side channel reaches the answer: without it at least one sample answers differently.
    silent = {**batch, "side": {"audio": torch.zeros_like(batch["side"]["audio"])}}
    assert not torch.equal(model.generate(**silent, **settings), together)


@torch.no_grad()
@pytest.mark.parametrize("padding", ["left", "right"])
def test_logits_do_not_depend_on_padding_or_batch_mates(
    make_model: MakeModel, make_batch: MakeBatch, padding: str
) -> None:
    model = make_model()
    left = make_batch(padding="left")
    batch = make_batch(padding=padding)
    logits = model(**batch).logits
    for i in range(2):
        alone = model(**sample_of(left, i)).logits[0]
        torch.testing.assert_close(logits[i][batch["attention_mask"][i].bool()], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("channels", [{"audio": AUDIO}, {}])
def test_activation_checkpointing_changes_no_gradient(
    make_model: MakeModel, make_batch: MakeBatch, channels: dict[str, Any]
) -> None:
    model = make_model(PatchConfig(base="tiny", channels=channels, lora=LORA)).train()
    batch = make_batch()
    if not channels:
        batch |= {"side": {}, "side_lengths": {}}

    def gradients() -> dict[str, Tensor]:
        model.zero_grad()
        model(**batch, labels=labels_of(batch)).loss.backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    plain = gradients()
    assert set(plain) == {name for name, p in model.named_parameters() if p.requires_grad}
    assert all(gradient.any() for gradient in plain.values())
    model.activation_checkpointing_enable()
    recomputed = gradients()
    assert set(recomputed) == set(plain)
    for name, gradient in plain.items():
        torch.testing.assert_close(recomputed[name], gradient)


def test_the_trainer_trains_the_patch_and_nothing_else(
    make_model: MakeModel, make_batch: MakeBatch, tmp_path: Any
) -> None:
    model = make_model(trained=False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    batch = make_batch(padding="right")
    batch["labels"] = labels_of(batch)

    def collate(indices: list[int]) -> dict[str, Any]:
        rows = torch.tensor(indices)
        side = {"side": {"audio": batch["side"]["audio"][rows]}}
        lengths = {"side_lengths": {"audio": batch["side_lengths"]["audio"][rows]}}
        return {k: v[rows] for k, v in batch.items() if isinstance(v, Tensor)} | side | lengths

    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        use_cpu=True,
        max_steps=8,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=2,
        learning_rate=3e-2,
        logging_steps=1,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        seed=1,
        dataloader_pin_memory=False,
    )
    trainer = Trainer(model, arguments, train_dataset=[0, 1], data_collator=collate)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    # The first optimizer step covers both samples: its loss is the mean over all their labels together.
    expected = make_model(trained=False)(**batch).loss
    assert losses[0] == pytest.approx(expected.item(), abs=1e-4)
    assert losses[-1] < losses[0] - 0.1
    assert trainer.evaluate([0, 1])["eval_loss"] < losses[0]
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    after = model.state_dict()
    assert {name for name in before if not torch.equal(before[name], after[name])} == trainable


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"side": {}}, r"side has channels \[\]"),
        ({"side_lengths": {"audio": torch.ones(2), "exo": torch.ones(2)}}, r"\['audio', 'exo'\]"),
        ({"side_lengths": {"audio": torch.tensor([7, 0])}}, "channel 'audio': sample 1 of the batch has 0"),
        ({"visual": torch.zeros(2, NUM_FRAMES, 4, 15)}, r"visual tokens as \(B, F, S, 16\)"),
        ({"visual": torch.zeros(1, NUM_FRAMES, 4, 16)}, "pass both tensors of the same key frames"),
    ],
)
def test_inputs_that_do_not_fit_are_named(
    make_model: MakeModel, make_batch: MakeBatch, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(PatchInputError, match=message):
        make_model()(**{**make_batch(), **change})


def test_missing_placeholders_and_right_padded_prompts_are_refused(
    make_model: MakeModel, make_batch: MakeBatch
) -> None:
    model = make_model()
    assert model.num_video_tokens(NUM_FRAMES, 4) == 24
    batch = make_batch()
    batch["input_ids"][1, 10] = 2
    with pytest.raises(PatchInputError, match="sample 1 of the batch has 23 video placeholder ids for 24"):
        model(**batch)
    with pytest.raises(PatchInputError, match="pad prompts on the left"):
        model.generate(**make_batch(padding="right"))


def test_a_base_is_patched_once(make_base: MakeBase, patch_config: PatchConfig) -> None:
    base = make_base()
    PatchedVideoLLM(base, patch_config)
    with pytest.raises(BaseMismatchError, match="already wrapped by LoRA"):
        PatchedVideoLLM(base, patch_config)
