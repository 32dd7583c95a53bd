"""How is a number or a name told to people: with its unit, and with the digits that matter?"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from afdplan.model.estimate import Estimate
from afdplan.model.latency import TimeUnit
from afdplan.model.words import counted

__all__ = [
    "chance",
    "change",
    "counted",
    "estimated",
    "given_time",
    "interval",
    "number",
    "plain",
    "plus_minus",
    "rate",
    "sentence",
    "share",
    "size",
    "spark",
    "stated_time",
    "time",
    "times",
    "value_and_interval",
]


BLOCKS = "▁▂▃▄▅▆▇█"


def plain(text: str) -> str:
    r"""Return text without signs that cannot be seen: what comes from outside may hold them.

    Line ends, marks that turn the direction of writing, control characters and halves of
    characters (file names that are no Unicode) become escapes; nothing is left out.

    Examples
    --------
    >>> print(plain("run.csv"), plain("a\n\u202eb\udcff"), plain("no\u00a0break"))
    run.csv a\n\u202eb\udcff no break
    """
    if text.isprintable():
        return text
    return "".join(
        letter
        if letter.isprintable()
        else " "
        if letter == "\u00a0"
        else letter.encode("unicode_escape").decode()
        for letter in text
    )


def sentence(text: str) -> str:
    """Return words as a sentence.

    Examples
    --------
    >>> sentence("a split is slower")
    'A split is slower.'
    """
    return f"{text[:1].upper()}{text[1:]}."


def number(value: float, more: int = 0) -> str:
    """Return a number with three digits, whole numbers with all of theirs.

    Zeros at the end stay, for they are digits too; there are commas between thousands, and powers
    of ten only below a ten-thousandth.

    Parameters
    ----------
    value
        The number.
    more
        Digits to add, where neighbours must differ.

    Examples
    --------
    >>> [number(x) for x in (81.64, 82.0, 1234567.8, 1.5, 0.03, 1.2e-7, 1200, 0.0)]
    ['81.6', '82.0', '1,234,568', '1.50', '0.0300', '1.20e-07', '1,200', '0']
    """
    if isinstance(value, int) or not value or not math.isfinite(value):
        return f"{value:,}" if value else "0"
    digits = 3 + more
    rounded = f"{value:.{digits - 1}e}"
    exponent = int(rounded.partition("e")[2])
    return rounded if exponent < -4 else f"{value:,.{max(digits - 1 - exponent, 0)}f}"


def time(value: float, unit: TimeUnit, more: int = 0) -> str:
    """Return a time with its unit; abstract times carry none, for nobody knows it.

    Parameters
    ----------
    value
        Time [s or abstract].
    unit
        Which of both.
    more
        Digits to add.

    Examples
    --------
    >>> time(0.01239, "s"), time(0.082, "s"), time(2.5e-5, "s"), time(316.2, "abstract")
    ('12.4 ms', '82.0 ms', '25.0 µs', '316')
    >>> time(3e-18, "s")  # what rounding leaves of nothing
    '0 s'
    """
    if unit == "abstract":
        return number(float(value), more)
    if abs(value) < 1e-15:
        return "0 s"
    scale, name = _scale(value)
    return f"{number(value / scale, more)} {name}"


def given_time(value: float, unit: TimeUnit) -> str:
    """Return a time that somebody gave, a limit for example, with the digits it was given with.

    Examples
    --------
    >>> given_time(0.05, "s"), given_time(0.0125, "s"), given_time(300.0, "abstract")
    ('50 ms', '12.5 ms', '300')
    """
    if unit == "abstract":
        return f"{value:,.6g}"
    scale, name = _scale(value)
    return f"{value / scale:,.6g} {name}"


def _scale(value: float) -> tuple[float, str]:
    for scale, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if abs(value) >= 0.9995 * scale:
            return scale, name
    return (1e-9, "ns") if value else (1.0, "s")


def stated_time(value: float, unit: TimeUnit) -> str:
    """Return a time that stands alone: abstract ones with the word that says so.

    Examples
    --------
    >>> stated_time(0.01239, "s"), stated_time(316.2, "abstract")
    ('12.4 ms', '316 time units')
    """
    return time(value, unit) + (" time units" if unit == "abstract" else "")


def rate(value: float, unit: TimeUnit, what: str = "tokens") -> str:
    """Return tokens, or other things, per time.

    Examples
    --------
    >>> rate(2518.3, "s"), rate(0.40713, "abstract"), rate(12.0, "s", "requests")
    ('2,518 tokens/s', '0.407 tokens/time', '12.0 requests/s')
    """
    return f"{number(float(value))} {what}/{'s' if unit == 's' else 'time'}"


def size(value: float) -> str:
    """Return a number of bytes, about.

    Examples
    --------
    >>> size(15_300), size(2.5e9)
    ('15 kB', '2.5 GB')
    """
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if value >= unit:
            return f"{value / unit:.2g} {name}"
    return f"{max(value / 1e3, 1):.0f} kB"


def share(value: float) -> str:
    """Return a part of a whole, or the size of an error, in percent: two decimals below 10 %.

    Examples
    --------
    >>> share(0.0435), share(0.00341), share(1e-6), share(0.0), share(12.5)
    ('4.35 %', '0.34 %', '< 0.01 %', '0.0 %', '1,250.0 %')
    """
    percent = 100 * value
    if abs(percent) < 5e-7:  # what a sum of floating-point numbers cannot tell from zero
        return "0.0 %"
    if abs(percent) < 0.005:
        return "< 0.01 %"
    return f"{percent:,.{2 if abs(percent) < 9.995 else 1}f} %"


def change(value: float) -> str:
    """Return by how much something is more or less, in percent.

    Examples
    --------
    >>> change(0.0435), change(-0.005), change(-1e-6)
    ('+4.35 %', '-0.50 %', '< 0.01 %')
    """
    return f"+{share(value)}" if value >= 5e-5 else share(value)


def plus_minus(value: float) -> str:
    """Return half the width of an interval, as a fraction of its value; it may have no end.

    Examples
    --------
    >>> plus_minus(0.01), plus_minus(0.0035), plus_minus(float("inf"))
    ('± 1.00 %', '± 0.35 %', 'no interval')
    """
    return f"± {share(value)}" if math.isfinite(value) else "no interval"


def chance(value: float) -> str:
    """Return a probability; what a sum of floating-point numbers cannot tell from zero is a bound.

    Examples
    --------
    >>> chance(0.00123), chance(3e-15), chance(0.0)
    ('0.0012', '< 1e-12', '< 1e-12')
    """
    return f"{value:.2g}" if value >= 1e-12 else "< 1e-12"


def interval(estimate: Estimate, tell: Callable[[float, int], str] = number) -> str:
    """Return the ends of an interval, told apart; one too narrow to matter is told by its width.

    Examples
    --------
    >>> interval(Estimate(value=3835.0, low=3829.0, high=3841.3, confidence=0.95, method="m"))
    '3,829 to 3,841'
    >>> interval(Estimate(value=3835.0, low=3835.0, high=3835.2, confidence=0.95, method="m"))
    'within 0.01 %'
    """
    return value_and_interval(estimate, tell)[1]


def value_and_interval(
    estimate: Estimate, tell: Callable[[float, int], str] = number
) -> tuple[str, str]:
    """Return a number and its interval, with as many digits as tell them apart.

    Examples
    --------
    >>> found = Estimate(value=0.5, low=0.4999, high=0.5004, confidence=0.95, method="m")
    >>> value_and_interval(found)
    ('0.5000', '0.4999 to 0.5004')
    """
    more, ends = 0, "no interval"
    if math.isfinite(estimate.high - estimate.low):
        ends = "within 0.01 %"
        if estimate.relative_half_width >= 5e-5:
            for more in (0, 1, 2):
                told = [tell(float(x), more) for x in (estimate.low, estimate.value, estimate.high)]
                ends = f"{told[0]} to {told[2]}"
                if len(set(told)) == 3:
                    break
    return tell(float(estimate.value), more), ends


def estimated(estimate: Estimate, tell: Callable[[float, int], str] = number) -> str:
    """Return a number with its interval behind it.

    Examples
    --------
    >>> estimated(Estimate(value=5.0, low=4.9, high=5.1, confidence=0.95, method="m"))
    '5.00 (4.90 to 5.10)'
    """
    value, ends = value_and_interval(estimate, tell)
    return f"{value} ({ends})"


def times(unit: TimeUnit) -> Callable[[float, int], str]:
    """Return what tells the times of an interval.

    Examples
    --------
    >>> found = Estimate(value=2.0, low=1.9, high=2.1, confidence=0.95, method="m")
    >>> interval(found, times("s"))
    '1.90 s to 2.10 s'
    """
    return lambda value, more: time(value, unit, more)


def spark(values: Sequence[float], floor: float | None = 0.0) -> str:
    """Return values as a row of small bars, the lowest at `floor` (None: at their minimum).

    Examples
    --------
    >>> spark([0, 1, 2, 7])
    '▁▂▃█'
    """
    if not values:
        return ""
    low = min(values) if floor is None else floor
    span = max(values) - low
    if span <= 0:
        return BLOCKS[0] * len(values)
    return "".join(BLOCKS[round((value - low) / span * (len(BLOCKS) - 1))] for value in values)
