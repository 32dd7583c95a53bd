"""How is a number told to people: always with its unit, and with the digits that matter?"""

from __future__ import annotations

from afdplan.model.latency import TimeUnit

__all__ = ["chance", "rate", "share", "stated_time", "time"]


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


def chance(value: float) -> str:
    """Return a probability; what a sum of floating-point numbers cannot tell from zero is a bound.

    Examples
    --------
    >>> chance(0.00123), chance(3e-15), chance(0.0)
    ('0.0012', '< 1e-12', '< 1e-12')
    """
    return f"{value:.2g}" if value >= 1e-12 else "< 1e-12"
