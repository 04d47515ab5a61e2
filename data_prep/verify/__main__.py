"""Check a corpus: checksums, Git LFS pointers, silent, broken and repeated clips.

    python -m data_prep.verify --root=data/crema_d
    python -m data_prep.verify --root=my_clips --corpus=csv --json=report.json

It checks the files themselves, so it also works where the reader would refuse them. The exit code
is 1 if something is wrong. Defects that the corpus was published with (CREMA-D: a silent clip,
three recordings under two labels each) are listed and do not count as wrong.
"""

if __name__ == "__main__":  # before imports that take a while
    from ser_jax.common import interrupts

    interrupts.end_at_once()

import argparse
import dataclasses

from data_prep import corpora
from data_prep.verify.corpus import verify
from data_prep.verify.findings import render
from ser_jax.common import files
from ser_jax.common.cli import exit_with_message, path_flag, program


def main() -> int:
    parser = argparse.ArgumentParser(
        prog=program("data_prep.verify"),
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--root", type=path_flag, required=True, help="the folder of the corpus")
    parser.add_argument("--corpus", choices=list(corpora.CORPORA), default="crema_d")
    parser.add_argument("--json", type=path_flag, help="also write all findings to this file")
    args = parser.parse_args()
    verification = verify(args.root, args.corpus)
    if args.json:
        files.write_json(args.json, dataclasses.asdict(verification))
    print(render(verification))
    return 1 if verification.wrong else 0


if __name__ == "__main__":
    exit_with_message(main)
