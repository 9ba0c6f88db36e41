"""Every fault of the Hub ends in an explanation and in a second try that sends nothing twice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..hub_client import ClientError
from .folders import TOKEN, save
from .world import ALWAYS, COMMIT, UPLOAD, World, expected, world_of


@pytest.fixture(scope="module")
def lfs(tmp_path_factory) -> Iterator[World]:
    for world in world_of(tmp_path_factory.mktemp("lfs"), xet=False):
        # The picture is the same in all folders: once it is stored, the faults of the tests meet the weights.
        world.push(save(tmp_path_factory.mktemp("first") / "model", 0), "alice/first")
        yield world


@pytest.fixture(scope="module")
def xet(tmp_path_factory) -> Iterator[World]:
    yield from world_of(tmp_path_factory.mktemp("xet"), xet=True)


PASSES = [
    # where, how, the waits before it went through
    (UPLOAD, {"how": "reset", "after_bytes": 30_000}, [1]),
    (UPLOAD, {"how": "close", "after_bytes": 30_000}, [1]),
    (UPLOAD, {"status": 503}, [1]),
    (UPLOAD, {"status": 429, "retry_after": 3}, [4]),
    ("/api/repos/create", {"status": 503, "times": 2}, [1, 2]),
    ("*/preupload/*", {"status": 500}, [1]),
    ("*/tree/*", {"how": "reset"}, [1]),
    ("*/objects/batch", {"status": 502}, [1]),
    (COMMIT, {"status": 500, "times": 3}, [1, 2, 4]),
    (COMMIT, {"status": 429, "retry_after": 3}, [3]),
    (COMMIT, {"how": "reset"}, [1]),
    (COMMIT, {"how": "close"}, [1]),
    (COMMIT, {"how": "lost"}, [1]),
]


@pytest.mark.parametrize(("where", "order", "slept"), PASSES)
def test_faults_that_pass(lfs, tmp_path, where, order, slept):
    number = len(lfs.hub.requests)
    name, folder = f"alice/passes-{number}", save(tmp_path / "model", number)
    fault = lfs.hub.fail(where, **order)
    assert lfs.push(folder, name)["slept"] == slept
    assert fault.left == 0
    assert lfs.files(name) == expected(folder)
    assert len(lfs.hub.commits(name)) == 2  # the commit whose answer was lost is not made twice
    assert len(lfs.uploads(number)) == (2 if where == UPLOAD else 1)
    if where == COMMIT:
        assert f"the push to {name}: " in lfs.client.log.read_text()


REFUSED = [
    # where, how, words of the message, whether the weights are stored by then
    (UPLOAD, {"status": 403, "method": "PUT"}, "the token may not write to", False),
    (UPLOAD, {"status": 503, **ALWAYS}, "the Hub has a problem (error 503)", False),
    (UPLOAD, {"how": "reset", "after_bytes": 1000, **ALWAYS}, "the connection to the Hub broke", False),
    ("*/preupload/*", {"status": 403}, "the token may not write to", False),
    ("*/preupload/*", {"status": 404, **ALWAYS}, "there is no model", False),
    ("/api/repos/create", {"how": "close", **ALWAYS}, "the connection to the Hub broke", False),
    (COMMIT, {"status": 401}, "the Hub refused the token", True),
    (COMMIT, {"status": 403}, "the token may not write to", True),
    (COMMIT, {"status": 412}, "somebody else changed", True),
    (COMMIT, {"status": 503, **ALWAYS}, "the Hub has a problem (error 503)", True),
    (COMMIT, {"how": "reset", **ALWAYS}, "the connection to the Hub broke", True),
    (COMMIT, {"status": 429, "retry_after": 900}, "you sent the Hub too many requests. Try again in 900 s", True),
]


@pytest.mark.parametrize(("where", "order", "words", "stored"), REFUSED)
def test_faults_that_end_a_push(lfs, tmp_path, where, order, words, stored):
    number = len(lfs.hub.requests)
    name, folder = f"alice/refused-{number}", save(tmp_path / "model", number)
    lfs.hub.fail(where, **order)
    assert words in lfs.refused(folder, name)
    if lfs.hub.exists(name):
        assert not lfs.files(name)
    lfs.hub.mend()
    number = len(lfs.hub.requests)
    lfs.push(folder, name)
    assert lfs.files(name) == expected(folder)
    assert len(lfs.hub.commits(name)) == 2
    assert len(lfs.uploads(number)) == (0 if stored else 1)


def test_who_may_not(lfs, tmp_path):
    hub, folder = lfs.hub, save(tmp_path / "model", 77)
    hub.create_repo("bob/taken")
    hub.create_repo("alice/taken")
    number, reader = len(hub.requests), hub.add_user("alice", "read")
    nobody = {"token": False}
    for name, settings, words in [
        ("alice/new", nobody, "you are not logged in. Log in with a token that has write permission: hf auth login"),
        ("alice/new", {"token": TOKEN}, "the Hub refused the token"),
        ("alice/new", {"token": reader}, "the token may not write to alice/new"),
        ("bob/new", {}, "If you do not belong to 'bob', the name is taken"),
        ("bob/taken", {}, "If you do not belong to 'bob', the name is taken"),
        ("alice/taken", {"token": reader}, "the token may not write to alice/taken"),
        ("alice/taken", {"exist_ok": False}, "the name is taken: there is a model alice/taken already"),
    ]:
        message = lfs.refused(folder, name, **settings)
        assert words in message, message
        assert TOKEN not in message
        assert reader not in message
    assert not lfs.uploads(number)
    with pytest.raises(ClientError, match="everybody can read it, although private=True"):
        lfs.push(folder, "alice/taken", private=True)
    assert not lfs.uploads(number)
    for name in ("bob/taken", "alice/taken"):
        assert not lfs.files(name)
    assert not hub.exists("alice/new")


def test_faults_while_fetching(lfs, tmp_path):
    folder = save(tmp_path / "model", 80)
    stored, listing = "/storage/download/*", "/api/models/bob/*"
    for number, (where, order, end) in enumerate(
        [
            (stored, {"how": "reset", "after_bytes": 1000}, [1]),
            (stored, {"status": 503, "times": 2}, [1, 2]),
            (listing, {"status": 503}, [1]),
            (listing, {"status": 429, "retry_after": 5}, [5]),
            (listing, {"how": "reset"}, [1]),
            (stored, {"status": 403}, "the token may not read it"),
            (listing, {"status": 503, **ALWAYS}, "the Hub has a problem (error 503)"),
            (None, {"token": TOKEN}, "the Hub refused the token"),
            (None, {"token": False, "repo_id": "bob/none"}, "it is private and you are not logged in"),
            (None, {"repo_id": "bob/none"}, "there is no model bob/none, or it is private and your token may not"),
            (None, {"revision": "v9"}, "it has no branch, tag or commit 'v9'"),
        ]
    ):
        lfs.hub.upload(f"bob/fetched-{number}", {"model.safetensors": (folder / "model.safetensors").read_bytes()})
        if where:
            lfs.hub.fail(where, **order)
        settings = {"repo_id": f"bob/fetched-{number}"} | ({} if where else order)
        if isinstance(end, list):
            assert lfs.client.call("tests.drivers.push_folder.load", **settings) == end
        else:
            with pytest.raises(ClientError) as caught:
                lfs.client.call("tests.drivers.push_folder.load", **settings)
            assert caught.value.kind == "HubError", caught.value.trace
            assert caught.value.message.startswith(f"{settings['repo_id']} was not loaded: ")
            assert end in caught.value.message
            assert TOKEN not in caught.value.trace
        lfs.hub.mend()


def test_a_card_that_the_hub_refuses(lfs, tmp_path):
    folder = save(tmp_path / "model", 81)
    (folder / "README.md").write_text("---\nlicense: [\n---\n")
    number = len(lfs.hub.requests)
    assert "Invalid metadata in README.md" in lfs.refused(folder, "alice/card")
    assert not lfs.uploads(number)
    assert not lfs.files("alice/card")


def test_a_pull_request_is_not_opened_twice(lfs, tmp_path):
    folder = save(tmp_path / "model", 78)
    lfs.hub.create_repo("bob/proposed")
    lfs.hub.fail(COMMIT, how="lost")
    assert "discussions" in lfs.refused(folder, "bob/proposed", create_pr=True)
    assert [ref for ref in lfs.hub.refs("bob/proposed") if "pr" in ref] == ["refs/pr/1"]


def test_a_process_killed_between_weights_and_commit(lfs, tmp_path):
    folder, name = save(tmp_path / "model", 79), "alice/killed"
    lfs.hub.fail(f"/api/models/{name}/commit/*", how="hold")
    with lfs.process("killed") as client:
        client.start("tests.drivers.push_folder.push", folder, name)
        lfs.hub.wait_for(f"/api/models/{name}/commit/*")
    lfs.hub.mend()
    assert not lfs.files(name)
    number = len(lfs.hub.requests)
    lfs.push(folder, name)
    assert lfs.files(name) == expected(folder)
    assert not lfs.uploads(number)


XET = "*/xet-write-token/*"


@pytest.mark.parametrize(
    ("where", "order", "words"),
    [
        (XET, {"status": 401}, "the Hub refused the token"),
        (XET, {"status": 403}, "the token may not write to"),
        (XET, {"status": 404}, "there is no model"),
        (COMMIT, {"status": 403}, "the token may not write to"),
        (COMMIT, {"status": 503, **ALWAYS}, "a problem (error 503)"),
    ],
)
def test_faults_with_xet(xet, tmp_path, where, order, words):
    number = len(xet.hub.requests)
    name, folder = f"alice/xet-{number}", save(tmp_path / "model", number)
    xet.hub.fail(where, **order)
    assert words in xet.refused(folder, name)
    assert not xet.files(name)
    xet.hub.mend()
    before = xet.stored()
    xet.push(folder, name)
    assert len(xet.stored() - before) == (0 if where == COMMIT else 1)
    assert xet.files(name) == expected(folder)
    assert len(xet.hub.commits(name)) == 2


def test_xet_faults_that_pass(xet, tmp_path):
    for number, (where, order) in enumerate(
        [(XET, {"status": 503}), (COMMIT, {"status": 500}), (COMMIT, {"how": "lost"})]
    ):
        name, folder = f"alice/xet-passes-{number}", save(tmp_path / str(number), 90 + number)
        fault = xet.hub.fail(where, **order)
        xet.push(folder, name)
        assert fault.left == 0
        assert xet.files(name) == expected(folder)
        assert len(xet.hub.commits(name)) == 2
