import math

from tests.test_report import at, recovery
from welm_jax import clue_curve, recovery_report, run_files
from welm_jax.evaluate import result_files
from welm_jax.run_files import RunFolder


def write(run, step, scores, **about):
    """Results of a step as the evaluator files them."""
    how = {"limit": None, "window": 2048, "compute_dtype": "float32"}
    about = {"step": step, "attempt": 0, "weights": "w", **how} | about
    for name, value in scores.items():
        summary = {"task": name, "value": value, "stands_in": "", "demonstrations": 0} | about
        result_files.write_task(run.evaluation / f"{step}", summary, [])


def shown(run, lines, journal=()):
    return clue_curve.content(run, recovery_report.kept_and_discarded(lines, journal)[0])


LINES = [at(0, n, n) for n in range(1, 31)]  # 4,096 tokens a step


def test_a_point_is_the_mean_of_the_members_that_are_there(tmp_path):
    run = RunFolder(tmp_path)
    write(run, 10, {"c3_0shot": 20.0, "ocnli_0shot": 40.0, "c3_5shot": 99.0, "drcd_0shot": 99.0})
    write(run, 20, {"c3_0shot": 40.0, "ocnli_0shot": 60.0})
    found = shown(run, LINES)
    # 30 per cent at 40,960 tokens, 50 at 81,920: from the lowest tick to the highest.
    assert found["curve"].paths == [("smooth", "M0.0 200.0L640.0 0.0")]
    assert [x for x, _, _ in found["curve"].dots] == [0.0, 640.0]
    assert found["notes"] == [
        "Step 20 and 1 before it; its 50.00 is the mean of 2 of 8 rows, without CMRC2018, CHID, "
        "CMNLI, TNEWS, IFLYTEK, WSC2020."
    ]


def test_means_of_other_rows_or_of_fewer_examples_are_not_joined(tmp_path):
    run = RunFolder(tmp_path)
    for step, value in ((5, 20.0), (10, 30.0)):
        write(run, step, {"c3_0shot": value})
    write(run, 15, {"c3_0shot": 30.0}, limit=9)
    write(run, 20, {"ocnli_0shot": 30.0}, stands_in="x")
    found = shown(run, LINES)
    assert [path.count("L") for _, path in found["curve"].paths] == [1, 0, 0]
    assert len(found["notes"]) == 3 and "Step 10 and 1 before it" in found["notes"][0]
    assert any("the first 9 examples of each" in note for note in found["notes"])


def test_means_of_other_windows_or_other_rounding_are_not_joined_and_their_notes_say_so(tmp_path):
    run = RunFolder(tmp_path)
    for step in (5, 10, 15):
        write(run, step, {"c3_0shot": 20.0 + step})
    write(run, 20, {"c3_0shot": 30.0}, window=512)
    for step in (25, 30):
        write(run, step, {"c3_0shot": 30.0}, compute_dtype="bfloat16")
    found = shown(run, LINES)
    assert [(kind, path.count("L")) for kind, path in found["curve"].paths] == [
        ("smooth", 2),  # the longest stands out
        ("raw", 1),
        ("raw", 0),
    ]
    ends = [note.rpartition("; ")[2] for note in found["notes"]]
    assert ends == [
        "in float32, with a window of 2048 tokens.",
        "in bfloat16, with a window of 2048 tokens.",
        "in float32, with a window of 512 tokens.",
    ]


def test_of_a_step_evaluated_in_several_ways_the_one_of_the_most_rows_is_drawn(tmp_path):
    run = RunFolder(tmp_path)
    write(run, 10, {"c3_0shot": 20.0, "ocnli_0shot": 40.0}, limit=9)
    write(run, 10, {"tnews_0shot": 90.0})
    [note] = shown(run, LINES)["notes"]
    assert note.startswith("Step 10; its 30.00 is the mean of 2 of 8 rows")
    assert shown(run, LINES)["curve"] is None  # of a single point


def test_what_a_rollback_discarded_is_not_drawn(tmp_path):
    run, journal = RunFolder(tmp_path), [recovery(1, 10, (10, 35))]
    lines = [*LINES, *(at(1, n, n + 25) for n in range(11, 26))]
    write(run, 10, {"c3_0shot": 10.0})
    write(run, 20, {"c3_0shot": 20.0})
    write(run, 25, {"c3_0shot": 25.0}, attempt=1)
    [note] = shown(run, lines, journal)["notes"]
    assert note.startswith("Step 25 and 1 before it; its 25.00")
    assert shown(RunFolder(tmp_path / "none"), lines) is None


def test_a_line_of_an_evaluation_is_no_iteration(tmp_path):
    run = RunFolder(tmp_path)
    scored = {"attempt": 0, "step": 2, "cursor": 2, "tokens": 9, "scores": {"c3_0shot": math.nan}}
    run_files.append_lines(run.metrics, [at(0, 1, 1), at(0, 2, 2), scored])
    assert [line["loss"] for line in run.iterations()] == [3.0, 3.0]
