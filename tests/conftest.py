"""What all tests share."""

import importlib
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Before JAX is imported: tests run on the CPU, whatever the machine has.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "Agg")
# The one CPU shows itself as eight devices; a run takes one of them unless told otherwise. Most of
# the tests' time is compilation: without LLVM's optimisations it takes half of it. What is in
# XLA_FLAGS already comes later and wins, so =3 there tests what users run.
_FLAGS = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
os.environ["XLA_FLAGS"] = f"{_FLAGS} {os.environ.get('XLA_FLAGS', '')}".strip()
# The tests train the same small networks again and again, here and in processes of their own. Each
# of pytest's workers has its own cache: one that is half written may be read, and then JAX warns.
_CACHE = tempfile.TemporaryDirectory(prefix="ser_jax_tests_")
os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE.name
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

# A shell ignores Ctrl-C in what it starts in the background, and processes inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest  # noqa: E402

from tests.browser import chromium  # noqa: E402

# The longest files start first, since all tests of a file run in one worker.
_LONGEST = "processes trainer end_to_end html_page waste train study export features inspect"

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


def pytest_xdist_auto_num_workers() -> int:
    """A worker for each processor that is ours, as far as there are long files for them."""
    from data_prep import workers

    return min(len(_LONGEST.split()), workers.n_processors())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {f"{name}_test": number for number, name in enumerate(_LONGEST.split())}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


@pytest.fixture
def shared_data() -> Path:
    """Real audio that lies beside the checkout on the project's own machines."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the real recordings are not at {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    """Headless Chromium, where there is one."""
    with chromium() as found:
        yield found


@pytest.fixture(scope="session")
def of_all_workers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for what is made under a lock, and by the first that wants it."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def made_corpus(of_all_workers: Path) -> Path:
    """Six made voices, two sentences, six emotions: 72 clips."""
    from data_prep.synthetic.corpus import write_corpus

    root = of_all_workers / "corpus" / "synthetic"
    write_corpus(root, n_speakers=6, n_sentences=2, seed=0, jobs=1)
    return root


@pytest.fixture(scope="session")
def records_dir(of_all_workers: Path) -> Path:
    """Where the tests' records go; what one test has prepared the next one finds."""
    return of_all_workers / "records"


@pytest.fixture(scope="session")
def tiny(made_corpus: Path, records_dir: Path):
    """The shipped configs, shrunk to seconds; the key tree is the real one."""

    def get_config(model: str = "cnn2d", variant: str = "demo"):
        config = importlib.import_module(f"configs.{model}").get_config(variant)
        config.corpus.root = str(made_corpus)
        config.corpus.made.update(n_speakers=6, n_sentences=2)
        config.records_dir = str(records_dir)
        config.features.n_mels = 32
        config.features.n_mfcc = 16
        config.augmentation.views = ("noise",)
        config.split.n_folds = 3
        # A first and a last layer: those between would only be compiled, again and again.
        config.model.update(widths=(8, 8), kernels=config.model.kernels[:2])
        config.model.dense = 16
        config.train.epochs = 3
        config.train.batch_size = 16
        config.evaluate.batch_size = 16
        return config.lock()

    return get_config


@pytest.fixture(scope="session")
def tiny_records(tiny) -> Path:
    """The folder of the records that `tiny` describes."""
    from data_prep.prepare import prepare

    return prepare(tiny())


@pytest.fixture(scope="module")
def tiny_experiment(tiny, tiny_records):
    """The experiment of `tiny` on `tiny_records`."""
    from ser_jax.data import records
    from ser_jax.train.experiment import make_experiment

    return make_experiment(tiny(), records.open_records(tiny_records))


@pytest.fixture(scope="session")
def flags(made_corpus, records_dir):
    """What shrinks configs/cnn2d.py:demo to seconds, as `tiny` does."""
    return (
        "--config=configs/cnn2d.py:demo",
        f"--config.corpus.root={made_corpus}",
        "--config.corpus.made.n_speakers=6",
        "--config.corpus.made.n_sentences=2",
        f"--config.records_dir={records_dir}",
        "--config.features.n_mels=32",
        "--config.features.n_mfcc=16",
        "--config.augmentation.views=('noise',)",
        "--config.split.n_folds=3",
        "--config.model.widths=(8,8)",
        "--config.model.kernels=(6,6)",
        "--config.model.dense=16",
        "--config.train.epochs=3",
        "--config.train.batch_size=16",
        "--config.evaluate.batch_size=16",
    )
