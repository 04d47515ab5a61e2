"""Frames of MPEG audio (MP3): how many there are, and how many a header promises.

libmpg123 trusts the frame count of a Xing header, and estimates it where there is none from the
size of the first frame, so that libsndfile ends a file of variable bitrate too early.
"""

import dataclasses
import functools

from ser_jax.audio.file_bytes import Bytes

_BITRATES = {  # kbit/s, by (is MPEG 1, layer)
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = (44_100, 48_000, 32_000)  # Hz, of MPEG 1; MPEG 2 has half, MPEG 2.5 a quarter
_FLAGS_FRAMES, _FLAGS_BYTES = 1, 2  # of a Xing header


@dataclasses.dataclass(frozen=True)
class Header:
    """The header of a frame.

    Attributes:
      length: of the frame, bytes.
      kind: version, layer and sampling rate; equal for all frames of a stream.
      bitrate: index.
      xing: where a Xing header would be in the frame; None if the layer has none.
    """

    length: int
    kind: tuple[int, int, int]
    bitrate: int
    xing: int | None


@dataclasses.dataclass
class Run:
    """Consecutive frames of one stream.

    Attributes:
      start: its first byte in the file.
      end: one past its last byte.
      first: offset of the first frame with sound.
      n_frames: whole frames with sound.
      n_stated: the number of frames that its Xing header promises, or None.
      n_missing: bytes that are missing at its end.
      varies: whether the bitrate varies.
    """

    start: int
    end: int
    first: int
    n_frames: int = 0
    n_stated: int | None = None
    n_missing: int = 0
    varies: bool = False

    @property
    def cut(self) -> str:
        """What is missing at its end; "" if nothing is."""
        if self.n_missing:
            return f"{self.n_missing:,} bytes are missing"
        n_lost = (self.n_stated or 0) - self.n_frames
        return f"{n_lost:,} of {self.n_stated:,} frames are missing" if n_lost > 1 else ""

    @property
    def is_misjudged(self) -> bool:
        """Whether libmpg123 would end it before its last frame."""
        return self.varies if self.n_stated is None else self.n_frames > self.n_stated + 1


def is_header(head: bytes) -> bool:
    """Whether four bytes can begin a frame."""
    return len(head) == 4 and _parse(int.from_bytes(head, "big") >> 6) is not None


@functools.cache
def _parse(bits: int) -> Header | None:
    """Parse the first 26 bits of a frame."""
    if bits >> 15 != 0x7FF:
        return None
    version, layer, bitrate = bits >> 13 & 3, 4 - (bits >> 11 & 3), bits >> 6 & 15
    rate, padding, mono = bits >> 4 & 3, bits >> 3 & 1, bits & 3 == 3
    if version == 1 or layer == 4 or not 1 <= bitrate <= 14 or rate == 3:
        return None
    hertz = _RATES[rate] // (1 if version == 3 else 2 if version == 2 else 4)
    bits_per_second = 1000 * _BITRATES[version == 3, layer][bitrate - 1]
    if layer == 1:
        length = (12 * bits_per_second // hertz + padding) * 4
    else:
        length = (72 if layer == 3 and version != 3 else 144) * bits_per_second // hertz + padding
    side = (17 if mono else 32) if version == 3 else (9 if mono else 17)
    return Header(length, (version, layer, rate), bitrate, 4 + side if layer == 3 else None)


def _header(data: Bytes, at: int) -> Header | None:
    return _parse(int.from_bytes(data[at : at + 4], "big") >> 6) if at + 4 <= len(data) else None


def runs(data: Bytes) -> list[Run]:
    """Return the streams of a file one after the other; a Xing header or a tag begins a new one."""
    found: list[Run] = []
    run: Run | None = None
    kind, bitrate = None, 0
    at, begin, size = 0, 0, len(data)
    while at < size:
        header = _header(data, at)
        if header is None or (kind and header.kind != kind and not _begins(data, at, header)):
            tag = _tag(data, at)
            if tag and data[at : at + 3] == b"ID3":
                run, begin = None, at  # the frames that follow are of another file
            at = at + tag if tag else _next_header(data, at + 1, size)
            continue
        stated = _xing(data, at, header)
        if run is None or stated or header.kind != kind:
            kind, bitrate = header.kind, header.bitrate
            run = Run(at if found and begin < found[-1].end else begin, 0, at)
            found.append(run)
        if stated:
            n_frames, n_bytes = stated
            run.n_stated, run.n_missing = n_frames, max(at + n_bytes - size, 0)
            run.first = at + header.length
            bitrate = 0
        elif at + header.length > size:
            run.n_missing = run.n_missing or at + header.length - size
        else:
            run.n_frames += 1
            run.varies |= bool(bitrate) and header.bitrate != bitrate
            bitrate = header.bitrate
        at += header.length
        run.end = min(at, size)
    for before, after in zip(found, found[1:], strict=False):
        before.end = after.start
        before.n_missing = 0
    if found:
        found[-1].end = size
    return [run for run in found if run.n_frames]


def _begins(data: Bytes, at: int, header: Header) -> bool:
    """Whether a frame of another kind begins a stream: the next frame is of the same kind."""
    after = _header(data, at + header.length)
    return after is not None and after.kind == header.kind


def _next_header(data: Bytes, at: int, size: int) -> int:
    """Return where frames continue after damage."""
    while 0 <= (at := data.find(b"\xff", at)) < size:
        header = _header(data, at)
        if header is not None and _begins(data, at, header):
            return at
        if data[at : at + 1] == b"\xff":
            at += 1
    return size


def _tag(data: Bytes, at: int) -> int:
    """Return the length of an ID3 or APE tag, 0 if there is none."""
    if data[at : at + 3] == b"ID3" and at + 10 <= len(data):
        length = 0
        for byte in data[at + 6 : at + 10]:
            length = length << 7 | byte & 127
        return 10 + length + (10 if data[at + 5] & 16 else 0)
    if data[at : at + 3] == b"TAG":
        return 128
    if data[at : at + 8] == b"APETAGEX" and at + 24 <= len(data):
        at_header = data[at + 23] & 32
        return 32 + int.from_bytes(data[at + 12 : at + 16], "little") if at_header else 32
    return 0


def _xing(data: Bytes, at: int, header: Header) -> tuple[int, int] | None:
    """Return the numbers of frames and bytes in a Xing header; 0 bytes if they are not stated."""
    if header.xing is None:
        return None
    here = at + header.xing
    if data[here : here + 4] not in (b"Xing", b"Info") or here + 16 > len(data):
        return None
    flags = data[here + 7]
    if not flags & _FLAGS_FRAMES:
        return None
    frames = int.from_bytes(data[here + 8 : here + 12], "big")
    n_bytes = int.from_bytes(data[here + 12 : here + 16], "big") if flags & _FLAGS_BYTES else 0
    return frames, n_bytes


def length_header(data: Bytes, run: Run) -> bytes:
    """Return a frame with a Xing header that states the real number of frames of a run."""
    first = _header(data, run.first)
    if first is None or first.xing is None:
        return b""
    head = bytearray(data[run.first : run.first + 4])
    head[1] |= 1  # no checksum
    head[2] = 9 << 4 | head[2] & 0x0C  # a bitrate at which the frame is long enough
    header = _header(bytes(head), 0)
    frame = bytearray(header.length)
    frame[:4] = head
    content = b"Xing" + (_FLAGS_FRAMES).to_bytes(4, "big") + run.n_frames.to_bytes(4, "big")
    frame[header.xing : header.xing + len(content)] = content
    return bytes(frame)
