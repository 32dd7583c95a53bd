"""How is a number told to people: always with its unit, and with the digits that matter?"""

from __future__ import annotations

import math

from afdplan.model.latency import TimeUnit

__all__ = ["half_width", "percent", "rate", "share", "signed", "time"]


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
