"""The published splits of CREMA-D: which actors are in which fold."""

import numpy as np

ACTORS = tuple(str(actor) for actor in range(1001, 1092))
# Missing from TFDS's crema_d, and from EVAR: a clip without votes, and one of each pair with two
# labels.
WITHOUT = frozenset("1040_ITH_SAD_XX 1006_TIE_NEU_XX 1013_WSI_DIS_XX 1017_IWW_FEA_XX".split())


def _actors(numbers: str) -> list[str]:
    """Return actors from the last two digits of their numbers."""
    return [f"10{number}" for number in numbers.split()]


def _shuffled() -> list[str]:
    actors = list(ACTORS)
    np.random.RandomState(0).shuffle(actors)
    return actors


# The split of TFDS's crema_d, also used by SERAB: 63 actors train, 9 validate, 19 test.
TFDS_TEST, TFDS_VAL = _shuffled()[72:], _shuffled()[63:72]
# The split of EVAR (Niizumi et al., 2022): the same numbers, other actors.
EVAR_TEST = _actors("01 04 17 19 20 25 26 29 33 35 42 44 50 53 56 58 60 69 83")
EVAR_VAL = _actors("09 11 22 34 39 47 66 70 82")
# EMO-SUPERB's five blocks of consecutive actors.
_FIRST = (0, 18, 36, 54, 72, 91)
EMOSUPERB5 = [list(ACTORS[first:end]) for first, end in zip(_FIRST, _FIRST[1:], strict=False)]
