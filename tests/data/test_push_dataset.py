"""Charts that are pushed come back the same; what is refused, and what completes a push that failed."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from datasets import Dataset, DatasetDict, Features, Image, Value
from huggingface_hub import DatasetCard

from chartqa_ft import RecordError
from chartqa_ft.data.push_dataset import push_dataset

from ..support.hub_charts import LOAD, PLACE, PUSH, SEED, expected, raised, without_ids


@pytest.mark.parametrize("client", ["lfs", "xet"])
def test_pushed_charts_come_back_the_same(client, request, charts, tmp_path):
    world = request.getfixturevalue(client)
    mine = DatasetDict({"train": charts, "test": charts.select(range(4))})
    mine.save_to_disk(tmp_path / "mine")
    world.call(PUSH, tmp_path / "mine", "alice/mine", license="cc-by-4.0", private=True)
    assert world.hub.is_private("alice/mine", **SEED)
    wanted = {split: expected(part) for split, part in mine.items()}
    assert world.call(LOAD, "alice/mine") == wanted
    streamed = world.call(LOAD, "alice/mine", streaming=True)
    for split, part in streamed.items():
        assert without_ids(part) == without_ids(wanted[split])
        assert [row[-1].partition("#")[0] for row in part] == [row[-1] for row in wanted[split]]
    files = world.hub.files("alice/mine", **SEED)
    assert sorted(files) == sorted([".gitattributes", "README.md", *map(PLACE.format, ("train", "test"))])
    card = DatasetCard(files["README.md"].decode())
    assert card.data.license == "cc-by-4.0"
    counts = {split: len(part) for split, part in mine.items()}
    assert {one["name"]: one["num_examples"] for one in card.data.dataset_info["splits"]} == counts
    human = [sum(source == "human" for source in part["source"]) for part in mine.values()]
    charts_in = [len(set(part["chart_id"])) for part in mine.values()]
    assert "| split | charts | questions | augmented | human |" in card.text
    for name, total, some, number in zip(mine, counts.values(), human, charts_in, strict=True):
        assert f"| {name} | {number} | {total} | {total - some} | {some} |" in card.text
    assert "dataset = load_chartqa('alice/mine')" in card.text
    assert "The license is cc-by-4.0." in card.text


def test_pushing_again_adds_and_replaces(lfs, charts, tmp_path):
    mine = DatasetDict({"train": charts, "test": charts.select(range(4))})
    mine.save_to_disk(tmp_path / "mine")
    lfs.call(PUSH, tmp_path / "mine", "more", only="train", license="mit")  # alice's, by her token
    lfs.call(PUSH, tmp_path / "mine", "alice/more", only="test", split="val")
    assert lfs.call(LOAD, "alice/more") == {"train": expected(charts), "val": expected(mine["test"])}
    files = lfs.hub.files("alice/more", **SEED)
    lfs.call(PUSH, tmp_path / "mine", "alice/more", only="test", split="val", create_pr=True)  # nothing to propose
    assert (set(lfs.hub.refs("alice/more", **SEED)), lfs.hub.files("alice/more", **SEED)) == (
        {"refs/heads/main"},
        files,
    )
    card = DatasetCard(files["README.md"].decode())
    assert card.data.license == "mit"
    assert "| train | 3 |" in card.text
    assert "| val | " in card.text
    # What somebody wrote stays; a branch and a pull request change nothing on main.
    own = f"---\n{card.data}\n---\n# My charts\nDrawn by hand.\n"
    lfs.hub.upload("alice/more", {"README.md": own.encode()}, **SEED)
    before = lfs.hub.files("alice/more", **SEED)
    lfs.call(PUSH, tmp_path / "mine", "alice/more", only="test", split="test", revision="trial")
    url = lfs.call(PUSH, tmp_path / "mine", "alice/more", only="test", split="test", create_pr=True)
    assert url.endswith("/discussions/1")
    assert lfs.hub.files("alice/more", **SEED) == before
    for revision in ("trial", "refs/pr/1"):
        assert (
            "# My charts\nDrawn by hand."
            in lfs.hub.files("alice/more", revision=revision, **SEED)["README.md"].decode()
        )
    assert lfs.call(LOAD, "alice/more", revision="refs/pr/1", split="test")[""] == expected(mine["test"])


@pytest.mark.parametrize(
    ("where", "order"),
    [
        ("/storage/upload/*", {"status": 403, "method": "PUT"}),
        ("/api/datasets/alice/fails-*/commit/*", {"status": 403}),
        ("/api/datasets/alice/fails-*/commit/*", {"status": 403, "skip": 1}),
    ],
    ids=["upload", "commit", "card"],
)
def test_a_push_that_fails_is_completed_by_the_next(lfs, charts, tmp_path, where, order, request):
    name = f"alice/fails-{request.node.callspec.id}"
    mine = charts.map(lambda row: {"question": f"{name}: {row['question']}"})
    DatasetDict({"train": mine}).save_to_disk(tmp_path / "mine")
    lfs.hub.fail(where, **order)
    error = raised(lfs, PUSH, tmp_path / "mine", name)
    assert error.kind == "HubError"
    told = f"the records of {name} are pushed ({lfs.hub.url}/" if "skip" in order else f"{name} was not pushed: "
    assert error.message.startswith(told), error.message
    sent = len(lfs.hub.matching("/storage/upload/*", "PUT"))
    lfs.call(PUSH, tmp_path / "mine", name)
    again = len(lfs.hub.matching("/storage/upload/*", "PUT")) - sent
    assert again == (1 if "upload" in where else 0)
    assert lfs.call(LOAD, name) == {"train": expected(mine)}
    assert "# alice/fails" in lfs.hub.files(name, **SEED)["README.md"].decode()


def test_a_push_goes_on_where_a_fault_passes(lfs, charts, tmp_path):
    DatasetDict({"train": charts}).save_to_disk(tmp_path / "mine")
    fault = lfs.hub.fail("/api/datasets/alice/passes/commit/*", status=503)
    lfs.call(PUSH, tmp_path / "mine", "alice/passes")
    assert fault.left == 0
    assert lfs.call(LOAD, "alice/passes") == {"train": expected(charts)}


def test_what_is_refused(lfs, charts, tmp_path):
    DatasetDict({"train": charts}).save_to_disk(tmp_path / "mine")
    lfs.hub.create_repo("alice/open", **SEED)
    number = len(lfs.hub.requests)
    error = raised(lfs, PUSH, tmp_path / "mine", "alice/open", private=True)
    assert "a public dataset of this name already exists" in error.message
    error = raised(lfs, PUSH, tmp_path / "mine", "carol/mine")
    assert "may not write to carol/mine" in error.message
    assert not [one for one in lfs.hub.requests[number:] if "commit" in one.path]
    for name in ("a/b/c", "alice/", "alice/../x"):
        number = len(lfs.hub.requests)
        error = raised(lfs, PUSH, tmp_path / "mine", name)
        assert (error.kind, "is not a valid data set name" in error.message) == ("HubError", True)
        assert len(lfs.hub.requests) == number


def test_records_are_checked_before_anything_is_sent(charts, monkeypatch):
    def network(*_, **__):
        raise AssertionError("the network was asked")

    monkeypatch.setattr("huggingface_hub.utils.validate_repo_id", network)
    bad = charts.to_list()
    bad[4]["question"] = " "
    with pytest.raises(RecordError, match=r"record 4 of split 'train' .*empty question"):
        push_dataset(Dataset.from_list(bad, features=charts.features), "alice/bad")
    with pytest.raises(ValueError, match="no column for answer"):
        push_dataset(charts.remove_columns("answer"), "alice/bad")
    with pytest.raises(TypeError, match="a stream cannot be pushed"):
        push_dataset(charts.to_iterable_dataset(), "alice/bad")
    with pytest.raises(ValueError, match="'my split' cannot be pushed"):
        push_dataset(charts, "alice/bad", split="my split")


class StoppedError(Exception):
    """The first byte would leave now."""


def test_all_columns_are_pushed_and_every_split_has_them(charts, monkeypatch):
    pushed, cards = [], []

    def push_to_hub(records, *_, **__):
        pushed.append(records)
        raise StoppedError

    for kind in (Dataset, DatasetDict):
        monkeypatch.setattr(kind, "push_to_hub", push_to_hub)
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda *_, **__: SimpleNamespace(private=True))
    monkeypatch.setattr(sys.modules[push_dataset.__module__], "_validate", cards.append)
    steps = charts.add_column("rationale", ["3 + 4 = 7"] * len(charts)).add_column("task", ["qa"] * len(charts))
    with pytest.raises(StoppedError):
        push_dataset(DatasetDict({"train": steps, "test": charts.select(range(4))}), "alice/steps")
    columns = [*charts.column_names, "task", "rationale"]
    assert {name: part.column_names for name, part in pushed[0].items()} == {"train": columns, "test": columns}
    assert pushed[0]["train"].features == pushed[0]["test"].features
    assert {name: (set(part["task"]), set(part["rationale"])) for name, part in pushed[0].items()} == {
        "train": ({"qa"}, {"3 + 4 = 7"}),
        "test": ({"qa"}, {""}),
    }
    assert "| `task` | text | `qa`, or " in cards[0].text
    assert "| `rationale` | text | the steps to the answer |" in cards[0].text
    pro = charts.add_column("question_type", ["Factoid"] * len(charts))
    pro = pro.add_column("year_flags", [["YES", "NO"]] * len(charts))
    with pytest.raises(StoppedError):
        push_dataset(pro, "alice/pro")
    assert pushed[1].column_names == [*charts.column_names, "question_type", "year_flags"]
    assert pushed[1][3]["year_flags"] == ["YES", "NO"]
    assert "| `year_flags` | list of texts | " in cards[1].text
    with pytest.raises(StoppedError):
        push_dataset(charts, "alice/charts")
    assert pushed[2].column_names == charts.column_names
    assert "| `chart_id` | text | the same for all questions on a chart |\n\n" in cards[2].text


def test_a_secret_in_any_column_is_refused(charts):
    with pytest.raises(ValueError, match=r"\[0\]: its rationale contains a secret"):
        push_dataset(charts.add_column("rationale", ["hf_" + "a" * 34] * len(charts)), "alice/steps")


def test_no_path_of_this_machine_and_nothing_that_breaks_out_of_the_card(lfs, charts, tmp_path):
    folder = tmp_path / "private-folder"
    folder.mkdir()
    charts[0]["image"].save(folder / "a.png")
    features = Features({"image": Image(), **{name: Value("string") for name in ("question", "answer")}})
    one = {"image": str(folder / "a.png"), "question": "</script>|`# x", "answer": "---\nlicense: evil"}
    DatasetDict({"test": Dataset.from_list([one], features=features)}).save_to_disk(tmp_path / "mine")
    lfs.call(PUSH, tmp_path / "mine", "alice/paths", license="other\ntags: [evil]\n---\n# <b>Evil</b>")
    files = lfs.hub.files("alice/paths", **SEED)
    assert not [name for name, content in files.items() if b"private-folder" in content]
    card = DatasetCard(files["README.md"].decode())
    assert card.data.tags == ["charts", "chartqa_ft"]
    assert card.data.license == "other\ntags: [evil]\n---\n# <b>Evil</b>"
    assert "<b>" not in card.text
    assert "\n# " in card.text
    assert "\n# &lt;b" not in card.text
    assert Path(lfs.folder).is_dir()
    ((_, question, answer, source, _),) = lfs.call(LOAD, "alice/paths")["test"]
    assert (question, answer, source) == (one["question"], one["answer"], "unknown")
