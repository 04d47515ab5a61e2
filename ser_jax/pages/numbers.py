"""Numbers as text, each kind in one place."""


def limits(low: float | None, high: float | None, digits: str = ".1f") -> str:
    """Limits of fractions, in per cent and brackets, after a space; "" where there are none."""
    return "" if low is None else f" [{100 * low:{digits}}, {100 * high:{digits}}]"


def percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"
