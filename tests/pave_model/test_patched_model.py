"""The patched model: identity at the start, what is trainable, batches, dtypes, training, and its errors."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_patch import AUDIO, NUM_FRAMES, PAD_ID, disturb, labels_of
from torch import Tensor
from transformers import LlavaOnevisionForConditionalGeneration, Trainer, TrainingArguments
from transformers.modeling_outputs import BaseModelOutputWithPooling

from pave_model.config import LoraSettings, PatchConfig, PatchExecution
from pave_model.errors import BaseMismatchError, CheckpointError, PatchInputError
from pave_model.patched_model import COMPILE_SETTINGS, PatchedVideoLLM
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
    tokens = model.video_tokens(
        queries=batch["queries"], visual=batch["visual"], side=side, side_lengths=lengths
    )
    updates = [
        fusion(batch["queries"], fusion.pack(side[name], lengths[name], batch["queries"]))
        for name, fusion in model.patch.items()
    ]
    torch.testing.assert_close(tokens, (batch["visual"] + sum(updates)).flatten(1, 2))


@torch.no_grad()
def test_samples_without_a_channel_keep_their_tokens(make_model: MakeModel, make_batch: MakeBatch) -> None:
    config = PatchConfig(base="tiny", channels={"audio": AUDIO, "dense": AUDIO}, lora=LORA)
    model = make_model(config)
    batch = make_batch(side_lengths=(7, 3, 5), text_lengths=(5, 9, 6))
    both = {
        "side": {**batch["side"], "dense": torch.randn(3, 4, 2, 6)},
        "side_lengths": {**batch["side_lengths"], "dense": torch.tensor([4, 2, 0])},
        "side_present": {"dense": torch.tensor([True, True, False])},
    }
    both["side"]["dense"][2] = torch.nan  # never read
    both["side_present"]["audio"] = torch.tensor([True, False, True])
    key_frames = {name: batch[name] for name in ("queries", "visual")}
    tokens = model.video_tokens(**key_frames, **both)
    for row, names in enumerate([("audio", "dense"), ("dense",), ("audio",)]):
        one = slice(row, row + 1)
        alone = model.video_tokens(
            **{name: tensor[one] for name, tensor in key_frames.items()},
            side={name: both["side"][name][one] for name in names},
            side_lengths={name: both["side_lengths"][name][one] for name in names},
        )
        torch.testing.assert_close(tokens[one], alone)
    # Nobody has a channel: marked so, or left out. Then the base's tokens stay as they are.
    plain = model.video_tokens(**key_frames)
    absent = {name: torch.zeros(3, dtype=torch.bool) for name in ("audio", "dense")}
    assert torch.equal(model.video_tokens(**key_frames, **{**both, "side_present": absent}), plain)
    assert torch.equal(plain, place_newlines(batch["visual"], model.base.model.image_newline, "grid"))


@torch.no_grad()
def test_pixels_and_cached_tokens_give_the_same_logits(make_model: MakeModel, make_batch: MakeBatch) -> None:
    model = make_model()
    batch = make_batch()
    pixels = torch.randn(2, NUM_FRAMES, 3, 16, 16)
    queries, visual = model.family.key_frame_tokens(model.base, pixels)
    assert (queries.shape, visual.shape) == ((2, NUM_FRAMES, 4, 8), (2, NUM_FRAMES, 4, 16))
    cached = model(**{**batch, "queries": queries, "visual": visual}).logits
    inputs = {name: value for name, value in batch.items() if name not in ("queries", "visual")}
    torch.testing.assert_close(model(**inputs, pixels=pixels).logits, cached, rtol=0, atol=1e-4)
    # They are the tokens that the class itself makes, newlines aside.
    theirs = model.base.model.get_video_features(
        pixels, vision_feature_layer=-1, vision_feature_select_strategy="full", output_hidden_states=True
    )
    torch.testing.assert_close(visual.flatten(1, 2), theirs.pooler_output[:, :-1])
    with pytest.raises(PatchInputError, match=r"the base takes \(B, F, 3, 16, 16\)"):
        model(**inputs, pixels=pixels[..., :12])


@torch.no_grad()
def test_the_patch_is_float32_on_any_base_and_under_autocast(
    make_base: MakeBase, make_model: MakeModel, make_batch: MakeBatch, patch_config: PatchConfig
) -> None:
    batch = make_batch()
    inputs = {name: batch[name] for name in ("queries", "visual", "side", "side_lengths")}
    exact = make_model()
    expected = exact.video_tokens(**inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(exact.video_tokens(**inputs), expected)

    half = PatchedVideoLLM(make_base().to(torch.bfloat16), patch_config).eval()
    half.patch.load_state_dict(exact.patch.state_dict())
    assert {p.dtype for p in half.patch.parameters()} == {torch.float32}
    tokens = half.video_tokens(**inputs)
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


@pytest.mark.parametrize("padding", ["left", "right"])
def test_the_loss_alone_has_the_same_value_and_gradients(
    make_model: MakeModel, make_batch: MakeBatch, padding: str
) -> None:
    model = make_model()
    batch = make_batch(padding=padding)
    labels = labels_of(batch)
    labels[0, -3] = -100  # labels need not be in one piece
    found = {}
    for loss_alone in (False, True):
        model.zero_grad()
        output = model(**batch, labels=labels, loss_alone=loss_alone)
        output.loss.backward()
        found[loss_alone] = {
            name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None
        }
        found[loss_alone]["loss"] = output.loss.detach()
    assert output.logits.shape[0] == (labels[:, 1:] != -100).sum()
    assert set(found[True]) == set(found[False])
    for name, expected in found[False].items():
        torch.testing.assert_close(found[True][name], expected, rtol=1e-5, atol=1e-6)


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


NAMES = {"sample_ids": ["first.mp4", "second.mp4"]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"side": {}}, r"side has channels \[\] and side_lengths \['audio'\]"),
        ({"side": {"exo": torch.ones(2, 3, 1, 6)}}, r"has channels \['audio'\], not \['exo'\]"),
        ({"side_lengths": {"audio": torch.tensor([7, 0])}}, "channel 'audio': sample 1 of the batch has 0"),
        (
            {"side_lengths": {"audio": torch.tensor([7, 0])}, **NAMES},
            "channel 'audio': sample 'second.mp4' has 0",
        ),
        (
            {"side": {"audio": torch.full((2, 7, 1, 6), torch.nan)}, **NAMES},
            "'audio': sample 'first.mp4' has side",
        ),
        ({"side": {"audio": torch.zeros(2, 7, 1, 9)}}, r"channel 'audio': side features .* \(2, 7, 1, 9\)"),
        ({"side_present": {"audio": torch.tensor([True])}}, r"'audio': side_present has shape \(1,\) for 2"),
        (
            {"queries": torch.full((2, NUM_FRAMES, 4, 8), torch.inf), **NAMES},
            "'first.mp4' has queries of key frames",
        ),
        (
            {"visual": torch.full((2, NUM_FRAMES, 4, 16), torch.nan)},
            "sample 0 .* has visual tokens of key frames",
        ),
        ({"visual": torch.zeros(2, NUM_FRAMES, 4, 15)}, r"visual tokens as \(B, F, S, 16\)"),
        ({"visual": torch.zeros(1, NUM_FRAMES, 4, 16)}, "pass both tensors of the same key frames"),
        (
            {"pixels": torch.zeros(2, NUM_FRAMES, 3, 16, 16)},
            "either as pixels, or as both queries and visual",
        ),
        ({"frames": torch.zeros(1)}, r"unknown inputs \['frames'\]"),
    ],
)
def test_inputs_that_do_not_fit_are_named(
    make_model: MakeModel, make_batch: MakeBatch, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(PatchInputError, match=message):
        make_model()(**{**make_batch(), **change})


def test_texts_need_one_whole_video(make_model: MakeModel, make_batch: MakeBatch) -> None:
    model = make_model()
    assert model.num_video_tokens(NUM_FRAMES, 4) == 24
    refused = {
        "sample 'second.mp4' has no video placeholder in its text": slice(1, 25),
        "sample 'second.mp4' has 2 video placeholders in its text": slice(10, 11),
        "sample 'second.mp4' has 23 video placeholder ids for 24 video tokens": slice(24, 25),
    }
    for message, positions in refused.items():
        batch = make_batch()
        batch["input_ids"][1, positions] = 2
        for call in (model, model.generate):
            with pytest.raises(PatchInputError, match=message):
                call(**batch, **NAMES)
    with pytest.raises(PatchInputError, match="pad prompts on the left"):
        model.generate(**make_batch(padding="right"))


def test_a_text_longer_than_the_base_knows_is_refused(make_model: MakeModel, make_batch: MakeBatch) -> None:
    model = make_model()
    model.config.text_config.max_position_embeddings = 33
    model(**make_batch(text_lengths=(5, 8)))
    with pytest.raises(PatchInputError, match=r"sample 'second.mp4' has 34 tokens, but the base knows 33"):
        model(**make_batch(text_lengths=(5, 9)), **NAMES)


def test_a_base_is_patched_once(make_base: MakeBase, patch_config: PatchConfig) -> None:
    base = make_base()
    PatchedVideoLLM(base, patch_config)
    with pytest.raises(BaseMismatchError, match="already wrapped by LoRA"):
        PatchedVideoLLM(base, patch_config)


@torch.no_grad()
def test_merged_lora_gives_the_same_answers(
    make_model: MakeModel, make_batch: MakeBatch, tmp_path: Path
) -> None:
    model, batch = make_model(), make_batch()
    expected = model(**batch).logits
    model.merge_lora()
    assert not any("lora" in name for name, _ in model.named_parameters())
    torch.testing.assert_close(model(**batch).logits, expected, rtol=1e-5, atol=1e-5)
    for refused in (model.save_pretrained, model.load_patch):
        with pytest.raises(CheckpointError, match="LoRA was merged"):
            refused(tmp_path / "patch")


@torch.no_grad()
def test_patches_are_swapped_on_one_base(
    make_model: MakeModel, make_base: MakeBase, make_batch: MakeBatch, tmp_path: Path
) -> None:
    first = make_model()
    second = make_model(PatchConfig(base="tiny", channels={"audio": AUDIO}, lora=None))
    first.save_pretrained(tmp_path / "first")
    second.save_pretrained(tmp_path / "second")
    batch = make_batch()
    expected = {"first": first(**batch).logits, "second": second(**batch).logits}
    model = PatchedVideoLLM.from_pretrained(tmp_path / "first", make_base())
    base = model.base
    for name in ("second", "first", "second"):
        model.load_patch(tmp_path / name)
        assert model.base is base
        assert torch.equal(model(**batch).logits, expected[name])
        assert not model.training
    # A damaged or foreign patch changes nothing.
    path = tmp_path / "first/patch.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="cannot read"):
        model.load_patch(tmp_path / "first")
    first.save_pretrained(tmp_path / "third")
    shorter = tmp_path / "third/config.json"
    shorter.write_text(shorter.read_text().replace('"num_layers": 2', '"num_layers": 1'))
    with pytest.raises(CheckpointError, match=r"does not fit its config.json"):
        model.load_patch(tmp_path / "third")
    assert torch.equal(model(**batch).logits, expected["second"])


@torch.no_grad()
@pytest.mark.parametrize("attention", ["sdpa", "folded"])
def test_the_patch_may_be_computed_in_mixed_precision(
    make_base: MakeBase, make_model: MakeModel, make_batch: MakeBatch, attention: str
) -> None:
    exact = make_model()
    execution = PatchExecution(attention=attention, dtype="bfloat16")  # type: ignore[arg-type]
    mixed = PatchedVideoLLM(make_base(), exact.patch_config, execution).eval()
    mixed.patch.load_state_dict(exact.patch.state_dict())
    assert {p.dtype for p in mixed.patch.parameters()} == {torch.float32}
    batch = make_batch()
    inputs = {name: batch[name] for name in ("queries", "visual", "side", "side_lengths")}
    found, expected = mixed.video_tokens(**inputs), exact.video_tokens(**inputs)
    assert found.dtype == torch.float32
    assert not torch.equal(found, expected)
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.1)


@pytest.mark.slow
def test_the_patch_compiles_inside_the_model(make_base: MakeBase, make_batch: MakeBatch) -> None:
    config = PatchConfig(base="tiny", channels={"audio": AUDIO}, lora=None)
    torch.manual_seed(0)
    model = PatchedVideoLLM(make_base(), config)
    disturb(model)
    batch = make_batch()
    expected = model(**batch).logits
    names = list(model.state_dict())
    for fusion in model.patch.values():
        fusion.compile(**COMPILE_SETTINGS, backend="aot_eager")
    assert list(model.state_dict()) == names
    torch.testing.assert_close(model(**batch).logits, expected)
