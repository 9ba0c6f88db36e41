"""The report as one HTML file."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import logging
import re
from html.parser import HTMLParser

import datasets
import numpy as np
import pytest
from datasets import Dataset
from PIL import Image

from chartqa_ft import relaxed_accuracy
from chartqa_ft.reporting.html_report import write_report
from chartqa_ft.scripts.cli import main

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>{{data}}"


def row(index, **values):
    known = {"index": index, "chart_id": f"c{index // 2}.png", "question": "How many bars?", "answer": "3"}
    return {**known, "prediction": "3", "correct": 1.0, "source": "human", **values}


class Page(HTMLParser):
    """The elements of a page, and the content of its scripts, as a browser would read them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.scripts, self.style, self._into = [], [], "", None
        self.text = text
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._into = tag if tag in ("script", "style") else None
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._into = None

    def handle_data(self, data):
        if self._into == "script":
            self.scripts[-1] += data
        elif self._into == "style":
            self.style += data

    @property
    def data(self):
        data = json.loads(self.scripts[0])
        return {**data, "rows": [dict(zip(data["fields"], values, strict=True)) for values in data["rows"]]}

    @property
    def charts(self):
        return json.loads(self.scripts[2])


def written(tmp_path, rows, **options):
    return Page(write_report(rows, tmp_path / "report.html", **options).read_text(encoding="utf-8"))


def test_every_row_is_there_with_its_verdict_and_why(tmp_path):
    rows = [row(0), row(1, prediction="4", correct=0.0), row(2, answer=None, prediction="x", correct=None)]
    page = written(tmp_path, rows)
    found = [(r["index"], r["prediction"], r["answer"], r["correct"], r["why"], r["kind"]) for r in page.data["rows"]]
    assert found == [
        (0, "3", "3", 1.0, "text equal", "right"),
        (1, "4", "3", 0.0, "off by +33.3 %", "number"),
        (2, "x", None, None, "no answer to compare", "unknown"),
    ]
    assert page.data["names"] == ["c0.png", "c1.png"]
    assert [r["chart"] for r in page.data["rows"]] == [0, 0, 1]
    assert "<td>50.00</td><td>9.45 - 90.55</td><td>2</td>" in page.text


def test_each_chart_is_stored_once(tmp_path):
    images = {"c0.png": Image.new("RGB", (640, 320), "red"), "c1.png": Image.new("RGB", (10, 10), "blue")}
    page = written(tmp_path, [row(i) for i in range(5)], images=images)
    assert page.data["sizes"] == [[320, 160], [10, 10], None]
    assert [base64.b64decode(chart)[8:12] for chart in page.charts[:2]] == [b"WEBP", b"WEBP"]
    assert page.charts[2] is None


@pytest.mark.parametrize("field", ["question", "answer", "prediction", "chart_id", "source", "question_type"])
def test_texts_stay_texts(tmp_path, field):
    plain = written(tmp_path, [row(0)])
    page = written(tmp_path, [row(0, **{field: HOSTILE})])
    assert page.tags == plain.tags
    assert HOSTILE in json.dumps(page.data, ensure_ascii=False)


def test_titles_and_names_are_escaped(tmp_path):
    plain = written(tmp_path, [row(0)], other=[row(0)])
    page = written(tmp_path, [row(0)], other=[row(0)], title=HOSTILE, names=(HOSTILE, "B\x1b[31m"))
    assert page.tags == plain.tags
    assert "\x1b" not in page.text
    assert page.text.count("alert(1)") == 7  # the title twice, the name in two captions, two heads and the data
    assert "&lt;script&gt;alert(1)" in page.text


def test_the_page_loads_nothing(tmp_path):
    page = written(tmp_path, [row(0)], images={"c0.png": Image.new("RGB", (4, 4))})
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", page.text)
    assert not [tag for tag, attributes in page.tags if attributes.keys() & {"src", "href", "style", "onclick"}]
    policy = next(a["content"] for t, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")

    def digest(text):
        return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

    assert policy.startswith("default-src 'none'; img-src data:;")
    assert f"script-src 'sha256-{digest(page.scripts[1])}';" in policy
    assert f"style-src 'sha256-{digest(page.style)}';" in policy


def test_two_runs_stand_side_by_side(tmp_path):
    a = [row(0), row(1, prediction="4", correct=0.0), row(2), row(3, answer=None, correct=None)]
    b = [row(0, prediction="9", correct=0.0), row(1), row(2, prediction="3.0"), row(3, answer=None, correct=None)]
    page = written(tmp_path, a, other=list(reversed(b)), names=("before", "after"))
    assert [r["change"] for r in page.data["rows"]] == [
        "worse in the second",
        "better in the second",
        "other answer, same verdict",
        "no answer",
    ]
    assert page.data["rows"][0]["other_why"] == "off by +200 %"
    assert "<caption>after minus before</caption>" in page.text
    assert "<td>+0.00</td>" in page.text


@pytest.mark.parametrize(
    "other", [[row(0)], [row(0), row(1, question="How many lines?")], [row(0), row(1), row(2)], [row(0), row(7)]]
)
def test_other_questions_are_refused(tmp_path, other):
    with pytest.raises(ValueError, match="same questions"):
        write_report([row(0), row(1)], tmp_path / "report.html", other=other)
    assert not list(tmp_path.iterdir())


def test_the_score_is_that_of_the_rows_by_source(tmp_path):
    rows = [row(i, source="human" if i < 3 else "augmented", correct=float(i % 2)) for i in range(6)]
    page = written(tmp_path, rows)
    assert "<td>human</td><td>33.33</td>" in page.text
    assert "<td>augmented</td><td>66.67</td>" in page.text
    assert "<td>all questions</td><td>50.00</td>" in page.text


def test_a_damaged_chart_is_left_out_with_one_warning(tmp_path, caplog):
    folder = tmp_path / "png"
    folder.mkdir()
    (folder / "c0.png").write_bytes(b"no image")
    (folder / "c1.png").write_bytes(b"no image")
    with caplog.at_level(logging.WARNING):
        page = written(tmp_path, [row(0), row(2)], images=folder)
    assert page.charts == [None, None]
    assert len(caplog.records) == 1
    assert "2 of 2 charts" in caplog.text
    assert "c0.png" in caplog.text


def test_a_damaged_chart_of_a_data_set_is_left_out_too(tmp_path, caplog):
    content = io.BytesIO()
    Image.new("RGB", (8, 6)).save(content, "PNG")
    stored = [{"bytes": b"no image", "path": None}, {"bytes": content.getvalue(), "path": None}]
    data = Dataset.from_dict({"image": stored, "chart_id": ["c0.png", "c1.png"]}).cast_column(
        "image", datasets.Image()
    )
    page = written(tmp_path, [row(0), row(2)], images=data)
    assert page.data["sizes"] == [None, [8, 6]]
    assert "1 of 2 charts" in caplog.text


def test_long_and_strange_texts_are_bounded(tmp_path):
    rows = [row(0, prediction="x" * 10**6, correct=0.0), row(1, prediction="\ud800\x1b[2J\u2028", correct=0.0)]
    page = written(tmp_path, rows)
    assert page.data["rows"][0]["prediction"].endswith("... (1,000,000 characters)")
    assert page.data["rows"][1]["prediction"] == "\\ud800\\x1b[2J\\u2028"
    assert len(page.text) < 60_000


@pytest.mark.parametrize(
    ("predictions", "error", "message"),
    [
        ([], ValueError, "no rows"),
        (7, TypeError, "predictions"),
        ({"question": "?"}, TypeError, "predictions"),
        ([7], TypeError, r"predictions\[0\]"),
        ([{"question": "?"}], ValueError, "lacks answer, prediction, correct"),
        ("nowhere.jsonl", OSError, "nowhere"),
    ],
)
def test_what_is_no_predictions_is_refused(tmp_path, predictions, error, message):
    with pytest.raises(error, match=message):
        write_report(predictions, tmp_path / "report.html")


@pytest.mark.parametrize("correct", ["yes", -1, 2, float("nan"), [1]])
def test_a_verdict_is_a_number_from_0_to_1(tmp_path, correct):
    with pytest.raises(ValueError, match=r"predictions\[1\]: correct must be a number"):
        write_report([row(0), row(1, correct=correct)], tmp_path / "report.html")


def test_verdicts_of_any_number_type_count(tmp_path):
    page = written(tmp_path, [row(0, correct=True), row(1, correct=np.float32(0)), row(2, correct=1)])
    assert [r["correct"] for r in page.data["rows"]] == [1.0, 0.0, 1.0]


def test_names_of_charts_and_runs_are_escaped_in_the_data(tmp_path):
    strange = "a\ud800\u202e\x1b"
    page = written(tmp_path, [row(0, chart_id=strange)], other=[row(0, chart_id=strange)], names=(strange, "b"))
    assert page.data["names"] == ["a\\ud800\\u202e\\x1b"]
    assert page.data["runs"] == ["a\\ud800\\u202e\\x1b", "b"]


def test_tables_tell_other_values_of_the_chart(tmp_path):
    (tmp_path / "c0.csv").write_text("Peru,3\nChile,4")
    rows = [row(0, prediction="4", correct=0.0), row(1, prediction="5", correct=0.0)]
    for tables in (tmp_path, str(tmp_path), {"c0.png": [["Peru", 3], ["Chile", 4]]}):
        page = written(tmp_path, rows, tables=tables)
        assert [r["kind"] for r in page.data["rows"]] == ["another value of the chart", "number"]


def test_tables_beside_the_pictures_are_read(tmp_path):
    for name in ("png", "tables"):
        (tmp_path / name).mkdir()
    (tmp_path / "tables" / "c0.csv").write_text("Peru,3\nChile,4")
    page = written(tmp_path, [row(0, prediction="4", correct=0.0)], images=tmp_path / "png")
    assert page.data["rows"][0]["kind"] == "another value of the chart"
    page = written(tmp_path, [row(0, prediction="4", correct=0.0)], images=tmp_path / "png", tables={})
    assert page.data["rows"][0]["kind"] == "number"


def test_labels_with_a_decimal_comma_are_numbers(tmp_path):
    rows = [row(0, answer="12,5", prediction="12,7"), row(1, answer="1.204,5", prediction="-1.204,5", correct=0.0)]
    page = written(tmp_path, rows)
    assert [r["why"] for r in page.data["rows"]] == ["within 5 %: off by +1.6 %", "off by -200 %, the other sign"]
    assert [r["numbers"] for r in page.data["rows"]] == [[12.7, 12.5], [-1204.5, 1204.5]]
    assert [r["answer_type"] for r in page.data["rows"]] == ["number", "number"]


def test_a_variant_scores_both_runs_again(tmp_path):
    a, b = [row(0, answer="2011", prediction="2012")], [row(0, answer="2011", prediction="2011")]
    page = written(tmp_path, a, other=b, variant="strict_year")
    assert page.data["rows"][0]["correct"] == 0.0
    assert page.data["rows"][0]["kind"] == "year off by a few"
    assert "<td>+100.00</td>" in page.text
    assert "<td>+0.00</td>" in written(tmp_path, a, other=b).text


def test_the_mean_of_splits_is_that_of_the_papers(tmp_path):
    rows = [row(i, source="human" if i < 2 else "augmented", correct=float(i != 0)) for i in range(6)]
    assert "<td>mean of splits</td><td>75.00</td>" in written(tmp_path, rows).text


def test_runs_without_answers_are_shown_and_not_compared(tmp_path):
    rows = [row(0, answer=None, correct=None)]
    page = written(tmp_path, rows, other=[{**rows[0], "prediction": "9"}])
    assert page.data["rows"][0]["other_prediction"] == "9"
    assert "No question has an answer." in page.text


def test_mistakes_of_both_runs_are_counted(tmp_path):
    a = [row(0, prediction="-3", correct=0.0), row(1)]
    b = [row(0, prediction="300", correct=0.0), row(1, prediction="", correct=0.0)]
    page = written(tmp_path, a, other=b)
    for cells in (
        "empty</td><td>0</td><td>0.0</td><td>1",
        "sign</td><td>1</td><td>100.0</td><td>0",
        "scale</td><td>0",
    ):
        assert f"<td>{cells}" in page.text


@pytest.mark.parametrize("index", [[1], {}])
def test_runs_are_matched_by_numbers(tmp_path, index):
    with pytest.raises(TypeError, match="must be a number"):
        write_report([row(0)], tmp_path / "report.html", other=[{**row(0), "index": index}])


def test_an_index_that_occurs_twice_is_refused(tmp_path):
    with pytest.raises(ValueError, match="occurs twice"):
        write_report([row(0), row(0)], tmp_path / "report.html", other=[row(0), row(0)])


def test_another_variant_reads_the_flags_of_the_rows_that_have_them(tmp_path):
    years = {"answer": "2015", "prediction": "2010"}
    rows = [row(0, **years, year_flags=["YES"]), row(1, **years)]
    page = written(tmp_path, rows, variant="chartqapro")
    assert [found["correct"] for found in page.data["rows"]] == [0.0, 1.0]


@pytest.mark.parametrize(("field", "value"), [("chart_id", "other.png"), ("answer", "7")])
def test_runs_on_other_charts_or_answers_are_not_compared(tmp_path, field, value):
    with pytest.raises(ValueError, match=rf"not have the same questions: the {field} of index 0 is .*{value}"):
        write_report([row(0)], tmp_path / "report.html", other=[row(0, **{field: value})])


def test_what_one_run_does_not_know_is_no_difference(tmp_path):
    page = written(tmp_path, [row(0)], other=[row(0, chart_id=None, answer=None, correct=None)])
    assert page.data["rows"][0]["change"] == "no answer"


@pytest.mark.parametrize(
    ("here", "there", "said"),
    [
        ({"correct": 0.0}, {"correct": 1.0}, r"index 0 has the same answer in both runs, .* Pass variant="),
        ({"extracted": "3"}, {}, "the answer of index 0 was extracted in one of the two runs only"),
        ({"task": "table"}, {}, "index 0 is of the task 'table' in predictions, and of 'qa' in other"),
    ],
)
def test_runs_that_were_scored_in_different_ways_are_not_compared(tmp_path, here, there, said):
    with pytest.raises(ValueError, match=said):
        written(tmp_path, [row(0, **here)], other=[row(0, **there)])


def test_verdicts_of_two_rules_are_compared_once_both_are_scored_anew(tmp_path):
    a, b = ([row(0, prediction="$3", correct=correct)] for correct in (0.0, 1.0))
    assert "<td>+0.00</td>" in written(tmp_path, a, other=b, variant="lenient").text


@pytest.mark.parametrize("interval", ["wilson", "bootstrap", "clustered"])
def test_intervals_are_those_of_relaxed_accuracy(tmp_path, interval):
    rows = [row(i, correct=float(i % 3 == 0), prediction="3" if i % 3 == 0 else "9") for i in range(24)]
    for one in rows[10:]:
        one["source"] = "augmented"
    wanted = relaxed_accuracy(
        predictions=[one["prediction"] for one in rows],
        references=[one["answer"] for one in rows],
        sources=[one["source"] for one in rows],
        chart_ids=[one["chart_id"] for one in rows],
        interval=interval,
    )
    text = written(tmp_path, rows, interval=interval).text
    names = {"": "all questions", "_human": "human", "_augmented": "augmented", "_mean_of_splits": "mean of splits"}
    for key, name in names.items():
        low, high = (wanted[f"relaxed_accuracy{key}_ci_{side}"] for side in ("low", "high"))
        accuracy = f"{100 * wanted[f'relaxed_accuracy{key}']:.2f}"
        assert f"<td>{name}</td><td>{accuracy}</td><td>{100 * low:.2f} - {100 * high:.2f}</td>" in text


def test_a_group_on_one_chart_has_no_clustered_limits(tmp_path):
    text = written(tmp_path, [row(0), row(1, correct=0.0)], interval="clustered").text
    assert "<td>all questions</td><td>50.00</td><td></td>" in text


def test_an_unknown_interval_is_refused(tmp_path):
    with pytest.raises(ValueError, match="interval must be one of wilson, bootstrap, clustered, and is 'newcombe'"):
        written(tmp_path, [row(0)], interval="newcombe")


def test_charts_that_are_not_in_the_folder_are_counted(tmp_path, caplog):
    (tmp_path / "png").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "png" / "c0.png")
    written(tmp_path, [row(0), row(1)], images=tmp_path / "png")
    assert caplog.messages == []
    written(tmp_path, [row(0), row(2), row(4)], images=tmp_path / "png")
    assert caplog.messages == [f"2 of 3 charts are not in {tmp_path / 'png'}"]


def test_records_without_images_are_refused(tmp_path):
    for images in ([{"chart_id": "c0.png"}], Dataset.from_dict({"chart_id": ["c0.png"]})):
        with pytest.raises(ValueError, match="images are records without a column 'image'"):
            written(tmp_path, [row(0)], images=images)


def test_names_need_a_second_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["report", "out", "--names", "X", "Y"]) == 2
    assert "--names are those of two runs: add --other" in capsys.readouterr().err


def test_the_predictions_are_not_replaced_by_their_report(tmp_path):
    files = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for file in files:
        file.write_text(json.dumps(row(0)) + "\n")
    for output in files:
        with pytest.raises(ValueError, match=r"jsonl is the file that is read: write to another one"):
            write_report(files[0], output, other=files[1])
        assert json.loads(output.read_text())["prediction"] == "3"
