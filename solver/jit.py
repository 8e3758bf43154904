"""The one decorator of every numeric kernel, and where its compiled code is kept.

numba keys a cached function by the time stamp of its own file alone, so a change in a kernel that it calls in another
file would go unnoticed. Each module's cache therefore lives in a folder named after the sources of the module and of
all project modules that it imports: an upgrade can never run yesterday's code, and a read-only installation works.
"""

import hashlib
import importlib.util
import os
import re
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import numba
import platformdirs
from llvmlite import binding as llvm
from numba.core import environment, ir
from numba.core.caching import FunctionCache
from numba.core.codegen import JITCodeLibrary, JITCPUCodegen
from numba.core.runtime import _nrt_python  # type: ignore[attr-defined]
from numba.core.typing.templates import Signature
from numba.experimental import function_type

__all__ = ["Address", "cache_root", "kernel", "part", "was_compiled"]

_PACKAGES = ("solver", "caster", "stations", "bench", "tests")
_COMMENT = re.compile(rb"#.*")
_IMPORT = re.compile(rb"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+import[ \t]+(\([^)]*\)|.*)|import[ \t]+(.*))", re.MULTILINE)
_P = ParamSpec("_P")
_R = TypeVar("_R")


def cache_root() -> Path:
    """The folder of all compiled kernels: `NUMBA_CACHE_DIR`, or `kernels` in the user's cache directory."""
    return Path(os.environ.get("NUMBA_CACHE_DIR") or Path(platformdirs.user_cache_dir("bigdipper")) / "kernels")


def kernel(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Compile a function of numbers and arrays on first use, without the interpreter lock, and cache the result.

    Division by zero gives inf or NaN as in numpy; floating point is strict (no fastmath), since NaN is data here.
    """
    return _cached(function, numba.njit(nogil=True, error_model="numpy")(function))


def _share_scope(scope: ir.Scope, _memo: object) -> ir.Scope:
    """Stand for the copy of a function's table of variables."""
    return scope


# numba copies what it inlines block by block, and with each block the table of all variables of the function, which it
# then throws away: that took 10 of the 11.5 s of the largest kernel.
ir.Scope.__deepcopy__ = _share_scope  # type: ignore[attr-defined]


def part(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Compile a function as a part of each kernel that calls it, best of a single one.

    LLVM optimises and translates a `kernel` once by itself and again with each kernel that calls it; a part, just once
    there. Called from Python it is compiled like a kernel.

    In a loop numba counts references of the arrays that a part is given, each time. It does not for a kernel that makes
    no arrays itself: what is called for each measurement of an epoch is better one.
    """
    return _cached(function, numba.njit(nogil=True, error_model="numpy", inline="always")(function))


def _cached(function: Callable[_P, _R], dispatcher: Any) -> Callable[_P, _R]:
    """Keep what a function is compiled to in its module's folder."""
    dispatcher._cache = _Cache(function, _cache_of(function.__module__, os.environ.get("NUMBA_CACHE_DIR")))
    return cast(Callable[_P, _R], dispatcher)


class Address(numba.types.WrapperAddressProtocol):
    """A compiled kernel by its address, to be called by another that takes it as an argument.

    A kernel that is called by its name is translated once more with its caller.

    Args:
        function: The kernel.
        example: Arguments of the types that it will be called with.
    """

    def __init__(self, function: Callable[..., object], *example: object) -> None:
        assert function_type  # which makes numba know such arguments
        types, dispatcher = tuple(map(numba.typeof, example)), cast(Any, function)
        dispatcher.compile(types)
        self._compiled = dispatcher.overloads[types]
        name = self._compiled.fndesc.llvm_cfunc_wrapper_name
        self._address = int(self._compiled.library.get_pointer_to_function(name))

    def __call__(self, *arguments: Any) -> Any:
        """What a kernel that takes it may do."""
        raise NotImplementedError

    def __wrapper_address__(self) -> int:
        """Where its code is."""
        return self._address

    def signature(self) -> Signature:
        """What it takes and returns."""
        return cast(Signature, self._compiled.signature)


class _Cache(FunctionCache):
    """A function's compiled code on disk, looked for when it is called: most of 200 functions are not by a process.

    What is found is loaded without the compiler, whose tables take 0.12 s to set up, without its modules (0.03 s) and
    its part of numba's runtime (0.02 s). It does so itself, once there is something to compile.
    """

    def __init__(self, function: Callable[..., object], folder: str) -> None:
        self._py_func, self._folder = function, folder

    def __getattr__(self, name: str) -> object:
        """Find the files once something of them is wanted."""
        if "_impl" in vars(self):
            raise AttributeError(name)
        numba.config.CACHE_DIR = self._folder  # type: ignore[attr-defined]
        super().__init__(self._py_func)  # type: ignore[no-untyped-call]
        return getattr(self, name)

    def load_overload(self, sig: object, target_context: object) -> object:
        """What a signature was compiled to; None where it was not."""
        _know_runtime()
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)  # type: ignore[no-untyped-call]


@cache
def _know_runtime() -> None:
    """Let LLVM find what compiled code calls of numba's runtime, as `numba.core.runtime.nrt` does."""
    for name, address in _nrt_python.c_helpers.items():
        llvm.add_symbol(name if name.startswith("_") else f"NRT_{name}", address)


def _rebuild_environment(module: str, constants: list[object], name: str) -> environment.Environment:
    """What a compiled function knows of the module that it is of, which is not loaded for that.

    Many are numba's own, inlined where arrays are made; its modules fill the compiler's tables when they are loaded.
    """
    found = environment.lookup_environment(name)  # type: ignore[no-untyped-call]
    if found is None:
        found = environment.Environment(vars(sys.modules[module]) if module in sys.modules else {"__name__": module})
        found.consts[:], found.env_name = constants, name
        environment.Environment._memo[name] = found
    return cast(environment.Environment, found)


# By which numba's caches call for it.
environment._rebuild_env = _rebuild_environment


class _Library(JITCodeLibrary):
    """Compiled code of a kernel, loaded without its intermediate code: only a compiler of its callers needs that.

    To parse it took half of the time that it takes to load a kernel, and more memory than all else of it.
    """

    _intermediate: bytes | None = None
    """Not parsed so far; None: this was compiled here."""

    @classmethod
    def _unserialize(cls, codegen: object, state: tuple[str, str, tuple[bytes, bytes]]) -> "_Library":
        name, kind, (machine, intermediate) = state
        library = super()._unserialize(codegen, (name, kind, (machine, _no_intermediate())))  # type: ignore[no-untyped-call]
        library._shared_module, library._intermediate = None, intermediate
        return cast(_Library, library)

    def _get_module_for_linking(self) -> object:
        if self._intermediate and self._shared_module is None:
            self._shared_module = llvm.parse_bitcode(self._intermediate)
        return super()._get_module_for_linking()  # type: ignore[no-untyped-call]

    def get_pointer_to_function(self, name: str) -> int:
        """Address of a function of it; 0 where it has none of that name."""
        if self._intermediate is None:
            return cast(int, super().get_pointer_to_function(name))  # type: ignore[no-untyped-call]
        return cast(int, self._codegen._engine.get_function_address(name))


# Whatever numba compiles or loads in this process is one of these; nothing narrower lets the cache make them.
JITCPUCodegen._library_class = _Library


@cache
def _no_intermediate() -> bytes:
    return cast(bytes, llvm.parse_assembly("").as_bitcode())


def was_compiled(module: str) -> bool:
    """Whether there is compiled code of a module, as its sources are now."""
    return Path(_cache_of(module, os.environ.get("NUMBA_CACHE_DIR"))).is_dir()


@cache
def _cache_of(module: str, root: str | None) -> str:
    """The folder of a module's compiled kernels, for a value of `NUMBA_CACHE_DIR`: looked for once, not by kernel."""
    return str(cache_root() / _source_digest(module))


@cache
def _source_digest(module: str) -> str:
    """Name the sources of a module and of every project module that it imports, in turn."""
    digests: dict[str, bytes] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in digests and (digest := _digest(name)) is not None:
            digests[name] = digest
            waiting += _project_imports(name)
    if module not in digests:  # typed in at a prompt
        return "unsaved"
    return hashlib.blake2b(b"".join(digests[name] for name in sorted(digests)), digest_size=10).hexdigest()


@cache
def _digest(module: str) -> bytes | None:
    """That of the source of a module alone; None where there is no such file."""
    source = _source(module)
    return None if source is None else hashlib.blake2b(source).digest()


@cache
def _source(module: str) -> bytes | None:
    """The source of a module; None where there is no such file."""
    path = getattr(sys.modules.get(module), "__file__", None) or _origin(module)
    return Path(path).read_bytes() if path else None


@cache
def _project_imports(module: str) -> tuple[str, ...]:
    """Names of the project modules that a module imports.

    Import statements are found by their form, which takes a hundredth of the time of a parser; one that only stands in
    a text does no harm.
    """
    names: list[str] = []
    for package, listed, plain in _IMPORT.findall(_COMMENT.sub(b"", _source(module) or b"")):
        words = [part.split()[0].decode() for part in (listed or plain).strip(b"() \t").split(b",") if part.split()]
        names += [package.decode(), *(f"{package.decode()}.{word}" for word in words)] if package else words
    return tuple(name for name in names if name.partition(".")[0] in _PACKAGES and _origin(name))


@cache
def _origin(module: str) -> str | None:
    """The file that a module would be loaded from."""
    try:
        spec = importlib.util.find_spec(module)
    except (ModuleNotFoundError, ValueError):  # an attribute of a plain module, or a module without a file
        return None
    return spec.origin if spec else None
