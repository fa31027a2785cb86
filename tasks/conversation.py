"""Training conversations in the release's form, as questions and answers without the placeholder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from tasks.annotation_file import Entry, Place

_PLACEHOLDERS = ("<video>", "<image>")


class Message(Entry):
    role: Literal["human", "gpt"] = Field(alias="from")
    value: str


def conversation_turns(messages: Sequence[Message], place: Place) -> list[tuple[str, str]]:
    """(question, answer) of every turn; the place of the video is before the first question.

    A first message that is not the human's is dropped, as by the release. The first question loses its
    placeholders; where it holds more than the usual first line it is stripped as well, as by the release.

    Raises AnnotationError where human and gpt do not take turns, where the first question has no placeholder
    (the release would train on the text alone) and where another text has one (it would look for a second video).
    """
    kept = list(messages)[1:] if messages and messages[0].role != "human" else list(messages)
    if not kept or len(kept) % 2 or any(m.role != ("human", "gpt")[i % 2] for i, m in enumerate(kept)):
        raise place.error("conversations: human and gpt do not take turns")
    first, *others = [message.value for message in kept]
    if not _has_placeholder(first):
        raise place.error("conversations.0: it has no <image> for the video to stand at")
    texts = [_without_placeholders(first), *others]
    for index, text in enumerate(texts):
        if _has_placeholder(text):
            raise place.error(
                f"conversations.{index}: the video can stand only once, before the first question"
            )
    return list(zip(texts[::2], texts[1::2], strict=True))


def _has_placeholder(text: str) -> bool:
    return any(placeholder in text for placeholder in _PLACEHOLDERS)


def _without_placeholders(text: str) -> str:
    usual = text.removeprefix("<image>\n")
    if usual != text and not _has_placeholder(usual):
        return usual
    # The release removes <video> where there is one, and <image> only where there is none.
    placeholder = next(name for name in _PLACEHOLDERS if name in text)
    return text.replace(placeholder, "").strip()
