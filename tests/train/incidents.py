"""Incidents, checkpoints and journals to plan with."""

from welm_jax.train import rollback
from welm_jax.train.lineage import Saved
from welm_jax.train.rollback import Exhausted
from welm_jax.train.spikes import Incident, Place, SpikeConfig

CONFIG = SpikeConfig()

TRAIN_STEPS = 71_500  # the paper's


def incident(onset, latency=3, offset=7, loss=5.0):
    """A spike at a step; cursors are `offset` ahead of steps."""

    def place(step):
        return Place(iteration=step + 2, step=step, cursor=step + offset)

    return Incident(
        rule="big",
        onset=place(onset),
        detected=place(onset + latency),
        loss=loss,
        median=2.0,
        threshold=1.0,
    )


def every_50(first, last, offset=7):
    return [Saved(step=step, cursor=step + offset) for step in range(first, last + 1, 50)]


def planned(found, saved, journal=(), config=CONFIG, train_steps=TRAIN_STEPS):
    return rollback.plan(found, saved, journal, config, train_steps)


def drawn_journal(draw):
    """A run's decisions as they come, and the steps at which its lineages stood."""
    journal, config = [], SpikeConfig(max_skipped_fraction=1.0)
    at = 0
    while len(journal) < 8:
        at += draw.randint(1, 900)
        saved = every_50(50, at)
        kept = draw.sample(saved, draw.randint(0, len(saved)))
        if draw.random() < 0.25 and kept:
            found = rollback.manual(
                draw.choice(kept), journal, draw.randint(0, 90), draw.choice([0.5, 1.25])
            )
        else:
            found = planned(incident(at, draw.randint(0, 60)), kept, journal, config)
        if isinstance(found, Exhausted):
            break
        journal.append(found)
        at = found.target_step
    return journal
