"""Numbers and intervals as text.

`spec` is a format specification; `scale` is 100 for per cent, 1 for the value itself.
"""


def number(value: float, spec: str) -> str:
    """Return a number with the minus sign of a text, which is wider than a hyphen."""
    return f"{value:{spec}}".replace("-", "−")


def percent(fraction: float | None, spec: str = ".1f") -> str:
    """Return "52.3 %"; "" for None."""
    return "" if fraction is None else f"{number(100 * fraction, spec)} %"


def mean_sd(mean: float, sd: float | None = None, spec: str = ".1f", scale: float = 100) -> str:
    """Return "52.3 ± 1.4", or "52.3" without a standard deviation."""
    return number(scale * mean, spec) + ("" if sd is None else f" ± {number(scale * sd, spec)}")


def span(low: float, high: float, spec: str = ".1f", scale: float = 100) -> str:
    """Return "50.1–54.2"."""
    return f"{number(scale * low, spec)}–{number(scale * high, spec)}"


def limits(low: float | None, high: float | None, spec: str = ".1f", scale: float = 100) -> str:
    """Return " [50.1, 54.2]", to follow a number; "" where there is no interval."""
    if low is None:
        return ""
    return f" [{number(scale * low, spec)}, {number(scale * high, spec)}]"


def points(difference: float, spec: str = "+.1f") -> str:
    """Return a difference of fractions in percentage points, such as "+1.2"."""
    return number(100 * difference, spec)
