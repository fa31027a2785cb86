"""The audio part of ImageBind's checkpoint in a file of its own."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.serialization import skip_data

from extractors.audio import AudioExtractor
from extractors.audio_weights_file import write_audio_part
from extractors.config import AudioConfig
from extractors.errors import WeightsError
from extractors.imagebind_audio import ImageBindAudio, TowerSize, random_tower

SMALL = TowerSize(embed_dim=32, num_blocks=2, num_heads=4, out_dim=24)
MEASURE = """
import sys
from pathlib import Path
from extractors.audio_weights_file import write_audio_part
from pipelines.process_memory import peak_memory
before = peak_memory()
part = write_audio_part(*map(Path, sys.argv[1:]))
print(part.num_parameters, part.num_tensors, part.num_bytes, peak_memory() - before)
"""


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A small checkpoint in the published layout, with tensors of other modalities."""
    others = ("modality_trunks.vision.blocks.0.norm_1.weight", "modality_heads.text.proj.1.weight")
    path = tmp_path / "imagebind_huge.pth"
    torch.save(random_tower(3, SMALL).state_dict() | {name: torch.ones(3) for name in others}, path)
    path.chmod(0o640)
    return path


def extractor_of(weights: Path) -> AudioExtractor:
    return AudioExtractor(
        AudioConfig(weights=str(weights), embed_dim=32, num_blocks=2, num_heads=4, out_dim=24)
    )


def test_both_files_are_the_same_encoder(checkpoint: Path) -> None:
    out = checkpoint.with_name("audio.safetensors")
    part = write_audio_part(checkpoint, out, SMALL)
    tower = random_tower(3, SMALL)
    assert load_file(out).keys() == tower.state_dict().keys()
    assert part.num_parameters == sum(parameter.numel() for parameter in tower.parameters())
    assert part.num_tensors == len(tower.state_dict())
    assert part.num_bytes == 4 * (part.num_parameters + 1)  # and the temperature
    assert extractor_of(out).spec == extractor_of(checkpoint).spec
    assert stat.S_IMODE(out.stat().st_mode) == 0o640
    assert sorted(path.name for path in out.parent.iterdir()) == [out.name, checkpoint.name]


def test_nothing_is_overwritten_or_half_written(checkpoint: Path, tmp_path: Path) -> None:
    taken = tmp_path / "taken.safetensors"
    taken.write_text("mine")
    free = tmp_path / "audio.safetensors"
    cases = {
        taken: "exists already; give another name, or remove it",
        tmp_path / "audio.pth": r"must end in \.safetensors",
        tmp_path / "none" / "audio.safetensors": "there is no folder .*none",
    }
    for out, reason in cases.items():
        with pytest.raises(WeightsError, match=reason):
            write_audio_part(checkpoint, out, SMALL)
    with pytest.raises(WeightsError, match="do not fit the ImageBind audio branch"):
        write_audio_part(checkpoint, free)  # it is no ImageBind-huge
    assert taken.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == [checkpoint.name, taken.name]


@pytest.mark.slow
def test_the_memory_is_that_of_the_audio_part(tmp_path: Path) -> None:
    # the published sizes; holes in the file stand for the data
    tensors = dict(ImageBindAudio(TowerSize()).state_dict())
    for block in range(16):
        tensors[f"modality_trunks.vision.blocks.{block}.mlp.fc1.weight"] = torch.empty(2**26)
    checkpoint = tmp_path / "imagebind_huge.pth"
    with skip_data():
        torch.save(tensors, checkpoint)
    assert checkpoint.stat().st_size > 4e9
    command = [sys.executable, "-c", MEASURE, str(checkpoint), str(tmp_path / "audio.safetensors")]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    num_parameters, num_tensors, num_bytes, peak = map(int, output.split())
    assert (num_parameters, num_tensors) == (86_235_648, 177)
    assert num_bytes == 4 * (num_parameters + 1)
    assert peak < 1.5 * num_bytes
