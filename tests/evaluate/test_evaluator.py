"""Tasks evaluated by seqio's own evaluator, on a small decoder and on models that are known."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
import seqio
import tensorflow as tf
from absl import logging
from etils import epath
from rich.console import Console

from tests import tiny_corpus
from tests.begun_run import begun_run
from tests.conftest import xla_flags
from tests.tasks import small_sets
from tests.tiny_decoder import mesh_of, placed, random_parameters
from welm_jax import launch, run_files
from welm_jax.decode import rank
from welm_jax.evaluate import evaluator, model_functions, result_files, self_checks, tables
from welm_jax.failures import InputError, StopAndLook
from welm_jax.model.config import ModelConfig
from welm_jax.model.decoder import Assembler
from welm_jax.tasks import eval_tasks, judgement, scores
from welm_jax.tasks.vocabulary import WelmVocabulary

CONFIG = ModelConfig(
    num_layers=1,
    num_heads=2,
    d_model=16,
    vocab_size=tiny_corpus.VOCAB_SIZE,
    compute_dtype="float32",
)
CHOICES, ANSWERS = ("ocnli", "tnews", "chid", "c3"), ("cmrc2018", "zh2en")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return epath.Path(small_sets.write_all(tmp_path_factory.mktemp("sets")))


@pytest.fixture(scope="module")
def subject():
    mesh = mesh_of()
    return evaluator.Subject(
        assemble=Assembler(CONFIG),
        parameters=placed(random_parameters(CONFIG), mesh),
        mesh=mesh,
        vocabulary=WelmVocabulary(str(tiny_corpus.tokenizer_file())),
        window=512,
        step=7,
        attempt=0,
    )


def evaluated(subject, names, data_dir, folder, limit=None):
    return evaluator.evaluate(
        subject, names, data_dir, epath.Path(folder), limit, Console(quiet=True)
    )


@pytest.fixture(scope="module")
def done(subject, data_dir, tmp_path_factory):
    folder = epath.Path(tmp_path_factory.mktemp("results"))
    return evaluated(subject, ["welm_table3", "welm_table5"], data_dir, folder), folder


def test_every_row_whose_data_is_there_is_evaluated(done):
    summaries, folder = done
    shots = {"ocnli": 5, "tnews": 5, "chid": 2, "c3": 5, "cmrc2018": 1, "zh2en": 1}
    expected = {f"{row}_{n}shot" for row, few in shots.items() for n in (0, few)}
    assert set(summaries) == expected
    for name in expected:
        assert json.loads((folder / f"{name}.json").read_text()) == summaries[name]
        outcomes = result_files.outcomes(folder, name)
        assert len(outcomes) == summaries[name]["scored"] == summaries[name]["n"] == 6
        assert summaries[name]["interval"][0] <= summaries[name]["value"]
        assert summaries[name]["self_checks"]["oracle"] == pytest.approx(100)
    assert summaries["chid_0shot"]["stands_in"] == "FewCLUE's ChID, 7 candidates"
    assert summaries["cmrc2018_1shot"]["shots"] == {"1": 6}


def test_a_loss_is_that_of_a_choice_alone_after_its_prompt(subject, done):
    """By the mean of its tokens; test_rank.py shows that it is the plain forward pass."""
    summaries, folder = done
    outcome = result_files.outcomes(folder, "c3_0shot")[3]
    tokenizer = subject.vocabulary.tokenizer
    prompt = [tokenizer.eod_id, *tokenizer.encode(outcome["prompt"])]
    with jax.set_mesh(subject.mesh):
        for choice, loss in zip(outcome["choices"], outcome["losses"]["token_mean"], strict=True):
            question = rank.Question(prompt=prompt, candidates=[tokenizer.encode(choice)])
            [(_, [found])] = rank.log_likelihoods(
                subject.assemble, subject.parameters, [question], row_tokens=1, batch_tokens=1
            )
            assert loss == pytest.approx(-found.mean(), abs=1e-5)


def test_what_the_model_gave_is_asked_for_once(subject, data_dir, done, tmp_path, monkeypatch):
    """Half of it lost, half is asked for again; then nothing is."""
    summaries, folder = done
    asked = []
    plain = rank.log_likelihoods

    def counting(assemble, parameters, questions, **how):
        asked.extend(candidate for one in questions for candidate in one.candidates)
        return plain(assemble, parameters, questions, **how)

    monkeypatch.setattr(rank, "log_likelihoods", counting)
    given = (folder / "c3_0shot.given.jsonl").read_text().splitlines()
    kept = tmp_path / "c3_0shot.given.jsonl"
    kept.write_text("\n".join(given[: len(given) // 2]) + "\n" + given[-1][:20])  # cut by a kill
    again = evaluated(subject, ["c3_0shot"], data_dir, tmp_path)
    assert again["c3_0shot"] == summaries["c3_0shot"]
    assert len(asked) == len(given) - len(given) // 2
    keys = [json.loads(line)["key"] for line in kept.read_text().splitlines() if line[-1] == "}"]
    assert len(keys) == len(set(keys)) == len(given)
    asked.clear()
    evaluated(subject, ["c3_0shot"], data_dir, tmp_path)
    assert not asked


def test_a_kill_between_a_tasks_two_files_loses_and_doubles_nothing(
    subject, data_dir, done, tmp_path, monkeypatch
):
    """What was there of fewer examples is gone by then; the model is not asked again."""
    summaries, folder = done
    given = "c3_0shot.given.jsonl"
    (tmp_path / given).write_text((folder / given).read_text())
    evaluated(subject, ["c3_0shot"], data_dir, tmp_path, limit=2)

    def killed(file, content):
        raise KeyboardInterrupt

    with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
        context.setattr(run_files, "write_json", killed)
        evaluated(subject, ["c3_0shot"], data_dir, tmp_path)
    for limit in (2, None):
        assert result_files.summaries(epath.Path(tmp_path), subject.about(limit)) == {}

    def asked(assemble, parameters, questions, **_):
        assert not questions
        return iter(())

    monkeypatch.setattr(rank, "log_likelihoods", asked)
    again = evaluated(subject, ["c3_0shot"], data_dir, tmp_path)
    assert again["c3_0shot"] == summaries["c3_0shot"]
    found = [result_files.outcomes(epath.Path(where), "c3_0shot") for where in (tmp_path, folder)]
    assert found[0] == found[1] and len({one["id"] for one in found[0]}) == 6


def test_the_beginning_of_the_passage_stands_beside_summaries(subject, tmp_path, monkeypatch):
    """Of twenty characters four are the title's, of five: 2 x .2 x .8 / (.2 + .8) = .32."""
    record = {"content": "甲乙丙丁" + "子" * 16 + "戊，后面还有", "title": "甲乙丙丁戊"}
    small_sets.write(tmp_path / "sets/lcsts", "validation", [record])
    monkeypatch.setattr(model_functions, "generate", lambda *_, **__: [(0, [])])
    found = evaluated(subject, ["lcsts_0shot"], epath.Path(tmp_path / "sets"), tmp_path / "results")
    assert found["lcsts_0shot"]["lead"] == pytest.approx(32) and found["lcsts_0shot"]["value"] == 0
    [table] = tables.shown(found)
    assert "LCSTS: the first 20 characters of the passage score 32.00" in table.notes


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cmcr2018_0shot", "there is no task cmcr2018_0shot; did you mean cmrc2018_0shot\\?$"),
        ("cft_5shots", "did you mean cft_5shot\\? A row takes 0 to 9999 shots"),
        ("cft_-1shot", "did you mean cft_5shot\\? A row takes 0 to 9999 shots"),
        ("cft_2.5shot", "did you mean cft_5shot\\? A row takes 0 to 9999 shots"),
        ("x", "there is no task x; known are welm_table3, welm_table5, cmrc2018_0shot"),
    ],
)
def test_a_name_that_is_not_known_is_refused_with_what_may_be_meant(name, words):
    with pytest.raises(InputError, match=words):
        list(evaluator.rows_of([name], epath.Path("nowhere")))


def test_a_row_may_be_asked_for_with_any_number_of_shots(subject, data_dir, tmp_path):
    """The paper has 5 for CFT and says 2 in another place; tables keep to what it has."""
    [(row, shots), other] = evaluator.rows_of(["cft_2shot", "cft_5shot"], data_dir)
    assert (row.name, shots, other) == ("cft", 2, (row, 5))
    found = evaluated(subject, ["c3_1shot"], data_dir, tmp_path, limit=2)["c3_1shot"]
    assert found["shots"] == {"1": 2}
    assert tables.shown({"c3_1shot": found}) == []


def test_a_task_that_fails_does_not_take_the_others_with_it(subject, tmp_path):
    data_dir = epath.Path(tmp_path / "sets")
    small_sets.write(tmp_path / "sets/c3", "validation", [small_sets.dialogue(1)])
    small_sets.write(tmp_path / "sets/ocnli", "validation", [{**small_sets.nli(1), "label": 3}])
    folder = epath.Path(tmp_path / "results")
    about = {"task": "ocnli_0shot", **subject.about(None)}
    result_files.write_task(
        folder, about | {"value": 50.0, "metric": "acc"}, []
    )  # of an earlier run
    found = evaluated(subject, ["ocnli_0shot", "c3_0shot"], data_dir, folder)
    assert set(found) == {"c3_0shot"} == set(result_files.summaries(folder, {}))
    shown = result_files.write_tables(folder, subject.about(None), "run")
    assert "- OCNLI: ocnli_0shot is left out: " in shown and "50.00" not in shown
    with pytest.raises(
        evaluator.NoneEvaluated, match="none of ocnli_0shot, cft_0shot could be evaluated"
    ):
        evaluated(subject, ["ocnli_0shot", "cft_0shot"], data_dir, tmp_path / "results")


def test_a_model_that_gives_no_numbers_is_counted_and_not_averaged_in(
    subject, data_dir, tmp_path, monkeypatch
):
    def broken(assemble, parameters, questions, **_):
        for number, one in enumerate(questions):
            lost = np.nan if number == 0 else -1.0
            yield number, [np.full(len(ids), lost, np.float32) for ids in one.candidates]

    monkeypatch.setattr(rank, "log_likelihoods", broken)
    for _ in range(2):  # the second time from what was kept
        found = evaluated(subject, ["ocnli_0shot"], data_dir, tmp_path)["ocnli_0shot"]
        assert (found["scored"], found["n"]) == (5, 6)
        assert found["skipped"] == {"the model's likelihoods are no numbers": 1}


def test_a_model_that_gives_no_number_at_all_is_left_out_and_the_others_go_on(
    subject, data_dir, tmp_path, monkeypatch
):
    def broken(assemble, parameters, questions, **_):
        for number, one in enumerate(questions):
            lost = np.nan if len(one.candidates) == 3 and "句子" in decode(one.prompt) else -1.0
            yield number, [np.full(len(ids), lost, np.float32) for ids in one.candidates]

    decode = subject.vocabulary.tokenizer.decode
    monkeypatch.setattr(rank, "log_likelihoods", broken)
    found = evaluated(subject, ["ocnli_0shot", "c3_0shot"], data_dir, tmp_path)
    assert set(found) == {"c3_0shot"}


def test_what_another_model_gave_is_not_taken_for_this_ones(subject, data_dir, done, tmp_path):
    """The same step of the same attempt with other weights: a life before had another rate."""
    summaries, folder = done
    (tmp_path / "c3_0shot.given.jsonl").write_text((folder / "c3_0shot.given.jsonl").read_text())
    parameters = placed(random_parameters(CONFIG, seed=1), subject.mesh)
    other = dataclasses.replace(subject, parameters=parameters)
    evaluated(other, ["c3_0shot"], data_dir, tmp_path)
    assert result_files.summaries(epath.Path(tmp_path), other.about(None))
    assert not result_files.summaries(epath.Path(tmp_path), subject.about(None))
    ours, theirs = (
        result_files.outcomes(epath.Path(where), "c3_0shot")[0]["losses"]
        for where in (folder, tmp_path)
    )
    assert ours != theirs


def test_without_examples_to_demonstrate_with_there_is_no_few_shot_figure(subject, tmp_path):
    small_sets.write(tmp_path / "sets/c3", "validation", [small_sets.dialogue(1)])
    found = evaluated(
        subject, ["c3_0shot", "c3_5shot"], epath.Path(tmp_path / "sets"), tmp_path / "results"
    )
    [table] = tables.shown(found)
    assert table.rows[0][-3:-1] == ["–", "–"]
    assert "C3: c3_5shot: 0.0 of 5 demonstrations in the mean" in table.notes


def test_answers_chosen_among_no_numbers_are_not_scored(subject, data_dir, tmp_path, capsys):
    """NaN weights: the id chosen is 0, which is no text, and an empty answer would score 0."""
    lost = jax.tree.map(lambda weight: weight * np.nan, subject.parameters)
    broken = dataclasses.replace(subject, parameters=lost, attempt=5)
    console = Console(width=200)
    for _ in range(2):  # the second time from what was kept
        with pytest.raises(InputError, match="none of cmrc2018_0shot could be evaluated"):
            evaluator.evaluate(
                broken, ["cmrc2018_0shot"], data_dir, epath.Path(tmp_path), None, console
            )
        said = capsys.readouterr().out
        assert "left out: the model's likelihoods are no numbers in 6 of 6 answers" in said
    assert not result_files.summaries(epath.Path(tmp_path), {})


def test_a_task_of_which_nothing_can_be_asked_is_refused_with_the_reason(subject, tmp_path):
    small_sets.write(tmp_path / "cmrc2018", "validation", [small_sets.squad(1)])
    [(row, shots)] = evaluator.rows_of(["cmrc2018_0shot"], epath.Path(tmp_path))
    with pytest.raises(InputError, match="none of 1 examples can be asked.*longer than the window"):
        eval_tasks.prepared(row, shots, epath.Path(tmp_path), subject.vocabulary, window=70)


def metrics_of_ones_own(targets, predictions):
    return {
        "longest": max(map(len, predictions)),
        "half": np.float32(0.5),
        "whole": np.array(3),
        "wrapped": seqio.metrics.Scalar(np.float32(0.25)),
        "each": np.ones(2),
        "said": seqio.metrics.Text("x"),
    }


@pytest.fixture
def own_task():
    seqio.TaskRegistry.add(
        "mine",
        source=seqio.FunctionDataSource(
            lambda split, shuffle_files, seed=None: tf.data.Dataset.from_tensor_slices(
                {"inputs": ["老师在", "The old"], "targets": ["家", "man"]}
            ),
            splits=["validation"],
        ),
        preprocessors=[seqio.preprocessors.tokenize],
        output_features={
            name: seqio.Feature(WelmVocabulary(str(tiny_corpus.tokenizer_file())), add_eos=False)
            for name in ("inputs", "targets")
        },
        metric_fns=[metrics_of_ones_own],
    )
    yield "mine"
    seqio.TaskRegistry.remove("mine")


def test_a_task_of_ones_own_is_evaluated_like_ours(subject, data_dir, tmp_path, own_task):
    found = evaluated(subject, [own_task], data_dir, tmp_path)[own_task]
    metrics = found["metrics"]
    assert metrics.pop("longest") > 0 and metrics == {"half": 0.5, "whole": 3, "wrapped": 0.25}
    assert found["no_numbers"] == {"each": "ndarray", "said": "Text"}
    assert json.loads((tmp_path / "mine.json").read_text())["metrics"]["half"] == 0.5


def test_others_warnings_are_heard_again_after_an_evaluation(subject, data_dir, tmp_path):
    """Orbax's, of a run that goes on; also where nothing could be evaluated."""
    before = logging.get_verbosity()
    assert before != logging.ERROR
    with pytest.raises(InputError, match="none of cft_0shot could be evaluated"):
        evaluated(subject, ["cft_0shot"], data_dir, tmp_path)
    assert logging.get_verbosity() == before


@pytest.mark.parametrize("name", [f"{row}_0shot" for row in (*CHOICES, *ANSWERS)])
def test_known_models_score_what_they_must(subject, data_dir, name):
    [(row, shots)] = evaluator.rows_of([name], data_dir)
    task = eval_tasks.prepared(row, shots, data_dir, subject.vocabulary, 512)
    found = self_checks.check(task, CONFIG.vocab_size)
    assert found["oracle"] == pytest.approx(100)
    assert found.get("anti_oracle", found.get("empty")) == 0


def test_odd_records_are_counted_and_named_and_cost_no_row(subject, tmp_path):
    """An answer of marks alone, none, and an empty one beside another, of six."""
    records = [small_sets.squad(number) for number in range(6)]
    records[1]["answers"] = [{"text": "？"}]
    records[2]["answers"] = [{"text": None}]
    records[4]["answers"][1]["text"] = ""
    small_sets.write(tmp_path / "sets/cmrc2018", "validation", records)
    found = evaluated(subject, ["cmrc2018_0shot"], epath.Path(tmp_path / "sets"), tmp_path)
    summary = found["cmrc2018_0shot"]
    marks = "a reference that the metric gives nothing"
    assert (summary["scored"], summary["n"]) == (4, 6)
    assert summary["skipped"] == {marks: 1, "no answer": 1}
    assert summary["skipped_ids"] == {marks: ["Q1"], "no answer": ["Q2"]}
    assert summary["lacks"] == {"an empty reference": {"count": 1, "ids": ["Q4"]}}
    [note] = [one for one in tables.shown(found)[0].notes if "cmrc2018_0shot" in one]
    assert f"1 left out: {marks} (Q1 first)" in note
    assert "1 asked without an empty reference (Q4 first)" in note


def test_a_broken_metric_is_not_believed(subject, data_dir, tmp_path, monkeypatch):
    """Google's ROUGE gives 0 to equal Chinese texts: fed to a row, the oracle fails."""
    monkeypatch.setitem(scores.ANSWER_SCORES, "f1_cmrc", scores.rouge1_word)
    [(row, shots)] = evaluator.rows_of(["cmrc2018_0shot"], data_dir)
    task = eval_tasks.prepared(row, shots, data_dir, subject.vocabulary, 512)
    with pytest.raises(StopAndLook, match="the oracle scores 0, which cannot be"):
        self_checks.check(task, CONFIG.vocab_size)


def never_forgiving(monkeypatch):
    monkeypatch.setitem(scores.ANSWER_SCORES, "em_cmrc", lambda one, other: float(one == other))


def sums_that_like_long_choices(monkeypatch):
    plain = judgement.of_choice

    def turned(row, question, sums, null_sums):
        outcome = plain(row, question, sums, null_sums)
        outcome["predicted"]["sum"] = int(np.argmax(outcome["losses"]["sum"]))
        return outcome

    monkeypatch.setattr(judgement, "of_choice", turned)


def accuracy_doubled(monkeypatch):
    plain = judgement.summary

    def doubled(*given):
        found = plain(*given)
        return found | {"among_all_labels": 2 * found.get("among_all_labels", 0)}

    monkeypatch.setattr(judgement, "summary", doubled)


@pytest.mark.parametrize(
    ("name", "broken", "words"),
    [
        ("cmrc2018_0shot", never_forgiving, "and a full stop, by em_cmrc, scores 0, which cannot"),
        ("c3_0shot", sums_that_like_long_choices, "share of shortest choices scores 0, which can"),
        ("tnews_0shot", accuracy_doubled, "right in 16.6667 % scores 33.3333, which cannot be"),
    ],
)
def test_each_fake_sees_its_fault(subject, data_dir, monkeypatch, name, broken, words):
    [(row, shots)] = evaluator.rows_of([name], data_dir)
    task = eval_tasks.prepared(row, shots, data_dir, subject.vocabulary, 512)
    self_checks.check(task, CONFIG.vocab_size)
    broken(monkeypatch)
    with pytest.raises(StopAndLook, match=words):
        self_checks.check(task, CONFIG.vocab_size)


@pytest.mark.parametrize("english", ["One two three.", "Yes."])
def test_the_oracle_of_bleu_is_asked_where_four_tokens_follow_one_another(
    subject, tmp_path, monkeypatch, english
):
    """Four tokens, the full stop one of them, make one run of four; two make none."""
    small_sets.write(tmp_path / "wmt21_zh_en", "validation", [{"zh": "一二三。", "en": english}])
    data_dir = epath.Path(tmp_path)
    [(row, shots)] = evaluator.rows_of(["zh2en_0shot"], data_dir)
    task = eval_tasks.prepared(row, shots, data_dir, subject.vocabulary, 512)
    found = self_checks.check(task, CONFIG.vocab_size)
    if english == "Yes.":
        assert found == {"empty": 0}  # it does not say that an oracle was asked
        return
    assert found == {"empty": 0, "oracle": pytest.approx(100)}
    plain = scores.bleu
    monkeypatch.setattr(scores, "bleu", lambda *given: (plain(*given)[0] / 2, plain(*given)[1]))
    with pytest.raises(StopAndLook, match="the oracle scores 50, which cannot be"):
        self_checks.check(task, CONFIG.vocab_size)


def test_ties_broken_by_place_are_not_believed(subject, tmp_path, monkeypatch):
    """Where the right option always stands first, a model that knows nothing would be right."""
    records = [{**small_sets.dialogue(at), "choice": [f"{at}点", "甲", "乙"]} for at in range(60)]
    small_sets.write(tmp_path / "c3", "validation", records)
    data_dir = epath.Path(tmp_path)
    [(row, shots)] = evaluator.rows_of(["c3_0shot"], data_dir)
    task = eval_tasks.prepared(row, shots, data_dir, subject.vocabulary, 512)
    assert self_checks.check(task, CONFIG.vocab_size)["uniform"] < 60
    monkeypatch.setattr(
        judgement, "_best", lambda losses, options, _: min(options, key=lambda at: losses[at])
    )
    with pytest.raises(StopAndLook, match="a uniform model scores 100, which cannot be"):
        self_checks.check(task, CONFIG.vocab_size)


def test_results_of_another_kind_stay_out_of_a_table(done):
    summaries, folder = done
    assert result_files.summaries(folder, {"step": 7, "limit": None}) == summaries
    assert result_files.summaries(folder, {"step": 7, "limit": 10}) == {}


def test_the_tables_show_ours_beside_the_papers(done):
    summaries, _ = done
    text = tables.markdown(tables.shown(summaries), 7)
    assert "## Chinese tasks, step 7" in text and "## Cross-lingual tasks, step 7" in text
    [line] = [one for one in text.splitlines() if one.startswith("| CMRC2018 ")]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[:3] == ["CMRC2018", "f1_cmrc", "cmrc2018"]
    assert cells[3:9] == ["real file", "10.12", "19.28", "25.61", "31.85", "31.31"]
    assert cells[9].startswith(f"{summaries['cmrc2018_0shot']['value']:.2f} (") and cells[10] == "6"
    assert "- CHID: * not the paper's set: FewCLUE's ChID, 7 candidates" in text
    assert "| CHID | acc (token_mean) | chid* | real file |" in text


def test_the_command_killed_goes_on_and_scores_each_example_once(tmp_path, capfd):
    """A real SIGKILL, after some answers were kept; this process goes on."""
    small_sets.write(
        tmp_path / "sets/c3", "validation", [small_sets.dialogue(at) for at in range(200)]
    )
    # More devices than there are: both processes use their first.
    run = begun_run(tmp_path, 4, "MeshConfig.data = 16")
    line = ["evaluate", "--run_dir", str(run), "--data_dir", str(tmp_path / "sets")]
    line += ["--task", "c3_0shot"]
    given = run / "evaluation/4/c3_0shot.given.jsonl"
    first = subprocess.Popen(
        [sys.executable, "-c", "from welm_jax.launch import main; main()", *line],
        env=os.environ | {"XLA_FLAGS": xla_flags(1)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    while not given.exists():
        assert first.poll() is None, first.stderr.read()
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    jax.clear_caches()  # programs are counted below
    capfd.readouterr()
    launch.dispatch(line)
    second = capfd.readouterr()
    lines = [json.loads(one) for one in given.read_text().splitlines() if one.endswith("}")]
    keys = [one["key"] for one in lines]
    assert len(keys) == len(set(keys)) >= 600
    summary = json.loads((given.parent / "c3_0shot.json").read_text())
    assert summary["scored"] == summary["n"] == 200
    assert len(result_files.outcomes(epath.Path(given.parent), "c3_0shot")) == 200
    assert "\nc3_0shot,validation,0,0.0,run/4,acc," in (given.parent / "results.csv").read_text()
    assert "| C3 | acc (token_mean) | c3 |" in second.out
    assert re.search(r"compiled [1-9]\d* programs for scoring \(at most \d", second.out)
    assert "and 0 for generating (at most" in second.out
    assert "Traceback" not in second.err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--task", "c3_0shot"], "--task, --limit and --import need --data_dir"),
        (["--data_dir", "x", "--limit", "0"], "--limit 0; it must be 1 or more"),
    ],
)
def test_flags_that_make_no_sense_are_refused(tmp_path, flags, words):
    (tmp_path / "config.gin").write_text("")
    with pytest.raises(InputError, match=words):
        launch.dispatch(["evaluate", "--run_dir", str(tmp_path), *flags])
