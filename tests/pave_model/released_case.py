"""The folders `checkpoint_case*` of the golden numbers: a tiny model saved by the original release."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from tiny_patch import golden_folder
from torch import Tensor
from transformers import LlavaOnevisionForConditionalGeneration

CASES = sorted(golden_folder().glob("checkpoint_case*"))
FORMS = [form for case in CASES for form in sorted(case.glob("checkpoint*")) if form.is_dir()]
CHANNEL = "audio"  # any name does: a released checkpoint does not name its channel
PLACEHOLDER = -200


@dataclass(frozen=True)
class ReleasedCase:
    """One folder, read: settings that no checkpoint holds, the base, and the tensors of the forward pass."""

    folder: Path
    num_heads: int
    rotary: bool
    tensors: dict[str, Tensor]

    @classmethod
    def read(cls, folder: Path) -> "ReleasedCase":
        path = folder / "expected_forward.safetensors"
        with safe_open(path, "pt") as file:
            patch = json.loads(file.metadata()["config"])["patch"]
        return cls(folder, patch["num_cross_attn_head"], patch.get("use_3d_rope", True), load_file(path))

    @property
    def base_folder(self) -> Path:
        return self.folder / "base_hf"

    def load_base(self) -> LlavaOnevisionForConditionalGeneration:
        return LlavaOnevisionForConditionalGeneration.from_pretrained(self.base_folder, dtype=torch.float32)

    def json(self, name: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.folder / name).read_text())
        return content

    def names(self, prefix: str) -> list[str]:
        """Names of the tensors of the forward pass that begin so."""
        return sorted(name for name in self.tensors if name.startswith(prefix))
