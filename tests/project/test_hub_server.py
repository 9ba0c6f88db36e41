"""The hub server answers the real clients as the Hub does, and its faults reach their callers as the Hub's do."""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ..hub_client import Client, ClientError
from ..hub_server import HubServer, environment

FLOWS = "tests.drivers.hub_flows."
WEIGHTS = bytes(range(256)) * 8192  # 2 MiB
CARD = b"---\nlicense: mit\ntags:\n- charts\n---\n# A model\n"
UPLOAD, DOWNLOAD = "/storage/upload/*", "/storage/download/*"


class World:
    """A server, its user alice, and a process of hers."""

    def __init__(self, folder: Path, *, xet: bool):
        self.folder, self.xet = folder, xet
        self.hub = HubServer(folder / "hub", xet=folder / "cas" if xet else None)
        self.token = self.hub.add_user("alice")
        self.client = self.process("home", token=self.token)

    def process(self, home: str, *, xet: bool | None = None, **settings) -> Client:
        settings = {"xet": self.xet if xet is None else xet, **settings}
        return Client(environment(self.hub, self.folder / home, **settings), self.folder / f"{home}.log")

    def __enter__(self) -> World:
        self.hub.__enter__()
        return self

    def __exit__(self, *error) -> None:
        with self.client:
            self.hub.__exit__(*error)

    def call(self, name: str, *arguments, **named):
        return self.client.call(name, *arguments, **named)

    def upload(self, name: str, folder: Path, **settings) -> str:
        return self.call("huggingface_hub.upload_folder", repo_id=name, folder_path=folder, **settings)


@pytest.fixture(scope="module")
def lfs(tmp_path_factory) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("lfs"), xet=False) as world:
        yield world
        assert_nothing_leaked(world)


@pytest.fixture(scope="module")
def xet(tmp_path_factory) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("xet"), xet=True) as world:
        yield world
        assert_nothing_leaked(world)


@pytest.fixture(params=["lfs", "xet"])
def world(request) -> World:
    """Both ways that clients are set up."""
    return request.getfixturevalue(request.param)


def assert_nothing_leaked(world: World) -> None:
    """No token in the log of requests or in what a client says or keeps, none sent to the storage behind the Hub."""
    assert world.token not in repr(world.hub.requests)
    written = [path for path in world.folder.rglob("*") if path.is_file()]
    assert world.client.log in written
    assert not [path for path in written if world.token.encode() in path.read_bytes()]
    stored = [one for one in world.hub.requests if one.host.startswith("localhost")]
    assert all("authorization" not in one.headers for one in stored)


@pytest.fixture
def model(tmp_path) -> Path:
    return save(tmp_path / "model")


def save(folder: Path, weights: bytes = WEIGHTS) -> Path:
    """A folder as a trained model leaves it. Weights that differ are sent by each test that wants to see them sent."""
    (folder / "sub").mkdir(parents=True)
    (folder / "README.md").write_bytes(CARD)
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "sub" / "config.json").write_bytes(b"{}")
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def on_hub(world: World, name: str, **settings) -> dict[str, bytes]:
    files = world.hub.files(name, **settings)
    del files[".gitattributes"]
    return files


def digests(files: dict[str, bytes]) -> dict[str, str]:
    return {path: hashlib.sha256(content).hexdigest() for path, content in files.items()}


def raised(world: World, name: str, *arguments, **named) -> ClientError:
    with pytest.raises(ClientError) as caught:
        world.call(name, *arguments, **named)
    return caught.value


# ---------------------------------------------------------------- what works


def test_a_repository_from_its_creation_to_its_end(world, model):
    hub, name = world.hub, "alice/life"
    url = world.call("huggingface_hub.create_repo", name, private=True)
    assert url == f"{hub.url}/{name}"
    assert hub.is_private(name)
    assert world.call("huggingface_hub.create_repo", name, exist_ok=True) == url
    taken = raised(world, "huggingface_hub.create_repo", name)
    assert (taken.kind, "409" in taken.message) == ("HfHubHTTPError", True)

    world.upload(name, model)
    assert on_hub(world, name) == content(model)
    assert [commit.author for commit in hub.commits(name)] == ["alice", "alice"]
    world.upload(name, model)  # nothing new, no commit
    assert len(hub.commits(name)) == 2
    files = digests(hub.files(name))
    assert world.call(FLOWS + "list_files", name) == sorted(files)
    assert world.call(FLOWS + "snapshot", name) == files

    world.call("huggingface_hub.create_branch", name, branch="trial")
    commit = world.call(FLOWS + "change_files", name, {"new.txt": "new"}, ["sub/"], revision="trial")
    assert hub.commits(name, revision="trial")[0].sha == commit
    assert set(on_hub(world, name, revision="trial")) == {"README.md", "model.safetensors", "new.txt"}
    assert world.call(FLOWS + "list_files", name, revision=commit[:8]) == sorted(hub.files(name, revision=commit))
    world.call("huggingface_hub.create_tag", name, tag="v1")
    world.call("huggingface_hub.delete_branch", name, branch="trial")
    assert set(hub.refs(name)) == {"refs/heads/main", "refs/tags/v1"}
    assert world.call(FLOWS + "snapshot", name, revision="v1") == files

    (model / "model.safetensors").write_bytes(WEIGHTS[::-1])
    world.upload(name, model, create_pr=True)
    assert on_hub(world, name)["model.safetensors"] == WEIGHTS
    assert on_hub(world, name, revision="refs/pr/1") == content(model)
    assert world.call(FLOWS + "snapshot", name, revision="refs/pr/1") == digests(hub.files(name, revision="refs/pr/1"))
    assert len(world.call("huggingface_hub.list_repo_commits", name)) == 2

    world.call("huggingface_hub.delete_repo", name)
    assert not hub.exists(name)
    assert raised(world, FLOWS + "list_files", name).kind == "RepositoryNotFoundError"


def test_files_that_came_by_xet_also_go_to_clients_without_it(xet, model):
    xet.call("huggingface_hub.create_repo", "alice/both")
    xet.upload("alice/both", model)
    assert not xet.hub.matching(UPLOAD)
    with xet.process("plain", xet=False, token=xet.token) as plain:
        assert plain.call(FLOWS + "snapshot", "alice/both") == digests(xet.hub.files("alice/both"))
    assert xet.hub.matching("/storage/download/*/alice/both/model.safetensors")


def test_seeded_files_go_to_both_clients(world, tmp_path):
    world.hub.upload("bob/base", save(tmp_path / "base", WEIGHTS + b"seed"))
    world.hub.upload("bob/base", {"README.md": b"other"}, revision="other")
    assert world.call(FLOWS + "snapshot", "bob/base") == digests(world.hub.files("bob/base"))
    assert on_hub(world, "bob/base")["README.md"] == CARD
    assert on_hub(world, "bob/base", revision="other")["README.md"] == b"other"


def test_what_a_token_may(lfs, tmp_path):
    hub = lfs.hub
    hub.create_repo("alice/secret", private=True)
    hub.create_repo("bob/open")
    hub.add_organisation("lab", "alice", "carol")
    reader, carol, create = hub.add_user("alice", "read"), hub.add_user("carol"), "huggingface_hub.create_repo"
    change, nothing = FLOWS + "change_files", ({"a.txt": "a"}, [])
    for token in (False, carol):  # one answer for what is missing and for what is hidden
        assert raised(lfs, FLOWS + "list_files", "alice/secret", token=token).kind == "RepositoryNotFoundError"
        assert raised(lfs, FLOWS + "list_files", "alice/none", token=token).kind == "RepositoryNotFoundError"
    assert lfs.call(FLOWS + "list_files", "alice/secret", token=reader) == [".gitattributes"]
    bad = raised(lfs, FLOWS + "list_files", "alice/secret", token="hf_bad")
    assert (bad.kind, "401" in bad.message) == ("HfHubHTTPError", True)
    for name, token in (("alice/secret", reader), ("bob/open", lfs.token)):
        refused = raised(lfs, change, name, *nothing, token=token)
        assert (refused.kind, "403" in refused.message) == ("HfHubHTTPError", True)
        assert len(hub.commits(name)) == 1
    for name, token in (("bob/new", lfs.token), ("alice/new", reader)):
        refused = raised(lfs, create, name, token=token)
        assert (refused.kind, "403" in refused.message) == ("HfHubHTTPError", True)
    lfs.call(create, "lab/model", private=True)
    lfs.call(change, "lab/model", *nothing, token=carol)
    assert [commit.author for commit in hub.commits("lab/model")] == ["carol", "lab"]
    # Whoever sees a repository may propose a change to it, large files too.
    lfs.upload("bob/open", save(tmp_path / "model", WEIGHTS + b"proposed"), create_pr=True)
    assert len(hub.commits("bob/open")) == 1
    assert on_hub(lfs, "bob/open", revision="refs/pr/1") == content(tmp_path / "model")
    assert set(lfs.call("huggingface_hub.whoami")) >= {"name", "orgs", "auth"}
    missing = raised(lfs, "huggingface_hub.hf_hub_download", "bob/open", "none.txt")
    assert missing.kind in ("EntryNotFoundError", "RemoteEntryNotFoundError")
    assert raised(lfs, FLOWS + "list_files", "bob/open", revision="none").kind == "RevisionNotFoundError"


def test_large_files_in_parts(tmp_path, model):
    with HubServer(tmp_path / "hub", multipart_chunk=1 << 20) as hub:
        token = hub.add_user("alice")
        hub.create_repo("alice/parts")
        with Client(environment(hub, tmp_path / "home", token=token), tmp_path / "log") as client:
            client.call("huggingface_hub.upload_folder", repo_id="alice/parts", folder_path=model)
        assert [one.received for one in hub.matching(UPLOAD)] == [1 << 20, 1 << 20]
        assert hub.files("alice/parts")["model.safetensors"] == WEIGHTS


def test_models_of_transformers(world):
    digest = world.call(FLOWS + "push_model", "alice/bert", 1)
    other = world.call(FLOWS + "push_model", "alice/bert", 2, revision="second")
    assert digest != other
    assert set(on_hub(world, "alice/bert")) == {"README.md", "config.json", "model.safetensors"}
    assert world.call(FLOWS + "load_model", "alice/bert") == digest
    assert world.call(FLOWS + "load_model", "alice/bert", revision="second") == other
    world.hub.upload("bob/uncached-bert", {"config.json": b"{}"})  # from the cache, no token is needed
    for name, settings, said in [
        ("alice/none", {}, "not a valid model identifier"),
        ("alice/bert", {"revision": "none"}, "not a valid git identifier"),
        ("bob/uncached-bert", {"token": "hf_bad"}, "401 Unauthorized"),
    ]:
        error = raised(world, FLOWS + "load_model", name, **settings)
        assert (error.kind, said in error.message) == ("OSError", True), error.message


def parquet(rows: list[dict]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


def test_data_sets(lfs):
    rows = [{"query": f"question {number}", "label": [str(number)]} for number in range(5)]
    train, seed = "data/train-00000-of-00001.parquet", {"repo_type": "dataset"}
    lfs.hub.upload("bob/charts", {train: parquet(rows[:3]), "README.md": CARD}, **seed)
    lfs.hub.upload("bob/charts", {train: parquet(rows)}, revision="more", **seed)
    load = FLOWS + "load_rows"
    assert lfs.call(load, "bob/charts", split="train") == rows[:3]
    assert lfs.call(load, "bob/charts", split="train", streaming=True) == rows[:3]
    assert lfs.call(load, "bob/charts", split="train", revision="more") == rows
    assert lfs.call(load, "bob/charts", split="train", revision="more", streaming=True) == rows
    lfs.call(FLOWS + "push_rows", "alice/own", rows, private=True)
    assert lfs.hub.is_private("alice/own", **seed)
    assert lfs.call(load, "alice/own", split="train") == rows


# ---------------------------------------------------------------- what fails while sending


@pytest.mark.parametrize(
    ("order", "received"),
    [
        ({"how": "reset", "after_bytes": 100_000}, None),
        ({"how": "close", "after_bytes": 100_000}, None),
        ({"status": 503}, len(WEIGHTS) + 1),
        ({"status": 429, "retry_after": 1}, len(WEIGHTS) + 1),
    ],
    ids=["reset", "close", "503", "429"],
)
def test_the_client_sends_a_large_file_again(lfs, tmp_path, order, received):
    number = len(lfs.hub.requests)
    name, folder = f"alice/again-{number}", save(tmp_path / "model", WEIGHTS + bytes([number % 256]))
    lfs.call("huggingface_hub.create_repo", name)
    fault = lfs.hub.fail(UPLOAD, method="PUT", **order)
    start = time.monotonic()
    lfs.upload(name, folder)
    first, second = lfs.hub.matching(UPLOAD, "PUT", since=number)
    assert fault.left == 0
    if received is None:
        assert (first.status, 100_000 <= first.received < len(WEIGHTS)) == (None, True)
    else:
        assert (first.status, first.received) == (order["status"], received)
    assert (second.status, second.received) == (200, len(WEIGHTS) + 1)
    assert time.monotonic() - start >= 1 + order.get("retry_after", 0)
    assert on_hub(lfs, name) == content(folder)
    assert len(lfs.hub.commits(name)) == 2


REFUSED = [
    # where, how, what the caller of upload_folder sees, whether the large file is stored before
    (UPLOAD, {"method": "PUT", "status": 403}, "RuntimeError", False),
    ("*/preupload/*", {"status": 403}, "HfHubHTTPError", False),
    ("*/objects/batch", {"status": 403}, "HfHubHTTPError", False),
    ("*/commit/*", {"status": 500}, "HfHubHTTPError", True),
    ("*/commit/*", {"status": 403}, "HfHubHTTPError", True),
    ("*/commit/*", {"how": "reset"}, "ReadError", True),
    ("*/commit/*", {"how": "close"}, "RemoteProtocolError", True),
    ("*/commit/*", {"status": 429, "retry_after": 1}, "HfHubHTTPError", True),
]


@pytest.mark.parametrize(("where", "order", "kind", "stored"), REFUSED)
def test_no_commit_after_a_failed_upload_and_nothing_sent_twice(lfs, tmp_path, where, order, kind, stored):
    number = len(lfs.hub.requests)
    name, folder = f"alice/refused-{number}", save(tmp_path / "model", WEIGHTS + str(number).encode())
    lfs.call("huggingface_hub.create_repo", name)
    lfs.hub.fail(where, **order)
    error = raised(lfs, "huggingface_hub.upload_folder", repo_id=name, folder_path=folder)
    assert error.kind == kind, error.trace
    assert len(lfs.hub.commits(name)) == 1
    number = len(lfs.hub.requests)
    lfs.upload(name, folder)
    assert len(lfs.hub.matching(UPLOAD, since=number)) == (0 if stored else 1)
    assert on_hub(lfs, name) == content(folder)


def test_a_commit_whose_answer_is_lost(lfs, tmp_path):
    folder = save(tmp_path / "model", WEIGHTS + b"lost")
    lfs.call("huggingface_hub.create_repo", "alice/lost")
    lfs.hub.fail("*/commit/*", how="lost")
    error = raised(lfs, "huggingface_hub.upload_folder", repo_id="alice/lost", folder_path=folder)
    assert error.kind == "RemoteProtocolError"
    assert on_hub(lfs, "alice/lost") == content(folder)
    lfs.upload("alice/lost", folder)
    assert len(lfs.hub.commits("alice/lost")) == 2


def test_a_client_killed_before_its_commit(lfs, tmp_path):
    folder = save(tmp_path / "model", WEIGHTS + b"killed")
    lfs.hub.create_repo("alice/killed")
    lfs.hub.fail("/api/models/alice/killed/commit/*", how="hold")
    with lfs.process("killed", token=lfs.token) as client:
        client.start("huggingface_hub.upload_folder", repo_id="alice/killed", folder_path=str(folder))
        held = lfs.hub.wait_for("/api/models/alice/killed/commit/*")
    lfs.hub.mend()
    assert (held.fault, held.status) == ("hold", None)
    assert len(lfs.hub.commits("alice/killed")) == 1
    number = len(lfs.hub.requests)
    lfs.upload("alice/killed", folder)
    assert not lfs.hub.matching(UPLOAD, since=number)
    assert on_hub(lfs, "alice/killed") == content(folder)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_xet_without_a_token_for_its_storage(xet, tmp_path, status):
    name, folder = f"alice/xet-{status}", save(tmp_path / "model", WEIGHTS + str(status).encode())
    xet.call("huggingface_hub.create_repo", name)
    xet.hub.fail("*/xet-write-token/*", status=status)
    error = raised(xet, "huggingface_hub.upload_folder", repo_id=name, folder_path=folder)
    assert error.kind == "ConnectionError", error.trace
    assert len(xet.hub.commits(name)) == 1
    xet.upload(name, folder)
    assert on_hub(xet, name) == content(folder)


@pytest.mark.parametrize(("order", "commits"), [({"status": 500}, 2), ({"how": "lost"}, 3)], ids=["500", "lost"])
def test_xet_repeats_a_commit_without_an_answer(xet, tmp_path, order, commits):
    name, folder = f"alice/repeated-{commits}", save(tmp_path / "model", WEIGHTS + str(commits).encode())
    xet.call("huggingface_hub.create_repo", name)
    fault = xet.hub.fail("*/commit/*", **order)
    xet.upload(name, folder)
    assert fault.left == 0
    assert on_hub(xet, name) == content(folder)
    assert len(xet.hub.commits(name)) == commits  # the client cannot know that the lost one was made


# ---------------------------------------------------------------- what fails while fetching


def test_a_download_that_stops_goes_on_where_it_stopped(lfs):
    big = WEIGHTS * 6  # the client keeps whole pieces of 10 MB
    lfs.hub.upload("bob/big", {"model.safetensors": big})
    lfs.hub.fail("/storage/download/*/bob/big/*", how="close", after_bytes=11 << 20)
    assert lfs.call(FLOWS + "snapshot", "bob/big") == digests(lfs.hub.files("bob/big"))
    first, second = lfs.hub.matching("/storage/download/*/bob/big/*", "GET")
    assert (first.fault, first.sent) == ("close", 11 << 20)
    assert second.headers["range"] == f"bytes={10 << 20}-"
    assert (second.status, second.sent) == (206, len(big) - (10 << 20))


def test_a_download_that_is_reset_fails_and_works_again(lfs):
    lfs.hub.upload("bob/reset", {"model.safetensors": WEIGHTS})
    lfs.hub.fail("/storage/download/*/bob/reset/*", how="reset", after_bytes=100_000)
    assert raised(lfs, FLOWS + "snapshot", "bob/reset").kind == "ReadError"
    assert lfs.call(FLOWS + "snapshot", "bob/reset") == digests(lfs.hub.files("bob/reset"))


def test_which_faults_end_a_download(lfs):
    stored, seen = "/storage/download/*", {}
    for label, where, order in [
        ("storage 429", stored, {"status": 429, "retry_after": 1}),
        ("storage 503", stored, {"status": 503}),
        ("storage 403", stored, {"status": 403}),
        ("file 401", "/bob/*/resolve/*", {"status": 401, "times": None}),
        ("list 503", "/api/models/bob/*", {"status": 503}),
        ("list 429", "/api/models/bob/*", {"status": 429, "retry_after": 1}),
        ("list reset", "/api/models/bob/*", {"how": "reset"}),
    ]:
        name = f"bob/{label.replace(' ', '-')}"
        lfs.hub.upload(name, {"model.safetensors": WEIGHTS})
        fault = lfs.hub.fail(where, **order)
        try:
            seen[label] = lfs.call(FLOWS + "snapshot", name) == digests(lfs.hub.files(name))
        except ClientError as error:
            seen[label] = error.kind
        assert fault.left in (0, None), label
        lfs.hub.mend()
        assert lfs.call(FLOWS + "snapshot", name) == digests(lfs.hub.files(name))
    assert seen == {
        "storage 429": True,  # the only one that the client waits for
        "storage 503": "HfHubHTTPError",
        "storage 403": "HfHubHTTPError",
        "file 401": "HfHubHTTPError",
        "list 503": "LocalEntryNotFoundError",
        "list 429": "LocalEntryNotFoundError",
        "list reset": "ReadError",
    }


def test_from_pretrained_makes_an_oserror_of_each_fault(lfs):
    digest = lfs.call(FLOWS + "push_model", "alice/faults", 3)
    weights, said = "/storage/download/*/alice/faults/*", {}
    for label, where, order in [
        ("reset", weights, {"how": "reset", "after_bytes": 1000}),
        ("403", weights, {"status": 403}),
        ("503", weights, {"status": 503}),
        ("401", "/alice/faults/resolve/*", {"status": 401, "times": None}),
    ]:
        lfs.hub.fail(where, **order)
        error = raised(lfs, FLOWS + "load_model", "alice/faults")
        said[label] = (error.kind, label in error.message)
        lfs.hub.mend()
    # A reset is reported like a file that the repository does not have.
    assert said == {label: ("OSError", label != "reset") for label in ("reset", "403", "503", "401")}
    assert lfs.call(FLOWS + "load_model", "alice/faults") == digest


def test_a_process_without_the_network_answers_from_its_cache(lfs):
    lfs.hub.upload("bob/cached", {"config.json": b"{}", "model.safetensors": WEIGHTS})
    files = lfs.call(FLOWS + "snapshot", "bob/cached")
    number = len(lfs.hub.requests)
    with lfs.process("home", offline=True) as client:
        assert client.call(FLOWS + "snapshot", "bob/cached") == files
        with pytest.raises(ClientError) as caught:
            client.call(FLOWS + "snapshot", "bob/uncached")
    assert caught.value.kind == "LocalEntryNotFoundError"
    assert len(lfs.hub.requests) == number


# ---------------------------------------------------------------- the server itself


def test_a_mistake_of_the_server_fails_its_test(tmp_path):
    hub = HubServer(tmp_path)
    hub._store.organisations = None
    variables = environment(hub, tmp_path / "home", token=hub.add_user("alice"))
    with pytest.raises(AssertionError, match="the hub server itself failed"), hub:  # noqa: PT012
        client = Client(variables, tmp_path / "log")
        with client, pytest.raises(ClientError, match="500"):
            client.call("huggingface_hub.whoami")


def test_the_environment_is_its_own(tmp_path, monkeypatch):
    for name in ("HF_TOKEN", "HF_HUB_CACHE", "HUGGING_FACE_HUB_TOKEN", "TRANSFORMERS_OFFLINE", "https_proxy"):
        monkeypatch.setenv(name, "outer")
    variables = environment(None, tmp_path, offline=True)
    assert "outer" not in variables.values()
    assert (variables["HF_HUB_OFFLINE"], variables["HF_HOME"]) == ("1", str(tmp_path))
    with HubServer(tmp_path) as hub:
        variables = environment(hub, tmp_path, token="hf_mine", xet=True)
    assert (variables["HF_ENDPOINT"], variables["HF_TOKEN"]) == (hub.url, "hf_mine")
    assert (variables["HF_HUB_OFFLINE"], variables["HF_HUB_DISABLE_XET"]) == ("0", "0")


def test_orders_that_make_no_sense(tmp_path):
    with HubServer(tmp_path) as hub:
        hub.create_repo("a/b")
        for name, repo_type in (("a/b", "model"), ("a", "model"), ("a/c", "space")):
            with pytest.raises(ValueError, match=repr(name)):
                hub.create_repo(name, repo_type=repo_type)
        with pytest.raises(ValueError, match="'explode'"):
            hub.fail("*", how="explode")
        with pytest.raises(TimeoutError, match="no request"):
            hub.wait_for("/never", timeout=0.01)
