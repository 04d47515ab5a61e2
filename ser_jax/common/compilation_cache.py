"""JAX's compilation cache in the user's cache folder, so that a second start need not compile."""

import os


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
