"""How a kernel is compiled and what was compiled is kept: imported by the first call of any kernel, with numba."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache
from numba.core.runtime.nrt import rtsys

from tiltflow.kept_code import CANNOT_BE_READ
from tiltflow.kernels.claims import claimed

_log = logging.getLogger(__name__)
_OPTIONS: dict[str, Any] = {"no_cfunc_wrapper": True}
"""Nothing in C calls a kernel, and to make each ready for that takes a twentieth of the time of compiling; unknown to numba's types."""
_SLOT = "_cache"
"""Where numba's compiled functions have their cache."""


def compiled(loop: Callable[..., Any], *, fastmath: bool | frozenset[str]) -> Any:
    """Return numba's function for a loop: compiled at its first call, and kept on the disk where that is possible."""
    made = numba.njit(
        nogil=True,
        fastmath=fastmath if isinstance(fastmath, bool) else set(fastmath),
        error_model="numpy",
        **_OPTIONS,
    )(loop)
    if (cache := _cache_of(loop)) is not None:
        setattr(made, _SLOT, cache)
    return made


def folder_of(made: Any) -> Path | None:
    """Return the folder in which what is compiled is kept; None where nothing can be kept."""
    place = getattr(getattr(made, _SLOT, None), "cache_path", None)
    return Path(place) if place else None


def is_kept(made: Any) -> bool:
    """Return whether anything is kept that was compiled of a kernel as it is now; also True where nothing can be kept."""
    cache = getattr(made, _SLOT, None)
    return cache.holds_any() if isinstance(cache, _ForgivingCache) else True


class _ForgivingCache(FunctionCache):
    """A cache whose disk may be full or gone: the work goes on without it."""

    def holds_any(self) -> bool:
        """Return whether anything is kept that was compiled of the function as it is now."""
        try:
            return bool(self._cache_file._load_index())  # noqa: SLF001  numba has no other way to ask without the signature
        except CANNOT_BE_READ:
            return False

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep what was compiled, if that is possible."""
        try:
            super().save_overload(sig, data)
        except CANNOT_BE_READ as error:  # the index is read before it is written
            self.disable()
            _remark(getattr(error, "strerror", None) or str(error))
        finally:
            self._claim.close()

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return what was compiled before; None where it cannot be read, and is forgotten, and where it is for this process to compile.

        What another process is compiling is waited for.

        Notes
        -----
        numba's own first loads what its compiler knows of Python and NumPy (a quarter of a second), which compiled code does not need: it
        calls the memory manager of numba's runtime at most.  A compilation loads it by itself.
        """
        rtsys.initialize(target_context)
        self._claim.close()
        if (found := self._loaded(sig, target_context)) is None:
            self._claim.enter_context(claimed(Path(self.cache_path), self._impl.filename_base))
            if (found := self._loaded(sig, target_context)) is not None:
                self._claim.close()
        return found

    @functools.cached_property
    def _claim(self) -> contextlib.ExitStack:
        """Held while this process compiles the function."""
        return contextlib.ExitStack()

    def _loaded(self, sig: Any, target_context: Any) -> Any:
        try:
            with self._guard_against_spurious_io_errors():
                return self._load_overload(sig, target_context)
        except CANNOT_BE_READ:
            with contextlib.suppress(OSError):
                self.flush()
            return None


def _cache_of(loop: Callable[..., Any]) -> FunctionCache | None:
    try:
        return _ForgivingCache(loop)
    except (RuntimeError, OSError):  # numba knows no folder that can be written to: a service has no home
        pass
    try:
        config: Any = numba.config
        config.CACHE_DIR = str(_private_folder())
        return _ForgivingCache(loop)
    except (RuntimeError, OSError) as error:
        _remark(str(error).partition("cannot cache function")[0] or "no folder can be written to")
        return None


@functools.cache
def _private_folder() -> Path:
    """Return a folder of our own among temporary files: what is kept in it is run, so that nobody else may write to it.

    Raises
    ------
    OSError
        If there can be none.
    """
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir()) / f"tiltflow-compiled-{user}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != user or found.st_mode & 0o022:
        raise PermissionError(f"{folder} belongs to somebody else, or can be written to by others")
    return folder


@functools.cache
def _remark(why: str) -> None:
    """Say once that nothing is kept."""
    _log.warning(
        "compiled kernels are not kept (%s), so that each start takes a minute longer; set NUMBA_CACHE_DIR to a folder", why
    )
