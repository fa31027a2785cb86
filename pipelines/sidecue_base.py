"""The small base of the demo: a LLaVA-OneVision of a few hundred thousand weights, trained on SideCue's video.

It learns only from video-only questions; sound never reaches it. The result is a folder in the transformers
layout, which every other part of PAVE loads as it would load a published base.

Shapes: B clips, Q questions of a clip, F key frames, S tokens of a key frame, D width of the LLM, L positions.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import LlavaOnevisionForConditionalGeneration, PreTrainedTokenizerFast
from transformers.modeling_outputs import BaseModelOutputWithPooling

from extractors.key_frames import read_key_frames
from extractors.key_pictures import decode_key_pictures
from extractors.pictures import normalise_pixels, resize_picture
from pave_model.chat_text import PLACEHOLDER, SYSTEM_PROMPT, TURN_END, TURN_START, training_example
from pave_model.config import NewlinePosition
from pave_model.sequence_assembly import labelled_logits, pad_batch
from pave_model.small_base import SmallBaseConfig, build_small_base
from pave_model.video_tokens import num_video_tokens, place_newlines
from pipelines.base_model import hide_weight_bars
from pipelines.config import Settings
from pipelines.progress import Progress, ProgressFactory, silent
from tasks.instruction import Instruction
from tasks.sidecue import QUESTIONS

PAD = "<|endoftext|>"
VIDEO = "<video>"
# Takes a third more tokens than "one_token", but what belongs to one frame is learned sooner, by base and patch.
NEWLINE: NewlinePosition = "grid"
# Of the first weights of the LLM's head, for a narrow one: with the published deviation of 0.02 it learns half as fast.
HEAD_GAIN = 8.0
SPECIAL_TOKENS = [PAD, TURN_START, TURN_END, PLACEHOLDER, VIDEO]


class BaseTraining(Settings):
    """How the small base is built and trained. The defaults take less than a minute on two CPU cores."""

    num_frames: int = 10
    image_size: int = 48
    patch_size: int = 12
    vision_width: int = 64
    width: int = 128
    layers: int = 2
    steps: int = 240
    clips_per_step: int = 16
    questions_per_clip: int = 2
    learning_rate: float = 1.5e-3
    seed: int = 0


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer, trained on SideCue's questions; its chat markers are those of Qwen2."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    texts = [
        SYSTEM_PROMPT,
        "system\nuser\nassistant\n",
        *(text for question in QUESTIONS.values() for text in question.wordings),
    ]
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        min_frequency=1,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, eos_token=TURN_END)


def train_base(
    clips: dict[str, tuple[str, Path]],
    instructions: Sequence[Instruction],
    out: Path,
    config: BaseTraining,
    progress: ProgressFactory = silent,
) -> None:
    """Train the base on the video-only questions of `clips` and save it to `out`.

    `clips` has a sample's pictures by its id: the role and path of its video or scene.

    Raises MediaError when a clip cannot be read.
    """
    questions = defaultdict(list)
    for item in instructions:
        if not QUESTIONS[item.question_type].channels:
            questions[item.sample_id].append(item)
    sample_ids = sorted(questions)
    pixels = _read_pixels([clips[sample_id] for sample_id in sample_ids], sample_ids, config, progress)
    tokenizer = build_tokenizer()
    base = build_small_base(_model_config(tokenizer, config))
    base.lm_head.weight.data *= HEAD_GAIN
    torch.set_flush_denormal(True)  # before the first threads, which inherit it
    with progress("train base") as stage:
        _fit(base, tokenizer, pixels, [questions[sample_id] for sample_id in sample_ids], config, stage)
    temporary = out.with_name(f".{out.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    hide_weight_bars()
    base.save_pretrained(temporary)
    tokenizer.save_pretrained(temporary)
    os.replace(temporary, out)


def _model_config(tokenizer: PreTrainedTokenizerFast, config: BaseTraining) -> SmallBaseConfig:
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS}
    return SmallBaseConfig(
        vision_hidden_size=config.vision_width,
        vision_intermediate_size=2 * config.vision_width,
        image_size=config.image_size,
        patch_size=config.patch_size,
        hidden_size=config.width,
        intermediate_size=2 * config.width,
        num_layers=config.layers,
        num_kv_heads=4,
        vocab_size=len(tokenizer),
        image_token_id=ids[PLACEHOLDER],
        video_token_id=ids[VIDEO],
        eos_token_id=ids[TURN_END],
        pad_token_id=ids[PAD],
        seed=config.seed,
    )


def _read_pixels(
    clips: Sequence[tuple[str, Path]],
    sample_ids: Sequence[str],
    config: BaseTraining,
    progress: ProgressFactory,
) -> NDArray[np.uint8]:
    """Key frames of every clip, resized: (clips, F, H, W, 3) uint8. Read once, then kept."""
    shape = (len(clips), config.num_frames, config.image_size, config.image_size, 3)
    pixels = np.empty(shape, dtype=np.uint8)
    read = partial(_read_clip, num_frames=config.num_frames, image_size=config.image_size)
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    with progress("read key frames") as stage, ProcessPoolExecutor(os.cpu_count(), context) as pool:
        for done, clip in enumerate(pool.map(read, clips, sample_ids, chunksize=16), start=1):
            pixels[done - 1] = clip
            stage.update(done, len(clips))
    return pixels


def _read_clip(clip: tuple[str, Path], sample_id: str, num_frames: int, image_size: int) -> NDArray[np.uint8]:
    """The key frames that the extractor `frames` takes of a video or scene, (F, H, W, 3) uint8."""
    role, path = clip
    resized = partial(resize_picture, image_size=image_size)
    if role == "video":
        return np.stack(read_key_frames(path, sample_id, num_frames, each=resized).frames)
    pictures = decode_key_pictures(role, path, sample_id, num_frames, "views", resized)
    return pictures.tensors["pixels"].astype(np.uint8, copy=False)


def _fit(
    base: LlavaOnevisionForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    pixels: NDArray[np.uint8],
    questions: Sequence[Sequence[Instruction]],
    config: BaseTraining,
    stage: Progress,
) -> None:
    """Train all weights with AdamW and a one-cycle learning rate; the loss is on the answers' turns."""
    tokens_per_frame = (config.image_size // config.patch_size // 2) ** 2
    count = num_video_tokens(config.num_frames, tokens_per_frame, NEWLINE)
    texts = [
        [
            training_example(
                tokenizer,
                [(item.question, item.answer)],
                base.config.video_token_id,
                count,
                item.sample_id,
            )
            for item in clip_questions
        ]
        for clip_questions in questions
    ]
    optimizer = torch.optim.AdamW(base.parameters(), lr=config.learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, total_steps=config.steps, pct_start=0.1
    )
    rng = np.random.default_rng(config.seed)
    base.train()
    for step in range(1, config.steps + 1):
        clips = rng.choice(len(texts), min(config.clips_per_step, len(texts)), replace=False)
        batch = [
            texts[clip][pick]
            for clip in clips
            for pick in rng.choice(len(texts[clip]), config.questions_per_clip, replace=False)
        ]
        # The vision tower runs once a clip, for all its questions.
        video = _video_tokens(base, pixels[clips]).repeat_interleave(config.questions_per_clip, dim=0)
        text = pad_batch(
            [torch.tensor(ids) for ids, _ in batch],
            [torch.tensor(labels) for _, labels in batch],
            base.config.text_config.pad_token_id,
        )
        assert text.labels is not None
        output = base(
            **text._asdict(),
            **labelled_logits(text.labels),
            mm_encoder_outputs={"video": BaseModelOutputWithPooling(pooler_output=video)},
            use_cache=False,
        )
        optimizer.zero_grad()
        output.loss.backward()
        torch.nn.utils.clip_grad_norm_(base.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        stage.update(step, config.steps, note=f"loss {output.loss.item():.3f}")
    base.eval()


def _video_tokens(base: LlavaOnevisionForConditionalGeneration, pixels: NDArray[np.uint8]) -> Tensor:
    """Visual tokens with their newline, (B, N, D), of key frames (B, F, H, W, 3) uint8."""
    num_clips, num_frames = pixels.shape[:2]
    frames = normalise_pixels(pixels.reshape(-1, *pixels.shape[2:]))  # (B F, 3, H, W)
    frames = frames.reshape(num_clips, num_frames, *frames.shape[1:])
    features = base.model.get_video_features(
        frames,
        vision_feature_layer=base.config.vision_feature_layer,
        vision_feature_select_strategy=base.config.vision_feature_select_strategy,
        output_hidden_states=True,
    )
    # The class ends its tokens with one newline; ours are placed as the patched model places them.
    tokens = features.pooler_output[:, :-1].unflatten(1, (num_frames, -1))  # (B, F, S, D)
    return place_newlines(tokens, base.model.image_newline, NEWLINE)
