"""What an audio file's structure says about its length: streams, lost bytes, unfinished headers.

libsndfile reads the first stream of a file as far as it goes and does not tell what is missing.
"""

import dataclasses
from collections.abc import Callable

from ser_jax.audio import mpeg
from ser_jax.audio.extents import EXTENTS, Extent
from ser_jax.audio.file_bytes import Bytes

_MP3_IN_WAV = b"\x55\0"  # the codec, where WAV usually has it
_MOST_TAGS = 4096  # bytes after the samples that may well be no samples
# Formats that no one can be sure to have read whole: libsndfile keeps their length to itself.
UNCHECKED = frozenset("AVR MAT5 MPC2K SD2 SDS WVE XI".split())
MIDI_DUMP = b"\xf0\x7e"  # libsndfile prints to stdout where it is damaged
# First bytes, at an offset, of formats that libsndfile does not read, and of that one.
_FOREIGN = {
    (4, b"ftyp"): "MP4 (.m4a, .mp4, .mov, .3gp)",
    (0, b"\x1a\x45\xdf\xa3"): "Matroska (.webm, .mka, .mkv)",
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"): "Windows Media (.wma)",
    (0, b"\xff\xf1"): "AAC",
    (0, b"\xff\xf9"): "AAC",
    (0, b"#!AMR"): "AMR",
    (0, b"wvpk"): "WavPack",
    (0, b"MAC "): "Monkey's Audio",
    (0, b"\x0b\x77"): "AC-3",
    (0, b"FLV"): "Flash video",
    (0, b".RMF"): "RealMedia",
    (8, b"AVI "): "AVI",
    (0, MIDI_DUMP): "MIDI sample dump (.sds)",
}


@dataclasses.dataclass(frozen=True)
class Stream:
    """One of the streams that a file consists of.

    Attributes:
      start: its first byte in the file.
      end: one past its last byte.
      patches: {offset in the file: bytes} for lengths that libsndfile would misread.
      prefix: bytes to decode in front of it.
    """

    start: int
    end: int
    patches: dict[int, bytes] = dataclasses.field(default_factory=dict)
    prefix: bytes = b""


@dataclasses.dataclass(frozen=True)
class Structure:
    """The structure of a file.

    Attributes:
      streams: to decode one after the other; () for the file as it is.
      cut: what is missing at its end; "" if nothing is.
      note: a remark, or "".
      promises: whether the number of samples that libsndfile reports is more than an estimate.
      noisy: whether libmpg123 decodes it, which writes to stderr.
    """

    streams: tuple[Stream, ...] = ()
    cut: str = ""
    note: str = ""
    promises: bool = True
    noisy: bool = False


def foreign_format(data: Bytes) -> str:
    """Name the format of a file that libsndfile cannot read; "" if unknown."""
    for (offset, magic), name in _FOREIGN.items():
        if data[offset : offset + len(magic)] == magic:
            return name
    return ""


def examine(data: Bytes) -> Structure:
    """Return the structure of a file, given its bytes."""
    magic = data[:4]
    if magic in EXTENTS:
        return _contained(data, EXTENTS[magic])
    if magic == b"OggS":
        return _ogg(data)
    if magic == b"fLaC":
        return _flac(data)
    if magic[:3] == b"ID3" or mpeg.is_header(magic):
        return _mpeg(data)
    return Structure(noisy=True)  # libsndfile may take it for MP3


def _contained(data: Bytes, extent_of: Callable[[Bytes, int], Extent]) -> Structure:
    """Follow containers of one kind, usually one, from the start of a file."""
    size, streams, note = len(data), [], ""
    start = 0
    while True:
        extent = extent_of(data, start)
        note = note or extent.note
        end = min(extent.end, size)
        streams.append(Stream(start, end, extent.patches))
        if end >= size or end <= start or data[end : end + 4] != data[:4]:
            break
        start = end
    missing, rest = max(extent.end - size, 0), size - end
    if rest > _MOST_TAGS and len(streams) == 1 and not note:
        note = f"{rest:,} bytes after the end that its header states are not read"
    alone = len(streams) == 1 and not extent.patches
    return Structure(
        streams=() if alone else tuple(streams),
        cut=f"{missing:,} bytes are missing" if missing else "",
        note=note or _several(streams),
        noisy=data[20:22] == _MP3_IN_WAV,
    )


def _several(streams: list[Stream]) -> str:
    return f"{len(streams)} recordings in one file" if len(streams) > 1 else ""


def _ogg(data: Bytes) -> Structure:
    """Split chained streams, and check that the last one ends with the pages that say so."""
    starts, open_streams, pages, size = [0], set(), {}, len(data)
    at, lost, in_header, truncated = 0, 0, True, False
    while at < size:
        if data[at : at + 4] != b"OggS":
            at = data.find(b"OggS", at)
            if at < 0:
                break
        if at + 27 > size or at + 27 + data[at + 26] > size:
            truncated = True
            break
        flags, serial, number = data[at + 5], data[at + 14 : at + 18], data[at + 18 : at + 22]
        if flags & 2:  # the first page of a stream
            if not in_header:
                starts.append(at)
                open_streams.clear()
                pages.clear()
            open_streams.add(serial)
        in_header = bool(flags & 2)
        if flags & 4:  # the last page of a stream
            open_streams.discard(serial)
        number = int.from_bytes(number, "little")
        lost += max(number - pages.get(serial, number - 1) - 1, 0)
        pages[serial] = number
        segments = data[at + 27 : at + 27 + data[at + 26]]
        at += 27 + len(segments) + sum(segments)
        truncated = at > size
    streams = [Stream(a, b) for a, b in zip(starts, [*starts[1:], size], strict=True)]
    cut = f"{lost:,} pages are missing" if lost else ""
    cut = "its last page is missing" if truncated or open_streams else cut
    return Structure(tuple(streams) if len(streams) > 1 else (), cut, _several(streams))


_FLAC_STARTS = (b"fLaC\0\0\0\x22", b"fLaC\x80\0\0\x22")


def _flac(data: Bytes) -> Structure:
    starts, at = [], 0
    while at >= 0:  # a marker and the header of a STREAMINFO block of 34 bytes
        starts.append(at)
        at = min(
            (data.find(b"fLaC" + f + b"\0\0\x22", at + 4) for f in (b"\0", b"\x80")), key=_late
        )
    streams = [Stream(a, b) for a, b in zip(starts, [*starts[1:], len(data)], strict=True)]
    return Structure(tuple(streams) if len(streams) > 1 else (), "", _several(streams))


def _late(position: int) -> float:
    return position if position >= 0 else float("inf")


def _mpeg(data: Bytes) -> Structure:
    runs = mpeg.runs(data)
    if not runs:
        return Structure(noisy=True)
    prefixes = [mpeg.length_header(data, run) if run.is_misjudged else b"" for run in runs]
    streams = [
        Stream(run.first if prefix else run.start, run.end, prefix=prefix)
        for run, prefix in zip(runs, prefixes, strict=True)
    ]
    cut = next((run.cut for run in runs if run.cut), "")
    alone = len(streams) == 1 and not prefixes[0]
    # Frames are counted here; where none is missing, samples are stated as the encoder counts them.
    return Structure(() if alone else tuple(streams), cut, _several(streams), False, noisy=True)
