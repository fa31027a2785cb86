"""Media broken in known ways: `plan` names any number of mutants, `Mutator.write` makes one of them.

A mutant is made of its seed and number only, so one that made trouble is made again by itself:

    PYTHONPATH=. python tests/extractors/fuzz_decode.py --only 1234
"""

import io
import shutil
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from fuzz_sources import MATROSKA, MP4, blank_picture
from mutated_scenes import SCENE_KINDS

from extractors.contract import Sample

Random: TypeAlias = np.random.Generator
Mutation: TypeAlias = Callable[[bytes, Random], bytes]

SEED = 5
ABSURD = (0, 1, 2, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
HEADER = 600  # bytes
# box: the places of its fields behind its name, and their bytes
FIELDS: dict[bytes, tuple[tuple[int, int], ...]] = {
    b"mvhd": ((0, 1), (12, 4), (16, 4)),
    b"mdhd": ((0, 1), (12, 4), (16, 4)),
    b"tkhd": ((0, 1), (12, 4), (20, 4), (40, 4), (76, 4), (80, 4)),
    b"elst": ((4, 4), (8, 4), (12, 4), (16, 4)),
    b"stsd": ((4, 4), (8, 4)),
    b"avc1": ((24, 2), (26, 2)),
    b"mp4v": ((24, 2), (26, 2)),
    b"mp4a": ((16, 2), (18, 2), (24, 4)),
    b"avcC": ((1, 1), (4, 1), (5, 1), (6, 2), (9, 4), (12, 4), (15, 4)),
    b"esds": ((4, 4), (20, 4), (26, 4), (30, 2)),
    b"stsz": ((4, 4), (8, 4), (12, 4)),
    b"stts": ((4, 4), (8, 4), (12, 4)),
    b"ctts": ((4, 4), (8, 4), (12, 4)),
    b"stss": ((4, 4), (8, 4)),
    b"stsc": ((4, 4), (8, 4), (12, 4), (16, 4)),
    b"stco": ((4, 4), (8, 4)),
}
BOXES = (*FIELDS, b"moov", b"trak", b"mdia", b"minf", b"stbl", b"mdat", b"ftyp", b"hdlr", b"udta")
# element: its id; sizes and numbers follow it
ELEMENTS = {
    "segment": b"\x18\x53\x80\x67",
    "cluster": b"\x1f\x43\xb6\x75",
    "simple block": b"\xa3",
    "timestamp": b"\xe7",
    "scale": b"\x2a\xd7\xb1",
    "default duration": b"\x23\xe3\x83",
    "width": b"\xb0\x82",
    "height": b"\xba\x82",
    "rate": b"\xb5\x88",
    "channels": b"\x9f\x81",
    "private": b"\x63\xa2",
    "tracks": b"\x16\x54\xae\x6b",
}
# kind of file: the places of width and height, and their bytes; little endian
PICTURE_SIZES = {".gif": (6, 8, 2), ".avi": (64, 68, 4), ".m1v": (4, 5, 2)}


@dataclass(frozen=True)
class Mutant:
    """One mutant: `kind` of the mutation, `source` that it is applied to."""

    number: int
    seed: int
    kind: str
    source: str

    @property
    def name(self) -> str:
        return f"{self.number:04} {self.kind} {self.source}"

    def random(self) -> Random:
        return np.random.default_rng([self.seed, self.number, 1])


# --- of any file ---


def truncated(data: bytes, random: Random) -> bytes:
    """A few bytes, any part, or all but a few bytes."""
    few = int(random.integers(1, 200))
    return data[: (few, int(random.integers(1, len(data))), len(data) - few)[random.integers(3)]]


def flipped_header(data: bytes, random: Random) -> bytes:
    return _flipped(data, random, min(len(data), HEADER))


def flipped_end(data: bytes, random: Random) -> bytes:
    """Where an mp4 has its index."""
    return _flipped(data[::-1], random, min(len(data), 4000))[::-1]


def flipped_anywhere(data: bytes, random: Random) -> bytes:
    return _flipped(data, random, len(data))


def _flipped(data: bytes, random: Random, end: int) -> bytes:
    changed = bytearray(data)
    for place in random.integers(0, 8 * end, 2 ** random.integers(0, 7)):  # 1 to 64
        changed[place // 8] ^= 1 << (place % 8)
    return bytes(changed)


def zeroed(data: bytes, random: Random) -> bytes:
    start, end = _block(data, random)
    return data[:start] + bytes(end - start) + data[end:]


def noisy(data: bytes, random: Random) -> bytes:
    start, end = _block(data, random)
    return data[:start] + random.bytes(end - start) + data[end:]


def repeated(data: bytes, random: Random) -> bytes:
    start, end = _block(data, random)
    return data[:start] + data[start:end] * int(random.integers(2, 6)) + data[end:]


def without_block(data: bytes, random: Random) -> bytes:
    start, end = _block(data, random)
    return data[:start] + data[end:]


def _block(data: bytes, random: Random) -> tuple[int, int]:
    """A place anywhere, some bytes to a third of the file long."""
    length = max(1, int(len(data) * 10 ** random.uniform(-4, -0.5)))
    start = int(random.integers(0, len(data) - length + 1))
    return start, start + length


def foreign(data: bytes, random: Random) -> bytes:
    """Something else under the name of a video."""
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as file:
        file.writestr("clip.mp4", data[:1000])
    playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n"
    contents = (
        b"",
        b"\x00" * 5000,
        b"This is a diary, not a video.\n" * 50,
        zipped.getvalue(),
        b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog >>\nendobj\ntrailer << >>\n%%EOF\n" * 20,
        blank_picture(64, 48, "RGB"),
        blank_picture(12_000, 12_000),  # 144 million pixels in 20 kB
        b"<html><body>404 Not Found</body></html>" * 9,
        b'{"error": "quota exceeded"}',
        playlist,
        b"ffconcat version 1.0\nfile /etc/hostname\nfile frames.mp4\n",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 2161914\n",
        random.bytes(20_000),
        b"\x7fELF" + random.bytes(2000),
    )
    return contents[random.integers(len(contents))]


# --- of one kind of file ---


def mp4_fields(data: bytes, random: Random) -> bytes:
    """One to three fields of the index are absurd."""
    changed = bytearray(data)
    present = [name for name in FIELDS if name in data]
    for _ in range(random.integers(1, 4)):
        name = present[random.integers(len(present))]
        start = _any_place(data, name, random) + 4
        place, size = FIELDS[name][random.integers(len(FIELDS[name]))]
        _set(changed, start + place, size, _absurd(random))
    return bytes(changed)


def mp4_box_size(data: bytes, random: Random) -> bytes:
    changed = bytearray(data)
    present = [name for name in BOXES if name in data]
    name = present[random.integers(len(present))]
    _set(changed, _any_place(data, name, random) - 4, 4, _absurd(random))
    return bytes(changed)


def mp4_index_bomb(data: bytes, random: Random) -> bytes:
    """Samples of a constant size, some billions of them, all in one chunk."""
    changed = bytearray(data)
    count = (2**31 - 1, 2**28, 2**24)[random.integers(3)]
    _set(changed, data.index(b"stsz") + 8, 4, int(random.integers(1, 9)))
    _set(changed, data.index(b"stsz") + 12, 4, count)
    _set(changed, data.index(b"stsc") + 16, 4, count)
    if random.integers(2):
        _set(changed, data.index(b"stts") + 12, 4, count)
    return bytes(changed)


def matroska_element(data: bytes, random: Random) -> bytes:
    """The bytes behind an element's id, its size or number, are absurd."""
    changed = bytearray(data)
    present = [element for element in ELEMENTS.values() if element in data]
    element = present[random.integers(len(present))]
    start = _any_place(data, element, random) + len(element)
    size = int(random.choice([1, 2, 4, 8]))
    filling = (b"\xff" * size, b"\x01" + b"\xff" * (size - 1), bytes(size), b"\x10" + bytes(size - 1))
    new = (*filling, random.bytes(size))[random.integers(5)]
    changed[start : start + size] = new
    return bytes(changed)


def wav_format(data: bytes, random: Random) -> bytes:
    """Format, channels, rate, bytes a second, block size, bits or length of the sound are absurd."""
    changed = bytearray(data)
    fields = ((20, 2), (22, 2), (24, 4), (28, 4), (32, 2), (34, 2), (40, 4), (4, 4))
    for _ in range(random.integers(1, 3)):
        place, size = fields[random.integers(len(fields))]
        _set_little(changed, place, size, _absurd(random, (3, 7, 100, 4001, 44101, 96001, 767_999, 10**6)))
    return bytes(changed)


def picture_size(data: bytes, random: Random) -> bytes:
    """Width and height of the whole are absurd, as far as one knows where they are."""
    changed = bytearray(data)
    sides = [int(side) for side in random.choice([1, 2, 4096, 8191, 16383, 30000, 65535], 2)]
    if data[:3] == b"GIF":
        _set_little(changed, 6, 2, sides[0])
        _set_little(changed, 8, 2, sides[1])
    elif data[:4] == b"RIFF":
        start = data.index(b"strf") + 12
        _set_little(changed, start, 4, sides[0])
        _set_little(changed, start + 4, 4, sides[1])
    elif data[:4] == b"\x00\x00\x01\xb3":  # MPEG: 12 bits each
        changed[4:7] = ((min(sides[0], 4095) << 12) | min(sides[1], 4095)).to_bytes(3, "big")
    elif b"avc1" in data:  # H.264: some bits of the sequence's parameters, where the sizes are
        start = data.index(b"avcC") + 12
        for place in random.integers(start, start + 14, 3):
            changed[place] ^= 1 << random.integers(8)
    else:
        for element, side in zip((b"\xb0", b"\xba"), sides, strict=True):
            places = [place for place in range(len(data)) if data.startswith(element, place)]
            for place in places[:60]:
                if data[place + 1] in (0x81, 0x82):
                    changed[place + 1] = 0x82
                    _set(changed, place + 2, 2, side)
                    break
    start = data.find(b"\x9d\x01\x2a")  # VP8: 14 bits each, in its first picture
    if start >= 0:
        _set_little(changed, start + 3, 2, min(sides[0], 16383))
        _set_little(changed, start + 5, 2, min(sides[1], 16383))
    start = data.find(b"\xff\xc0\x00\x11\x08")  # JPEG
    while start >= 0:
        _set(changed, start + 5, 2, sides[1])
        _set(changed, start + 7, 2, sides[0])
        start = data.find(b"\xff\xc0\x00\x11\x08", start + 1)
    return bytes(changed)


def _absurd(random: Random, more: tuple[int, ...] = ()) -> int:
    values = (*ABSURD, *more, int(random.integers(2**32)))
    return values[random.integers(len(values))]


def _any_place(data: bytes, wanted: bytes, random: Random) -> int:
    places = [data.index(wanted)]
    while len(places) < 8 and (place := data.find(wanted, places[-1] + 1)) >= 0:
        places.append(place)
    return places[random.integers(len(places))]


def _set(data: bytearray, place: int, size: int, value: int) -> None:
    data[place : place + size] = (value % 256**size).to_bytes(size, "big")


def _set_little(data: bytearray, place: int, size: int, value: int) -> None:
    data[place : place + size] = (value % 256**size).to_bytes(size, "little")


# --- all of them ---

ANY_FILE: dict[str, Mutation] = {
    "truncated": truncated,
    "flipped header": flipped_header,
    "flipped end": flipped_end,
    "flipped anywhere": flipped_anywhere,
    "zeroed": zeroed,
    "noisy": noisy,
    "repeated": repeated,
    "without block": without_block,
    "foreign": foreign,
}
SOME_FILES: dict[str, tuple[tuple[str, ...], Mutation]] = {
    "mp4 fields": (MP4, mp4_fields),
    "mp4 box size": (MP4, mp4_box_size),
    "mp4 index bomb": (MP4, mp4_index_bomb),
    "matroska element": (MATROSKA, matroska_element),
    "wav format": ((".wav",), wav_format),
    "picture size": ((".gif", ".avi", ".m1v", ".mpg", ".mp4", ".mkv", ".webm"), picture_size),
}
ENDINGS = (
    ".mp4",
    ".mkv",
    ".avi",
    ".wav",
    ".mp3",
    ".gif",
    ".h264",
    ".aac",
    ".txt",
    ".png",
    ".y4m",
    ".yuv",
    "",
)
RENAMED, TAKE = "renamed", "take"
KINDS = (*ANY_FILE, *SOME_FILES, RENAMED, "mp4 fields", "truncated", TAKE, *SCENE_KINDS)


def plan(count: int, sources: Mapping[str, Path], seed: int = SEED) -> list[Mutant]:
    """The first `count` mutants of a seed, every kind in turn."""
    mutants = []
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        fitting = sorted(name for name in sources if _fits(kind, name))
        choice = np.random.default_rng([seed, number, 0]).integers(len(fitting))
        mutants.append(Mutant(number, seed, kind, fitting[choice]))
    return mutants


def _fits(kind: str, source: str) -> bool:
    if kind in SCENE_KINDS:
        return source == SCENE_KINDS[kind][0]
    if kind in SOME_FILES:
        return source.endswith(SOME_FILES[kind][0])
    return not source.startswith("scene")


def write(mutant: Mutant, sources: Mapping[str, Path], folder: Path) -> Sample:
    """Make the mutant in an empty folder."""
    random = mutant.random()
    source = sources[mutant.source]
    if mutant.kind in SCENE_KINDS:
        _, mutate = SCENE_KINDS[mutant.kind]
        return Sample(mutant.name, "fuzz", {"scene": mutate(source, folder, random)})
    if mutant.kind == TAKE:
        cameras = {}
        for camera in ("cam01", "cam02"):
            mutate_file = list(ANY_FILE.values())[random.integers(len(ANY_FILE))]
            cameras[f"exo/{camera}"] = folder / f"{camera}{source.suffix}"
            cameras[f"exo/{camera}"].write_bytes(mutate_file(source.read_bytes(), random))
        return Sample(mutant.name, "fuzz", cameras)
    target = folder / mutant.source
    if mutant.kind == RENAMED:
        target = folder / f"{source.stem}{ENDINGS[random.integers(len(ENDINGS))]}"
        shutil.copy(source, target)
    else:
        mutation = ANY_FILE.get(mutant.kind) or SOME_FILES[mutant.kind][1]
        target.write_bytes(mutation(source.read_bytes(), random))
    return Sample(mutant.name, "fuzz", {"video": target})
