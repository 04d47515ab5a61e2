"""Apache Beam: who computes the records when one machine is too slow.

    python launch.py --config=configs/cnn2d.py --mode=prepare --beam_runner=DirectRunner
    python launch.py … --beam_runner=FlinkRunner --beam_options=flink_master=host:8081

DirectRunner works on this machine and holds all records in memory, five times over: it is there to
try things out. A worker of the others holds a batch of clips or one file of records.
Flink, Spark and Dataflow have workers on other machines, each of which needs

* this project and requirements/beam.txt, as a container image or by Beam's own `setup_file`;
* corpus.root and records_dir, both given as absolute paths on a file system that all share: the
  workers decode the clips and write the records.
"""

import contextlib
import io
import logging
from collections.abc import Iterator, Sequence

import tensorflow_datasets as tfds

from ser_jax.common.errors import UserError


def configure(runner: str, options: Sequence[str] = ()) -> tfds.download.DownloadConfig:
    """What TFDS wants to know about Beam.

    Args:
      runner: DirectRunner, FlinkRunner, SparkRunner, DataflowRunner, … or a class's full name.
      options: of the runner, as "name=value" or "name".

    Raises:
      UserError: Beam is missing, or refuses the runner or an option.
    """
    try:
        with _no_warnings():  # of parts of Google's cloud that are not installed
            import apache_beam as beam
            from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError:
        raise UserError(
            f"--beam_runner={runner} needs Apache Beam; pip install -r requirements/beam.txt."
        ) from None
    # What it logs it also raises.
    logging.getLogger("apache_beam.runners.common").setLevel(logging.CRITICAL)
    if runner == "DirectRunner":
        # Beam's would first try to fetch another one, PrismRunner, and start it as a server.
        runner = "FnApiRunner"
    parsed = PipelineOptions(["--" + option.removeprefix("--") for option in options])
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            parsed.get_all_options()  # else what cannot be parsed shows only in the run
    except SystemExit:
        why = said.getvalue().strip().rpartition("error: ")[2]
        raise UserError(f"--beam_options cannot be read: {why}.") from None
    try:
        chosen = beam.Pipeline(runner, parsed).runner
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"Apache Beam does not take --beam_runner={runner} with these --beam_options: "
            f"{' '.join(str(error).split()).rstrip('.')}."
        ) from error
    return tfds.download.DownloadConfig(beam_runner=chosen, beam_options=parsed)


@contextlib.contextmanager
def _no_warnings() -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
