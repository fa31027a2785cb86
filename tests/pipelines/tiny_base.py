"""A base of one layer with random weights and the demo's tokenizer, in the transformers layout."""

from pathlib import Path

from pave_model.small_base import SmallBaseConfig, build_small_base
from pipelines.sidecue_base import SPECIAL_TOKENS, build_tokenizer

TOKENS, VISION, WIDTH = 4, 16, 32  # of a key frame, and the widths of vision tower and language model


def write_tiny_base(path: Path) -> Path:
    """Write the base into a folder."""
    tokenizer = build_tokenizer()
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS}
    config = SmallBaseConfig(
        vision_hidden_size=VISION,
        vision_intermediate_size=16,
        vision_num_layers=1,
        vision_num_heads=2,
        image_size=32,
        hidden_size=WIDTH,
        intermediate_size=32,
        num_layers=1,
        num_heads=2,
        num_kv_heads=1,
        vocab_size=len(tokenizer),
        image_token_id=ids["<image>"],
        video_token_id=ids["<video>"],
        eos_token_id=ids["<|im_end|>"],
        pad_token_id=ids["<|endoftext|>"],
    )
    build_small_base(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path
