"""Several extractions in one: each a dataset with its channels, what is there already not done again."""

from __future__ import annotations

from pydantic import Field

from extractors.errors import ExtractorError
from pipelines.config import ExtractTogetherConfig, Settings
from pipelines.errors import ExtractionFailedError, PipelineError
from pipelines.extract import ExtractReport, extract_together
from pipelines.progress import ProgressFactory, silent
from store.errors import StoreError


class ExtractAllConfig(Settings):
    """What is extracted, one dataset after the other; the channels of one share its files."""

    extractions: tuple[ExtractTogetherConfig, ...] = Field(min_length=1)


class ExtractAllReport(Settings):
    """What was done: a report for each dataset and channel."""

    reports: tuple[ExtractReport, ...]

    def summary(self) -> str:
        """A few lines for people."""
        return "\n".join(report.summary() for report in self.reports)


def extract_all(config: ExtractAllConfig, progress: ProgressFactory = silent) -> ExtractAllReport:
    """Extract what is missing of everything; one extraction that fails leaves the others alone.

    Raises ExtractionFailedError at the end, with what each of the failed ones said.
    """
    reports: list[ExtractReport] = []
    failed: list[str] = []
    for extraction in config.extractions:
        try:
            reports += extract_together(extraction, progress).reports
        except (PipelineError, ExtractorError, StoreError) as error:
            channels = ", ".join(extraction.channels.given())
            failed.append(f"{channels} of {_source(extraction)}: {error}")
    if failed:
        raise ExtractionFailedError(
            f"{len(failed)} of {len(config.extractions)} extractions failed, the others are done: {'; '.join(failed)}"
        )
    return ExtractAllReport(reports=tuple(reports))


def _source(extraction: ExtractTogetherConfig) -> str:
    sources = (
        extraction.manifest,
        extraction.videos,
        extraction.scenes,
        extraction.images,
        extraction.takes,
    )
    return next(str(source) for source in sources if source is not None)
