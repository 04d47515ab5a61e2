"""Large pages for what XLA:CPU computes in: without them each step waits for the kernel at length.

A step's buffers are taken from malloc and freed again, each time, and glibc hands such large ones
back to the kernel, which fetches and clears them anew, page by page of 4 KiB. With pages of 2 MiB
that is 500 times less often. glibc (malloc's tunable hugetlb, since 2.35) decides on it when a
process starts, so there is no other way than to start again.
"""

import os
import sys
from pathlib import Path

_TUNABLES, _LARGE_PAGES = "GLIBC_TUNABLES", "glibc.malloc.hugetlb=1"
_KERNEL = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def use_large_pages() -> None:
    """Starts this program again, as the same process, with large pages; call it first of all.

    Does nothing where the kernel or the C library has no such choice, or the user has tuned malloc:
    GLIBC_TUNABLES set to nothing keeps everything as it is.
    """
    if _TUNABLES in os.environ or not _are_optional():
        return
    sys.stdout.flush()
    sys.stderr.flush()
    environment = {**os.environ, _TUNABLES: _LARGE_PAGES}
    os.execve(sys.executable, sys.orig_argv, environment)  # noqa: S606 — this very program


def _are_optional() -> bool:
    """Whether programs get large pages if, and only if, they ask for them."""
    try:
        library, version = os.confstr("CS_GNU_LIBC_VERSION").split()
        numbers = tuple(map(int, version.split(".")))
        return library == "glibc" and numbers >= (2, 35) and "[madvise]" in _KERNEL.read_text()
    except (OSError, ValueError, AttributeError):  # no Linux, no glibc, or no name for it
        return False


def enable() -> None:
    """Keeps what is compiled from now on, unless the user has said where, or that nothing is kept.

    JAX_COMPILATION_CACHE_DIR and a cache that is configured already stay as they are; that variable
    set to nothing keeps nothing. Where the folder cannot be written there is no cache, and no
    error.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    import jax
    import platformdirs

    if jax.config.jax_compilation_cache_dir:
        return
    folder = platformdirs.user_cache_path("ser_jax") / "compiled"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return
    jax.config.update("jax_compilation_cache_dir", os.fspath(folder))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        # Most of what prediction compiles takes less than the second that JAX waits for.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
