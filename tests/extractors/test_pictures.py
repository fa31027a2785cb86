"""Key-frame choice and picture preprocessing against the original release's numbers."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from extractor_goldens import golden_cases, read_case
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from extractors.frames import key_frame_pixels, normalise_pixels
from extractors.key_frames import key_frame_indices

golden = pytest.mark.golden


@golden
@pytest.mark.parametrize(
    "path", golden_cases("extractors/keyframe_indices*.json"), ids=lambda path: path.stem
)
def test_the_chosen_frames_are_the_release_s(path: Path) -> None:
    about = json.loads(path.read_text())
    assert about["table"]
    for num_decoded, expected in about["table"].items():
        assert key_frame_indices(int(num_decoded), about["frames"]).tolist() == expected


@golden
@pytest.mark.parametrize(
    "path", golden_cases("extractors/keyframe_siglip_preprocess*.safetensors"), ids=lambda path: path.stem
)
def test_pixels_are_the_release_s(path: Path) -> None:
    tensors, _ = read_case(path)
    checked = 0
    for name, expected in tensors.items():
        found = re.fullmatch(r"(image\d+)_(resized|pixel_values)(\d+)(_uint8)?(_sub)?", name)
        if not found:
            continue
        checked += 1
        picture, size = tensors[f"{found[1]}_uint8"].numpy(), int(found[3])
        pixels = key_frame_pixels([picture], size)
        if found[2] == "resized":  # height, width, colour
            step = -(-size // expected.shape[0])
            np.testing.assert_array_equal(pixels[0, ::step, ::step], expected.numpy())
        else:  # colour, height, width
            step = -(-size // expected.shape[1])
            values = normalise_pixels(pixels)[0, :, ::step, ::step]
            torch.testing.assert_close(values, expected, rtol=0, atol=1e-6)
    assert checked >= 3


@pytest.mark.parametrize("shape", [(72, 128, 3), (200, 60, 3), (384, 384, 3), (5, 7, 3)])
def test_pixels_are_those_of_the_base_s_own_image_processor(shape: tuple[int, int, int]) -> None:
    pictures = list(np.random.default_rng(4).integers(0, 256, size=(2, *shape), dtype=np.uint8))
    processor = SiglipImageProcessorPil(size={"height": 384, "width": 384})
    expected = processor(images=pictures, return_tensors="pt", input_data_format="channels_last")
    found = normalise_pixels(key_frame_pixels(pictures, 384))
    torch.testing.assert_close(found, expected["pixel_values"], rtol=0, atol=0)


def test_every_level_is_normalised_as_the_image_processor_does() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    processor = SiglipImageProcessorPil(do_resize=False)
    expected = processor(images=[levels], return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(normalise_pixels(levels[None]), expected, rtol=0, atol=0)


def test_pictures_of_one_clip_may_differ_in_size() -> None:
    pixels = key_frame_pixels([np.zeros((20, 30, 3), np.uint8), np.full((9, 4, 3), 255, np.uint8)], 56)
    assert pixels.shape == (2, 56, 56, 3)
    assert pixels.dtype == np.uint8
    assert pixels[0].max() == 0
    assert pixels[1].min() == 255
