"""One attempt to make the program fall; what each kind of them provides.

A kind is a module `tests.torture.KIND` with the function

    def run(seed: int, count: int, folder: Path) -> Iterator[Trial]

which makes `count` trials, numbered seed, seed + 1 …, so that run(trial.seed, 1, …) repeats a
trial. It may write below `folder`, which exists and is empty, and is closed early when time is up.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Trial:
    """One attempt.

    Attributes:
      kind: name of the module.
      name: what was tried, a row of the table of results, such as "FLAC PCM_16" or "train, kill".
      seed: repeats it.
      outcome: what happened, a column of the table, such as "read", "refused" or "resumed".
      detail: why it fell, with what one needs to look into it; "" if it did not fall.
    """

    kind: str
    name: str
    seed: int
    outcome: str
    detail: str = ""

    @property
    def fell(self) -> bool:
        """Whether something is to be mended."""
        return bool(self.detail)
