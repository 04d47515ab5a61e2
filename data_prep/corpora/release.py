"""The files of a published corpus: names, SHA-256 checksums and web addresses."""

import dataclasses
import re
from pathlib import Path

from ser_jax.common.errors import UserError


@dataclasses.dataclass(frozen=True)
class Release:
    """A corpus as it was published."""

    manifest: Path  # the checksums of all files, in the format of sha256sum
    audio: str  # the folder of the clips, with a final "/"; files outside it are tables
    audio_url: str  # the web folder that serves clips by their name in the manifest
    tables_url: str  # the same for tables
    tables_hold: str  # what is missing without the tables

    def base_url(self, name: str) -> str:
        """Return the web folder that serves a file."""
        return self.audio_url if name.startswith(self.audio) else self.tables_url


def read_manifest(path: Path) -> dict[str, str]:
    """Return {name: hex SHA-256} from a file in the format of sha256sum.

    Raises:
      UserError: a line has another format, or a name leads out of the folder.
    """
    checksums = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        match = re.fullmatch(r"([0-9a-f]{64})  (.+)", line)
        if not match:
            raise UserError(f"{path}, line {number}: expected `sha256  name`; restore the file.")
        check_name(match[2], f"{path}, line {number}")
        checksums[match[2]] = match[1]
    return checksums


def check_name(name: str, where: str) -> None:
    """Raise a UserError that says `where`, if a name is absolute, hidden or contains ".."."""
    if not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)*", name):
        raise UserError(f"{where}: {name!r} is not a plain relative path; restore the manifest.")
