"""Faults that run without an error, each shown to break the law that is there to catch it."""

import dataclasses

import jax
import numpy as np
import pytest

from tests import golden_run, test_golden_run, tiny_corpus
from tests.evaluate import test_planted_models
from tests.model import test_decoder, test_gpt_neox_parity
from tests.tasks import test_judgement, test_prompted, test_scores
from tests.train import test_step
from welm_jax.decode import rank
from welm_jax.model import decoder, masks
from welm_jax.tasks import demonstrations, judgement, scores
from welm_jax.text.tokenizer import Tokenizer
from welm_jax.train import step


def test_a_causal_mask_shifted_by_one_breaks_causality(monkeypatch):
    plain = masks.causal

    def shifted(query_segments, key_segments, first_query=0):
        return plain(query_segments, key_segments, first_query + 1)

    monkeypatch.setattr(masks, "causal", shifted)
    # One token ahead in each of two layers: two ahead in all, 5 + 4 of the 6 x 6 pairs.
    with pytest.raises(AssertionError, match="Mismatched elements: 9 / 36"):
        test_decoder.test_no_output_depends_on_a_later_token_and_each_on_all_before()


def test_another_layer_norm_epsilon_breaks_parity(monkeypatch):
    monkeypatch.setattr(decoder, "LAYER_NORM_EPSILON", 1e-6)
    assert_parity_breaks()


def test_the_tanh_gelu_breaks_parity(monkeypatch):
    plain = jax.nn.gelu
    monkeypatch.setattr(jax.nn, "gelu", lambda x, approximate: plain(x, approximate=True))
    assert_parity_breaks()


def assert_parity_breaks():
    with pytest.raises(AssertionError, match="Not equal to tolerance rtol=0, atol=1e-05"):
        test_gpt_neox_parity.test_logits_equal_the_golden_ones("tied")


def test_a_mean_of_means_breaks_accumulation(monkeypatch):
    plain, microbatches = step.summed_loss, 4

    def mean_of_means(decoder, batch, **how):
        counted = batch["decoder_loss_weights"].sum()
        total = test_step.BATCH["decoder_loss_weights"].sum()
        return plain(decoder, batch, **how) / counted * (total / microbatches)

    correct = test_step.plain()
    monkeypatch.setattr(step, "summed_loss", mean_of_means)
    mutated = test_step.train(3, microbatches=microbatches)
    with pytest.raises(AssertionError):
        test_step.assert_same_training(mutated, correct)


def test_a_refused_update_times_zero_breaks_the_guard(monkeypatch):
    def multiplied(finite, updated, kept):
        return jax.tree.map(lambda new, old: old + finite * (new - old), updated, kept)

    monkeypatch.setattr(step, "selected", multiplied)
    trails = test_step.trails.__wrapped__("float32", 1, 1, 1)
    with pytest.raises(AssertionError):
        test_step.assert_only_the_iteration_is_lost(*trails)


def test_scoring_the_prompts_tokens_too_breaks_what_is_worked_by_hand(monkeypatch):
    plain = rank.log_likelihoods

    def with_prompt(assemble, parameters, questions, **how):
        whole = []
        for one in questions:
            first, rest = one.prompt[:1], one.prompt[1:]
            candidates = [[*rest, *ids] for ids in one.candidates]
            whole.append(rank.Question(prompt=first, candidates=candidates))
        for number, found in plain(assemble, parameters, whole, **how):
            extra = len(questions[number].prompt) - 1
            yield number, [np.append(one[: extra + 1].sum(), one[extra + 1 :]) for one in found]

    monkeypatch.setattr(rank, "log_likelihoods", with_prompt)
    with pytest.raises(AssertionError, match="Mismatched elements: 1 / 1"):
        test_planted_models.test_a_bigram_model_of_five_words_scores_what_it_does_by_hand()


def test_a_mean_of_characters_for_one_of_tokens_breaks_the_norms(monkeypatch):
    plain = judgement.of_choice

    def by_characters(row, question, sums, null_sums):
        characters = dataclasses.replace(question, candidates=question.texts)
        return plain(row, characters, sums, null_sums)

    monkeypatch.setattr(judgement, "of_choice", by_characters)
    with pytest.raises(AssertionError, match=r"'token_mean': \[3\.0, 2\.0, 1\.59"):
        test_judgement.test_each_norm_by_hand()


def test_a_metric_that_is_fed_anothers_normalisation_breaks_its_golden_scores(monkeypatch):
    """Folded widths and all punctuation dropped: 1,609人 would be 1609人."""
    monkeypatch.setattr(scores, "_without_cmrc_punctuation", scores._plain)
    with pytest.raises(AssertionError):
        test_scores.test_golden_scores_of_chinese_answers(test_scores.GOLDEN[2])


def test_demonstrations_that_hold_the_question_break_the_law_against_them(monkeypatch):
    monkeypatch.setattr(demonstrations, "shares_text", lambda *_: False)
    with pytest.raises(AssertionError):
        test_prompted.test_no_question_is_among_its_demonstrations(
            Tokenizer(tiny_corpus.tokenizer_file())
        )


def test_a_wider_tolerance_breaks_the_comparison_of_golden_losses(monkeypatch):
    monkeypatch.setattr(golden_run, "TOLERANCE", 1e-4)
    law = test_golden_run.test_numbers_with_a_fraction_may_differ_a_little_and_nothing_else
    with pytest.raises(AssertionError):
        law(6.5, 6.5 + 7e-5, ["loss: expected 6.5, got 6.50007"])


def test_lists_that_are_not_looked_into_break_the_comparison_of_golden_figures(monkeypatch):
    plain = golden_run._flat
    monkeypatch.setattr(
        golden_run,
        "_flat",
        lambda value, name="": () if isinstance(value, list) else plain(value, name),
    )
    with pytest.raises(ValueError, match="not enough values to unpack"):
        test_golden_run.test_each_figure_that_differs_is_named_and_no_other()
