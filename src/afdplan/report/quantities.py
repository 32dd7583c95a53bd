"""How is a number told to people: always with its unit, and with the digits that matter?"""

from __future__ import annotations

import math

from afdplan.model.estimate import Estimate
from afdplan.model.latency import TimeUnit

__all__ = [
    "chance",
    "counted",
    "half_width",
    "interval",
    "percent",
    "plus_minus",
    "rate",
    "share",
    "signed",
    "signed_share",
    "stated_time",
    "time",
]


def time(value: float, unit: TimeUnit) -> str:
    """Return a time as text, four digits; abstract times carry no unit that nobody knows.

    Parameters
    ----------
    value
        Time [s or abstract].
    unit
        Which of both.

    Examples
    --------
    >>> time(0.01239, "s"), time(2.5e-5, "s"), time(316.2, "abstract")
    ('12.39 ms', '25 us', '316.2')
    """
    if unit == "abstract":
        return f"{value:.4g}"
    for scale, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if abs(value) >= scale:
            return f"{value / scale:.4g} {name}"
    return f"{value * 1e9:.4g} ns" if value else "0 s"


def stated_time(value: float, unit: TimeUnit) -> str:
    """Return a time that stands alone: abstract ones with the word that says so.

    Examples
    --------
    >>> stated_time(0.01239, "s"), stated_time(316.2, "abstract")
    ('12.39 ms', '316.2 time units')
    """
    return time(value, unit) + (" time units" if unit == "abstract" else "")


def rate(value: float, unit: TimeUnit) -> str:
    """Return tokens per time as text.

    Examples
    --------
    >>> rate(2518.3, "s"), rate(0.70713, "abstract")
    ('2,518 tokens/s', '0.7071 tokens/time')
    """
    if unit == "abstract":
        return f"{value:.4g} tokens/time"
    return f"{value:,.0f} tokens/s" if value >= 1000 else f"{value:.4g} tokens/s"


def counted(number: int, noun: str) -> str:
    """Return a number of things as text.

    Examples
    --------
    >>> counted(1, "bundle"), counted(1200, "device")
    ('1 bundle', '1,200 devices')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def share(value: float) -> str:
    """Return a fraction in percent.

    Examples
    --------
    >>> share(0.0435), share(0.00012)
    ('4.3 %', '0.01 %')
    """
    percent = 100 * value
    if 0.005 <= abs(percent) < 0.1:
        return f"{percent:.2f} %"
    return f"{percent:.1f} %"


def percent(value: float, digits: int = 2) -> str:
    """Return a fraction in percent with a fixed number of digits, for columns.

    Examples
    --------
    >>> percent(0.00341), percent(0.01, 1)
    ('0.34 %', '1.0 %')
    """
    return f"{100 * value:.{digits}f} %"


def signed(value: float, digits: int = 2) -> str:
    """Return a relative error in percent, with its sign.

    Examples
    --------
    >>> signed(0.00341), signed(-0.5, 0)
    ('+0.34 %', '-50 %')
    """
    return f"{100 * value:+.{digits}f} %"


def half_width(value: float) -> str:
    """Return half the width of an interval, as a fraction of its value; it may have no end.

    Examples
    --------
    >>> half_width(0.0035), half_width(float("inf"))
    ('+- 0.35 %', 'no upper end')
    """
    return f"+- {percent(value)}" if math.isfinite(value) else "no upper end"


def chance(value: float) -> str:
    """Return a probability; what a sum of floating-point numbers cannot tell from zero is a bound.

    Examples
    --------
    >>> chance(0.00123), chance(3e-15), chance(0.0)
    ('0.0012', '< 1e-12', '< 1e-12')
    """
    return f"{value:.2g}" if value >= 1e-12 else "< 1e-12"


def signed_share(value: float) -> str:
    """Return a difference in percent, its sign only where there is a digit to carry it.

    Examples
    --------
    >>> signed_share(-0.0123), signed_share(-1e-9)
    ('-1.23 %', 'less than 0.01 %')
    """
    return f"{100 * value:+.2f} %" if abs(value) >= 5e-5 else "less than 0.01 %"


def plus_minus(estimate: Estimate) -> str:
    """Return how far an estimate may be off, relative to it.

    Examples
    --------
    >>> plus_minus(Estimate(value=10.0, low=9.9, high=10.1, confidence=0.95, method="m"))
    '+/- 1.00 %'
    >>> plus_minus(Estimate(value=10.0, low=10.0, high=10.0, confidence=0.95, method="m"))
    'less than +/- 0.01 %'
    """
    share = estimate.relative_half_width
    if not math.isfinite(share):
        return "no interval"
    return f"+/- {100 * share:.2f} %" if share >= 5e-5 else "less than +/- 0.01 %"


def interval(estimate: Estimate) -> str:
    """Return the ends of an interval; one too narrow to matter is told by its width.

    Examples
    --------
    >>> interval(Estimate(value=3835.0, low=3829.0, high=3841.3, confidence=0.95, method="m"))
    '3,829 to 3,841'
    >>> interval(Estimate(value=3835.0, low=3835.0, high=3835.2, confidence=0.95, method="m"))
    'within 0.01 %'
    """
    if estimate.relative_half_width < 5e-5:
        return "within 0.01 %"
    for digits in (4, 5, 6):
        low, high = _digits(estimate.low, digits), _digits(estimate.high, digits)
        if low != high:
            break
    return f"{low} to {high}"


def _digits(value: float, digits: int) -> str:
    """Return a number with a comma for thousands and without an exponent where it is large."""
    if 1000 <= abs(value) < math.inf:
        places = max(digits - len(str(int(abs(value)))), 0)
        text = f"{value:,.{places}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{value:.{digits}g}"
