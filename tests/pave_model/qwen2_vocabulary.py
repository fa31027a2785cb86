"""The tokenizer of Qwen2, built from the vocabulary file in the wheel of `dashscope`, which is never imported."""

from base64 import b64decode
from importlib.metadata import distribution
from pathlib import Path

from transformers import Qwen2Tokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode


def build_qwen2_tokenizer() -> Qwen2Tokenizer:
    """Qwen2's ids 0 to 151642 from the file, then its three markers. Takes about a second."""
    file = Path(str(distribution("dashscope").locate_file("dashscope/resources/qwen.tiktoken")))
    lines = (line.split() for line in file.read_bytes().splitlines())
    rank_of = {b64decode(token): int(rank) for token, rank in lines}
    symbols = bytes_to_unicode()
    text_of = {token: "".join(symbols[byte] for byte in token) for token in rank_of}
    # The file ranks tokens by when they were merged: every way to split one in two is a merge of that rank.
    merges = [
        (text_of[token[:cut]], text_of[token[cut:]])
        for token in sorted(rank_of, key=rank_of.__getitem__)
        for cut in range(1, len(token))
        if token[:cut] in rank_of and token[cut:] in rank_of
    ]
    tokenizer = Qwen2Tokenizer({text_of[token]: rank for token, rank in rank_of.items()}, merges)
    tokenizer.add_tokens(["<|im_start|>", "<|im_end|>"], special_tokens=True)
    return tokenizer
