"""Faults that run without an error, each shown to break the law that is there to catch it."""

import dataclasses
import re

import jax
import numpy as np
import pytest

from beam_pipelines import boilerplate, clean_rules, language, mojibake
from beam_pipelines.document import DropReason
from tests import tiny_corpus
from tests.beam import (
    test_boilerplate,
    test_clean_rules,
    test_filters,
    test_language,
    test_mojibake,
)
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


def test_a_mask_that_counts_as_a_placeholder_breaks_the_text_around_it(monkeypatch):
    monkeypatch.setattr(clean_rules, "_PLACEHOLDERS", (*clean_rules._PLACEHOLDERS, "xxxxx"))
    with pytest.raises(AssertionError, match="DropReason.PLACEHOLDER"):
        test_clean_rules.test_a_rule_drops_its_example_and_keeps_the_nearest_good_text(
            DropReason.PLACEHOLDER
        )


def test_a_share_of_one_line_breaks_texts_without_a_list(monkeypatch):
    monkeypatch.setattr(clean_rules, "_MIN_LINES", 1)
    with pytest.raises(AssertionError):
        test_clean_rules.test_few_or_full_lines_are_no_list_and_no_teasers(
            "· 鸡蛋十个，看好日期再买\n· 酱油一瓶，不要太咸的\n· 米五公斤，要东北产的"
        )


def test_a_phrase_that_makes_a_line_boilerplate_breaks_sentences_about_it(monkeypatch):
    monkeypatch.setattr(boilerplate, "_LINES", re.compile(".*"))
    monkeypatch.setattr(boilerplate, "_SENTENCE_ENDS", ())
    with pytest.raises(AssertionError):
        test_boilerplate.test_a_line_that_speaks_of_such_things_is_text("隐私政策")


def test_undoing_into_any_characters_breaks_real_text(monkeypatch):
    monkeypatch.setattr(mojibake, "_can_be_undone", lambda text: True)
    with pytest.raises(AssertionError):
        test_mojibake.test_texts_are_judged_each_alone()


def test_the_middle_of_a_long_text_breaks_its_language(monkeypatch):
    def middle(text):
        begin = max(len(text) - 2000, 0) // 2
        return text[begin : begin + 2000]

    monkeypatch.setattr(language, "spread_sample", middle)
    with pytest.raises(AssertionError):
        test_language.test_a_long_text_is_judged_by_all_of_it()


def test_a_share_of_the_whole_batch_breaks_the_law_of_batches(monkeypatch):
    def of_batch(batch, *kinds):
        return batch.kinds[:, kinds].sum(axis=1) / max(batch.visible.sum(), 1)

    monkeypatch.setattr(clean_rules, "_share", of_batch)
    with pytest.raises(AssertionError):
        test_clean_rules.test_verdicts_do_not_hang_on_how_texts_are_batched()
    with pytest.raises(AssertionError):
        test_filters.test_verdicts_do_not_hang_on_how_records_are_batched()
