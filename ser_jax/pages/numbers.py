"""Numbers and intervals as text.

`spec` is a format specification; `scale` is 100 for per cent, 1 for the value itself.
"""


def percent(fraction: float | None, spec: str = ".1f") -> str:
    """Return "52.3 %"; "" for None."""
    return "" if fraction is None else f"{100 * fraction:{spec}} %"


def mean_sd(mean: float, sd: float | None = None, spec: str = ".1f", scale: float = 100) -> str:
    """Return "52.3 ± 1.4", or "52.3" without a standard deviation."""
    return f"{scale * mean:{spec}}" + ("" if sd is None else f" ± {scale * sd:{spec}}")


def span(low: float, high: float, spec: str = ".1f", scale: float = 100) -> str:
    """Return "50.1–54.2"."""
    return f"{scale * low:{spec}}–{scale * high:{spec}}"


def limits(low: float | None, high: float | None, spec: str = ".1f", scale: float = 100) -> str:
    """Return " [50.1, 54.2]", to follow a number; "" where there is no interval."""
    return "" if low is None else f" [{scale * low:{spec}}, {scale * high:{spec}}]"


def points(difference: float, spec: str = "+.1f") -> str:
    """Return a difference of fractions in percentage points, such as "+1.2"."""
    return f"{100 * difference:{spec}}"
