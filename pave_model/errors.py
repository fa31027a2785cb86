"""Errors of this package. Each message is one line that names the thing at fault and the remedy."""

from collections.abc import Sequence


class PaveModelError(Exception):
    """Base of every error that this package raises on purpose."""


class PatchInputError(PaveModelError):
    """Tensors given to a fusion module or to the patched model do not fit it or each other."""


class PromptError(PaveModelError):
    """A dialog cannot be turned into token ids, or its ids into a batch."""


class CheckpointError(PaveModelError):
    """A patch folder cannot be written, or what it holds is not a complete patch."""


class BaseMismatchError(CheckpointError):
    """A patch was trained on another base model than the one given."""


def sample_name(index: int, sample_ids: Sequence[str] | None) -> str:
    """How a message names a sample of a batch: by its id where ids are known, else by its place."""
    return f"sample {index} of the batch" if sample_ids is None else f"sample '{sample_ids[index]}'"


class BaseConfigError(PaveModelError):
    """A base's configuration describes no model that a patch can be put on."""
