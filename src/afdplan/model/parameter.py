"""What is one parameter: its name, domain, unit, default, choices and help?

Python fields, study files, the command line and JSON `inputs` all read the same record.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from afdplan.errors import InvalidInputError
from afdplan.model.checks import check_choice, check_count, check_number

__all__ = [
    "Parameter",
    "check_fields",
    "choice",
    "count",
    "number",
    "text",
    "values_of",
]

Typed = Literal["", "duration", "rate", "model rate", "share", "numbers", "bundles", "span"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A variable of a question.

    Attributes
    ----------
    name
        As in study files and results.
    data
        What a value is: ``count``, ``number``, ``text`` or ``flag``.
    default
        Value where nothing is said; None leaves it out.
    minimum, maximum, strict, below
        Domain of a count or a number; `strict` excludes the minimum, `below` is a
        maximum that is excluded.
    choices
        Domain of a text; empty for any.
    former
        Earlier spellings of choices, which still work: (earlier, present) pairs.
    help
        One line for people.
    field
        Name in Python, where it is another.
    option
        Name on the command line, where it is not ``--name``.
    metavar
        What stands for a value in help.
    typed
        How people write a value there: ``50ms`` (duration), ``20/s`` (rate), ``0.5%`` (share),
        ``1,2,8`` (numbers); empty for plainly.
    is_required
        Whether it has no default and cannot be left out.
    """

    name: str
    data: Literal["count", "number", "text", "flag"] = "count"
    default: Any = None
    minimum: float | None = None
    maximum: float | None = None
    strict: bool = False
    below: float | None = None
    choices: tuple[str, ...] = ()
    former: tuple[tuple[str, str], ...] = ()
    help: str = ""
    field: str = ""
    option: str = ""
    metavar: str = ""
    typed: Typed = ""
    is_required: bool = False

    def __post_init__(self) -> None:
        if not self.field:
            object.__setattr__(self, "field", self.name)
        if not self.option:
            object.__setattr__(self, "option", "--" + self.name.replace("_", "-"))
        if self.minimum is None:
            object.__setattr__(self, "minimum", 1 if self.data == "count" else 0)

    @property
    def key(self) -> str:
        """The option as a word: under it commands pass and JSON `inputs` show the value."""
        return self.option.lstrip("-").replace("-", "_")

    def changed(self, **changes: Any) -> Parameter:
        """Return the same parameter as one command or study takes it, for example as a list."""
        if "name" in changes:
            changes = {"field": "", "option": "", **changes}
        return replace(self, **changes)

    def check(self, value: Any, label: str = "") -> Any:
        """Return a value of the domain, or raise naming the rule; `label` is how to call it.

        Examples
        --------
        >>> Parameter(name="batch_size").check(64)
        64
        """
        label = label or self.name
        if self.data == "count":
            most = None if self.maximum is None else int(self.maximum)
            return check_count(label, value, int(self.minimum or 0), most)
        if self.data == "number":
            return self._number(value, label)
        if self.data == "flag":
            if not isinstance(value, bool):
                raise InvalidInputError(f"{label} must be true or false, got {value!r:.40}")
            return value
        if self.choices:
            return check_choice(label, self.present(value), self.choices)
        if isinstance(value, bool | float) or not isinstance(value, str | int) or value == "":
            raise InvalidInputError(f"{label} must be text, got {value!r:.40}")
        return str(value)

    def present(self, value: Any) -> Any:
        """Return the present spelling of a choice.

        Examples
        --------
        >>> Parameter(name="way", choices=("new",), former=(("old", "new"),)).present("old")
        'new'
        """
        return next((now for earlier, now in self.former if earlier == value), value)

    def _number(self, value: Any, label: str) -> float:
        number = check_number(label, value, self.minimum or 0, self.strict)
        if self.maximum is not None and number > self.maximum:
            raise InvalidInputError(f"{label} must be <= {self.maximum:,g}, got {number:,g}")
        if self.below is not None and number >= self.below:
            raise InvalidInputError(f"{label} must be < {self.below:,g}, got {number:,g}")
        return number


def count(name: str, help: str = "", **more: Any) -> Parameter:
    """Return a parameter that is a whole number, >= 1 unless `minimum` says otherwise."""
    return Parameter(name=name, help=help, **more)


def number(name: str, help: str = "", **more: Any) -> Parameter:
    """Return a parameter that is a number, >= 0 unless `minimum` says otherwise."""
    return Parameter(name=name, data="number", help=help, **more)


def text(name: str, help: str = "", **more: Any) -> Parameter:
    """Return a parameter that is any text."""
    return Parameter(name=name, data="text", help=help, **more)


def choice(name: str, help: str, choices: Any, **more: Any) -> Parameter:
    """Return a parameter that is one of the texts of a `Literal`."""
    return Parameter(name=name, data="text", help=help, choices=get_args(choices), **more)


def check_fields(
    owner: Any,
    parameters: Iterable[Parameter],
    label: str = "{0.field}",
    error: type[InvalidInputError] | None = None,
) -> None:
    """Check the fields of a frozen value by their records, and normalize them.

    Parameters
    ----------
    owner
        A dataclass; a field whose default is None may hold None.
    parameters
        Of the fields.
    label
        How messages call a parameter.
    error
        Raised in place of `InvalidInputError`.
    """
    for one in parameters:
        value = getattr(owner, one.field)
        if value is None and owner.__dataclass_fields__[one.field].default is None:
            continue
        try:
            checked = one.check(value, label.format(one))
        except InvalidInputError as wrong:
            raise (error or type(wrong))(str(wrong)) from None
        object.__setattr__(owner, one.field, checked)


def values_of(owner: Any, parameters: Iterable[Parameter]) -> Mapping[str, Any]:
    """Return what a question holds, by the names of JSON `inputs`."""
    return {one.key: getattr(owner, one.field) for one in parameters}
