import random

import pytest

from tests.train.incidents import drawn_journal
from tests.train.test_recovery import FIRST
from welm_jax.failures import StopAndLook
from welm_jax.train import lineage, rollback
from welm_jax.train.lineage import Saved


def test_ranges_and_places_by_hand():
    assert lineage.merged([(5, 8), (1, 3), (3, 4), (7, 9), (6, 6)]) == ((1, 4), (5, 9))
    assert lineage.merged([]) == ()
    skipped = [(3, 5), (7, 8)]  # feedable: 0 1 2 5 6 8 9 ...
    assert [lineage.advance(0, count, skipped) for count in range(6)] == [0, 1, 2, 5, 6, 8]
    assert [lineage.advance(cursor, 0, skipped) for cursor in (3, 4, 5, 7)] == [5, 5, 5, 8]


@pytest.mark.parametrize("seed", range(30))
def test_ranges_and_places_are_those_of_sets(seed):
    draw = random.Random(seed)
    starts = [draw.randint(0, 60) for _ in range(draw.randint(0, 6))]
    ranges = [(start, start + draw.randint(0, 12)) for start in starts]
    out = {place for start, end in ranges for place in range(start, end)}
    union = lineage.merged(ranges)
    assert {place for start, end in union for place in range(start, end)} == out
    assert all(before[1] < after[0] for before, after in zip(union, union[1:], strict=False))
    assert lineage.merged(reversed(union)) == union
    cursor = draw.randint(0, 70)
    feedable = [place for place in range(cursor, 300) if place not in out]
    for count in range(20):
        assert lineage.advance(cursor, count, ranges) == feedable[count]


@pytest.mark.parametrize("seed", range(40))
def test_validity_is_membership_of_the_decided_lineage(seed):
    """Against a run that remembers which of its checkpoints it has abandoned."""
    draw = random.Random(seed)
    journal, mine, ever = [], [(0, 0)], {(0, 0)}
    while len(journal) < 8:
        step, attempt = mine[-1]
        for _ in range(draw.randint(0, 12)):
            step += 50
            mine.append((step, attempt))
            ever.add((step, attempt))
        target, _ = draw.choice(mine)
        journal.append(rollback.manual(Saved(step=target, cursor=target), journal, 1, 0.9))
        mine = [saved for saved in mine if saved[0] <= target]
        assert {saved for saved in ever if lineage.is_valid(*saved, journal)} == set(mine)
        mine.append((target, len(journal)))  # the record applied; a copy may be saved anew
        ever.add(mine[-1])
        assert lineage.is_valid(*mine[-1], journal)


@pytest.mark.parametrize("seed", range(20))
def test_decisions_that_apply_go_strictly_forwards_and_the_newest_is_among_them(seed):
    journal = drawn_journal(random.Random(seed))
    applicable = lineage.applicable(journal)
    targets = [one.target_step for one in applicable]
    assert targets == sorted(set(targets)) and applicable[-1] == journal[-1]
    for one in journal:
        assert lineage.is_superseded(one, journal) == (one not in applicable)
    covered = {at for one in journal for at in range(*one.skipped)}
    ranges = lineage.skipped_ranges(journal)
    assert {at for start, end in ranges for at in range(start, end)} == covered


def test_a_lineage_that_the_journal_does_not_know_is_a_reason_to_stop():
    assert lineage.multiplier([], 0) == 1.0
    with pytest.raises(StopAndLook, match="recovery 2 was applied, but the journal ends with 0"):
        lineage.multiplier([], 2)


@pytest.mark.parametrize(
    ("newest", "pins"),
    [(300, {200, 250, 300}), (350, {200, 250, 300}), (1300, {200, 250, 300}), (1301, set())],
)
def test_the_target_and_two_before_it_stay_until_the_run_is_past_them(newest, pins):
    steps = sorted({50, 100, 150, 200, 250, 300, newest})
    assert lineage.pinned(steps, [FIRST]) == pins
    assert lineage.pinned(steps, []) == lineage.pinned([], [FIRST]) == set()
