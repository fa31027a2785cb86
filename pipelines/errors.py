"""The errors of this package. Every message is one line: what is wrong with which thing, and the remedy."""


class PipelineError(Exception):
    """Base of all errors that this package raises on purpose."""


class ManifestError(PipelineError):
    """A manifest or media folder is missing, empty, or not laid out as it must be."""


class ExtractionFailedError(PipelineError):
    """More samples failed than the configuration allows, or nothing could be extracted at all."""


class RayEndedError(PipelineError):
    """Ray, or what it needs to go on, died while it worked for us."""


class MissingFeaturesError(PipelineError):
    """A training or evaluation needs features that the snapshot does not have."""


class RunError(PipelineError):
    """A run folder is in the way, incomplete, or not what it should be."""


class RegistryError(PipelineError):
    """A registry of patches is damaged or locked, or does not have what was asked of it."""


class DamagedStoreError(PipelineError):
    """A store's bytes are not those that were committed."""


class TrainingProcessError(RunError):
    """A process of a training with several processes ended with an error, or was killed."""
