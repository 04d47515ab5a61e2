"""Large pages: the program restarts as the same process, once and only where it helps."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ser_jax.common import runtime

ROOT = Path(__file__).parents[1]
# Count page faults of ten additions of 64 MiB, each into fresh memory.
PROGRAM = """
import os, resource, sys
from ser_jax.common import runtime
print("begun", os.getpid())
if sys.argv[1] == "large":
    runtime.use_large_pages()
import jax, jax.numpy as jnp
add = jax.jit(lambda x: x + 1)
x = jnp.zeros(2**24)
add(x).block_until_ready()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    add(x).block_until_ready()
print(sys.argv[1:], resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def run(*arguments: str, **environment: str) -> list[str]:
    inherited = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=ROOT,
        env=inherited | environment,
        capture_output=True,
        text=True,
    )
    assert not process.returncode, process.stderr
    return process.stdout.splitlines()


@pytest.mark.skipif(not runtime._are_optional(), reason="large pages are not optional here")
def test_restarts_once_as_the_same_process_with_fewer_page_faults():
    [_, usual] = run("usual", "an argument")
    first, second, large = run("large", "an argument")
    assert first == second  # the same process, started twice
    assert large.rpartition(" ")[0] == "['large', 'an argument']"
    # A tenth where every large page is available.
    assert int(large.split()[-1]) < int(usual.split()[-1]) / 2


def test_respects_the_users_malloc_settings():
    assert len(run("large", GLIBC_TUNABLES="")) == 2


@pytest.mark.parametrize("state", ["[always] madvise never", "always madvise [never]", None])
def test_restarts_only_where_it_has_an_effect(state, tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "_KERNEL", tmp_path / "enabled")
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    monkeypatch.setattr(os, "execve", lambda *_: pytest.fail("restarted"))
    if state:
        (tmp_path / "enabled").write_text(state)
    runtime.use_large_pages()


def test_the_compilers_log_is_off_unless_the_user_sets_a_level(monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    runtime.quiet_compiler()
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL")
    runtime.quiet_compiler()
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "3"  # errors are hidden, fatal ones are not


@pytest.mark.parametrize("platform", ["cuda", "rocm", "nonsense"])
def test_a_missing_device_is_one_sentence(platform):
    program = (
        "from ser_jax.common import cli, runtime; cli.exit_with_message(runtime.require_devices)"
    )
    process = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": platform},
        capture_output=True,
        text=True,
    )
    if platform == "cuda" and process.returncode == 0:
        pytest.skip("there is such a device")
    assert process.returncode == 1
    assert f"error: JAX finds no device for JAX_PLATFORMS={platform}" in process.stderr
    assert "Traceback" not in process.stderr
