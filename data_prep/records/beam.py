"""Apache Beam, for corpora that take too long on one machine.

    python launch.py --config=configs/cnn2d.py --mode=prepare --beam_runner=DirectRunner
    python launch.py … --beam_runner=FlinkRunner --beam_options=flink_master=host:8081

DirectRunner works on this machine and needs five times the records' size in memory; use it for
trials only. With other runners a worker holds one batch of clips or one file of records.
Flink, Spark and Dataflow run workers on other machines. Each of these needs

* this project and requirements/beam.txt, from a container image or by Beam's option `setup_file`;
* corpus.root and records_dir, given as absolute paths on a shared file system: the workers decode
  the clips and write the records.
"""

import contextlib
import io
import logging
from collections.abc import Sequence

import tensorflow_datasets as tfds

from ser_jax.common.errors import UserError


def configure(runner: str, options: Sequence[str] = ()) -> tfds.download.DownloadConfig:
    """Return a Beam runner and its options as TFDS takes them.

    Args:
      runner: DirectRunner, FlinkRunner, SparkRunner, DataflowRunner, … or a class's full name.
      options: the runner's options, as "name=value" or "name".

    Raises:
      UserError: Beam is not installed, or rejects the runner or an option.
    """
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)  # about Google Cloud packages that are not installed
    try:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError:
        raise UserError(
            f"--beam_runner={runner} needs Apache Beam; pip install -r requirements/beam.txt."
        ) from None
    finally:
        logging.disable(level)
    # Beam also raises what it logs here.
    logging.getLogger("apache_beam.runners.common").setLevel(logging.CRITICAL)
    if runner == "DirectRunner":
        # Beam's DirectRunner would first try to download PrismRunner and start it as a server.
        runner = "FnApiRunner"
    parsed = PipelineOptions(["--" + option.removeprefix("--") for option in options])
    stderr = io.StringIO()
    try:
        with contextlib.redirect_stderr(stderr):
            parsed.get_all_options()  # otherwise a bad option shows only during the run
    except SystemExit:
        reason = stderr.getvalue().strip().rpartition("error: ")[2]
        raise UserError(f"--beam_options cannot be read: {reason}.") from None
    try:
        beam_runner = beam.Pipeline(runner, parsed).runner
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"Apache Beam rejects --beam_runner={runner} with these --beam_options: "
            f"{' '.join(str(error).split()).rstrip('.')}."
        ) from error
    return tfds.download.DownloadConfig(beam_runner=beam_runner, beam_options=parsed)
