"""RGB-D scenes broken in known ways, as a folder and as an HDF5 file."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import h5py
import numpy as np
from fuzz_sources import blank_picture

Random: TypeAlias = np.random.Generator
SceneMutation: TypeAlias = Callable[[Path, Path, Random], Path]

NUMBERS = (
    "nan",
    "inf",
    "-inf",
    "1e308",
    "-1e308",
    "1e-320",
    "0",
    "word",
    "",
    "1e999",
    "0x10",
    "9" * 400,
    "1_0",
)


def damaged_file(source: Path, folder: Path, random: Random) -> Path:
    """One file of a folder is cut, has flipped bits, is empty, a folder or gone, or has another's bytes."""
    scene = _copied(source, folder)
    path = _any_file(scene, random)
    data = path.read_bytes()
    place, end = (int(place) for place in np.sort(random.integers(0, len(data), 2)))
    flipped = bytearray(data)
    for bit in random.integers(0, 8 * len(data), 8):
        flipped[bit // 8] ^= 1 << (bit % 8)
    other = _any_file(scene, random).read_bytes()
    contents = (
        data[:place],
        bytes(flipped),
        b"",
        data[:place] + bytes(end - place) + data[end:],
        other,
        None,
    )
    content = contents[random.integers(len(contents))]
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    elif random.integers(2):
        path.mkdir()
    return scene


def absurd_picture(source: Path, folder: Path, random: Random) -> Path:
    """All pictures of a kind are huge, of another kind or of no kind."""
    scene = _copied(source, folder)
    kind = ("color", "depth")[random.integers(2)]
    width, height = (int(side) for side in random.choice([1, 2, 9, 64, 900], 2))
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 48\n(x) = quit\n%%EOF\n"
    if random.integers(4) == 0:  # a header that lies, of 4 billion pixels
        content = bytearray(blank_picture(64, 48))
        content[16:24] = b"\x00\x00\xff\xff" * 2
    elif random.integers(8) == 0:
        content = bytearray(script)
    elif random.integers(4) == 0:  # the largest that are read, and larger ones
        mode, side = ("L", "I;16")[random.integers(2)], (7900, 9500, 14_000)[random.integers(3)]
        content = bytearray(blank_picture(side, side, mode))
    else:
        mode = ("1", "L", "I;16", "RGB", "RGBA", "P")[random.integers(6)]
        content = bytearray(blank_picture(width, height, mode))
    for path in (scene / kind).iterdir():
        path.write_bytes(content)
    return scene


def absurd_matrix(source: Path, folder: Path, random: Random) -> Path:
    """Some numbers of a matrix file are none, huge or tiny, or there are too few or too many of them."""
    scene = _copied(source, folder)
    files = sorted(path for path in scene.rglob("*.txt"))
    for path in (files[random.integers(len(files))], files[random.integers(len(files))]):
        words = path.read_text().split(" ")
        for place in random.integers(0, len(words), random.integers(1, 4)):
            words[place] = NUMBERS[random.integers(len(NUMBERS))]
        more = ([], ["7"], ["1"] * 30_000 + ["2" * 30_000], words[:-1], [chr(0)])[random.integers(5)]
        path.write_text(" ".join(words + more if random.integers(3) == 0 else words))
    return scene


def damaged_hdf5(source: Path, folder: Path, random: Random) -> Path:
    """The file is cut, has flipped bits, zeros or noise, mostly in what describes the data."""
    data = source.read_bytes()
    changed = bytearray(data)
    pieces = [start for start in range(0, len(data), 512) if data[start : start + 512].strip(b"\x00")]
    described = [start for start in pieces if data[start : start + 512].count(0) > 100] or pieces
    how = random.integers(5)
    for _ in range(2 ** random.integers(0, 7)):
        start = described[random.integers(len(described))] if how < 3 else int(random.integers(0, len(data)))
        place = min(start + int(random.integers(512)), len(data) - 1)
        if how in (0, 3):
            changed[place] ^= 1 << random.integers(8)
        elif how == 1:
            changed[place : place + 4] = b"\xff" * 4
        else:
            changed[place] = random.integers(256)
    target = folder / source.name
    target.write_bytes(changed[: random.integers(1, len(data))] if how == 4 else changed)
    return target


def absurd_hdf5(source: Path, folder: Path, random: Random) -> Path:
    """A dataset has a shape, a type, chunks or numbers that no scene has; huge ones take no space in the file."""
    target = folder / source.name
    shutil.copy(source, target)
    names = ("color", "depth", "pose", "intrinsic/intrinsic_depth", "axis_alignment")
    name = names[random.integers(len(names))]
    how = random.integers(6)
    with h5py.File(target, "r+") as file:
        if how == 0:  # many frames
            count = int(random.choice([1, 3, 10**6, 10**8, 2**31, 2**40]))
            for each, shape, dtype in (
                ("color", (4, 6, 3), "u1"),
                ("depth", (4, 6), "u2"),
                ("pose", (4, 4), "f8"),
            ):
                del file[each]
                chunks = (1, *shape)
                fill = int(random.integers(2))
                file.create_dataset(each, (count, *shape), dtype, chunks=chunks, fillvalue=fill)
        elif how == 1:  # any shape
            sides = random.choice([0, 1, 3, 4, 64, 10**5, 2**33], random.integers(0, 6), replace=False)
            shape = tuple(int(side) for side in sides)
            del file[name]
            chunks = tuple(min(side, 8) for side in shape) if all(shape) and shape else None
            file.create_dataset(name, shape, "f8", chunks=chunks)
        elif how == 2:  # huge pictures, or chunks; packed zeros
            kind, rest, dtype = (("color", (3,), "u1"), ("depth", (), "u2"))[random.integers(2)]
            height, width = (int(side) for side in random.choice([48, 4000, 8000, 30_000], 2))
            depth = int(random.choice([1, 3, 50]))
            del file[kind]
            shape = (3, height, width, *rest)
            maximum = (None, height, width, *rest)
            chunks = (depth, height, width, *rest)
            if np.prod(chunks) * np.dtype(dtype).itemsize < 2**32:
                file.create_dataset(kind, shape, dtype, chunks=chunks, maxshape=maximum, compression="gzip")
        elif how == 3:  # another type
            dtype = random.choice(["S10", "f2", "f4", "c16", "i8", "u8", "?", ">f8", ">u2", "V8"])
            shape = file[name].shape
            del file[name]
            file.create_dataset(name, shape, str(dtype))
        elif how == 4:  # numbers
            value = float(NUMBERS[random.integers(7)])
            place = tuple(int(random.integers(side)) for side in file[name].shape)
            with np.errstate(all="ignore"):
                file[name][place] = value if file[name].dtype.kind == "f" else 65535 * (name == "depth")
        else:  # something else under the name
            del file[name]
            with h5py.File(folder / "other.h5", "w") as other:
                other["x"] = np.zeros((3, 48, 64))
            kinds = (
                h5py.SoftLink("/nowhere"),
                h5py.ExternalLink("other.h5", "/x"),
                h5py.SoftLink("/" + name),
            )
            if random.integers(4):
                file[name] = kinds[random.integers(3)]
            else:
                file.create_group(name)
    return target


def _copied(source: Path, folder: Path) -> Path:
    return Path(shutil.copytree(source, folder / source.name))


def _any_file(scene: Path, random: Random) -> Path:
    files = sorted(path for path in scene.rglob("*") if path.is_file())
    return files[random.integers(len(files))]


SCENE_KINDS: dict[str, tuple[str, SceneMutation]] = {
    "damaged file": ("scene", damaged_file),
    "absurd picture": ("scene", absurd_picture),
    "absurd matrix": ("scene", absurd_matrix),
    "damaged hdf5": ("scene.h5", damaged_hdf5),
    "absurd hdf5": ("scene.h5", absurd_hdf5),
}
