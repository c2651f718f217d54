"""Opens a Beam pipeline: the in-process runner unless another is asked for, no unknown flag.

Deliberately does not know what runs in it. Loads Beam only when called, so that `--help` is quick.
"""

import logging
from collections.abc import Sequence
from typing import Any

from welm_jax.failures import InputError


def open_pipeline(flags: Sequence[str]) -> Any:
    """Makes an apache_beam.Pipeline of Beam's own flags.

    With no `--runner` among them it is FnApiRunner: Beam's default first tries to download
    another, and so runs a different engine with and without a network.

    Raises:
      InputError: a flag that Beam does not know, which it would pass over in silence.
    """
    # Beam warns at import that Google's client libraries, which nothing here uses, are missing.
    logging.disable(logging.WARNING)
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    if not any(flag.startswith("--runner") for flag in flags):
        flags = [*flags, "--runner=FnApiRunner"]
    options = PipelineOptions(list(flags))
    known = options.get_all_options()
    unknown = sorted(options.get_all_options(retain_unknown_options=True).keys() - known.keys())
    logging.disable(logging.NOTSET)
    # What ends the pipeline is raised too; the door says it in a line, --debug with the traceback.
    logging.getLogger("apache_beam.runners.common").setLevel(logging.CRITICAL)
    if unknown:
        raise InputError(f"--{unknown[0]} is no flag of this command or of Beam; see --help")
    return beam.Pipeline(options=options)
