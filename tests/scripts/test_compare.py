"""`chartqa-ft compare`: the table, what changed, and exactly when it fails."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest

from chartqa_ft.metrics import compare_predictions
from chartqa_ft.metrics.comparison import paired_answers
from chartqa_ft.metrics.predictions import write_predictions
from chartqa_ft.scripts.cli import main
from chartqa_ft.scripts.compare import exact_difference, names_of


def rows(verdicts, **values):
    """Questions about charts of two questions each; the right answer is "yes", a wrong one "no"."""
    return [
        {
            "index": i,
            "chart_id": f"c{i // 2}.png",
            "question": ("Is it?", "How many?")[i % 2],
            "answer": "yes",
            "prediction": "yes" if verdict else "no",
            "correct": float(verdict),
            "source": ("human", "augmented")[i % 4 // 2],
            **values,
        }
        for i, verdict in enumerate(verdicts)
    ]


@pytest.fixture
def compare(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def compare(a, b, *more):
        for name, content in (("a", a), ("b", b)):
            write_predictions(content, f"{name}/predictions.jsonl")
        code = main(["compare", "a", "b", *more])
        said = capsys.readouterr()
        return code, [" ".join(line.split()) for line in said.out.splitlines()], said.err

    return compare


# ------------------------------------------------------------------ the exit code
@pytest.mark.parametrize(
    ("right_a", "right_b", "n", "limit", "code"),
    [
        (50, 49, 100, "-1", 0),  # in floats, 100 * (0.49 - 0.5) is -1.0000000000000009
        (50, 49, 100, "-0.99", 1),
        (50, 49, 100, "-1.0000000000000001", 0),
        (50, 49, 100, "-0.9999999999999999999", 1),
        (57, 58, 100, "1", 0),  # and 100 * (0.58 - 0.57) is 1.0000000000000009
        (57, 58, 100, "1.0000000000000001", 1),
        (1, 0, 3, "-33.333333", 1),
        (1, 0, 3, "-33.333334", 0),
        (7, 7, 9, "0", 0),
        (7, 7, 9, "1e-30", 1),
        (7, 7, 9, "-0", 0),
        (0, 9, 9, "100", 0),
        (9, 0, 9, "-100", 0),
    ],
)
def test_the_boundary_of_fail_below_is_exact(compare, right_a, right_b, n, limit, code):
    a, b = ([i < right for i in range(n)] for right in (right_a, right_b))
    found, _, error = compare(rows(a), rows(b), "--fail_below", limit, "--changed", "0")
    assert found == code
    assert ("is below" in error) is bool(code)


def test_fail_below_is_about_all_questions_and_not_the_mean_of_splits(compare):
    """Six human questions lose one, two augmented ones win one: 0 points over all, +16.7 in the mean of the two."""
    sources = ["human"] * 6 + ["augmented"] * 2
    a, b = rows([1, 1, 1, 1, 1, 1, 0, 0]), rows([0, 1, 1, 1, 1, 1, 1, 0])
    for row_a, row_b, source in zip(a, b, sources, strict=True):
        row_a["source"] = row_b["source"] = source
    assert compare(a, b, "--fail_below", "0")[0] == 0
    code, lines, error = compare(a, b, "--fail_below", "0.01")
    assert (code, error) == (1, "the difference of +0.00 points is below +0.01\n")
    assert any(line.startswith("augmented 0.00 50.00 +50.00") for line in lines)
    assert any(line.startswith("all 75.00 75.00 +0.00") for line in lines)


def test_fail_below_applies_to_the_variant_that_scores(compare):
    a, b = rows([1, 1]), rows([1, 1])
    a[0] |= {"answer": "100", "prediction": "100"}
    b[0] |= {"answer": "100", "prediction": "104"}
    assert compare(a, b, "--fail_below", "0")[0] == 0
    code, lines, _ = compare(a, b, "--fail_below", "0", "--metric_variant", "exact_match")
    assert code == 1
    assert "1 question changed its verdict" in lines


def test_a_rounded_difference_does_not_contradict_the_exit_code(compare):
    n = 3001
    a, b = [True] * n, [i > 0 for i in range(n)]
    code, _, error = compare(rows(a), rows(b), "--fail_below", "-0.03", "--changed", "0")
    assert (code, error) == (1, "the difference of -0.0333222 points is below -0.03\n")


@pytest.mark.parametrize("limit", ["nan", "inf", "-inf", "101", "half", "", "1/2", "1_0%"])
def test_limits_that_are_no_points_are_refused(compare, limit, capsys):
    with pytest.raises(SystemExit) as caught:
        compare(rows([1]), rows([1]), f"--fail_below={limit}")
    assert caught.value.code == 2
    assert "no number of percentage points between -100 and 100" in capsys.readouterr().err


def test_the_difference_of_fractional_verdicts_is_exact():
    row = {"index": 0, "answer": "abcdefghij", "question": "?"}
    pairs = paired_answers(
        [{**row, "prediction": "abcdefghij"}], [{**row, "prediction": "abcdefghiX"}], variant="chartqapro"
    )
    assert exact_difference(pairs) == 100 * (Fraction(pairs[0].verdict_b) - 1)
    assert 0 < pairs[0].verdict_b < 1


# ------------------------------------------------------------------ the table
def test_every_part_has_its_numbers_and_one_kind_of_interval(compare):
    a, b = rows([1, 0, 1, 0] * 3), rows([1, 1, 0, 0] * 3)
    expected = compare_predictions(a, b, interval="clustered", by_type=True)
    code, lines, _ = compare(a, b, "--interval", "clustered")
    assert code == 0
    assert lines[0] == "difference: b minus a, in points; variant pix2struct, clustered"
    assert "p (clustered)" in lines[1]
    assert any(line.endswith(f"; p = {expected['p_value_independent']:.3g}") for line in lines)
    parts = {"all": expected, **expected["by_source"]}
    parts |= {f"question: {name}": part for name, part in expected["by_question_type"].items()}
    parts |= {f"answer: {name}": part for name, part in expected["by_answer_type"].items()}
    assert set(parts) == {"all", "human", "augmented", "question: yes/no", "question: count", "answer: yes/no"}
    for name, part in parts.items():
        assert part["interval"] == "clustered"
        low, high = 100 * part["difference_ci_low"], 100 * part["difference_ci_high"]
        numbers = f"{100 * part['difference']:+.2f} {low:+.2f} to {high:+.2f} {part['p_value']:.3g} {part['n']}"
        assert any(line.startswith(f"{name} ") and line.endswith(numbers) for line in lines), (name, numbers)


def test_mcnemar_is_told_with_its_counts(compare):
    _, lines, _ = compare(rows([1, 1, 0, 0, 0]), rows([0, 1, 1, 1, 1]))
    assert "McNemar: a is better on 1 question, b on 3 questions; p = 0.625" in lines


def test_types_of_the_data_set_come_before_the_rules():
    a = rows([1, 0], question_type="Reasoning")
    by_type = compare_predictions(a, rows([1, 1]), by_type=True)["by_question_type"]
    assert {name: part["n"] for name, part in by_type.items()} == {"Reasoning": 2}
    assert "by_question_type" not in compare_predictions(a, a)
    bare = compare_predictions(["1"], ["2"], references=["1"], by_type=True)
    assert bare["by_question_type"] == {}
    assert list(bare["by_answer_type"]) == ["number"]


def test_changed_examples_are_those_of_the_variant_and_bounded(compare):
    a, b = rows([0] * 5), rows([1] * 5)
    _, lines, _ = compare(a, b, "--changed", "2")
    assert "5 questions changed their verdict" in lines
    assert lines[-1] == "... and 3 more (--changed 5)"
    assert sum("answer: yes," in line for line in lines) == 2
    _, lines, _ = compare(rows([0], correct=1.0), rows([1], correct=1.0))  # the files' own verdicts do not count
    assert "1 question changed its verdict" in lines


def test_the_extracted_answers_are_shown(compare):
    a = rows([0], extracted="maybe") + rows([1, 1], extracted="yes")[1:]
    _, lines, _ = compare(a, rows([1, 1], extracted="yes"))
    assert "answer: yes, a: maybe, b: yes" in lines


def test_questions_without_an_answer_are_left_out(compare):
    a, b = rows([1, 0]), rows([0, 1])
    for side in (a, b):
        side[0] |= {"answer": None, "correct": None}
    _, lines, _ = compare(a, b)
    assert any(line.startswith("all 0.00 100.00 +100.00") and line.endswith(" 1") for line in lines)


def test_settings_that_differ_are_told(compare, tmp_path):
    for name, beams in (("a", 4), ("b", 1)):
        (tmp_path / name).mkdir()
        arguments = {"generation_num_beams": beams, "output_dir": name, "prompt": "{question}", "max_pixels": beams}
        del arguments["max_pixels" if name == "a" else "output_dir"]
        (tmp_path / name / "metrics.json").write_text(json.dumps({"arguments": arguments}))
    _, lines, _ = compare(rows([1]), rows([1]))
    assert lines[1] == "settings that differ (metrics.json): generation_num_beams 4 / 1"


def test_a_damaged_metrics_file_is_told_and_stops_nothing(compare, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.json").write_text('{"arguments": {"prompt": "{question}", "max_tokens": null}}')
    assert not [line for line in compare(rows([1]), rows([1]))[1] if "settings" in line]
    (tmp_path / "b" / "metrics.json").write_text("{")
    code, lines, _ = compare(rows([1]), rows([1]))
    assert code == 0
    assert lines[1].startswith("settings are not compared: b/metrics.json is damaged")


# ------------------------------------------------------------------ the runs
def test_a_folder_of_a_training_names_its_files(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_predictions(rows([1, 0]), "out/predictions/eval-step-5.jsonl")
    write_predictions(rows([1, 1]), "out/predictions/eval-step-9.jsonl")
    assert main(["compare", "out", "out"]) == 2
    error = capsys.readouterr().err
    assert "name one of the files in out/predictions (eval-step-5.jsonl, eval-step-9.jsonl)" in error
    assert main(["compare", "out/predictions/eval-step-5.jsonl", "out/predictions/eval-step-9.jsonl"]) == 0
    assert "eval-step-5.jsonl" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: b.pop(2), "index 2 ('Is it?') is in a and not in b"),
        (lambda b: b.append({**b[0], "index": 9}), "index 9 ('Is it?') is in b and not in a"),
        (lambda b: b[1].update(question="Other?"), "at index 1 question is 'How many?' in a and 'Other?' in b"),
        (lambda b: b[3].update(answer="no"), "at index 3 answer is 'yes' in a and 'no' in b"),
        (lambda b: b[3].update(chart_id="z.png"), "at index 3 chart_id is 'c1.png' in a and 'z.png' in b"),
        (lambda b: b[0].update(source="human", index=7), "index 0 ('Is it?') is in a and not in b"),
        (lambda b: b[3].update(answer=None, correct=None), "index 3 ('How many?') is in a and not in b"),
    ],
)
def test_runs_on_other_questions_are_refused_by_the_first_difference(compare, change, message):
    b = rows([1, 0, 1, 0])
    change(b)
    code, lines, error = compare(rows([1, 1, 1, 1]), b, "--fail_below", "-100")
    assert (code, lines) == (2, [])
    assert error == f"chartqa-ft compare: not the same questions: {message} (a: a, b: b)\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["nowhere", "a"], "there is no nowhere: pass a predictions.jsonl"),
        (["a/typo", "a"], "there is no a/typo: pass a predictions.jsonl"),
        (["a/b/c", "a"], "there is no a/b/c: pass a predictions.jsonl"),
        (["a", "a/metrics.json"], "a/metrics.json, line 1"),
    ],
)
def test_what_is_no_run_is_refused_in_one_line(tmp_path, monkeypatch, capsys, line, message):
    monkeypatch.chdir(tmp_path)
    write_predictions(rows([1]), "a/predictions.jsonl")
    (tmp_path / "a" / "metrics.json").write_text("{}")
    assert main(["compare", *line]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_names_are_the_parts_that_differ():
    assert names_of("out/a/predictions.jsonl", "out/b") == ["a", "b"]
    assert names_of("alice/model@v1", "alice/model@v2") == ["model@v1", "model@v2"]
    assert names_of("out", "out") == ["A", "B"]


def test_export_writes_the_file_and_says_where(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_predictions(rows([1, 0]), "a/predictions.jsonl")
    assert main(["export", "a", "--format", "vlmevalkit", "--output", "new/m.tsv"]) == 0
    assert capsys.readouterr().out == "vlmevalkit: new/m.tsv\n"
    assert (tmp_path / "new" / "m.tsv").read_text().count("\n") == 3
    assert main(["export", "a", "--format", "lmms-eval", "--output", "m.tsv"]) == 2
    assert "must end in .jsonl or .json" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["export", "a", "--format", "vlmevalkitt", "--output", "m.tsv"])


def test_settings_that_one_run_left_unset_are_told(compare, tmp_path):
    for name, prompt, system in (("a", None, "va"), ("b", "{question} Think.", "vb")):
        (tmp_path / name).mkdir()
        text = json.dumps({"arguments": {"prompt": prompt, "system_prompt": system, "temperature": None}})
        (tmp_path / name / "metrics.json").write_text(text)
    _, lines, _ = compare(rows([1]), rows([1]))
    said = "prompt unset / {question} Think., system_prompt va / vb"
    assert lines[1] == f"settings that differ (metrics.json): {said}"


def test_answers_of_both_may_be_extracted(compare):
    a, b = rows([1, 1]), rows([1, 1], prediction="Answer: yes")
    assert "2 questions changed their verdict" in compare(a, b)[1]
    _, lines, _ = compare(a, b, "--metric_extract", "answer_line")
    assert "0 questions changed their verdict" in lines
    code, _, said = compare(rows([1, 1], extracted="yes"), b)
    assert code == 2
    assert "pass --metric_extract, to extract the answers of both" in said


def test_rows_of_other_tasks_are_counted_and_alone_refused(compare):
    a, b = rows([1, 0, 1]), rows([1, 1, 1])
    for side in (a, b):
        side[2]["task"] = "table"
    _, lines, _ = compare(a, b)
    assert lines[1] == "1 rows of other tasks than qa are left out"
    tables = rows([1, 1], task="table")
    code, _, said = compare(tables, tables)
    assert code == 2
    assert "all 2 records of a are of other tasks than 'qa', or have no answer to compare with" in said


def test_long_names_keep_the_end_that_differs():
    a, b = (f"runs/qwen2_5_vl_3b_lora_r16_lr{rate}/predictions.jsonl" for rate in ("1e-4", "5e-5"))
    assert names_of(a, b) == ["qwen2_5_v...a_r16_lr1e-4", "qwen2_5_v...a_r16_lr5e-5"]
    assert [len(name) for name in names_of(a, b)] == [24, 24]
