"""Settings on the command line that override those of a YAML file."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from pipelines.errors import PipelineError


def override(values: Mapping[str, Any], assignments: Sequence[str], **top_level: Any) -> dict[str, Any]:
    """`values` with top-level settings replaced, then nested ones such as "data.split=test".

    The values of assignments are read as YAML. Raises PipelineError for an assignment that is none.
    """
    result: dict[str, Any] = {**values, **top_level}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise PipelineError(f"--set {assignment!r}: {text!r} is no YAML value; quote it") from error
        *parents, name = key.split(".")
        if not equals or not name or not all(parents):
            raise PipelineError(f"--set {assignment!r} cannot be read; write it like data.split=test")
        inner = result
        for parent in parents:
            # a copy, so that the caller's mapping stays as it was
            inner[parent] = dict(inner[parent]) if isinstance(inner.get(parent), Mapping) else {}
            inner = inner[parent]
        inner[name] = value
    return result
