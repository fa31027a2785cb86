"""Reading YAML files of settings."""

from pathlib import Path
from typing import Any

import yaml

from pipelines.errors import PipelineError


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises PipelineError in one line when there is none."""
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise PipelineError(f"{path} cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise PipelineError(f"{path} must hold a mapping of settings")
    return content
