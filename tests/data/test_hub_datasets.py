"""Datasets of the Hub through the real clients: published shapes, faults, the cache."""

from __future__ import annotations

import re

import pytest

from ..support.hub_charts import LOAD, PLACE, SEED, as_m4, as_masry, expected, raised, without_ids

DOWNLOADS = "/storage/download/*"


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
    assert "is not a local file or folder" in error.message
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
