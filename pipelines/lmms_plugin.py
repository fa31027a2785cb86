"""What lmms-eval finds through the entry point `lmms_eval.models`: the name `pave`, and where its class is."""

from __future__ import annotations

from typing import Any


def manifest() -> Any:
    """The `ModelManifest` of `pave`. lmms-eval calls this, so it is installed."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id="pave", simple_class_path="pipelines.lmms_model.PaveLmms")
