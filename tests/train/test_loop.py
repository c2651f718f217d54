"""The loop around a step worked by hand, whose state holds the batches it was given."""

import jax.numpy as jnp
import pytest

from welm_jax.failures import InputError
from welm_jax.train import loop
from welm_jax.train.checkpoints import Progress


def train_step(state, batch):
    metrics = {"loss": jnp.float32(batch), "tokens": jnp.float32(10)}
    return [*state, batch], metrics


def run(begin, last_step, every=(), stopping=lambda: False):
    records = []
    batches = ((cursor, 100 + cursor) for cursor in range(begin.cursor, 1000))
    state, progress = loop.run(
        [],
        begin,
        train_step=train_step,
        batches=batches,
        last_step=last_step,
        on_step=lambda record, seconds: records.append((record, seconds)),
        every=every,
        stopping=stopping,
    )
    return state, progress, records


def test_every_step_takes_the_next_batch_and_is_logged_once_in_order():
    state, progress, records = run(Progress(), 3)
    assert state == [100, 101, 102]
    assert progress == Progress(step=3, cursor=3, tokens=30)
    assert [(one["step"], one["cursor"], one["loss"]) for one, _ in records] == [
        (1, 1, 100.0),
        (2, 2, 101.0),
        (3, 3, 102.0),
    ]


def test_the_first_step_of_a_life_compiles_and_so_has_no_time():
    _, _, records = run(Progress(), 3)
    assert records[0][1] is None
    assert all(seconds > 0 for _, seconds in records[1:])


def test_step_and_cursor_go_on_from_where_they_stand_and_are_two_numbers():
    state, progress, records = run(Progress(step=5, cursor=205, tokens=7), 7)
    assert state == [305, 306]
    assert progress == Progress(step=7, cursor=207, tokens=27)
    assert run(progress, 7)[:2] == ([], progress)


def test_callbacks_see_the_state_of_their_step():
    seen = []
    every = [(2, lambda state, progress: seen.append((len(state), progress)))]
    run(Progress(), 5, every)
    assert seen == [
        (2, Progress(step=2, cursor=2, tokens=20)),
        (4, Progress(step=4, cursor=4, tokens=40)),
    ]


def test_time_in_a_callback_is_no_steps_time():
    _, _, records = run(Progress(), 4, [(2, lambda state, progress: None)])
    assert [seconds is None for _, seconds in records] == [True, False, True, False]


def test_being_asked_to_stop_ends_after_the_step_in_hand():
    asked = []

    def stopping():
        asked.append(None)
        return len(asked) > 2

    state, progress, records = run(Progress(), 100, stopping=stopping)
    assert len(state) == progress.step == len(records) < 5


def test_numbers_below_one_are_refused():
    with pytest.raises(InputError, match="LoopConfig.train_steps = 0; it must be 1 or more"):
        loop.LoopConfig(train_steps=0)
