"""Which option a reply to a multiple-choice question names: the published rules, and one corrected rule.

The published rules differ by benchmark and misread some replies: VideoMME takes the first capital, so `Answer: C`
reads A; MVBench takes the article `a` for option A; MLVU takes `B.` for no letter. They are kept as they are.
``named_letter`` is the corrected rule for all of them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

# Two pairs of phrases stand glued together, as in the published list, and so hardly ever fit.
_VIDEOMME_PHRASES = (
    "The best answer is",
    "The correct answer is",
    "The answer is",
    "The answer",
    "The best option isThe correct option is",
    "Best answer:Best option:",
)
_MVBENCH_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_MVBENCH_MAX_DOTS = 32  # a regex flag stood where the count belongs, and its number is 32
_MVBENCH_LETTER_AND_TEXT = re.compile(r"([a-e])\.\s*.+", re.IGNORECASE)
_SENTENCE_START = re.compile(r"(?:^|[.!?]\s|\n)\W*$")
_ARTICLE = re.compile(r"\s+(?!(?:is|are|and|or|because|since|seems|as)\b)[a-z]")


def videomme_letter(reply: str) -> str:
    """VideoMME: the first capital A to D after some phrases are removed; empty where there is none."""
    text = reply.strip()
    for phrase in _VIDEOMME_PHRASES:
        text = text.replace(phrase, "")
    found = re.search("[ABCD]", text)
    return "" if found is None else found[0]


def mlvu_choice(reply: str) -> str:
    """MLVU: the character before the first closing bracket, or else the whole reply; a letter where it is right."""
    text = reply.strip()
    before, bracket, _ = text.partition(")")
    return before[-1:] if bracket else text


def mvbench_letter(reply: str) -> str:
    """MVBench: the first stand-alone letter a to e, in upper case; empty where there is none."""
    text = reply.strip()
    found = _MVBENCH_LETTER_AND_TEXT.fullmatch(text)
    if found is None:
        text = _mvbench_without_punctuation(text.replace("\n", " ").replace("\t", " ").strip())
        for mark in "'\")(":
            text = text.strip(mark)
        found = re.search(r"\b([a-e])\b", text, re.IGNORECASE)
    return "" if found is None else found[1].upper()


def _mvbench_without_punctuation(text: str) -> str:
    """Each mark becomes a space, or nothing where the text has it beside a space or has a comma in a number."""
    original = text
    number_with_comma = re.search(r"\d,\d", original) is not None
    for mark in _MVBENCH_PUNCTUATION:
        beside_space = f"{mark} " in original or f" {mark}" in original
        text = text.replace(mark, "" if beside_space or number_with_comma else " ")
    return re.sub(r"\.(?!\d)", "", text, count=_MVBENCH_MAX_DOTS)


def named_letter(reply: str, letters: str, options: Sequence[str] = ()) -> str | None:
    """The one option that a reply names, in upper case; None where it names none, or several.

    A letter counts alone, in any case; in front of a dot, colon or closing bracket at the beginning; in brackets;
    after `answer`, `option`, `choice`, a colon or `=` at the end; and as a stand-alone capital that is not the
    article A. A reply without a letter that is the text of an option names that option.
    """
    text = reply.strip()
    either = f"[{letters}{letters.lower()}]"
    leading = re.match(rf"\W*({either})\s*[.:)\]](?!\w)", text)
    if leading is not None:
        listed = re.findall(rf"(?<!\w)({either})(?:[)\]]|[.:]\s+\S)", text[leading.end() :])
        named = {leading[1], *listed}
    elif (alone := re.fullmatch(rf"[\W_]*({either})[\W_]*", text)) is not None:
        named = {alone[1]}
    else:
        named = {
            *re.findall(rf"(?<!\w)({either})[)\]]", text),
            *re.findall(rf"(?:(?i:\b(?:answer|option|choice)(?:\s+is)?)\s+|[:=]\s*)({either})\W*$", text),
            *_capitals(text, letters),
        }
    named = {letter.upper() for letter in named}
    if named:
        return named.pop() if len(named) == 1 else None
    texts = [_plain(option) for option in options]
    return letters[texts.index(_plain(text))] if _plain(text) in texts else None


def _capitals(text: str, letters: str) -> set[str]:
    """Stand-alone capitals, but for the article A and the last letter of an abbreviation."""
    return {
        found[0]
        for found in re.finditer(rf"(?<!\w)(?<!\w\.)[{letters}](?!\w|'\w)", text)
        if not (
            found[0] == "A"
            and _ARTICLE.match(text, found.end())
            and _SENTENCE_START.search(text[: found.start()])
        )
    }


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))
