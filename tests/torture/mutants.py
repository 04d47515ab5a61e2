"""Audio files of every format that libsndfile writes, damaged at random. Axes: S samples."""

import contextlib
import dataclasses
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from ser_jax.audio import containers
from ser_jax.audio.decoder import SUFFIXES

# Its own extension, where one is looked for in folders; others are recognised by their content.
_SUFFIX = {
    "WAV": ".wav",
    "WAVEX": ".wav",
    "FLAC": ".flac",
    "OGG": ".ogg",
    "MP3": ".mp3",
    "AIFF": ".aiff",
    "AU": ".au",
    "CAF": ".caf",
    "W64": ".w64",
    "RF64": ".rf64",
}
# What people have is tried more often.
_FORMATS = sorted(soundfile.available_formats()) + 3 * sorted(_SUFFIX)
_RATES = (8_000, 11_025, 16_000, 22_050, 44_100, 48_000)
# A file in these formats does not say how long it is, or is refused whatever it says.
_UNPROMISED = {*containers.UNCHECKED, "RAW", "PAF", "PVF", "IRCAM"}
_LENGTHS = (
    0,
    1,
    36,
    44,
    2**15,
    2**16 - 1,
    2**31 - 1,
    2**31,
    2**32 - 8,
    2**32 - 1,
    2**63,
    2**64 - 1,
)


@dataclasses.dataclass(frozen=True)
class Mutant:
    """A damaged file.

    Attributes:
      seed: of its name, m<seed>, and its content.
      format: as libsndfile calls it.
      subtype: likewise.
      damage: what was done to it.
      path: where it is.
      promise: "read", if it is whole; "noted", if it is cut short, which must not pass in silence;
        "" if nothing is known.
    """

    seed: int
    format: str
    subtype: str
    damage: tuple[str, ...]
    path: Path
    promise: str = ""

    def __str__(self) -> str:
        return f"{self.path.name} ({self.format} {self.subtype}, {', '.join(self.damage)})"


def make(seed: int, folder: Path) -> Mutant:
    """Write the file that belongs to a seed."""
    random = np.random.default_rng(seed)
    kind, subtype, data = _write(random)
    n_bytes, damage = len(data), []
    for _ in range(int(random.choice([0, 1, 2, 3], p=[0.08, 0.6, 0.22, 0.1]))):
        name = str(random.choice(list(DAMAGE), p=_SHARES))
        data = DAMAGE[name](random, bytearray(data))
        damage.append(name)
    suffix = _SUFFIX.get(kind, ".wav")
    if random.random() < 0.05:
        suffix = str(random.choice(sorted(SUFFIXES)))
    path = folder / f"m{seed}{suffix}"
    path.write_bytes(data)
    promise = ""
    if kind not in _UNPROMISED:
        cut = damage == ["truncate anywhere"] and len(data) < 0.8 * n_bytes
        promise = "read" if not damage else "noted" if cut else ""
    return Mutant(seed, kind, subtype, tuple(damage) or ("as written",), path, promise)


def _write(random: np.random.Generator) -> tuple[str, str, bytes]:
    """Return format, subtype and bytes of a sound file with 0.3 to 0.5 s of a voice-like buzz."""
    kind = str(random.choice(_FORMATS))
    wanted = int(random.choice(_RATES)), int(random.choice([1, 1, 1, 2, 2, 6]))
    seconds, pitch = random.uniform(0.3, 0.5), random.uniform(80, 300)
    # Not everything that libsndfile lists can be written, and not at every rate.
    for subtype in map(str, random.permutation(sorted(soundfile.available_subtypes(kind)))):
        for rate, channels in (wanted, (wanted[0], 1), (44_100, 1), (16_000, 1), (8_000, 1)):
            t_S = np.arange(int(seconds * rate)) / rate
            wave_S = 0.3 * ((t_S * pitch) % 1 - 0.5) + 0.02 * random.standard_normal(len(t_S))
            sound_SxC = wave_S[:, None] * np.linspace(1, 0.5, channels)
            with (
                contextlib.suppress(
                    soundfile.LibsndfileError, AssertionError
                ),  # of too few samples
                # A named file, since SD2 has a second one, ._name, which is lost here.
                tempfile.TemporaryDirectory() as folder,
            ):
                path = Path(folder, "sound")
                soundfile.write(path, sound_SxC, rate, subtype=subtype, format=kind)
                return kind, subtype, _timeless(path.read_bytes())
    raise ValueError(f"libsndfile cannot write {kind}")


def _timeless(content: bytes) -> bytes:
    """Return a sound file without the time at which it was written, so that a seed repeats it."""
    data = bytearray(content)
    if data[:6] == b"MATLAB":
        data[60:100] = bytes(40)
    if (peak := content.find(b"PEAK", 0, 256)) >= 0:
        data[peak + 12 : peak + 16] = bytes(4)
    place = 0
    while data[place : place + 4] == b"OggS":  # pages of a stream with a random number
        n_segments = data[place + 26]
        end = place + 27 + n_segments + sum(data[place + 27 : place + 27 + n_segments])
        data[place + 14 : place + 18] = bytes(4)
        data[place + 22 : place + 26] = bytes(4)
        struct.pack_into("<I", data, place + 22, _ogg_checksum(data[place:end]))
        place = end
    return bytes(data)


def _ogg_checksum(page: bytes) -> int:
    checksum = 0
    for byte in page:
        checksum = (checksum << 8) & 0xFFFFFFFF ^ _OGG_TABLE[checksum >> 24 ^ byte]
    return checksum


def _ogg_table() -> list[int]:
    """Return the checksums of single bytes, with Ogg's polynomial."""
    table = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value >> 31 else 0)) & 0xFFFFFFFF
        table.append(value)
    return table


_OGG_TABLE = _ogg_table()


def _place(random: np.random.Generator, data: bytearray) -> int:
    """Return a position, of the header in half of the cases."""
    end = min(len(data), 128) if random.random() < 0.5 else len(data)
    return int(random.integers(max(end, 1)))


def _size(random: np.random.Generator, data: bytearray) -> int:
    return int(min(len(data), 2 ** random.uniform(0, 13)))


def truncate(random: np.random.Generator, data: bytearray) -> bytes:
    return bytes(data[: _place(random, data)])


def truncate_anywhere(random: np.random.Generator, data: bytearray) -> bytes:
    return bytes(data[: int(random.integers(len(data) + 1))])


def flip_bits(random: np.random.Generator, data: bytearray) -> bytes:
    for _ in range(int(2 ** random.uniform(0, 7)) if data else 0):
        data[_place(random, data)] ^= 1 << int(random.integers(8))
    return bytes(data)


def zeros(random: np.random.Generator, data: bytearray) -> bytes:
    start, size = _place(random, data), _size(random, data)
    data[start : start + size] = bytes(size)
    return bytes(data)


def garbage(random: np.random.Generator, data: bytearray) -> bytes:
    start, size = _place(random, data), _size(random, data)
    data[start : start + size] = random.bytes(size)
    return bytes(data)


def remove(random: np.random.Generator, data: bytearray) -> bytes:
    start, size = _place(random, data), _size(random, data)
    return bytes(data[:start] + data[start + size :])


def insert(random: np.random.Generator, data: bytearray) -> bytes:
    start, size, other = _place(random, data), _size(random, data), _place(random, data)
    return bytes(data[:start] + data[other : other + size] + data[start:])


def splice(random: np.random.Generator, data: bytearray) -> bytes:
    _, _, other = _write(random)
    return bytes(data[: _place(random, data)] + other[_place(random, bytearray(other)) :])


def concatenate(random: np.random.Generator, data: bytearray) -> bytes:
    return bytes(data) + (bytes(data) if random.random() < 0.5 else _write(random)[2])


def wrong_length(random: np.random.Generator, data: bytearray) -> bytes:
    """Overwrite a number of the header, one near the file's size if there is one."""
    numbers = []
    for form in "<I >I <Q >Q <H >H".split():
        size = struct.calcsize(form)
        for place in range(0, min(len(data), 256) - size, 2):
            (value,) = struct.unpack_from(form, data, place)
            if len(data) / 8 <= value <= len(data):
                numbers.append((form, place))
    if not numbers or random.random() < 0.2:
        numbers = [("<I", place) for place in range(0, max(1, min(len(data), 256) - 8), 4)]
    form, place = numbers[int(random.integers(len(numbers)))]
    size = struct.calcsize(form)
    value = int(random.choice(np.array(_LENGTHS, dtype=object)))
    if random.random() < 0.3:
        value = int(random.integers(2 * len(data) + 1))
    if len(data) >= place + size:
        struct.pack_into(form, data, place, value % 2 ** (8 * size))
    return bytes(data)


def append(random: np.random.Generator, data: bytearray) -> bytes:
    return bytes(data) + random.bytes(_size(random, data))


def prepend(random: np.random.Generator, data: bytearray) -> bytes:
    return (random.bytes if random.random() < 0.5 else bytes)(_size(random, data)) + bytes(data)


def only_garbage(random: np.random.Generator, data: bytearray) -> bytes:
    start = bytes(data[: int(random.integers(64))])
    return start + random.bytes(_size(random, data))


def empty(random: np.random.Generator, data: bytearray) -> bytes:
    del random, data
    return b""


DAMAGE: dict[str, Callable[[np.random.Generator, bytearray], bytes]] = {
    function.__name__.replace("_", " "): function
    for function in (
        truncate,
        truncate_anywhere,
        flip_bits,
        zeros,
        garbage,
        remove,
        insert,
        splice,
        concatenate,
        wrong_length,
        append,
        prepend,
        only_garbage,
        empty,
    )
}
_WEIGHTS = [0.2 if name in ("empty", "only garbage") else 1.0 for name in DAMAGE]
_SHARES = [weight / sum(_WEIGHTS) for weight in _WEIGHTS]
