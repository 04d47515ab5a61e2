"""The process: large memory pages, XLA's log, devices and their memory, JAX's compilation cache."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from ser_jax.common.errors import UserError

_TUNABLES, _LARGE_PAGES = "GLIBC_TUNABLES", "glibc.malloc.hugetlb=1"
_KERNEL = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def use_large_pages() -> None:
    """Restart this program in the same process with large memory pages; call it first.

    On a CPU, XLA allocates and frees the buffers of each step by malloc. glibc returns such large
    ones to the kernel, which clears them again, page by page; pages of 2 MiB instead of 4 KiB make
    that 500 times rarer. glibc (since 2.35) reads the setting only when a process starts.

    Does nothing where the kernel or C library has no such setting, or where GLIBC_TUNABLES is set,
    even if empty.
    """
    if _TUNABLES in os.environ or not _are_optional():
        return
    sys.stdout.flush()
    sys.stderr.flush()
    environment = {**os.environ, _TUNABLES: _LARGE_PAGES}
    os.execve(sys.executable, sys.orig_argv, environment)  # noqa: S606 — this very program


def _are_optional() -> bool:
    """Return whether programs get large pages if, and only if, they ask for them."""
    try:
        library, version = os.confstr("CS_GNU_LIBC_VERSION").split()
        numbers = tuple(map(int, version.split(".")))
        return library == "glibc" and numbers >= (2, 35) and "[madvise]" in _KERNEL.read_text()
    except (OSError, ValueError, AttributeError):  # not Linux, not glibc, or an unknown version
        return False


def quiet_compiler() -> None:
    """Keep XLA's log off stderr, such as alarms that a compilation is slow; call it before JAX.

    Errors still come as exceptions. TF_CPP_MIN_LOG_LEVEL takes precedence.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def require_devices() -> None:
    """Raise a UserError if JAX finds no device; call it before work is done for it."""
    import jax

    try:
        jax.devices()
    except Exception as error:  # an AssertionError without a text if a plugin is missing
        platforms = os.environ.get("JAX_PLATFORMS", "")
        reason = f" ({line})" if (line := str(error).split("\n")[0].rstrip(".")) else ""
        raise UserError(
            f"JAX finds no device for JAX_PLATFORMS={platforms}{reason}; install JAX's plugin for "
            "it, or unset JAX_PLATFORMS."
        ) from error


@contextlib.contextmanager
def explain_out_of_memory(settings: str) -> Iterator[None]:
    """Turn a device's out-of-memory error into a UserError that names the settings to lower."""
    import jax

    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise UserError(
            f"a device is out of memory; lower {settings}, or input.memory_limit_gb, above which "
            "examples are streamed."
        ) from error


def use_compilation_cache() -> None:
    """Keep compiled programs in the user's cache folder, unless the user has configured a cache.

    A cache that is already configured is kept. JAX_COMPILATION_CACHE_DIR takes precedence; if it is
    empty, nothing is cached. Nor is it where the folder cannot be written.
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
        # Most programs of prediction compile in less than JAX's default threshold of 1 s.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
