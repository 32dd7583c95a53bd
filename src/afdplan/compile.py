"""How are kernels compiled? The only file that imports numba."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FunctionType, SimpleNamespace
from typing import Any, ClassVar, TypeAlias, TypeVar, cast

import numba
import numba.core
import numba.core.caching
import numba.cpython.unsafe.numbers
import numba.np.arrayobj
import numpy as np
from numba.extending import intrinsic

from afdplan.code_cache import edition, own_temporary_folder
from afdplan.errors import UnsupportedError, reason
from afdplan.notice import listeners

__all__ = [
    "EXTRAS",
    "ZERO",
    "Real",
    "Truth",
    "U",
    "Whole",
    "bits_of",
    "compiled",
    "inlined",
    "intrinsic",
    "of_bits",
    "part",
    "remarks",
    "signature",
    "trailing_zeros",
    "vector",
    "window",
]

core: Any = numba.core
settings: Any = numba.config
arrays: Any = numba.np.arrayobj
trailing_zeros: Any = numba.cpython.unsafe.numbers.trailing_zeros
types, signature = core.types, core.typing.signature

# What a part returns, for the compiler; nothing to know for the type checker.
Real: TypeAlias = Any
Truth: TypeAlias = Any
Whole: TypeAlias = Any
RETURNS = {
    "None": types.none,
    "Real": types.float64,
    "Truth": types.boolean,
    "Whole": types.int64,
    "bool": types.boolean,
    "int": types.int64,
}

# Whether a kernel plays more than plain bundles: `compiled(function, EXTRAS=False)` compiles what
# most questions need, in a third of the time, and plays them faster.
EXTRAS = True

# Typed: a literal would have every function compiled once more.
ZERO: Any = np.int64(0)
# Unsigned: an index that cannot be negative needs no check for counting from the end.
U: Any = np.uint64

Function = TypeVar("Function", bound=Callable[..., Any])
# Strict floating point, so that a kernel can equal its twin bit for bit; the interpreter lock is
# released; a division by zero gives infinity. Kernels allocate nothing, so that counting
# references (_nrt), most of the cost of small functions, can be left out.
OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": False,
    "_nrt": False,
}


class _Announcer(core.event.Listener):  # type: ignore[misc]  # numba tells no types
    """Tells who listens: a first question waits seconds for its kernel."""

    depth = 0

    def on_start(self, event: Any) -> None:
        self.depth += 1
        if self.depth == 1:  # not of what it needs in turn
            self.tell(True)

    def on_end(self, event: Any) -> None:
        self.depth -= 1
        if self.depth == 0:
            self.tell(False)

    def tell(self, begins: bool) -> None:
        for listener in listeners:
            listener(begins)


core.event.register("numba:compile", _Announcer())

remarks: list[str] = []
"""What to tell whoever waits: that compiled code is kept elsewhere, or not at all."""


def compiled(function: Function, **constants: bool) -> Function:
    """Return `function` compiled to machine code at its first call, cached on disk.

    Parameters
    ----------
    function
        The function; parts that it calls are compiled into it.
    constants
        Names of its module, and of those of its parts, that are fixed before compiling.
    """
    kernel: Function = _jit(_rebound(function, constants, {}))
    return kernel


class Part:
    """A function that only kernels call: it is compiled into them, and has no code of its own.

    Machine code and wrappers for each of fifty parts would be most of what a kernel costs. Written
    as the function that it is to kernels, which are what calls it.
    """

    def __init__(self, function: Callable[..., Any], kind: str) -> None:
        self.function = function
        self.kind = kind

    def bound(self, constants: dict[str, bool], known: dict[Part, Any]) -> Any:
        """Return what a kernel calls in its place."""
        if self not in known:
            own = _rebound(self.function, constants, known)
            known[self] = intrinsic(_typing(own, self.kind))
        return known[self]


def part(function: Function) -> Function:
    """Return `function` as a part of the kernels that call it, once in each."""
    return cast(Function, Part(function, "part"))


def inlined(function: Function) -> Function:
    """Return `function` as a part of the kernels that call it, anew in every place."""
    return cast(Function, Part(function, "inlined"))


def vector(function: Function) -> Function:
    """Return `function` as an inlined part whose arrays never overlap and hold no NaN.

    Only so does the compiler take several elements of its loops at a time; maxima and minima stay
    exact in any order, and sums in theirs.
    """
    return cast(Function, Part(function, "vector"))


_typings: dict[Any, Any] = {}
_colourless = SimpleNamespace(
    **dict.fromkeys(("code", "errmsg", "filename", "highlight", "indicate"), str)
)


@contextmanager
def _typed_once() -> Iterator[None]:
    """Let numba remember how it typed an `a + b`: it tries all it knows, and paints each error."""
    known: Any = core.types.functions.BaseFunction
    ask, paint = known.get_call_type, core.errors.termcolor

    def typed(function: Any, context: Any, args: Any, kws: Any) -> Any:
        key = (function, args, tuple(kws.items()))
        if key not in _typings:
            _typings[key] = ask(function, context, args, kws)
        return _typings[key]

    if ask.__name__ == "typed":  # a part within a kernel
        yield
        return
    known.get_call_type, core.errors.termcolor = typed, lambda: _colourless
    try:
        yield
    finally:
        known.get_call_type, core.errors.termcolor = ask, paint


class _Pipeline(core.compiler.CompilerBase):  # type: ignore[misc]  # numba tells no types
    """The passes that kernels need: no closures, no lifted loops, no array expressions."""

    def compile_extra(self, function: Any) -> Any:
        """Compile a function, its operators typed once."""
        with _typed_once():
            return super().compile_extra(function)

    def define_pipelines(self) -> list[Any]:
        """Return them: read and prune the code, type it, lower it."""
        passes = core.compiler_machinery.PassManager("kernel")
        for room, names in (
            (core.untyped_passes, "TranslateByteCode FixupArgs IRProcessing DeadBranchPrune"),
            (core.untyped_passes, "ReconstructSSA"),
            (core.typed_passes, "NopythonTypeInference PreLowerStripPhis IRLegalization"),
            (core.typed_passes, "AnnotateTypes NativeLowering NoPythonBackend"),
        ):
            for name in names.split():
                passes.add_pass(getattr(room, name), name)
        passes.finalize()
        return [passes]


class _Flags(core.compiler.Flags):  # type: ignore[misc]  # numba tells no types
    """How parts of one kind are compiled into a kernel.

    One object for all of them, equal to none but itself: comparing the options of two, a hundred
    thousand times, would take a fifth of what a kernel costs.
    """

    __hash__ = object.__hash__
    __eq__ = object.__eq__

    made: ClassVar[dict[tuple[int, str], _Flags]] = {}

    def __init__(self, root: Any, kind: str) -> None:
        super().__init__(root)
        self.root = root
        self.no_compile = self.no_cpython_wrapper = self.no_cfunc_wrapper = True
        self.forceinline = kind != "part"
        self.noalias = True  # constants, integers, floats and blocks lie apart
        if kind == "vector":
            self.fastmath = core.cpu_options.FastMathOptions({"nnan", "nsz"})

    def copy(self) -> Any:
        """Return themselves: nobody changes them."""
        return self

    @classmethod
    def of(cls, kind: str) -> _Flags:
        """Return those of a kind in the kernel that is being compiled."""
        top = core.targetconfig.ConfigStack().top()
        root = top.root if isinstance(top, cls) else top
        if (id(root), kind) not in cls.made:
            cls.made[id(root), kind] = cls(root, kind)  # keeps its root, and so its number
        return cls.made[id(root), kind]


def _rebound(
    function: Callable[..., Any], constants: dict[str, bool], known: dict[Part, Any]
) -> Any:
    """Return the function with its parts and constants in place of what its module names."""
    names = {name: function.__globals__.get(name) for name in function.__code__.co_names}
    names = {name: value for name, value in names.items() if value is not None}
    for name, value in names.items():
        if isinstance(value, Part):
            names[name] = value.bound(constants, known)
        elif name in constants:
            names[name] = constants[name]
    room = Path(inspect.getfile(function)).parent
    chosen = sorted(f"{name}{value:d}" for name, value in constants.items())
    suffix = "_".join([edition(room, numba.__version__), *chosen])
    own = FunctionType(
        function.__code__.replace(co_name=f"{function.__name__}_{suffix}"),
        {"__builtins__": __builtins__, "__name__": function.__module__} | names,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    own.__module__, own.__doc__ = function.__module__, function.__doc__
    own.__qualname__ = f"{function.__name__}_{suffix}"
    own.__annotations__ = function.__annotations__
    return own


def _typing(function: Any, kind_of_part: str) -> Any:
    """Return how numba types and lowers a call of a part."""
    made: dict[tuple[Any, Any], Any] = {}
    returns = RETURNS[function.__annotations__["return"]]

    def typed(context: Any, *arguments: Any) -> Any:
        # One width of integer: a literal or an index would have it compiled once more.
        given = (types.unliteral(a) for a in arguments)
        own = signature(
            returns, *(types.int64 if isinstance(a, types.Integer) else a for a in given)
        )

        def lower(target: Any, builder: Any, sig: Any, values: Any) -> Any:
            # Into the kernel's own library: one of its own would have machine code of its own.
            library = target.active_code_library
            plain = signature(sig.return_type, *sig.args)
            if (library, plain) not in made:
                result = _Pipeline(
                    target.typing_context,
                    target,
                    library,
                    plain.args,
                    plain.return_type,
                    _Flags.of(kind_of_part),
                    {},
                ).compile_extra(function)
                made[library, plain] = result.fndesc
                symbol = library._final_module.get_function(result.fndesc.mangled_name)
                symbol.linkage = "linkonce_odr"  # no code of its own where it is inlined
            return target.call_internal(builder, made[library, plain], plain, values)

        return own, lower

    names = ["context", *inspect.signature(function).parameters]
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    shown: Any = typed  # numba reads names and number of arguments from it
    shown.__name__ = function.__name__
    shown.__signature__ = inspect.Signature([inspect.Parameter(name, kind) for name in names])
    return shown


def _same_bits(to: Any, of: Any) -> Any:
    def typed(context: Any, value: Any) -> Any:
        def lower(target: Any, builder: Any, sig: Any, values: Any) -> Any:
            return builder.bitcast(values[0], target.get_value_type(to))

        return signature(to, of), lower

    return intrinsic(typed)


# Of floats >= 0 the bits are ordered as the floats are, and are faster compared.
bits_of: Any = _same_bits(types.int64, types.float64)
of_bits: Any = _same_bits(types.float64, types.int64)


def _window(context: Any, array: Any, at: Any, size: Any) -> Any:
    """Return `size` elements of an array from `at` on: a slice without its dozen checks."""

    def lower(target: Any, builder: Any, sig: Any, values: Any) -> Any:
        make = arrays.make_array(array)
        source, made = make(target, builder, values[0]), make(target, builder)
        if settings.BOUNDSCHECK:
            end = builder.add(values[1], values[2])
            outside = builder.icmp_unsigned(">", end, source.nitems)
            outside = builder.or_(outside, builder.icmp_signed("<", values[1], end.type(0)))
            with builder.if_then(outside):
                fault = ("window out of bounds",)
                target.call_conv.return_user_exc(builder, IndexError, fault)
        arrays.populate_array(
            made,
            data=builder.gep(source.data, [values[1]]),
            shape=[values[2]],
            strides=[source.itemsize],
            itemsize=source.itemsize,
            meminfo=None,
        )
        return made._getvalue()

    return signature(array, array, types.int64, types.int64), lower


window: Any = intrinsic(_window)


class _Kept(core.caching.FunctionCache):  # type: ignore[misc]  # numba tells no types
    """Compiled code on disk; where it is damaged or cannot be written, it is compiled anew."""

    def load_overload(self, asked: Any, target: Any) -> Any:
        """Return what is kept, None if nothing that can be read."""
        try:
            return super().load_overload(asked, target)
        except Exception:  # cut short by a full disk or a failing machine: it fails in many ways
            with suppress(OSError):
                self.flush()
            return None

    def save_overload(self, asked: Any, made: Any) -> None:
        """Keep what has just been compiled, or say why not."""
        try:
            super().save_overload(asked, made)
        except Exception as failure:
            said = f"compiled code cannot be kept ({reason(failure)}): it is compiled anew"
            if said not in remarks:
                remarks.append(said)


def _jit(function: Any) -> Any:
    """Compile with a cache beside the package or at home, else a temporary one, else none."""
    if settings.DISABLE_JIT:
        raise UnsupportedError("kernels must be compiled, and NUMBA_DISABLE_JIT is set: unset it")
    kernel: Any = numba.njit(**OPTIONS, pipeline_class=_Pipeline)(function)
    try:
        kernel._cache = _Kept(function)
    except RuntimeError as failure:
        if "no locator available" not in str(failure):
            raise
        folder = own_temporary_folder()
        if folder is not None and str(folder) != settings.CACHE_DIR:
            settings.CACHE_DIR = str(folder)
            remarks[:] = [f"compiled code is kept in {folder}: no lasting folder can be written"]
            return _jit(function)
        remarks[:] = ["compiled code cannot be kept: every simulation compiles anew"]
    return kernel
