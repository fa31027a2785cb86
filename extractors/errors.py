"""The errors of this package. Every message is one line: what is wrong with which thing, and the remedy."""


class ExtractorError(Exception):
    """Base of all errors that this package raises on purpose."""


class MediaError(ExtractorError):
    """A sample's media cannot be used: `sample_id`, a `reason` for people, and a `hint` what to do."""

    def __init__(self, sample_id: str, reason: str, hint: str) -> None:
        super().__init__(f"{sample_id}: {reason}; {hint}")
        self.sample_id = sample_id
        self.reason = reason
        self.hint = hint

    def __reduce__(self) -> tuple[type["MediaError"], tuple[str, str, str]]:
        # exceptions pickle their message by default, which is not what the constructor takes
        return type(self), (self.sample_id, self.reason, self.hint)


class MissingTrackError(MediaError):
    """The file is fine but has no such track, for example no audio."""


class UnknownChannelError(ExtractorError):
    """A channel was asked for that no extractor serves."""


class WeightsError(ExtractorError):
    """An encoder's weights or their config are missing, unreadable, or do not fit."""
