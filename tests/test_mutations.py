"""Faults that run without an error, each shown to break the law that is there to catch it."""

import contextlib
import dataclasses
import errno
import glob
import re
import runpy
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from etils import epath

from beam_pipelines import (
    boilerplate,
    characters,
    clean_rules,
    curate,
    decontaminate,
    dedup,
    ideographs,
    language,
    markup,
    mojibake,
    parquet_rows,
    raw_bytes,
    read_sources,
    runner,
    spam,
    text_classifier,
    text_encoding,
    warc,
)
from beam_pipelines.document import DropReason
from benchmarks import rule_verdicts
from tests import (
    golden_run,
    test_failures,
    test_gin_files,
    test_golden_run,
    test_gpt_neox_layout,
    test_recover,
    test_run_files,
    test_runs,
    tiny_corpus,
)
from tests.beam import (
    test_boilerplate,
    test_clean_classifier,
    test_clean_rules,
    test_curate,
    test_decontaminate,
    test_dedup,
    test_filters,
    test_language,
    test_markup,
    test_mojibake,
    test_offensive_text,
    test_parquet_rows,
    test_raw_bytes,
    test_read_sources,
    test_reader_fuzz,
    test_rule_verdicts,
    test_runner,
    test_spam,
    test_text_encoding,
    test_warc,
)
from tests.data import test_mixture, test_token_dataset
from tests.decode import test_generate, test_strides
from tests.evaluate import test_planted_models, test_result_files
from tests.model import test_decoder, test_gpt_neox_parity
from tests.tasks import test_judgement, test_prompted, test_scores, test_set_files
from tests.text import test_tokenizer
from tests.train import test_checkpoints, test_loop, test_spikes, test_step, toy_runs
from welm_jax import failures, gpt_neox_layout, recover, run_files, runs
from welm_jax.data import mixture, token_dataset
from welm_jax.decode import rank, sampling, strides
from welm_jax.failures import InputError, StopAndLook
from welm_jax.model import decoder, masks
from welm_jax.run_parts import RunParts
from welm_jax.tasks import demonstrations, judgement, same_text, scores, set_files
from welm_jax.text import tokenizer
from welm_jax.text.tokenizer import Tokenizer
from welm_jax.train import rollback, spikes, step
from welm_jax.train.checkpoints import Checkpoints


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


def test_one_17_gram_for_two_breaks_the_decision_about_contamination(monkeypatch, tmp_path):
    monkeypatch.setattr(decontaminate, "MOST_SHARED", 0)
    assert_decision_breaks(tmp_path)


def test_at_least_for_more_than_breaks_the_decision_about_contamination(monkeypatch, tmp_path):
    monkeypatch.setattr(
        decontaminate, "is_contaminated", lambda one: one.places >= decontaminate.MOST_SHARED
    )
    assert_decision_breaks(tmp_path)


@pytest.mark.parametrize("characters", [16, 18])
def test_grams_of_another_length_break_the_decision_about_contamination(
    monkeypatch, tmp_path, characters
):
    monkeypatch.setattr(decontaminate, "NGRAM", characters)
    assert_decision_breaks(tmp_path)


def assert_decision_breaks(folder):
    with pytest.raises(AssertionError):
        test_decontaminate.test_18_characters_or_two_times_17_contaminate_and_17_or_16_do_not(
            folder
        )


@pytest.mark.parametrize(
    ("name", "value", "run", "counts"),
    [
        ("LEAST_CHARACTERS", 59, test_decontaminate.LETTERS[:59], False),
        ("LEAST_CHARACTERS", 61, test_decontaminate.LETTERS[:60], True),
        ("LEAST_IDEOGRAPHS", 8, "abcdefghi一二三四五六七八", False),
        ("LEAST_IDEOGRAPHS", 10, "abcdefgh一二三四五六七八九", True),
    ],
)
def test_another_bound_of_a_run_breaks_what_counts(monkeypatch, tmp_path, name, value, run, counts):
    monkeypatch.setattr(decontaminate, name, value)
    with pytest.raises(AssertionError):
        test_decontaminate.test_a_run_counts_by_its_ideographs_or_by_its_length(
            tmp_path, run, counts
        )


def test_a_bound_asked_of_the_text_and_not_of_the_run_breaks_what_counts(monkeypatch, tmp_path):
    def of_all_texts(codes, starts):
        return np.full(len(starts), decontaminate._IS_IDEOGRAPH[codes].mean() > 0.1)

    monkeypatch.setattr(decontaminate, "_are_dense", of_all_texts)
    with pytest.raises(AssertionError):
        test_decontaminate.test_a_few_english_words_are_nobodys_and_many_are_somebodys_in_any_text(
            tmp_path, test_decontaminate.passage(1)
        )


def test_a_rank_that_knows_no_contamination_loses_clean_text(monkeypatch, tmp_path):
    monkeypatch.setattr(dedup, "_CONTAMINATED", 0)
    for signature in (test_dedup.MINHASH, test_dedup.SIMHASH):
        with pytest.raises(AssertionError):
            test_dedup.test_a_contaminated_text_displaces_no_clean_one(signature, 1)
    with pytest.raises(AssertionError):
        test_decontaminate.test_no_clean_text_is_lost_to_one_that_is_contaminated(tmp_path)


@pytest.mark.parametrize("edge", ["_BEGINS", "_ENDS"])
def test_words_without_one_edge_are_found_in_others(monkeypatch, tmp_path, edge):
    monkeypatch.setattr(characters, edge, np.uint32(0))
    text = "A class of a classic institution, massive and assembled."
    with pytest.raises(AssertionError):
        test_offensive_text.test_words_in_letters_are_whole_words(tmp_path, f"{text} Mass", "")


def test_a_label_without_a_text_to_train_on_breaks_its_refusal(monkeypatch, tmp_path, capfd):
    monkeypatch.setattr(text_classifier, "_require_both", lambda *_: None)
    with pytest.raises(AssertionError):
        test_clean_classifier.test_a_label_whose_texts_are_one_template_is_refused(
            tmp_path, capfd, True, "left to train on"
        )


def test_radicals_left_as_they_are_hide_a_copy(monkeypatch, tmp_path):
    plain = np.array(characters._FOLD)
    radicals = list(ideographs.PLAIN_FORMS)
    plain[radicals] = radicals
    monkeypatch.setattr(characters, "_FOLD", plain)
    with pytest.raises(AssertionError):
        test_decontaminate.test_radicals_and_compatibility_ideographs_do_not_hide_a_copy(tmp_path)


def test_a_record_that_does_not_lead_to_the_next_breaks_the_law_of_lost_bytes(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(warc._Stream, "take_end", lambda *_: True)
    with pytest.raises(AssertionError):
        test_warc.test_what_does_not_reconcile_costs_no_sound_record(
            tmp_path, test_warc.conversion("春眠", 1, length="5"), b"\r\n"
        )


def test_a_reader_that_gives_up_breaks_the_law_of_lost_bytes(tmp_path, monkeypatch):
    def give_up(stream):
        while stream.line():
            stream.forget()

    monkeypatch.setattr(warc._Stream, "seek_next_record", give_up)
    with pytest.raises(AssertionError, match="后"):
        test_warc.test_what_does_not_reconcile_costs_no_sound_record(tmp_path, b"<html>", b"\r\n")


@pytest.mark.parametrize("end", raw_bytes.COMPRESSED)
def test_bytes_given_before_their_checksum_break_the_law_of_refuted_texts(
    tmp_path, monkeypatch, end
):
    monkeypatch.setattr(raw_bytes.RawBytes, "_verify", lambda *_: None)
    with pytest.raises(AssertionError):
        test_raw_bytes.test_what_a_checksum_refutes_is_not_read(tmp_path, end)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("a.jsonl.gz", test_reader_fuzz.cut),
        ("a.wet.xz", test_reader_fuzz.flip),
        ("a.txt.zst", test_reader_fuzz.cut),
        ("a.parquet", test_reader_fuzz.cut),
    ],
)
def test_damage_that_nobody_records_breaks_the_law_of_damaged_files(
    tmp_path, monkeypatch, name, damage
):
    silent = property(lambda self: None, lambda self, damage: None)
    monkeypatch.setattr(raw_bytes.RawBytes, "damage", silent, raising=False)
    with pytest.raises(AssertionError):
        test_reader_fuzz.check(tmp_path, name, damage, range(1))


def test_rows_that_nobody_counts_vanish(tmp_path, monkeypatch):
    script = Path(parquet_rows.__file__).read_text(encoding="utf-8")
    mutated = tmp_path / "mutated.py"
    mutated.write_text(script.replace("if declared != found:", "if False:"), encoding="utf-8")
    monkeypatch.setattr(parquet_rows, "__file__", str(mutated))
    with pytest.raises(AssertionError):
        test_parquet_rows.test_rows_are_held_against_what_the_file_says(tmp_path)


@pytest.mark.parametrize(
    ("law", "mutation", "whole"),
    [
        ("bomb", "if size > most_bytes:", "if False:"),
        ("book", "BATCH_ROWS = 8", "BATCH_ROWS = 256"),
        ("book", "max(size, 1), 1))", "max(size, 1), 8))"),
        ("book", "step = 1 if", "step = rows if"),
    ],
)
def test_rows_without_a_limit_break_the_law_of_memory(tmp_path, monkeypatch, law, mutation, whole):
    script = Path(parquet_rows.__file__).read_text(encoding="utf-8")
    assert mutation in script
    mutated = tmp_path / "mutated.py"
    mutated.write_text(script.replace(mutation, whole), encoding="utf-8")
    if law == "bomb":
        monkeypatch.setattr(parquet_rows, "__file__", str(mutated))
        with pytest.raises(AssertionError):
            test_parquet_rows.test_a_bomb_is_left_where_it_gets_out_of_hand(tmp_path, monkeypatch)
    else:
        send = runpy.run_path(str(mutated))["_send"]
        monkeypatch.setattr(parquet_rows, "_send", send)
        with pytest.raises(AssertionError):
            test_parquet_rows.test_a_book_or_the_same_one_again_takes_little_memory(tmp_path)


def test_a_mark_that_stays_in_a_text_breaks_the_law_of_marks(tmp_path, monkeypatch):
    monkeypatch.setattr(read_sources, "BOM", "")
    with pytest.raises(AssertionError):
        test_read_sources.test_a_byte_order_mark_at_the_head_of_a_text_is_not_text(
            tmp_path, "\ufeff"
        )


def test_names_as_they_are_break_messages_of_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(read_sources, "printable", str)
    with pytest.raises(AssertionError):
        test_read_sources.test_files_may_be_named_on_two_lines_and_messages_are_one(
            tmp_path, capsys
        )


def test_one_byte_order_for_a_whole_file_breaks_that_of_its_records(tmp_path, monkeypatch):
    plain = text_encoding.TextEncoding
    monkeypatch.setattr(read_sources, "TextEncoding", lambda name, head: plain(name, b""))
    with pytest.raises(AssertionError):
        test_text_encoding.test_a_byte_order_mark_decides_it_for_each_record(tmp_path, "utf-16")


def test_a_newline_out_of_step_breaks_lines_of_utf_16(tmp_path, monkeypatch):
    def split(self, chunks):
        for chunk in chunks:
            for piece in chunk.split(self.newline):
                yield piece + self.newline, True

    monkeypatch.setattr(text_encoding.TextEncoding, "pieces", split)
    with pytest.raises(AssertionError):
        test_text_encoding.test_lines_of_any_encoding_are_records(
            tmp_path, "utf-16-be", monkeypatch
        )


def test_dead_letters_weighed_by_bytes_alone_break_the_law_of_records(tmp_path, monkeypatch):
    monkeypatch.setattr(curate, "_unreadable_shares", lambda _: (0.0, 0.0))
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        test_curate.test_records_count_as_well_as_bytes(tmp_path)


def test_a_failure_that_keeps_its_class_is_not_that_of_the_command(capfd, monkeypatch):
    monkeypatch.setattr(test_runner, "on_worker", lambda step: step)
    error = OSError(28, "No space left on device", "a")
    with pytest.raises(OSError, match="No space left on device"):
        test_runner.test_a_failure_in_a_step_is_the_failure_of_the_command(
            capfd, error, failures.StopAndLook, "[Errno 28] No space"
        )


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_channel_whose_end_nobody_knows_breaks_the_status_of_a_killed_worker(capfd, monkeypatch):
    monkeypatch.setattr(runner, "_WORKER_GONE", "another text")
    with pytest.raises(RuntimeError, match="Channel closed prematurely"):
        test_runner.test_a_worker_that_is_killed_is_no_bug(capfd)


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
    monkeypatch.setattr(boilerplate, "_FOOTERS", re.compile(".*"))
    monkeypatch.setattr(boilerplate, "_SENTENCE_ENDS", ())
    with pytest.raises(AssertionError):
        test_boilerplate.test_a_line_that_speaks_of_such_things_is_text("隐私政策")


def test_any_title_behind_a_colon_breaks_sentences(monkeypatch):
    monkeypatch.setattr(boilerplate, "_LINKS", re.compile("[上前下后]一[篇条]：.*"))
    with pytest.raises(AssertionError):
        test_boilerplate.test_a_line_that_speaks_of_such_things_is_text(
            "上一篇：我们讨论了回归，它有闭式解。"
        )
    with pytest.raises(AssertionError):
        test_boilerplate.test_a_line_that_speaks_of_such_things_is_text("下一条：知之为知之")


def test_parts_between_blanks_break_english_menus(monkeypatch):
    monkeypatch.setattr(boilerplate, "_ENGLISH_EDGE", boilerplate._PART_EDGE)
    with pytest.raises(AssertionError):
        test_boilerplate.test_menus_of_novels_of_films_and_of_english_pages(
            "Home | About Us | Contact | Log in\nIt rained.", 25 / 35
        )


def test_labels_by_document_alone_break_those_of_other_lines(monkeypatch):
    monkeypatch.setattr(rule_verdicts, "lines_digest", lambda rule, text: "900150983cd2")
    with pytest.raises(AssertionError):
        test_rule_verdicts.test_a_label_of_lines_holds_for_these_lines_only()


def test_offers_without_who_reports_them_break_the_news(monkeypatch):
    monkeypatch.setattr(spam, "_REPORTS", ())
    with pytest.raises(AssertionError, match="DropReason.SPAM"):
        test_spam.test_words_in_words_and_reports_are_not(
            "警方打掉一个赌博平台，网页上有百家乐、老虎机和轮盘，“注册送彩金”“天天返水”“立即注册”“欢迎您”。"
        )


def test_accounts_that_are_traded_across_clauses_break_who_registers_one(monkeypatch):
    monkeypatch.setattr(spam, "_TRADED_ACCOUNT", re.compile("账号.{0,20}购买"))
    with pytest.raises(AssertionError, match="DropReason.SPAM"):
        test_spam.test_words_in_words_and_reports_are_not(
            "先注册账号，再购买一个套餐。遇到问题可以问本店客服，售后无忧，质保一年，欢迎咨询。"
        )


def test_goods_in_longer_goods_break_the_count_of_them(monkeypatch):
    monkeypatch.setattr(spam, "_ENOUGH", 2)
    with pytest.raises(AssertionError):
        test_spam.test_promises_and_calls_count_where_there_are_goods(
            f"一肖、百家乐、一肖一码，{test_spam.PROMISES}，{test_spam.CALLS}", 0
        )


def test_a_tag_that_encloses_wherever_it_stands_breaks_what_is_said_of_tags(monkeypatch):
    monkeypatch.setattr(markup, "_EDGES", type("All", (), {"__contains__": lambda *_: True})())
    with pytest.raises(AssertionError):
        test_markup.test_the_share_between_tags_by_hand()


def test_lines_of_code_that_count_break_texts_that_show_tags(monkeypatch):
    monkeypatch.setattr(markup, "_CLAUSE_MARK", re.compile(""))
    with pytest.raises(AssertionError):
        test_markup.test_the_share_of_tags_by_hand()


def test_tags_that_weigh_nothing_break_the_source_of_a_page(monkeypatch):
    monkeypatch.setattr(markup, "_TAG_WEIGHT", 0)
    with pytest.raises(AssertionError, match="DropReason.MARKUP"):
        test_markup.test_the_source_of_a_page_is_markup(
            "渡<a h=1>口的</a>老<a h=2>船夫</a>，起得很早。" * 3
        )


def test_every_ellipsis_as_a_cut_breaks_who_trails_off(monkeypatch):
    monkeypatch.setattr(clean_rules, "_SHORTEST_TEASER", 20)
    with pytest.raises(AssertionError, match="DropReason.CUT_SHORT"):
        test_clean_rules.test_few_or_full_lines_are_no_list_and_no_teasers(
            "用了一个月，说几句...\n屏幕还不错，就是电池不太耐用，一天要充两次电才够...\n"
            "拍照一般，晚上噪点比较多，还不如以前用的那一个...\n这个价也就这样了，凑合着用吧，毕竟便宜...",
        )


def test_undoing_into_any_characters_breaks_real_text(monkeypatch):
    monkeypatch.setattr(mojibake, "_can_be_undone", lambda text: True)
    with pytest.raises(AssertionError):
        test_mojibake.test_texts_are_judged_each_alone()


def test_whole_lines_as_stretches_break_half_a_line_of_mojibake(monkeypatch):
    monkeypatch.setattr(mojibake, "_IS_EDGE", mojibake._flags([ord("\n")]))
    with pytest.raises(AssertionError):
        test_mojibake.test_half_of_a_line_in_the_wrong_encoding_spoils_its_text(
            *test_mojibake.MISREAD[0]
        )


def test_a_misread_mark_that_counts_at_once_breaks_who_quotes_it(monkeypatch):
    monkeypatch.setattr(mojibake, "_MENTIONS", 0)
    with pytest.raises(AssertionError):
        test_mojibake.test_signs_are_counted_but_not_mentions("一锛屻、二銆備、三锛熶", 1)


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


def test_interrupts_that_are_not_noted_break_one_that_a_library_loses(monkeypatch):
    monkeypatch.setattr(runner, "_interrupts_noted", contextlib.nullcontext)
    with pytest.raises(pytest.fail.Exception):
        test_runner.test_an_interrupt_that_a_library_loses_ends_the_job()


def test_rates_as_given_break_one_source_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(mixture, "rates_in_force", lambda rates, datasets: rates)
    with pytest.raises(InputError, match="has a rate but no token dataset"):
        test_mixture.test_one_source_alone_needs_no_rate(tmp_path)


def test_a_script_that_is_forgotten_breaks_the_count_of_pieces(monkeypatch):
    monkeypatch.delitem(tokenizer.SCRIPTS, "IDEOGRAPHIC")
    with pytest.raises(AssertionError):
        test_tokenizer.test_pieces_are_counted_by_the_script_of_their_first_letter()


def test_texts_compared_as_they_are_break_demonstrations_of_the_same_text(monkeypatch):
    monkeypatch.setattr(same_text, "compared", lambda text: text)
    asked, same, other = ({"sentence": one, "label": "103"} for one in ("甲乙", "甲 乙", "丙"))
    with pytest.raises(AssertionError):
        test_prompted.test_what_differs_in_its_shape_alone_is_not_shown(
            test_prompted.NEWS, asked, same, other
        )


def test_odd_references_that_stay_break_what_is_left_out(monkeypatch):
    monkeypatch.setattr(judgement, "answerable", lambda row, asked: list(asked))
    with pytest.raises(AssertionError):
        test_judgement.test_a_reference_that_a_metric_takes_away_is_left_out(
            "cmrc2018", ["？", "苹果"], ["苹果"]
        )


def test_punctuation_that_is_not_seen_breaks_webqas_strict_score(monkeypatch):
    monkeypatch.setattr(scores, "is_webqa", scores.acc_exact)
    with pytest.raises(AssertionError):
        test_judgement.test_webqa_strict_takes_blanks_and_case_for_nothing_and_no_more()


def test_surrogates_that_are_not_looked_for_break_their_refusal(monkeypatch, tmp_path):
    monkeypatch.setattr(set_files, "SURROGATE", re.compile("(?!)"))
    with pytest.raises(pytest.fail.Exception):
        test_set_files.test_half_of_a_surrogate_pair_is_refused_with_its_line_and_field(
            tmp_path, f'{{"context": "{test_set_files.HALF}"}}', "'context'"
        )


def test_weights_that_may_be_left_over_break_an_import_of_all(monkeypatch):
    monkeypatch.setattr(gpt_neox_layout, "NO_WEIGHT", re.compile(".*"))
    with pytest.raises(pytest.fail.Exception):
        test_gpt_neox_layout.test_a_weight_without_a_place_is_refused_by_its_name()


def test_scores_that_nobody_looks_at_break_what_is_told_of_them(monkeypatch):
    monkeypatch.setattr(
        sampling, "are_numbers", lambda scores: jax.numpy.all(scores > -jax.numpy.inf, -1) | True
    )
    with pytest.raises(pytest.fail.Exception):
        test_generate.test_scores_that_are_no_numbers_are_told_and_not_an_empty_text()


def test_calls_that_grow_without_a_clock_break_their_bound(monkeypatch):
    monkeypatch.setattr(strides.jax, "process_count", lambda: 2)  # whose calls are of 32 steps
    with pytest.raises(AssertionError):
        test_strides.test_no_call_takes_much_more_than_half_a_second_and_there_are_few(
            monkeypatch, 0.1, 0.0
        )


def test_results_written_out_of_turn_break_the_tables_of_two_evaluations(tmp_path):
    first_line = "result_files.in_turn = contextlib.nullcontext\n"
    code = test_result_files.EVALUATION.replace("folder, row", f"{first_line}folder, row", 1)
    with pytest.raises(AssertionError):
        test_result_files.check_tables_hold_both(test_result_files.evaluate_twice(tmp_path, code))


def test_answers_of_others_that_are_not_read_break_answers_that_are_there_once(tmp_path):
    first_line = "_Answers._length_now = lambda answers: 0\n"
    code = test_result_files.EVALUATION.replace("folder, row", f"{first_line}folder, row", 1)
    folder = test_result_files.evaluate_twice(tmp_path, code)
    with pytest.raises(AssertionError):
        test_result_files.check_answers_are_there_once(folder)


def test_errors_of_jax_that_nobody_knows_break_the_line_about_memory(monkeypatch, capsys):
    monkeypatch.setattr(failures, "_OF_JAX", ())
    with pytest.raises(jax.errors.JaxRuntimeError):
        test_failures.test_too_little_memory_is_a_line_that_says_what_takes_less(
            capsys, lambda: jax.numpy.zeros(2**45), ""
        )


def test_includes_from_the_working_folder_break_installed_files(monkeypatch, tmp_path):
    monkeypatch.setattr(Path, "is_relative_to", lambda *_: False)
    with pytest.raises(AssertionError):
        test_gin_files.test_an_installed_file_includes_no_file_of_the_working_folder(
            tmp_path, monkeypatch
        )


def test_a_path_that_is_not_escaped_breaks_folders_that_look_like_patterns(monkeypatch, tmp_path):
    monkeypatch.setattr(glob, "escape", lambda path: path)
    with pytest.raises(AssertionError):
        test_run_files.test_a_folder_whose_name_looks_like_a_pattern_is_one_folder(
            tmp_path, "run[1]"
        )
    with pytest.raises(StopAndLook, match="is saved in .* and cannot be restored"):
        test_checkpoints.test_a_folder_whose_name_looks_like_a_pattern_holds_checkpoints_too(
            tmp_path, "run[1]"
        )


def test_a_uri_made_absolute_breaks_where_orbax_writes(monkeypatch, tmp_path):
    monkeypatch.setattr(run_files.LiteralPath, "resolve", epath.gpath.PosixGPath.resolve)
    with pytest.raises(AssertionError):
        test_checkpoints.test_orbax_is_given_a_uri_as_it_is(tmp_path, monkeypatch)


def test_a_first_save_that_nobody_reads_breaks_the_law_against_it(monkeypatch, tmp_path):
    monkeypatch.setattr(Checkpoints, "_read_back", lambda *_: None)
    with pytest.raises(pytest.fail.Exception):
        test_checkpoints.test_a_first_save_that_cannot_be_restored_ends_the_run_at_once(
            tmp_path, monkeypatch, test_checkpoints.lose_the_merged_arrays, ""
        )


def test_turns_by_the_interval_of_today_break_retention(monkeypatch, tmp_path):
    plain = Checkpoints._host

    def by_todays(self, step):
        return plain(self, step)._replace(in_turn=step % self._config.every_steps == 0)

    monkeypatch.setattr(Checkpoints, "_host", by_todays)
    with pytest.raises(AssertionError):
        test_checkpoints.test_another_interval_deletes_no_more_than_the_one_before(tmp_path, 21, 63)


def test_a_loss_scale_that_is_not_reset_breaks_recoveries(monkeypatch, tmp_path):
    monkeypatch.setattr(
        RunParts, "with_first_loss_scale", lambda self, state: dataclasses.replace(state)
    )
    gin_file = str(tiny_corpus.run_gin(tmp_path / "run.gin", 4))
    with pytest.raises(AssertionError):
        test_runs.test_a_recovery_gives_the_loss_scale_its_first_value_and_changes_nothing_else(
            gin_file
        )


def test_a_loop_that_asks_for_no_reset_breaks_recoveries(monkeypatch, tmp_path):
    plain = toy_runs.training

    def without(*where, **how):
        return dataclasses.replace(plain(*where, **how), reset_loss_scale=lambda state: state)

    monkeypatch.setattr(toy_runs, "training", without)
    with pytest.raises(AssertionError):
        test_loop.test_a_recovery_starts_the_loss_scale_anew_at_its_target(epath.Path(tmp_path))


def test_two_percent_of_any_run_breaks_short_ones(monkeypatch, tmp_path):
    monkeypatch.setattr(rollback, "most_skipped", lambda _, steps: (steps // 50, "2%"))
    with pytest.raises(StopAndLook, match="no more than 20 are without a person"):
        test_loop.test_a_run_of_1000_steps_survives_two_spikes_as_configured_by_default(
            epath.Path(tmp_path), 700
        )


def test_an_error_that_nothing_heals_breaks_starting_again(monkeypatch):
    monkeypatch.setattr(failures, "PASSING", set())
    stale = OSError(errno.ESTALE, "Stale file handle", "/nfs/run")
    with pytest.raises(AssertionError):
        test_failures.test_an_error_of_the_system_that_may_pass_says_start_again(stale, 75)


def test_files_held_out_that_are_not_opened_break_the_law_of_listed_files(monkeypatch, tmp_path):
    folder = shutil.copytree(tiny_corpus.tokens_dir() / "news", tmp_path / "news")
    plain = token_dataset.read_metadata

    def of_training_alone(folder):
        metadata, fingerprint = plain(folder)
        splits = {"train": metadata.splits["train"]}
        return dataclasses.replace(metadata, splits=splits), fingerprint

    monkeypatch.setattr(token_dataset, "read_metadata", of_training_alone)
    with pytest.raises(pytest.fail.Exception):
        test_token_dataset.test_a_listed_file_that_is_missing_cut_or_another_stops(
            folder, "heldout", Path.unlink, ""
        )


def test_programs_in_one_folder_break_their_law(monkeypatch, tmp_path):
    monkeypatch.setattr(runs, "programs_folder", lambda run: run.compiled / "all")
    with pytest.raises(AssertionError):
        test_runs.test_programs_of_another_jaxlib_or_processor_are_not_loaded(tmp_path, monkeypatch)


def test_outliers_that_need_no_neighbour_break_lone_ones(monkeypatch):
    monkeypatch.setattr(spikes, "_is_up", lambda history: True)
    with pytest.raises(AssertionError):
        test_spikes.test_lone_outliers_are_not_an_incident_however_many_and_high(3)


@pytest.mark.parametrize("share", [0.4, 0.6])
def test_another_height_of_neighbours_breaks_what_lasts(monkeypatch, share):
    monkeypatch.setattr(spikes, "RAISED", share)
    neighbour, counts = (0.14, False) if share < 0.5 else (0.16, True)
    with pytest.raises(AssertionError):
        test_spikes.test_an_outlier_lasts_if_a_neighbour_is_raised_by_half_the_threshold(
            neighbour, counts
        )


def test_steps_that_nobody_checks_break_a_curve_with_gaps(monkeypatch, tmp_path):
    monkeypatch.setattr(recover, "_check_steps", lambda curve, steps: None)
    with pytest.raises(pytest.fail.Exception):
        test_recover.test_a_curve_with_gaps_all_over_is_refused(
            tmp_path, range(0, 4000, 10), "399 of its 400 lines"
        )
