"""Errors of this package. Each message is one line that names the thing at fault and the remedy."""


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
