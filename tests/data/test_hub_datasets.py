"""Data sets of the Hub through the real clients: published shapes, faults, the cache, and pushing own charts."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, List, Value
from huggingface_hub import DatasetCard

from chartqa_ft import RecordError, synthetic_chartqa
from chartqa_ft.data.push_dataset import push_dataset
from chartqa_ft.hub.public import find_token

from ..drivers.data_flows import rows
from ..hub_client import ClientError
from ..project.test_hub_server import World

LOAD, PUSH = "tests.drivers.data_flows.load", "tests.drivers.data_flows.push"
SEED = {"repo_type": "dataset"}
PLACE = "data/{}-00000-of-00001.parquet"
DOWNLOADS = "/storage/download/*"


@pytest.fixture(scope="module")
def lfs(tmp_path_factory) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("lfs"), xet=False) as world:
        yield world
        assert_no_token_left(world)


@pytest.fixture(scope="module")
def xet(tmp_path_factory) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("xet"), xet=True) as world:
        yield world
        assert_no_token_left(world)


@pytest.fixture(scope="module")
def offline(lfs) -> Iterator:
    """A process that shares the cache of `lfs` and must not ask the Hub."""
    with lfs.process("home", offline=True) as client:
        yield client


def assert_no_token_left(world: World) -> None:
    files = [path for path in world.folder.rglob("*") if path.is_file()]
    assert world.client.log in files
    assert not [path for path in files if world.token.encode() in path.read_bytes()]


@pytest.fixture(scope="module")
def charts() -> Dataset:
    return (
        synthetic_chartqa(3, seed=2)
        .select(range(0, 27, 3))
        .select_columns(["image", "question", "answer", "source", "chart_id"])
    )


def expected(dataset: Dataset) -> list[list[str]]:
    return rows(dataset)


def without_ids(rows: list[list[str]]) -> list[list[str]]:
    return [row[:-1] for row in rows]


def raised(client, *arguments, **named) -> ClientError:
    with pytest.raises(ClientError) as caught:
        client.call(*arguments, **named)
    assert not find_token(caught.value.trace)
    return caught.value


def bytes_of(dataset: Dataset) -> list[bytes]:
    return [row["bytes"] for row in dataset.cast_column("image", Image(decode=False))["image"]]


def as_m4(dataset: Dataset) -> bytes:
    """As `HuggingFaceM4/ChartQA` stores it."""
    features = Features(
        {
            "image": Image(),
            "query": Value("string"),
            "label": List(Value("string")),
            "human_or_machine": ClassLabel(names=["human", "machine"]),
        }
    )
    columns = {
        "image": [{"bytes": image, "path": None} for image in bytes_of(dataset)],
        "query": dataset["question"],
        "label": [[answer] for answer in dataset["answer"]],
        "human_or_machine": [int(source != "human") for source in dataset["source"]],
    }
    file = io.BytesIO()
    Dataset.from_dict(columns, features=features).to_parquet(file)
    return file.getvalue()


def as_masry(dataset: Dataset) -> bytes:
    """As `ahmed-masry/ChartQA` stores it: raw bytes."""
    table = pa.table(
        {
            "imgname": [f"{chart}.png" for chart in dataset["chart_id"]],
            "query": list(dataset["question"]),
            "label": list(dataset["answer"]),
            "type": ["human" if source == "human" else "machine" for source in dataset["source"]],
            "image": pa.array(bytes_of(dataset), pa.binary()),
        }
    )
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


# ---------------------------------------------------------------- loading


@pytest.mark.parametrize("client", ["lfs", "xet"])
def test_the_published_shapes(client, request, charts):
    world = request.getfixturevalue(client)
    hub = world.hub
    hub.upload(
        "HuggingFaceM4/ChartQA", {PLACE.format("val"): as_m4(charts), PLACE.format("test"): as_m4(charts)}, **SEED
    )
    few = charts.select(range(3))
    hub.upload("HuggingFaceM4/ChartQA", {PLACE.format("val"): as_m4(few)}, revision="few", **SEED)
    hub.upload("ahmed-masry/ChartQA", {PLACE.format("train"): as_masry(charts)}, **SEED)
    for streaming in (False, True):
        name = "HuggingFaceM4/ChartQA"
        seen = world.call(LOAD, name, streaming=streaming)
        assert list(seen) == ["val", "test"] or list(seen) == ["test", "val"]
        assert without_ids(seen["val"]) == without_ids(seen["test"]) == without_ids(expected(charts))
        seen = world.call(LOAD, name, split="validation", revision="few", streaming=streaming)
        assert without_ids(seen[""]) == without_ids(expected(few))
        (seen,) = world.call(LOAD, "ahmed-masry/ChartQA", streaming=streaming).values()
        assert without_ids(seen) == without_ids(expected(charts))
        assert [re.sub("#.*", "", row[-1]) for row in seen] == [f"{chart}.png" for chart in charts["chart_id"]]


def test_who_may_load_what(lfs, charts):
    hub = lfs.hub
    hub.create_repo("alice/secret", private=True, **SEED)
    hub.upload("alice/secret", {PLACE.format("test"): as_m4(charts)}, **SEED)
    other = hub.add_user("bob")
    for token, said in (
        (False, "private and you are not logged in"),
        (other, "your token may not see it"),
        ("hf_" + "x" * 34, "the Hub refused the token"),
    ):
        error = raised(lfs, LOAD, "alice/secret", token=token)
        assert ("HubError" in error.kinds, said in error.message) == (True, True), error.message
    assert len(lfs.call(LOAD, "alice/secret", split="test", token=lfs.token)[""]) == len(charts)
    error = raised(lfs, LOAD, "alice/secret", revision="none")
    assert "no branch, tag or commit 'none'" in error.message
    error = raised(lfs, LOAD, "alice/nothing-here")
    assert {"HubError", "FileNotFoundError"} <= set(error.kinds)
    assert "is no local file or folder" in error.message
    assert "there is no data set alice/nothing-here" in error.message


def test_a_script_is_never_run(lfs, charts, tmp_path):
    code = f"open({str(tmp_path / 'ran')!r}, 'w')\n".encode()
    lfs.hub.upload("bob/scripted", {"scripted.py": code, PLACE.format("test"): as_m4(charts)}, **SEED)
    for settings in ({}, {"streaming": True}):
        error = raised(lfs, LOAD, "bob/scripted", **settings)
        assert error.kind == "LayoutError"
        assert "never run" in error.message
        assert "refs/convert/parquet" in error.message
    error = raised(lfs, LOAD, "bob/scripted", trust_remote_code=True)
    assert error.kind in ("LayoutError", "ValueError"), error.trace
    assert not (tmp_path / "ran").exists()


FAULTS = {
    "reset": (DOWNLOADS, {"how": "reset", "after_bytes": 1000}),
    "close": (DOWNLOADS, {"how": "close", "after_bytes": 1000}),
    "503": (DOWNLOADS, {"status": 503}),
    "listing": ("/api/datasets/*", {"how": "reset"}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_load_that_breaks_is_tried_again(lfs, charts, fault):
    where, order = FAULTS[fault]
    name = f"bob/breaks-{fault}"
    lfs.hub.upload(name, {PLACE.format("test"): as_m4(charts)}, **SEED)
    ordered = lfs.hub.fail(where.replace("/*", f"/*{name}*", 1), **order)
    assert without_ids(lfs.call(LOAD, name)["test"]) == without_ids(expected(charts))
    assert ordered.left == 0


def test_a_load_that_stays_broken_says_why(lfs, charts):
    lfs.hub.upload("bob/broken", {PLACE.format("test"): as_m4(charts)}, **SEED)
    lfs.hub.fail("/storage/download/*/bob/broken/*", status=403, times=None)
    error = raised(lfs, LOAD, "bob/broken")
    lfs.hub.mend()
    assert error.kind == "HubError"
    assert "bob/broken was not loaded" in error.message
    assert len(lfs.call(LOAD, "bob/broken")["test"]) == len(charts)


# ---------------------------------------------------------------- the cache


def test_offline_it_is_the_revision_that_was_asked_for_or_none(lfs, offline, charts):
    few = charts.select(range(2))
    lfs.hub.upload("bob/cached", {PLACE.format("test"): as_m4(charts)}, **SEED)
    lfs.hub.upload("bob/cached", {PLACE.format("test"): as_m4(few)}, revision="few", **SEED)
    everything, two = (lfs.call(LOAD, "bob/cached", revision=revision)["test"] for revision in (None, "few"))
    assert (len(everything), len(two)) == (len(charts), 2)
    commit = lfs.hub.refs("bob/cached", **SEED)["refs/heads/few"]
    number = len(lfs.hub.requests)
    for revision, kept in ((None, everything), ("main", everything), ("few", two), (commit, two)):
        assert offline.call(LOAD, "bob/cached", revision=revision)["test"] == kept
    assert len(offline.call(LOAD, "bob/cached", streaming=True)["test"]) == len(charts)
    error = raised(offline, LOAD, "bob/cached", revision="none")
    assert (error.kind, "does not hold revision 'none'" in error.message) == ("HubError", True)
    for streaming in (False, True):
        error = raised(offline, LOAD, "bob/uncached", streaming=streaming)
        assert "HubError" in error.kinds
        assert "HF_HUB_OFFLINE=1" in error.message
    assert len(lfs.hub.requests) == number


def test_while_the_hub_is_down_no_other_revision_is_taken(lfs, charts):
    few = charts.select(range(2))
    lfs.hub.upload("bob/down", {PLACE.format("test"): as_m4(charts)}, **SEED)
    lfs.hub.upload("bob/down", {PLACE.format("test"): as_m4(few)}, revision="few", **SEED)
    lfs.hub.upload("bob/down", {PLACE.format("test"): as_m4(few)}, revision="new", **SEED)
    assert len(lfs.call(LOAD, "bob/down")["test"]) == len(charts)
    assert len(lfs.call(LOAD, "bob/down", revision="few")["test"]) == 2  # the newest in the cache
    lfs.hub.fail("*bob/down*", status=403, times=None)
    assert len(lfs.call(LOAD, "bob/down")["test"]) == len(charts)
    assert len(lfs.call(LOAD, "bob/down", revision="few")["test"]) == 2
    lfs.hub.mend()


# ---------------------------------------------------------------- pushing


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
    assert "The licence is cc-by-4.0." in card.text


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
    assert "there is a public data set of this name already" in error.message
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
