"""Models of which every likelihood is known beforehand, run as any other: a table, and nothing."""

import itertools
import math

import jax
import numpy as np
import pytest
from etils import epath
from rich.console import Console

from tests import planted_decoder, tiny_corpus
from tests.tasks import small_sets
from tests.tiny_decoder import mesh_of, placed
from welm_jax.decode import rank
from welm_jax.evaluate import evaluator, result_files
from welm_jax.model.decoder import Assembler
from welm_jax.tasks import chinese, judgement
from welm_jax.tasks.examples import Example
from welm_jax.tasks.prompted import Question
from welm_jax.tasks.vocabulary import WelmVocabulary

ROWS = {row.name: row for row in chinese.ROWS}
# Of five words, how many bits each (a column) costs after each (a row): 1/2 + 1/4 + 1/8 + 2/16 = 1.
BITS = [
    [1, 2, 3, 4, 4],
    [4, 1, 2, 3, 4],
    [4, 4, 1, 2, 3],
    [3, 4, 4, 1, 2],
    [2, 3, 4, 4, 1],
]
LIKELY = 20.0  # a logit beside which the others are nothing


def logs(questions, config, weights):
    """Log-probabilities of each candidate of each question, by the path that evaluations take."""
    mesh = mesh_of()
    with jax.set_mesh(mesh):
        found = rank.log_likelihoods(
            Assembler(config), placed(weights, mesh), questions, row_tokens=64, batch_tokens=64
        )
        return [of_one for _, of_one in sorted(found)]


def test_a_bigram_model_of_five_words_scores_what_it_does_by_hand():
    """After 0 1: [2] costs 2 bits, [3 2] 3 + 4, [4 4 4 4] 4 + 1 + 1 + 1.

    After 0 alone 3, 4 + 4 and 4 + 1 + 1 + 1. With the suffix 3 behind them 2, 2 and 4 bits more.
    """
    config = planted_decoder.shape(5)
    table = {word: dict(enumerate(np.multiply(-math.log(2), row))) for word, row in enumerate(BITS)}
    labels, suffix, texts = [[2], [3, 2], [4, 4, 4, 4]], [3], ["甲甲甲甲", "乙", "ab"]
    whole = [[*label, *suffix] for label in labels]
    questions = [
        rank.Question(prompt=prompt, candidates=candidates)
        for prompt, candidates in (([0, 1], labels), ([0], labels), ([0, 1], whole))
    ]
    found = [
        [of_candidate / -math.log(2) for of_candidate in of_one]
        for of_one in logs(questions, config, planted_decoder.bigrams(config, table))
    ]
    after_prompt = [[2], [3, 4], [4, 1, 1, 1]]
    with_suffix = [[2, 2], [3, 4, 2], [4, 1, 1, 1, 4]]
    expected = [after_prompt, [[3], [4, 4], [4, 1, 1, 1]], with_suffix]
    for ours, by_hand in zip(found, expected, strict=True):
        for one, other in zip(ours, by_hand, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4)

    def judged(bits, candidates):
        asked = Question(
            example=Example(id="1", group="1", inputs={}, choices=texts, gold=0),
            prompt="",
            ids=[0, 1],
            candidates=candidates,
            texts=texts,
            shots=0,
            demos_dropped=0,
            passage_cut=0,
        )
        sums, after_nothing = ([-one.sum() for one in of_one] for of_one in (bits, found[1]))
        return judgement.of_choice(ROWS["c3"], asked, sums, after_nothing)

    label = judged(found[0], labels)
    assert label["losses"] == {
        "token_mean": pytest.approx([2, 7 / 2, 7 / 4], abs=1e-4),
        "sum": pytest.approx([2, 7, 7], abs=1e-4),
        "char_mean": pytest.approx([2 / 4, 7, 7 / 2], abs=1e-4),
        "byte_mean": pytest.approx([2 / 12, 7 / 3, 7 / 2], abs=1e-4),
        "pmi": pytest.approx([-1, -1, 0], abs=1e-4),
    }
    assert (label["predicted"]["token_mean"], label["predicted"]["sum"]) == (2, 0)
    of_suffix = judged(found[2], whole)
    assert of_suffix["losses"]["token_mean"] == pytest.approx([4 / 2, 9 / 3, 11 / 5], abs=1e-4)
    assert of_suffix["losses"]["sum"] == pytest.approx([4, 9, 11], abs=1e-4)
    assert of_suffix["predicted"]["token_mean"] == 0  # the region decides


@pytest.fixture(scope="module")
def vocabulary():
    return WelmVocabulary(str(tiny_corpus.tokenizer_file()))


def evaluated(vocabulary, after, names, data_dir, folder):
    """What `welm evaluate` makes of a planted decoder: the summaries and the outcomes."""
    config, mesh = planted_decoder.shape(tiny_corpus.VOCAB_SIZE), mesh_of()
    subject = evaluator.Subject(
        assemble=Assembler(config),
        parameters=placed(planted_decoder.bigrams(config, after), mesh),
        mesh=mesh,
        vocabulary=vocabulary,
        window=512,
        step=1,
        attempt=0,
    )
    found = evaluator.evaluate(
        subject, names, epath.Path(data_dir), epath.Path(folder), None, Console(quiet=True)
    )
    outcomes = [result_files.outcomes(epath.Path(folder), name) for name in names]
    return [found[name] for name in names], outcomes


def test_a_decoder_whose_head_is_zero_knows_nothing(vocabulary, tmp_path):
    """Each token costs ln V, so means tie, and sums are least where tokens are fewest."""
    data_dir = small_sets.write_all(tmp_path / "sets", count=24)
    [found], [outcomes] = evaluated(vocabulary, {}, ["c3_0shot"], data_dir, tmp_path / "results")
    for one in outcomes:
        lengths = [len(vocabulary.tokenizer.encode(choice)) for choice in one["choices"]]
        nats = math.log(tiny_corpus.VOCAB_SIZE)
        assert one["losses"]["token_mean"] == pytest.approx([nats] * 3)
        assert one["losses"]["sum"] == pytest.approx([nats * length for length in lengths])
        assert one["gold"] == np.argmin(lengths)  # as small_sets has it: 7点, 8点整, 不知道
    assert found["by_norm"]["sum"] == 100
    # 24 draws at 1/3: within four standard deviations, .38.
    assert found["chance"] == pytest.approx(100 / 3) and found["value"] < 72


def test_planted_tasks_are_solved_by_a_decoder_that_can(vocabulary, tmp_path):
    """It goes on as the last word of the prompt has it: that is the idiom, and that the answer."""
    pairs = {"老师": "看书", "学生": "唱歌", "司机": "下雨", "答案：": "苹果\n"}
    encode, after = vocabulary.tokenizer.encode, {}
    for before, then in pairs.items():
        ids = [encode(before)[-1], *encode(then)]
        after |= {one: {following: LIKELY} for one, following in itertools.pairwise(ids)}
    records = [
        {
            "id": number,
            "content": f"第{number}位{[*pairs][number % 3]}#idiom#了。",
            "candidates": ["下雨", "看书", "唱歌"],
            "answer": (number + 1) % 3,
        }
        for number in range(6)
    ]
    small_sets.write(tmp_path / "sets/chid", "validation", records)
    small_sets.write(tmp_path / "sets/cmrc2018", "validation", [*map(small_sets.squad, range(6))])
    names = ["chid_0shot", "cmrc2018_0shot"]
    found, outcomes = evaluated(vocabulary, after, names, tmp_path / "sets", tmp_path / "results")
    assert [one["value"] for one in found] == [100, 100]
    assert {one["answer"] for one in outcomes[1]} == {"苹果"}
