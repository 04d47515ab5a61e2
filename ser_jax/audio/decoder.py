"""An audio file, decoded front to back in bounded blocks of samples that were really read.

Axes: S samples, C channels.
"""

import contextlib
import functools
import io
import math
import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ser_jax.audio import containers
from ser_jax.audio.extents import n_samples
from ser_jax.audio.file_bytes import Bytes, bytes_of
from ser_jax.audio.quiet import quiet_stderr
from ser_jax.common.errors import UserError

# Common formats that libsndfile reads, in lower case.
SUFFIXES = frozenset(".wav .flac .ogg .oga .opus .mp3 .aif .aiff .aifc .au .caf .w64 .rf64".split())
# Others that people have, which it does not read.
FOREIGN_SUFFIXES = frozenset(
    ".m4a .mp4 .m4b .aac .webm .mka .mkv .mov .3gp .amr .wma .wmv .ac3 .ape .wv .avi .flv "
    ".sd2".split()
)
LFS_POINTER = b"version https://git-lfs"
RATES = (1_000, 1_000_000)  # Hz, lowest and highest; others come from a damaged header
RATES_TEXT = f"only rates from {RATES[0]:,} to {RATES[1]:,} Hz are accepted"
_BLOCK = 2**18  # samples of all channels decoded at a time
_SMALL_BLOCK = 2**8  # after an error, whose block is lost
_LONGEST_PIPE = 2**31  # bytes
# Codecs of WAV whose last block is padded, by fewer samples than this.
_PADDED = "GSM610 G721_32 NMS_ADPCM_16 NMS_ADPCM_24 NMS_ADPCM_32".split()
_LONGEST_PADDING = 1_000
_SNDFILE = "sndfile-convert"  # of libsndfile; FFmpeg does not read all that it does
_UNKNOWN_LENGTH = 2**62  # samples; more are the decoder's way to say so


class AudioError(UserError):
    """An audio file that cannot be used."""


def conversion(path: Path, program: str = "ffmpeg -i") -> str:
    """Return advice on a file in a format that is not read, but by a program."""
    stem = path.stem + "_converted" * (path.suffix.lower() == ".wav")
    if path.suffix.lower() == ".sd2":  # the file is bare samples, and another one beside it tells
        program = _SNDFILE
    names = shlex.join([path.name, f"{stem}.wav"])
    return f"convert it, for instance: {program} {names}"


def is_rate(sampling_rate: float) -> bool:
    """Return whether a rate in Hz is plausible for speech."""
    return RATES[0] <= sampling_rate <= RATES[1]


def is_lfs_pointer(path: Path) -> bool:
    """Return whether a file is the 130-byte text that Git LFS leaves in place of the audio."""
    with path.open("rb") as file:
        return file.read(len(LFS_POINTER)) == LFS_POINTER


class CutShortError(AudioError):
    """A file of which so much is missing that nothing can be decoded."""


class Decoder:
    """Decodes a file; use it in a `with` statement and read `blocks` once.

    Nothing but the samples that the decoder returned is used: its own block reader and the lengths
    in headers leave a buffer's old memory in place of samples that are missing.

    Attributes:
      path: of the file.
      rate: sampling rate, Hz.
      channels: number of channels, of the first stream if there are several.
      cut: what is missing at the end, "" if nothing is; complete after the last block.
      note: a remark on the file, or ""; complete after the last block.
      n_samples: per channel, in the blocks so far.
    """

    def __init__(self, path: Path):
        """Open a file.

        Raises:
          AudioError: it is missing, an LFS pointer, or not audio that can be read.
        """
        self.path = path
        self.n_samples = 0
        self._resources = contextlib.ExitStack()
        with self._resources:
            try:
                self._open()
            except _decoder_errors() as error:
                raise self._error(error) from error
            self._resources = self._resources.pop_all()

    def _open(self) -> None:
        self._data, self._descriptor = self._bytes()
        if self._data[: len(LFS_POINTER)] == LFS_POINTER:
            raise AudioError(
                f"{self.path} is a Git LFS pointer, not audio; run `git lfs pull` in the clone, or "
                "`python -m data_prep.download`."
            )
        if self._data[: len(containers.MIDI_DUMP)] == containers.MIDI_DUMP:
            raise self._error(ValueError())
        self._structure = containers.examine(self._data)
        self.cut, self.note = self._structure.cut, self._structure.note
        self._streams = self._structure.streams or (None,)
        self._file = self._sound_file(self._streams[0])
        self.rate, self.channels = self._file.samplerate, self._file.channels
        if not is_rate(self.rate):
            raise AudioError(
                f"{self.path} claims a rate of {self.rate:,} Hz, but {RATES_TEXT}; replace the "
                "file."
            )
        if self._file.format in containers.UNCHECKED:
            raise AudioError(
                f"{self.path} is in the format {self._file.format_info}, which cannot be checked "
                f"for completeness; {conversion(self.path, _SNDFILE)}"
            )

    def __enter__(self) -> "Decoder":
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()
        self._resources.close()

    def blocks(self, seconds: float = math.inf) -> Iterator[np.ndarray]:
        """Yield the samples, float32 [S, C], full scale ±1, in blocks.

        Args:
          seconds: how much is needed; the last block may end later.

        Raises:
          AudioError: no sample can be decoded.
        """
        remaining = math.inf if seconds == math.inf else math.ceil(seconds * self.rate)
        for number, stream in enumerate(self._streams):
            if number:
                self._file.close()
                try:
                    self._file = self._sound_file(stream)
                except _decoder_errors() as error:
                    self.note += f"; number {number + 1} cannot be decoded ({_reason(error)})"
                    return
                if self._file.samplerate != self.rate:
                    self.note += f"; number {number + 1} has another sampling rate and is not used"
                    return
            for block_SxC in self._stream(stream, remaining):
                remaining -= len(block_SxC)
                self.n_samples += len(block_SxC)
                yield block_SxC
            if remaining <= 0:
                return

    def _stream(self, stream: containers.Stream | None, limit: float) -> Iterator[np.ndarray]:
        """Yield the blocks of a stream up to `limit` samples, and note what it lacks."""
        stated = self._file.frames
        if self._file.subtype in _PADDED:
            padding = stated - (n_samples(self._data) or stated)
            stated -= padding if 0 < padding < _LONGEST_PADDING else 0
        n_read, block, error = 0, _BLOCK, None
        while n_read < min(limit, stated):
            n_wanted = min(max(block // self._file.channels, 1), limit - n_read, stated - n_read)
            try:
                if error and block == _BLOCK:
                    # What was decoded before the error is in the lost block: read it in small ones.
                    block, error = _SMALL_BLOCK, None
                    self._restart(stream, n_read)
                    continue
                with self._quiet():
                    block_SxC = self._file.read(n_wanted, dtype="float32", always_2d=True)
            except _decoder_errors() as failure:
                error = failure
                if block == _SMALL_BLOCK:
                    break
                continue
            if len(block_SxC):
                n_read += len(block_SxC)
                yield block_SxC
            if len(block_SxC) < n_wanted:
                break
        if error and not self.n_samples:
            raise self._error(error) from error
        if n_read >= limit:
            return
        if error:
            self.cut = self.cut or f"decoding stops after {n_read / self.rate:.2f} s"
            self.cut += f" ({_reason(error)})"
        elif self._structure.promises and n_read < stated < _UNKNOWN_LENGTH and not self.cut:
            self.cut = f"only {n_read / self.rate:.2f} s of {stated / self.rate:.2f} s are there"
        elif self._file.format in ("MAT4", "VOC") and "truncated" in self._file.extra_info:
            self.cut = "samples are missing"

    def _restart(self, stream: containers.Stream | None, n_samples: int) -> None:
        """Open a stream anew and decode its first samples."""
        self._file.close()
        self._file = self._sound_file(stream)
        while n_samples > 0:
            with self._quiet():
                n_read = len(self._file.read(min(n_samples, _BLOCK), dtype="float32"))
            if not n_read:
                return
            n_samples -= n_read

    def _bytes(self) -> tuple[Bytes, int | None]:
        """Return the file's bytes and descriptor; None for what comes through a pipe."""
        try:
            mode = os.stat(self.path).st_mode
        except OSError as error:
            raise AudioError(f"{self.path} does not exist; check the path.") from error
        if stat.S_ISFIFO(mode) and os.fspath(self.path).startswith(("/dev/", "/proc/")):
            with self.path.open("rb") as pipe:
                data = pipe.read(_LONGEST_PIPE + 1)
            if len(data) > _LONGEST_PIPE:
                raise AudioError(f"{self.path} has more than 2 GiB; write it to a file first.")
            return data, None
        if not stat.S_ISREG(mode):
            raise AudioError(f"{self.path} is not a file; check the path.")
        file = self._resources.enter_context(self.path.open("rb"))
        return bytes_of(file.fileno()), file.fileno()

    def _sound_file(self, stream: containers.Stream | None) -> Any:
        """Open a stream, or the whole file, for reading from front to back."""
        if stream:
            content = bytearray(stream.prefix)
            content += self._data[stream.start : stream.end]
            for offset, patch in stream.patches.items():
                at = offset - stream.start + len(stream.prefix)
                content[at : at + len(patch)] = patch
            source: Any = _Memory(content)
        elif self._descriptor is None:
            source = _Memory(self._data)
        else:
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            source = self._descriptor
        with self._quiet():
            return _front_to_back()(source, closefd=False)

    def _quiet(self) -> contextlib.AbstractContextManager:
        return quiet_stderr() if self._structure.noisy else contextlib.nullcontext()

    def _error(self, error: Exception) -> AudioError:
        """Return the error for a file of which nothing can be decoded."""
        foreign = containers.foreign_format(self._data) if hasattr(self, "_data") else ""
        if foreign or self.path.suffix.lower() in FOREIGN_SUFFIXES:
            kind = foreign or self.path.suffix
            return AudioError(f"{self.path} is {kind}, not read here; {conversion(self.path)}")
        cut = f"; cut short: {self.cut}" if getattr(self, "cut", "") else ""
        return (CutShortError if cut else AudioError)(
            f"{self.path} cannot be decoded as audio ({_reason(error)}{cut}); replace the file."
        )


class _Memory(io.BytesIO):
    """Bytes that a decoder may ask to seek anywhere, as damaged headers make it do."""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        with contextlib.suppress(ValueError, OverflowError):
            super().seek(offset, whence)
        return self.tell()


@functools.cache
def _front_to_back() -> type:
    """Return a SoundFile that never seeks: not every codec can, and none needs to."""
    import soundfile

    class FrontToBack(soundfile.SoundFile):
        def seekable(self) -> bool:
            return False

    return FrontToBack


def _decoder_errors() -> tuple[type[Exception], ...]:
    import soundfile

    return (soundfile.SoundFileError, RuntimeError, TypeError, ValueError, OSError, MemoryError)


def _reason(error: Exception) -> str:
    """Return the decoder's words, without the path and the object that it opened."""
    text = getattr(error, "error_string", str(error))
    return text.removeprefix("Error : ").strip().rstrip(".") or type(error).__name__
