"""Datasets of a hub on this machine that answers like the real one and notes what it is asked."""

import json
import re
from dataclasses import dataclass, field
from hashlib import sha1
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import close_session, constants

from alps.data.example import Example
from alps.data.files.hub import download
from alps.data.sources.table import Table

REPO = "acme/rows"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_a_secret_of_the_user"
ROWS = [{"instruction": f"question {i}", "output": f"answer {i}"} for i in range(3)]
FILES = {
    "README.md": b"# Rows",
    "data/train-0.jsonl": "".join(json.dumps(row) + "\n" for row in ROWS).encode(),
    "data/test-0.jsonl": b'{"instruction": "test", "output": "test"}\n',
}
TRAIN = ("data/train-*",)


@dataclass
class Hub:
    """What the server holds, how it refuses, and what it was asked for."""

    files: dict[str, bytes] = field(default_factory=lambda: dict(FILES))
    refuses: tuple[int, str] | None = None  # status, error code of the hub
    asked: list[str] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        if self.hub.refuses:
            self.send(self.hub.refuses[0], b"", {"X-Error-Code": self.hub.refuses[1]})
        elif re.fullmatch(rf"/api/datasets/{REPO}/revision/(main|{COMMIT})", path):
            names = [{"rfilename": name} for name in self.hub.files]
            self.send(200, json.dumps({"id": REPO, "sha": COMMIT, "siblings": names}).encode())
        elif path.startswith(f"/api/datasets/{REPO}/tree/{COMMIT}"):
            self.send(200, json.dumps([self.entry(name) for name in self.hub.files]).encode())
        elif found := re.fullmatch(rf"/datasets/{REPO}/resolve/{COMMIT}/(.+)", path):
            etag = {"ETag": f'"{self.entry(found[1])["oid"]}"'}
            self.send(200, self.hub.files[found[1]], etag)
        elif path.startswith(f"/api/datasets/{REPO}/"):
            self.send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        else:
            self.send(404, b"", {"X-Error-Code": "RepoNotFound"})

    def entry(self, name):
        content = self.hub.files[name]
        oid = sha1(content).hexdigest()
        return {"type": "file", "path": name, "size": len(content), "oid": oid}

    def send(self, status, body, headers=None):
        self.send_response(status)
        about = {"X-Repo-Commit": COMMIT, "Content-Length": len(body), **(headers or {})}
        for key, value in about.items():
            self.send_header(key, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@pytest.fixture
def hub(monkeypatch, tmp_path, start_hub):
    served = Hub()
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    start_hub(type("OneHub", (Handler,), {"hub": served}))
    return served


@pytest.fixture
def go_offline(monkeypatch, cut_network):
    def go():
        close_session()
        cut_network()
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    return go


def names(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def complaint(*arguments) -> str:
    with pytest.raises(ValueError) as error:
        download(*arguments)
    assert type(error.value) is ValueError
    assert "\n" not in str(error.value) and TOKEN not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("revision", ["main", COMMIT])
def test_only_files_that_match_are_fetched(hub, revision):
    folder = download(REPO, revision, TRAIN)
    assert names(folder) == {"data/train-0.jsonl"}
    assert (folder / "data" / "train-0.jsonl").read_bytes() == FILES["data/train-0.jsonl"]
    assert names(download(REPO, revision)) == set(FILES)


def test_a_pinned_dataset_in_the_cache_costs_no_request(hub):
    folder = download(REPO, COMMIT, TRAIN)
    assert hub.asked
    hub.asked.clear()
    assert download(REPO, COMMIT, TRAIN) == folder
    assert hub.asked == []


@pytest.mark.parametrize("revision", ["main", COMMIT])
def test_a_dataset_in_the_cache_needs_no_network(hub, go_offline, revision):
    folder = download(REPO, revision, TRAIN)
    go_offline()
    assert download(REPO, revision, TRAIN) == folder


def test_without_network_what_lacks_a_file_is_refused(hub, go_offline):
    (download(REPO, COMMIT, TRAIN) / "data" / "train-0.jsonl").unlink()
    go_offline()
    assert "is not in the hub cache" in complaint(REPO, COMMIT, TRAIN)


def test_without_network_and_cache_the_remedies_are_told(hub, cut_network, go_offline):
    cut_network()
    remedy = "connect to the network, or give a local copy with data.path=<file or folder>"
    said = complaint(REPO, "main", TRAIN)
    assert said.startswith("acme/rows@main cannot be downloaded (Connect")
    assert said.endswith(f") and is not in the hub cache: {remedy}")
    go_offline()
    assert complaint(REPO, COMMIT, TRAIN) == (
        f"acme/rows@{COMMIT} cannot be downloaded (HF_HUB_OFFLINE is set) "
        f"and is not in the hub cache: {remedy}"
    )


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (403, "GatedRepo", "acme/rows@main is gated: accept its licence on its hub page, then"),
        (401, "RepoNotFound", "the hub has no dataset acme/rows@main, or it is private and"),
        (404, "RepoNotFound", "the hub has no dataset acme/rows@main, or it is private and"),
        (404, "RevisionNotFound", "the hub has no dataset acme/rows@main, or it is private and"),
        (500, "", "acme/rows@main cannot be downloaded (HTTP 500) and is not in the hub cache"),
    ],
)
def test_what_the_hub_refuses_is_one_sentence(hub, status, code, said):
    hub.refuses = status, code
    assert complaint(REPO, "main", TRAIN).startswith(said)


def test_a_dataset_that_has_moved_can_be_had_elsewhere(hub):
    said = complaint("acme/old", "main", TRAIN)
    assert said.endswith("if it has moved, set data.hub, or give a local copy with "
                         "data.path=<file or folder>")  # fmt: skip


def test_what_is_no_hub_id_is_told(hub):
    said = "data.hub=a/b/c is neither a folder nor a hub id"
    assert complaint("a/b/c", "main") == said


def test_files_that_are_not_there_are_told(hub):
    said = f"acme/rows@{COMMIT} has no file named dev-*: set data.files to names it has"
    assert complaint(REPO, COMMIT, ("dev-*",)).startswith(said)


def test_a_repo_without_rows_is_told(hub):
    hub.files = {"README.md": b""}
    assert complaint(REPO, "main").startswith("acme/rows@main has no file of rows")


def test_a_table_reads_the_hub_and_then_its_cache(hub, go_offline):
    data = Table(
        name="t", hub=REPO, revision=COMMIT, files=TRAIN, num_rows=3, reader="mathinstruct",
        test_fraction=0.0,
    )  # fmt: skip
    wanted = [Example(instruction=row["instruction"], answer=row["output"]) for row in ROWS]
    before = data.fingerprint()
    assert list(data.problems()) == [] and hub.asked == []  # planning needs no network
    assert list(data.examples("train")) == wanted
    go_offline()
    assert list(data.examples("train")) == wanted
    assert data.fingerprint() == before
