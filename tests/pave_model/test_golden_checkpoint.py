"""The whole patched model against the original release: base, patch and LoRA of tiny checkpoints, imported."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from released_case import CASES, CHANNEL, PLACEHOLDER, ReleasedCase
from tiny_patch import golden_folder
from torch import Tensor
from torch.testing import assert_close

from pave_model.patched_model import PatchedVideoLLM
from pipelines.cli import pave

pytestmark = pytest.mark.golden


@dataclass(frozen=True)
class Forward:
    """The release's inputs in our layout: one placeholder id per video token, sides (B, T, S_k, C_s)."""

    case: ReleasedCase
    model: PatchedVideoLLM
    queries: Tensor
    visual: Tensor
    side: Tensor

    @property
    def tensors(self) -> dict[str, Tensor]:
        return self.case.tensors

    @property
    def num_tokens(self) -> int:
        return self.model.num_video_tokens(*self.queries.shape[1:3])

    def inputs(self, rows: slice) -> dict[str, Tensor | dict[str, Tensor]]:
        return {
            "queries": self.queries[rows],
            "visual": self.visual[rows],
            "side": {CHANNEL: self.side[rows]},
            "side_lengths": {CHANNEL: self.tensors["input.frame_num"][rows]},
        }

    def expand(self, ids: Tensor, values: Tensor, filler: int) -> Tensor:
        """Put `filler`, once per video token, where `ids` (L,) has the release's placeholder."""
        position = int((ids == PLACEHOLDER).nonzero())
        video = torch.full((self.num_tokens,), filler)
        return torch.cat([values[:position], video, values[position + 1 :]])

    def training_row(self, sample: int) -> tuple[Tensor, Tensor]:
        """Unpadded ids and labels of a training example, the video expanded."""
        kept = self.tensors["input.attention_mask"][sample].bool()
        ids, labels = (self.tensors[f"input.{name}"][sample][kept] for name in ("input_ids", "labels"))
        return self.expand(ids, ids, self.model.config.video_token_id), self.expand(ids, labels, -100)

    def text_start(self, sample: int) -> int:
        """Position of the first token after the video."""
        ids, _ = self.training_row(sample)
        return int((ids == self.model.config.video_token_id).nonzero().max()) + 1

    def check(self, name: str, found: Tensor) -> None:
        """Compare with an intermediate tensor, which some copies of the cases leave out."""
        if name in self.tensors:
            assert_close(found, self.tensors[name], rtol=1e-5, atol=1e-5, msg=lambda text: f"{name}: {text}")


def import_case(case: ReleasedCase, out: Path) -> None:
    """`pave import-checkpoint`, as a user calls it."""
    options = {"--base": case.base_folder, "--channel": CHANNEL, "--heads": case.num_heads, "--out": out}
    arguments = [
        "import-checkpoint",
        str(case.folder / "checkpoint"),
        "--rotary" if case.rotary else "--no-rotary",
        *(str(part) for option in options.items() for part in option),
    ]
    result = CliRunner().invoke(pave, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output


@torch.no_grad()
def build_forward(case: ReleasedCase, model: PatchedVideoLLM) -> Forward:
    base = model.base
    frames = (case.tensors["input.pixel_u8"] / 255 - 0.5) / 0.5  # (B, F, 3, H, W)
    scale = base.config.vision_config.image_size // frames.shape[-1]
    frames = frames.repeat_interleave(scale, -1).repeat_interleave(scale, -2)
    vision = base.model.vision_tower(frames.flatten(0, 1), output_hidden_states=True).hidden_states[-1]
    pool, projector = base.model.apply_pooling, base.model.multi_modal_projector
    return Forward(
        case=case,
        model=model,
        queries=pool(vision).unflatten(0, frames.shape[:2]),
        visual=pool(projector(vision)).unflatten(0, frames.shape[:2]),
        side=case.tensors["input.side"].permute(0, 2, 3, 4, 1).flatten(2, 3),
    )


@pytest.fixture(scope="module", params=CASES, ids=lambda folder: folder.name)
def released(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Forward:
    case = ReleasedCase.read(request.param)
    folder = tmp_path_factory.mktemp("imported") / "patch"
    import_case(case, folder)
    return build_forward(case, PatchedVideoLLM.from_pretrained(folder, case.load_base()))


def test_there_are_golden_cases() -> None:
    assert CASES, f"no checkpoint_case* in {golden_folder()}"


@torch.no_grad()
def test_queries_and_patch_output(released: Forward) -> None:
    released.check("expected.query", released.queries)
    released.check("expected.pooled_projected.sample0", released.visual[0])
    fusion = released.model.patch[CHANNEL]
    packed = fusion.pack(released.side, released.tensors["input.frame_num"], released.queries)
    output = fusion(released.queries, packed)
    released.check("expected.patch_output", output.flatten(1, 2))


@torch.no_grad()
def test_embeddings_logits_and_loss(released: Forward) -> None:
    tensors = released.tensors
    rows = [released.training_row(sample) for sample in range(len(tensors["input.input_ids"]))]
    length = max(len(ids) for ids, _ in rows)
    input_ids = torch.zeros(len(rows), length, dtype=torch.int64)
    labels, attention_mask = torch.full_like(input_ids, -100), torch.zeros_like(input_ids)
    for sample, (ids, targets) in enumerate(rows):
        input_ids[sample, : len(ids)] = ids
        labels[sample, : len(ids)] = targets
        attention_mask[sample, : len(ids)] = 1
    released.check("expected.labels", labels)
    if "expected.attention_mask" in tensors:
        assert torch.equal(attention_mask, tensors["expected.attention_mask"].long())

    inputs = released.inputs(slice(None))
    output = released.model(input_ids, attention_mask, **inputs, labels=labels)
    assert_close(output.loss, tensors["expected.loss"].squeeze(), rtol=1e-5, atol=1e-5)
    video = released.model.video_tokens(**inputs)
    for sample, (ids, _) in enumerate(rows):
        start = released.text_start(sample)
        if "expected.inputs_embeds" in tensors:
            embeds = tensors["expected.inputs_embeds"][sample, start - released.num_tokens : start]
            assert_close(video[sample], embeds, rtol=1e-5, atol=1e-5)
        logits = output.logits[sample, start : len(ids)]
        expected = tensors["expected.logits_after_video"][sample]
        assert_close(logits[:, : expected.shape[1]], expected[: len(logits)], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_greedy_tokens(released: Forward) -> None:
    names = released.case.names("expected.greedy_tokens.sample")
    assert names
    for name in names:
        sample = int(name.rpartition("sample")[2])
        prompt = released.tensors[f"input.eval_prompt_ids.sample{sample}"]
        ids = released.expand(prompt, prompt, released.model.config.video_token_id)[None]
        tokens = released.model.generate(
            ids,
            torch.ones_like(ids),
            **released.inputs(slice(sample, sample + 1)),
            max_new_tokens=len(released.tensors[name]),
            do_sample=False,
        )
        assert torch.equal(tokens[0], released.tensors[name])


@torch.no_grad()
def test_a_fresh_patch_is_the_released_base(released: Forward) -> None:
    fresh = PatchedVideoLLM(released.case.load_base(), released.model.patch_config).eval()
    forward = build_forward(released.case, fresh)
    names = released.case.names("expected.base_only.logits_after_video.sample")
    assert names
    for name in names:
        sample = int(name.rpartition("sample")[2])
        ids, _ = forward.training_row(sample)
        output = fresh(ids[None], torch.ones(1, len(ids)), **forward.inputs(slice(sample, sample + 1)))
        logits = output.logits[0, forward.text_start(sample) :]
        expected = released.tensors[name]
        assert_close(logits[:, : expected.shape[1]], expected, rtol=1e-5, atol=1e-5)
