"""Write the synthetic corpus.

python -m data_prep.synthetic --root=data/synthetic  # 720 clips, 31 MB, ten seconds
"""

if __name__ == "__main__":  # before imports that take a while
    from ser_jax.common import interrupts

    interrupts.end_at_once()

import argparse

from data_prep.synthetic.corpus import write_corpus
from ser_jax.common.cli import exit_with_message, path_flag, program


def main() -> None:
    parser = argparse.ArgumentParser(
        prog=program("data_prep.synthetic"), description=__doc__.splitlines()[0]
    )
    parser.add_argument("--root", type=path_flag, required=True, help="an empty or new folder")
    parser.add_argument("--speakers", type=int, default=24, help="1 to 999 (default: %(default)s)")
    parser.add_argument("--sentences", type=int, default=5, help="1 to 12 (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument(
        "--sampling-rate", type=int, default=16000, help="Hz (default: %(default)s)"
    )
    parser.add_argument("--jobs", type=int, help="processes (default: one per processor)")
    flags = parser.parse_args()
    write_corpus(
        flags.root,
        n_speakers=flags.speakers,
        n_sentences=flags.sentences,
        seed=flags.seed,
        sampling_rate=flags.sampling_rate,
        jobs=flags.jobs,
    )
    print(f"{flags.root} holds {flags.speakers * flags.sentences * 6} synthetic clips.")


if __name__ == "__main__":
    exit_with_message(main)
