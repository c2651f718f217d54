import copy
import json
import math
import random
from dataclasses import asdict

import pytest

from tests.train.incidents import CONFIG, drawn_journal, every_50, incident, planned
from welm_jax.failures import InputError
from welm_jax.train import lineage, rollback
from welm_jax.train.lineage import Recovery, Saved
from welm_jax.train.rollback import Exhausted
from welm_jax.train.spikes import Place, SpikeConfig


def test_the_case_of_the_paper():
    assert planned(incident(1000), every_50(500, 1000)) == Recovery(
        id=1,
        kind="automatic",
        rule="big",
        level=1,
        onset=Place(iteration=1002, step=1000, cursor=1007),
        detected=Place(iteration=1005, step=1003, cursor=1010),
        target_step=900,
        target_cursor=907,
        skipped=(907, 1107),  # the 200 batches from the target on
        lr_multiplier=0.8,
        degraded="",
        loss=5.0,
        median=2.0,
        threshold=1.0,
    )


@pytest.mark.parametrize(
    ("saved", "latency", "skipped"),
    [
        (every_50(500, 500), 3, (507, 1107)),  # 350 steps too old: all up to the onset, and 100
        (every_50(500, 500), 150, (507, 1157)),  # and all up to the detection
        (every_50(850, 850), 3, (857, 1107)),
        (every_50(900, 900), 250, (907, 1257)),
    ],
)
def test_the_skip_covers_all_from_the_target_to_beyond_the_trouble(saved, latency, skipped):
    found = planned(incident(1000, latency), saved)
    assert (found.skipped, found.degraded) == (skipped, "")


def test_a_loss_that_is_not_a_number_is_left_out_of_the_record():
    assert planned(incident(1000, loss=math.nan), every_50(500, 1000)).loss is None


def test_batches_that_are_skipped_already_do_not_count():
    before = rollback.manual(Saved(step=0, cursor=920), (), skip=50, lr_factor=1.0)  # [920, 970)
    found = planned(incident(1000), every_50(500, 1000), [before])
    assert found.skipped == (907, 1157)
    before = rollback.manual(Saved(step=0, cursor=900), (), skip=50, lr_factor=1.0)  # [900, 950)
    assert planned(incident(1000), every_50(500, 1000), [before]).skipped == (950, 1150)


@pytest.mark.parametrize(
    ("onset", "saved", "target", "reason"),
    [
        (1000, every_50(950, 1000), 950, "no checkpoint lies 100 steps before step 1000: back to "
                                         "step 950, the oldest there is"),
        (1000, every_50(1000, 1050), 0, "no checkpoint lies 100 steps before step 1000: back to "
                                        "the start, from the seed"),
        (120, every_50(50, 100), 50, "no checkpoint lies 100 steps before step 120: back to step "
                                     "50, the oldest there is"),
        (0, [], 0, "no checkpoint lies 100 steps before step 0: back to the start, from the seed"),
    ],
)  # fmt: skip
def test_without_the_wanted_checkpoint_the_next_best_is_taken_and_said(
    onset, saved, target, reason
):
    found = planned(incident(onset), saved)
    assert (found.target_step, found.degraded) == (target, reason)
    assert found.target_cursor == (target + 7 if target else 0)


def test_without_any_checkpoint_a_late_run_needs_a_person():
    assert planned(incident(1001), every_50(1050, 1100)) == Exhausted(
        reason="no checkpoint lies before step 1001, where the trouble began, and a start from "
        "the seed would lose more than 1,000 steps"
    )


def test_the_same_trouble_again_goes_back_further_skips_twice_as_much_and_slows_down():
    journal, saved = [], every_50(500, 1000)
    for _ in range(3):
        journal.append(planned(incident(1000), saved, journal))
    assert [(one.id, one.level, one.target_step, one.degraded) for one in journal] == [
        (1, 1, 900, ""), (2, 2, 800, ""), (3, 3, 700, "")
    ]  # fmt: skip
    # 400 that are not yet skipped: 100 before the first 200 and 300 after them; then 800 more.
    assert [one.skipped for one in journal] == [(907, 1107), (807, 1407), (707, 2107)]
    assert [one.lr_multiplier for one in journal] == pytest.approx([0.8, 0.64, 0.512])
    assert lineage.applicable(journal) == (journal[2],)
    assert planned(incident(1000), saved, journal) == Exhausted(
        reason="4 incidents without 1,000 steps of progress between them (at steps 1003, 1003, "
        "1003, 1003), and only 3 are recovered from: going back does not help"
    )


@pytest.mark.parametrize(
    ("onset", "level", "target"),
    [(1199, 2, 850), (1200, 1, 1100), (1150, 2, 850), (850, 2, 650)],
)
def test_an_onset_within_300_steps_of_the_last_target_is_a_repeat(onset, level, target):
    first = planned(incident(1000), every_50(500, 1000))
    found = planned(incident(onset), every_50(500, 1200), [first])
    # A repeat goes back 200 steps, and in any case below 900, where the first one went.
    assert (found.level, found.target_step, found.degraded) == (level, target, "")


def test_a_repeat_without_a_lower_checkpoint_starts_from_the_seed_or_tries_the_same_again():
    first = planned(incident(900), every_50(800, 850))
    again = planned(incident(900), every_50(800, 850), [first])
    assert (first.target_step, again.target_step, again.level) == (800, 0, 2)
    assert again.degraded == (
        "no checkpoint lies 200 steps before step 900 and below step 800, the last target: back "
        "to the start, from the seed"
    )
    first = planned(incident(5000), every_50(4900, 4950))
    again = planned(incident(5000), every_50(4900, 4950), [first])
    assert (first.target_step, again.target_step, again.level) == (4900, 4900, 2)
    assert again.degraded.endswith("back to step 4900, the oldest there is")


def test_one_recovery_skips_1600_batches_at_most():
    config = SpikeConfig(skip_batches=1000, max_skipped_fraction=1.0)
    first = planned(incident(1000), every_50(500, 1000), config=config)
    second = planned(incident(1000), every_50(500, 1000), [first], config)
    assert (first.skipped, second.skipped) == ((907, 1907), (807, 807 + 1000 + 1600))


def test_the_rate_has_a_floor():
    config = SpikeConfig(lr_factor=0.2, max_skipped_fraction=1.0)
    journal = [planned(incident(5000), every_50(500, 5000), config=config)]
    journal.append(planned(incident(9000), every_50(500, 9000), journal, config))
    assert [one.lr_multiplier for one in journal] == [0.2, 0.1]


def spaced(count, apart, config):
    journal = []
    for number in range(1, count + 1):
        step = apart * number
        journal.append(planned(incident(step), every_50(50, step), journal, config, 10**6))
    return journal


def test_no_more_than_three_recoveries_without_1000_steps_of_progress():
    assert all(isinstance(one, Recovery) for one in spaced(5, 400, CONFIG))
    assert spaced(4, 310, CONFIG)[-1] == Exhausted(
        reason="4 incidents without 1,000 steps of progress between them (at steps 313, 623, 933, "
        "1243), and only 3 are recovered from: going back does not help"
    )


@pytest.mark.parametrize(("onset", "kind"), [(1999, Exhausted), (2000, Recovery)])
def test_1000_steps_count_from_detection_to_detection(onset, kind):
    journal = []
    for earlier in (1000, 1400, 1700):
        journal.append(planned(incident(earlier), every_50(500, earlier), journal))
    assert isinstance(planned(incident(onset), every_50(500, onset), journal), kind)


def test_a_run_that_falls_back_ever_further_makes_no_progress_either():
    config, journal = SpikeConfig(max_skipped_fraction=1.0), []
    for onset in (9000, 7500, 6000, 4500):
        journal.append(planned(incident(onset), every_50(500, onset), journal, config))
    assert isinstance(journal[2], Recovery)
    assert journal[3].reason.startswith("4 incidents without 1,000 steps of progress between them")


def test_no_more_than_ten_recoveries_unless_a_person_looked():
    journal = spaced(10, 2000, CONFIG)
    late = incident(22_000)
    assert planned(late, every_50(500, 22_000), journal, train_steps=10**6) == Exhausted(
        reason="10 recoveries were made, the last at step 20003, and no more than 10 are without "
        "a person"
    )
    journal.append(rollback.manual(Saved(step=19_000, cursor=20_000), journal, 0, 1.0))
    assert planned(late, every_50(500, 22_000), journal, train_steps=10**6).level == 1


def test_no_more_batches_are_skipped_than_allowed():
    found, saved = incident(1000), every_50(500, 1000)
    config = SpikeConfig(max_skipped_fraction=0.02)
    assert isinstance(planned(found, saved, config=config, train_steps=10_000), Recovery)
    assert planned(found, saved, config=config, train_steps=9999) == Exhausted(
        reason="200 batches would be skipped in all, and no more than 199 are without a person "
        "(SpikeConfig.max_skipped_fraction = 0.02 of 9,999 steps); "
        "SpikeConfig.max_skipped_fraction sets how many may be"
    )


@pytest.mark.parametrize(
    ("train_steps", "how", "most", "words"),
    [
        (71_526, {}, 1430, "2% of 71,526 steps"),  # Table 2's runs: the 2 % that were always there
        (143_051, {}, 2861, "2% of 143,051 steps"),
        (50_000, {}, 1000, "2% of 50,000 steps"),
        (49_999, {}, 1000, "two recoveries, for 2% of 49,999 steps are fewer"),
        (1000, {}, 1000, "two recoveries, for 2% of 1,000 steps are fewer"),
        (1000, {"skip_batches": 300}, 1500, "two recoveries, for 2% of 1,000 steps are fewer"),
        # Down to its checkpoint and up to beyond the trouble a recovery skips, whatever is asked.
        (1000, {"skip_batches": 1}, 1000, "two recoveries, for 2% of 1,000 steps are fewer"),
        (1000, {"max_skipped_fraction": 0.3}, 300,
         "SpikeConfig.max_skipped_fraction = 0.3 of 1,000 steps"),
        (10_000, {"max_skipped_fraction": 0.0}, 0,
         "SpikeConfig.max_skipped_fraction = 0 of 10,000 steps"),
    ],
)  # fmt: skip
def test_how_many_batches_may_be_skipped_follows_from_the_steps(train_steps, how, most, words):
    assert rollback.most_skipped(SpikeConfig(**how), train_steps) == (most, words)


def test_a_person_decides_freely():
    first = planned(incident(1000), every_50(500, 1000))  # [907, 1107), rate x 0.8
    assert rollback.manual(Saved(step=850, cursor=857), [first], 100, 0.5) == Recovery(
        id=2,
        kind="manual",
        rule="manual",
        level=0,
        onset=None,
        detected=None,
        target_step=850,
        target_cursor=857,
        skipped=(857, 1157),
        lr_multiplier=0.4,
        degraded="",
        loss=None,
        median=None,
        threshold=None,
    )
    for skip, factor, text in (
        (-1, 0.8, "-1 batches cannot be skipped; give 0 or more"),
        (10, 0.0, "cannot be multiplied with 0.0; give e.g. 0.8"),
        (10, math.nan, "cannot be multiplied with nan; give e.g. 0.8"),
    ):
        with pytest.raises(InputError, match=text):
            rollback.manual(lineage.SEED, [], skip, factor)


def test_what_follows_a_person_is_no_repeat():
    by_hand = rollback.manual(Saved(step=900, cursor=907), [], 0, 1.0)
    found = planned(incident(1000), every_50(500, 1000), [by_hand])
    assert (found.level, found.target_step, found.id) == (1, 900, 2)


@pytest.mark.parametrize("seed", range(40))
def test_laws_of_a_plan(seed):
    draw = random.Random(seed)
    journal = drawn_journal(draw)
    assert journal == drawn_journal(random.Random(seed))  # a function of what it was given
    for number, one in enumerate(journal):
        before = journal[:number]
        start, end = one.skipped
        feedable = [at for at in range(start, end) if not is_in(at, before)]
        assert one.id == number + 1 and one.target_cursor <= start <= end
        assert all(is_in(at, before) for at in range(one.target_cursor, start))
        if one.kind == "automatic":
            assert one.target_step < one.onset.step or one.target_step == 0
            assert len(feedable) >= min(200 * 2 ** (one.level - 1), 1600)
            assert end >= one.detected.cursor and end >= one.onset.cursor + 100
            assert one.degraded or one.onset.step - one.target_step >= 100 * one.level
        assert one.kind == "manual" or one.lr_multiplier <= lineage.multiplier(before, len(before))
        assert one.lr_multiplier == lineage.multiplier(journal, one.id)
        assert Recovery.from_json(json.loads(json.dumps(asdict(one)))) == one


def is_in(place, journal):
    return any(start <= place < end for start, end in (one.skipped for one in journal))


def test_planning_changes_nothing_it_was_given():
    saved, journal = every_50(500, 1000)[::-1], [planned(incident(1000), every_50(500, 1000))]
    given = copy.deepcopy((saved, journal))
    assert planned(incident(1000), saved, journal) == planned(incident(1000), saved, journal)
    assert (saved, journal) == given
