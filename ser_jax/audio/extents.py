"""Where a container of samples ends by its own header: WAV, AIFF, AU, CAF, W64, RF64, NIST."""

import dataclasses
import struct

from ser_jax.audio.file_bytes import Bytes

_MOST_CHUNKS = 1_000  # more come from damage
_UNFINISHED = "its header was never finished, so its length is that of the file"


@dataclasses.dataclass(frozen=True)
class Extent:
    """Where a container ends by its own header; may lie beyond the file."""

    end: int
    patches: dict[int, bytes] = dataclasses.field(default_factory=dict)
    note: str = ""


def _unpack(form: str, data: Bytes, at: int) -> tuple[int, ...]:
    return struct.unpack(form, data[at : at + struct.calcsize(form)])


def _chunks(data: Bytes, start: int, header: struct.Struct, even: bool) -> dict[bytes, tuple]:
    """Return {name: (offset of the content, stated size)} of a list of chunks."""
    chunks: dict[bytes, tuple[int, int]] = {}
    for _ in range(_MOST_CHUNKS):
        if start + header.size > len(data):
            break
        name, size = header.unpack(data[start : start + header.size])
        if not all(32 <= byte < 127 for byte in name[:4]):
            break
        start += header.size
        chunks.setdefault(name, (start, size))
        if size < 0:
            break
        start += size + (size % 2 if even else 0)
    return chunks


def _is_followed_by_chunks(data: Bytes, start: int) -> bool:
    """Whether a RIFF file continues with chunks to its end, and not with samples."""
    header, size = struct.Struct("<4sI"), len(data)
    for _ in range(_MOST_CHUNKS):
        if size - start < header.size:
            break
        name, length = header.unpack(data[start : start + header.size])
        if not all(32 <= byte < 127 for byte in name):
            return False
        start += header.size + length + length % 2
    return size <= start <= size + 1 or size - start < header.size


def n_samples(data: Bytes) -> int | None:
    """Return how many samples the `fact` chunk of a WAV file states, None without one."""
    if data[:4] != b"RIFF":
        return None
    at, length = _chunks(data, 12, struct.Struct("<4sI"), even=True).get(b"fact", (0, 0))
    return int.from_bytes(data[at : at + 4], "little") if length >= 4 else None


def _riff(data: Bytes, start: int) -> Extent:
    order = ">" if data[start : start + 4] == b"RIFX" else "<"
    size = len(data)
    if size < start + 8:
        return Extent(size)
    (stated,) = _unpack(f"{order}I", data, start + 4)
    chunks = _chunks(data, start + 12, struct.Struct(f"{order}4sI"), even=True)
    content, length = chunks.get(b"data", (start + 8, stated))
    if b"data" in chunks and length in (0, 36) and content < size:
        # Recorders write the lengths when they stop.
        unfinished = start + 8 + stated < size
        if unfinished and not _is_followed_by_chunks(data, content + length):
            return Extent(size, {content - 4: b"\xff" * 4}, _UNFINISHED)
    if _is_placeholder(length) and content + length > size:
        return Extent(size, note="" if stated == 2**32 - 1 else _UNFINISHED)
    if _is_placeholder(stated):
        return Extent(content + length if b"data" in chunks else size)
    end = start + 8 + stated
    return Extent(max(end, content + length) if b"data" in chunks else end)


def _is_placeholder(size: int) -> bool:
    """Whether a 32-bit length is what pipes write, a little below 2³¹ or 2³², as it must end."""
    return abs(size - 2**31) <= 2**16 or size >= 2**32 - 2**16


def _rf64(data: Bytes, start: int) -> Extent:
    if data[start + 12 : start + 16] != b"ds64" or len(data) < start + 36:
        return Extent(len(data))
    stated, length = _unpack("<QQ", data, start + 20)
    content = _chunks(data, start + 12, struct.Struct("<4sI"), even=True).get(b"data", (0, 0))[0]
    rest = len(data) - content
    if content and not length and rest:
        return Extent(len(data), {start + 28: struct.pack("<Q", rest)}, _UNFINISHED)
    return Extent(max(start + 8 + stated, content + length if content else 0))


def _w64(data: Bytes, start: int) -> Extent:
    size = len(data)
    if size < start + 40:
        return Extent(size)
    (stated,) = _unpack("<Q", data, start + 16)
    at = start + 40
    for _ in range(_MOST_CHUNKS):
        if at + 24 > size:
            break
        (length,) = _unpack("<Q", data, at + 16)
        if data[at : at + 4] == b"data":
            if length <= 24 < size - at:
                patch = {at + 16: struct.pack("<Q", size - at)}
                return Extent(size, patch, _UNFINISHED)
            break
        at += max(24, -(-length // 8) * 8)
    return Extent(size if stated in (0, 2**64 - 1) else start + stated)


def _form(data: Bytes, start: int) -> Extent:
    if len(data) < start + 8:
        return Extent(len(data))
    (stated,) = _unpack(">I", data, start + 4)
    if not stated or stated >= 0x7F000000:  # libsndfile reads to the end of the file
        return Extent(len(data), note=_UNFINISHED)
    return Extent(start + 8 + stated)


def _au(data: Bytes, start: int) -> Extent:
    if len(data) < start + 12:
        return Extent(len(data))
    order = ">" if data[start : start + 1] == b"." else "<"
    content, length = _unpack(f"{order}II", data, start + 4)
    if not length and start + content < len(data):
        return Extent(len(data), {start + 8: b"\xff" * 4}, _UNFINISHED)
    return Extent(len(data) if length == 2**32 - 1 else start + content + length)


def _caf(data: Bytes, start: int) -> Extent:
    size = len(data)
    chunks = _chunks(data, start + 8, struct.Struct(">4sq"), even=False)
    if b"data" not in chunks:
        return Extent(size)
    content, length = chunks[b"data"]
    patch = {content - 8: struct.pack(">q", size - content)}
    if length <= 4 < size - content and not any(at > content for at, _ in chunks.values()):
        return Extent(size, patch, "" if length == -1 else _UNFINISHED)
    ends = [at + max(length, 0) for at, length in chunks.values()]
    # libsndfile refuses a CAF file that ends in its samples.
    return Extent(max(ends), patch if content + length > size else {})


def _nist(data: Bytes, start: int) -> Extent:
    words = data[start : start + 1024].split()
    try:
        fields = {name: int(words[words.index(name) + 2]) for name in _NIST_FIELDS}
        length = fields.pop(b"sample_count")
        for factor in fields.values():
            length *= factor
        return Extent(start + int(words[1]) + length)
    except (ValueError, IndexError):
        return Extent(len(data))


_NIST_FIELDS = (b"sample_count", b"channel_count", b"sample_n_bytes")
EXTENTS = {
    b"RIFF": _riff,
    b"RIFX": _riff,
    b"RF64": _rf64,
    b"riff": _w64,
    b"FORM": _form,
    b".snd": _au,
    b"dns.": _au,
    b"caff": _caf,
    b"NIST": _nist,
}
