"""How is a number told to people: always with its unit, and with the digits that matter?"""

from __future__ import annotations

from afdplan.model.latency import TimeUnit

__all__ = ["counted", "rate", "share", "time"]


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
