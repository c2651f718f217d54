"""What a run leaves of a loss spike: a list of suspect batches, or a diagnosis for a person.

Deliberately does not know how a spike is found, what is decided about it, or how that is said.
"""

import dataclasses

from welm_jax import recovery_words, run_files
from welm_jax.data import suspects
from welm_jax.data.batches import BatchStream
from welm_jax.failures import Failure
from welm_jax.run_files import RunFolder
from welm_jax.train import lineage
from welm_jax.train.lineage import Recovery
from welm_jax.train.recovery import Journal
from welm_jax.train.rollback import Exhausted
from welm_jax.train.run_log import RunLog
from welm_jax.train.spikes import Incident

MOST_SUSPECTS = 32  # batches that are listed
METRICS_KEPT = 2_000  # lines of a diagnosis


def tell(
    run: RunFolder,
    stream: BatchStream,
    log: RunLog,
    incident: Incident,
    decision: Recovery | Exhausted,
) -> None:
    """Says what happened and what comes of it, and writes down which batches are suspect.

    Where no recovery is left it writes all that a person needs to the run's diagnosis folder.
    """
    log.flush()
    log.say(recovery_words.seen(incident))
    cursors = lineage.suspects(incident, Journal(run.journal).records())
    try:
        rows = suspects.describe(stream, cursors[:MOST_SUSPECTS])
        if isinstance(decision, Recovery):
            run_files.write_json(run.suspects_of(decision.id), rows)
    except (Failure, OSError) as error:  # a recovery does not fail for want of its explanation
        log.say(f"the suspect batches cannot be listed: {error}")
        rows = []
    if isinstance(decision, Recovery):
        log.say(f"Recovery {decision.id}: {recovery_words.decided(decision)}")
        return
    try:
        _write_diagnosis(run, incident, decision, rows)
    except OSError as error:  # nor does it hide why the run stops
        log.say(f"the diagnosis cannot be written: {error}")
        return
    log.say(f"{run.diagnosis} holds what a person needs: incident, suspects, metrics, decisions")


def _write_diagnosis(
    run: RunFolder, incident: Incident, decision: Exhausted, suspect_rows: list[dict]
) -> None:
    told = {**dataclasses.asdict(incident), "stopped": decision.reason}
    run_files.write_json(run.incident, told)
    run_files.write_json(run.diagnosis / "suspects.json", suspect_rows)
    lines = list(run_files.read_lines(run.metrics))[-METRICS_KEPT:]
    run_files.remove_lines(run.diagnosis / run.metrics.name)
    run_files.append_lines(run.diagnosis / run.metrics.name, lines)
    records = sorted(run.journal.iterdir()) if run.journal.exists() else []
    for file in (run.config, run.operative_config, *records):
        file.copy(run.diagnosis / file.name, overwrite=True)
