"""The answer cleaning of ScanQA and SQA3D, applied to replies and references alike before they are compared.

Kept as the published numbers have it: dots inside numbers go, ``TV`` is put into upper case after everything else
was put into lower case, ``none`` is zero, 21 and 22 stay digits, and the ends are not stripped again. Three
published rules for dots before several spaces, c-cedilla and curly apostrophes stood where they could never fire.
"""

from __future__ import annotations

import re

_NOT_KEPT = re.compile(r"[^a-zA-Z0-9,'\s\-:]+")
_MISSPELT = {
    "letf": "left",
    "let": "left",
    "tehre": "there",
    "rigth": "right",
    "brght": "right",
    "behine": "behind",
    "tv": "TV",
    "chai": "chair",
    "wasing": "washing",
    "waslked": "walked",
    "oclock": "o'clock",
}
_NUMBER_WORDS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
]
_NUMBERS = {str(number): word for number, word in enumerate(_NUMBER_WORDS)} | {
    "none": "zero",
    "23": "twenty-three",
}


def _whole_words(words: dict[str, str]) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{'|'.join(words)})\b")


_MISSPELT_WORDS = _whole_words(_MISSPELT)
_NUMBERS_TO_SPELL = _whole_words(_NUMBERS)
_ARTICLES = [re.compile(rf"\b{article}\b ([a-zA-Z]+)") for article in ("a", "an", "the")]


def clean_answer(text: str) -> str:
    """The cleaned form of a reply or reference."""
    text = re.sub(" {2,}", " ", text.lower().strip(" "))
    text = _NOT_KEPT.sub("", text)
    text = _MISSPELT_WORDS.sub(lambda found: _MISSPELT[found[0]], text)
    text = re.sub(r"\bo' +clock\b", "o'clock", text)
    text = _NUMBERS_TO_SPELL.sub(lambda found: _NUMBERS[found[0]], text)
    text = re.sub(r"\b([a-zA-Z]+)[0-9]\b", r"\1", text)
    for article in _ARTICLES:  # one pass each: of "the the door" one article stays
        text = article.sub(r"\1", text)
    return re.sub(r"\bbackwards\b", "backward", text)
