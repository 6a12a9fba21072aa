"""`fetch_qkv` against a server on this machine that answers like the hub and counts its bytes."""

import json
import logging
import re
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import torch
from huggingface_hub import constants
from safetensors import safe_open
from safetensors.torch import load_file, save

from alps.models import hub, hub_repo
from alps.models.architecture import read_geometry, stored_in_float8
from alps.models.checkpoint import materialize
from alps.models.hub import download, fetch_qkv, translate_hub_errors
from alps.settings.model import Model

REPO = "acme/small"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
LAYERS, HEADS, KV_HEADS, DIM, WIDTH = 5, 4, 2, 8, 32
CONFIG = {
    "model_type": "llama", "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS, "head_dim": DIM, "hidden_size": WIDTH,
}  # fmt: skip
QKV = re.compile(r"self_attn\.[qkv]_proj\.(weight|bias)$")
TOKEN = "hf_a_secret_of_the_user"


@dataclass
class Hub:
    """What the server holds, how it misbehaves, and what it was asked for."""

    files: dict[str, bytes]
    commit: str = COMMIT
    address: str = ""
    gated: bool = False
    ranges: bool = True
    storage: bool = False  # safetensors are redirected to another host, as on the hub
    fails_after: int | None = None  # ranges of safetensors served before every answer is a 500
    breaks_at: int | None = None  # bytes of one answer sent before the connection is closed
    served: Counter = field(default_factory=Counter)  # bytes of bodies, by file
    asked: list = field(default_factory=list)  # (method, path)
    tokens: list = field(default_factory=list)  # (path, authorization)
    ranges_served: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def answer(self):
        path = unquote(urlsplit(self.path).path)
        with self.hub.lock:
            self.hub.asked.append((self.command, path))
            self.hub.tokens.append((path, self.headers.get("Authorization")))
        if found := re.fullmatch(r"/storage/(.+)", path):
            self.file(found[1])
        elif found := re.fullmatch(rf"/{REPO}/resolve/([^/]+)/(.+)", path):
            self.resolve(*found.groups())
        elif found := re.fullmatch(rf"/api/models/{REPO}/revision/([^/]+)", path):
            names = [{"rfilename": name} for name in self.hub.files]
            info = {"id": REPO, "sha": self.hub.commit, "siblings": names}
            self.send(200, json.dumps(info).encode())
        elif re.fullmatch(rf"/api/models/{REPO}/tree/([^/]+)", path):
            files = self.hub.files.items()
            tree = [{"type": "file", "path": n, "size": len(b), "oid": "0" * 40} for n, b in files]
            self.send(200, json.dumps(tree).encode())
        else:
            self.send(404, b"", {"X-Error-Code": "RepoNotFound"})

    def resolve(self, revision, name):
        if self.hub.gated:
            self.send(403, b"", {"X-Error-Code": "GatedRepo"})
        elif revision not in ("main", self.hub.commit):
            self.send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        elif name not in self.hub.files:
            self.send(404, b"", {"X-Error-Code": "EntryNotFound"})
        elif self.hub.storage and name.endswith(".safetensors"):
            port = self.server.server_address[1]
            self.send(302, b"", {"Location": f"http://localhost:{port}/storage/{name}"})
        else:
            self.file(name)

    def file(self, name):
        body = self.hub.files[name]
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if not wanted or not self.hub.ranges:
            self.send(200, body, name=name)
            return
        with self.hub.lock:
            self.hub.ranges_served += 1
            failing = self.hub.fails_after is not None
            failing = failing and self.hub.ranges_served > self.hub.fails_after
        first, last = int(wanted[1]), min(int(wanted[2]), len(body) - 1)
        if failing:
            self.send(500, b"")
        elif first >= len(body):
            self.send(416, b"")
        else:
            place = {"Content-Range": f"bytes {first}-{last}/{len(body)}"}
            self.send(206, body[first : last + 1], place, name)

    def send(self, status, body, headers=None, name=None):
        self.send_response(status)
        about = {"X-Repo-Commit": self.hub.commit, "ETag": '"etag"', "Accept-Ranges": "bytes"}
        for key, value in {**about, "Content-Length": len(body), **(headers or {})}.items():
            self.send_header(key, str(value))
        self.end_headers()
        if self.command == "HEAD":
            return
        if status == 206 and self.hub.breaks_at is not None and len(body) > self.hub.breaks_at:
            body, self.close_connection = body[: self.hub.breaks_at], True
        try:
            # Not one write: a client that hangs up should be seen to have taken only a part.
            for start in range(0, len(body), 4096):
                sent = self.wfile.write(body[start : start + 4096])
                with self.hub.lock:
                    self.hub.served[name] += sent
        except OSError:
            self.close_connection = True


@pytest.fixture
def serve(monkeypatch, tmp_path, start_hub):
    """Starts a hub with these files and lets the hub client find it."""

    def start(files, **behaviour):
        served = Hub(files, **behaviour)
        served.address = start_hub(type("OneHub", (Handler,), {"hub": served}))
        return served

    monkeypatch.setenv("ALPS_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(hub_repo, "RETRIES", 1)
    return start


def tensors(dtype=torch.float32, bias=False, layers=range(LAYERS), seed=0):
    generator = torch.Generator().manual_seed(seed)
    sizes = {"q": HEADS * DIM, "k": KV_HEADS * DIM, "v": KV_HEADS * DIM}

    def random(*shape):
        return torch.randn(*shape, generator=generator).to(dtype)

    made = {"model.embed_tokens.weight": random(500, WIDTH)}
    for i in layers:
        layer = f"model.layers.{i}"
        made |= {f"{layer}.self_attn.{p}_proj.weight": random(n, WIDTH) for p, n in sizes.items()}
        made[f"{layer}.self_attn.o_proj.weight"] = random(WIDTH, HEADS * DIM)
        made[f"{layer}.mlp.up_proj.weight"] = random(4 * WIDTH, WIDTH)
        if bias:
            made |= {f"{layer}.self_attn.{p}_proj.bias": random(n) for p, n in sizes.items()}
    return made


def repo_files(weights, shards=1, **config):
    """Files of a repo: tensors dealt to shards in turn, so that layers cross them."""
    files = {"config.json": json.dumps({**CONFIG, **config}).encode(), "README.md": b"# A model"}
    if shards == 1:
        return {**files, "model.safetensors": save(weights)}
    names = [f"model-{i + 1:05}-of-{shards:05}.safetensors" for i in range(shards)]
    places = {tensor: names[i % shards] for i, tensor in enumerate(weights)}
    for name in names:
        files[name] = save({t: weights[t] for t, place in places.items() if place == name})
    files["model.safetensors.index.json"] = json.dumps({"weight_map": places}).encode()
    return files


def read(folder):
    """All tensors of a copy, through its index."""
    places = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    found = {}
    for name, place in places.items():
        with safe_open(folder / place, framework="pt") as file:
            found[name] = file.get_tensor(name)
    return found


def assert_same(found, weights):
    wanted = {name: t for name, t in weights.items() if QKV.search(name)}
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def payload(weights):
    return sum(t.nbytes for name, t in weights.items() if QKV.search(name))


def header_bytes(file):
    return 8 + int.from_bytes(file[:8], "little")


def weight_bytes(served):
    return sum(n for name, n in served.served.items() if name and name.endswith(".safetensors"))


def header_total(files):
    return sum(header_bytes(f) for name, f in files.items() if name.endswith(".safetensors"))


def one_sentence(error):
    text = str(error.value)
    assert "\n" not in text
    assert TOKEN not in text
    return text


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_only_the_bytes_of_q_k_and_v_are_served(serve, shards, bias, dtype):
    weights = tensors(dtype, bias)
    files = repo_files(weights, shards)
    server = serve(files)
    seen = []
    folder = fetch_qkv(REPO, progress=lambda done, total: seen.append((done, total)))
    assert_same(read(folder), weights)
    assert weight_bytes(server) == payload(weights) + header_total(files)
    assert server.served["README.md"] == 0
    assert seen[0] == (0, payload(weights))
    assert seen[-1] == (payload(weights), payload(weights))
    assert seen == sorted(seen)


def test_the_copy_reads_like_a_sharded_checkpoint(serve):
    weights = tensors(torch.bfloat16)
    serve(repo_files(weights))
    folder = fetch_qkv(REPO)
    assert folder.name == "acme--small@0123456789ab"
    assert (read_geometry(folder).num_layers, read_geometry(folder).num_kv_heads) == (5, 2)
    assert {f.name for f in folder.iterdir()} == {
        "config.json",
        "model.safetensors.index.json",
        *(f"layer-{i:05}.safetensors" for i in range(LAYERS)),
    }
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == payload(weights)
    third = load_file(folder / "layer-00003.safetensors")
    assert_same(third, {n: t for n, t in weights.items() if ".layers.3." in n})


def test_tensors_that_touch_come_with_one_request(serve):
    server = serve(repo_files(tensors()))
    fetch_qkv(REPO)
    # By name k lies before o, and q and v behind it: two ranges a layer, and two for the header.
    assert server.ranges_served == 2 * LAYERS + 2


def test_files_kept_on_another_host_are_followed_without_the_token(serve):
    weights = tensors()
    server = serve(repo_files(weights), storage=True)
    assert_same(read(fetch_qkv(REPO)), weights)
    sent = {token for path, token in server.tokens if path.startswith("/storage/")}
    assert sent == {None}
    assert {t for path, t in server.tokens if path.startswith("/acme")} == {f"Bearer {TOKEN}"}


def test_a_finished_copy_costs_one_request(serve):
    server = serve(repo_files(tensors()))
    folder = fetch_qkv(REPO)
    server.asked.clear()
    assert fetch_qkv(REPO) == folder
    assert server.asked == [("HEAD", f"/{REPO}/resolve/main/config.json")]
    server.asked.clear()
    assert fetch_qkv(REPO, COMMIT) == folder
    assert server.asked == []


def test_a_branch_that_moved_is_fetched_anew(serve):
    server = serve(repo_files(tensors()))
    old = fetch_qkv(REPO)
    new_weights = tensors(seed=1)
    server.files, server.commit = repo_files(new_weights), "f" * 40
    new = fetch_qkv(REPO)
    assert new != old
    assert_same(read(new), new_weights)


@pytest.mark.parametrize("offline", ["no route", "HF_HUB_OFFLINE"])
def test_without_network_the_last_copy_is_used_and_said(
    serve, cut_network, monkeypatch, caplog, offline
):
    server = serve(repo_files(tensors()))
    folder = fetch_qkv(REPO)
    server.asked.clear()
    if offline == "HF_HUB_OFFLINE":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    else:
        cut_network()
    assert fetch_qkv(REPO) == folder
    assert "acme/small@main cannot be looked up" in caplog.text
    assert "0123456789ab" in caplog.text
    assert server.asked == []
    caplog.clear()
    assert fetch_qkv(REPO, COMMIT) == folder
    assert not caplog.records


@pytest.mark.parametrize("offline", ["ConnectError", "HF_HUB_OFFLINE is set"])
def test_without_network_and_copy_it_is_one_sentence(
    serve, cut_network, monkeypatch, tmp_path, offline
):
    serve({})
    if offline == "ConnectError":
        cut_network()
    else:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=f"cannot be fetched .{offline}") as error:
        fetch_qkv(REPO)
    assert "connect to the network" in one_sentence(error)
    assert not list((tmp_path / "cache").glob("qkv/*"))


def test_without_network_a_damaged_copy_is_not_used(serve, cut_network, caplog):
    serve(repo_files(tensors()))
    damaged = fetch_qkv(REPO) / "layer-00001.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    cut_network()
    with pytest.raises(ValueError, match=r"no finished copy"):
        fetch_qkv(REPO)
    assert "using its copy" not in caplog.text


# As many ranges as surely finish a layer of four under way, but not all five.
@pytest.mark.parametrize(("shards", "ranges"), [(1, 7), (3, 10)])
def test_an_interrupted_fetch_goes_on_with_the_missing_layers(serve, tmp_path, shards, ranges):
    weights = tensors()
    files = repo_files(weights, shards)
    server = serve(files, fails_after=2 * shards + ranges)
    with pytest.raises(ValueError, match="HTTP 500") as error:
        fetch_qkv(REPO)
    one_sentence(error)
    folder = tmp_path / "cache" / "qkv" / "acme--small@0123456789ab"
    kept = {f.name: f.stat().st_mtime_ns for f in folder.glob("layer-*")}
    assert 0 < len(kept) < LAYERS
    assert not (folder / "model.safetensors.index.json").exists()
    assert not list(folder.glob("*.tmp"))
    server.fails_after = None
    server.served.clear()
    seen = []
    assert fetch_qkv(REPO, progress=lambda *pair: seen.append(pair)) == folder
    assert_same(read(folder), weights)
    one_layer = payload(weights) // LAYERS
    assert weight_bytes(server) == header_total(files) + (LAYERS - len(kept)) * one_layer
    assert seen[0] == (len(kept) * one_layer, payload(weights))
    assert {name: (folder / name).stat().st_mtime_ns for name in kept} == kept


@pytest.mark.parametrize("damage", [lambda b: b[:-5], lambda b: b + b"x", lambda b: b"no", None])
def test_a_damaged_layer_is_fetched_again(serve, damage):
    weights = tensors()
    files = repo_files(weights)
    server = serve(files)
    layer = fetch_qkv(REPO) / "layer-00002.safetensors"
    layer.write_bytes(damage(layer.read_bytes())) if damage else layer.unlink()
    server.served.clear()
    folder = fetch_qkv(REPO)
    assert_same(read(folder), weights)
    assert weight_bytes(server) == header_total(files) + payload(weights) // LAYERS


def test_a_repair_that_fails_leaves_nothing_that_looks_complete(serve):
    server = serve(repo_files(tensors()))
    folder = fetch_qkv(REPO)
    (folder / "layer-00002.safetensors").unlink()
    server.fails_after = server.ranges_served + 2
    with pytest.raises(ValueError, match="HTTP 500"):
        fetch_qkv(REPO)
    assert not (folder / "model.safetensors.index.json").exists()


def test_a_broken_connection_goes_on_where_it_stopped(serve):
    weights = tensors()
    files = repo_files(weights)
    server = serve(files, breaks_at=3000)
    assert_same(read(fetch_qkv(REPO)), weights)
    assert weight_bytes(server) == header_total(files) + payload(weights)


def test_an_answer_that_stays_short_is_refused(serve, tmp_path):
    files = repo_files(tensors())
    server = serve(files, breaks_at=0)
    with pytest.raises(ValueError, match="broke off 8 bytes early") as error:
        fetch_qkv(REPO)
    assert "repeat the command" in one_sentence(error)
    assert not list((tmp_path / "cache" / "qkv").glob("*"))
    # Whole headers, but the file on the hub ends within the last tensors.
    server.breaks_at = None
    whole = files["model.safetensors"]
    files["model.safetensors"] = whole[: header_bytes(whole) + 70_000]
    with pytest.raises(ValueError, match="truncated on the hub"):
        fetch_qkv(REPO)
    assert not list((tmp_path / "cache" / "qkv").glob("*/model.safetensors.index.json"))


def test_a_server_without_ranges_is_refused_before_its_body_is_read(serve):
    weights = {**tensors(), "lm_head.weight": torch.zeros(16_000_000)}
    server = serve(repo_files(weights), ranges=False)
    with pytest.raises(ValueError, match=r"does not serve byte ranges .HTTP 200") as error:
        fetch_qkv(REPO)
    assert "hf download acme/small --local-dir FOLDER" in one_sentence(error)
    # What fits into the buffers of the connection is sent before the client hangs up.
    assert weight_bytes(server) < 16_000_000


def test_a_damaged_header_is_refused(serve, tmp_path):
    files = repo_files(tensors())
    good = files["model.safetensors"]
    server = serve(files)
    torn = good[:8] + b"!" + good[9:]
    endless = (2**40).to_bytes(8, "little") + good[8:]
    shrunk = good.replace(b'"shape":[32,32]', b'"shape":[32,33]')
    for bad in (torn, endless, shrunk):
        assert bad != good
        server.files = {**files, "model.safetensors": bad}
        with pytest.raises(ValueError, match="damaged header") as error:
            fetch_qkv(REPO)
        assert "model.safetensors of acme/small@main" in one_sentence(error)
    assert not list((tmp_path / "cache" / "qkv").glob("*"))


def test_a_gated_repo_names_the_token(serve):
    serve(repo_files(tensors()), gated=True)
    with pytest.raises(ValueError, match=r"acme/small@main is gated.*HF_TOKEN") as error:
        fetch_qkv(REPO)
    one_sentence(error)


@pytest.mark.parametrize(("repo", "revision"), [("acme/none", "main"), (REPO, "no-such-branch")])
def test_what_the_hub_does_not_have_is_one_sentence(serve, repo, revision):
    serve(repo_files(tensors()))
    with pytest.raises(ValueError, match=f"the hub has no model {repo}@{revision}") as error:
        fetch_qkv(repo, revision)
    one_sentence(error)


def test_what_is_no_hub_id_is_said(serve):
    serve({})
    with pytest.raises(ValueError, match="a/b/c is neither a folder nor a hub id"):
        fetch_qkv("a/b/c")


@pytest.mark.parametrize(
    ("names", "remedy"),
    [
        (["config.json", "pytorch_model.bin"], r"M\.from_pretrained\('acme/small'\)\.save"),
        (["small.Q4.gguf"], r"from_pretrained\('acme/small', gguf_file='small\.Q4\.gguf'\)\.save"),
        (["params.json", "consolidated.00.pth"], "give a model in transformers' layout"),
        (["adapter_config.json", "adapter_model.safetensors"], "merge_and_unload"),
        (["README.md"], "files without weights"),
    ],
)
def test_a_repo_without_safetensors_says_how_to_convert(serve, names, remedy):
    serve({name: b"{}" for name in names})
    with pytest.raises(ValueError, match=remedy) as error:
        fetch_qkv(REPO)
    text = one_sentence(error)
    assert "has no safetensors of a whole model" in text
    assert names == ["README.md"] or names[-1] in text


@pytest.mark.parametrize("shards", [1, 3])
def test_missing_projections_are_named(serve, tmp_path, shards):
    weights = tensors()
    gone = "model.layers.3.self_attn.k_proj.weight"
    del weights[gone]
    serve(repo_files(weights, shards))
    with pytest.raises(ValueError, match=f"acme/small@main lacks {re.escape(gone)}"):
        fetch_qkv(REPO)
    assert not list((tmp_path / "cache" / "qkv").glob("*"))


def test_fused_projections_under_the_config_of_another_family_are_refused(serve):
    weights = {n: t for n, t in tensors().items() if not QKV.search(n)}
    weights |= {
        f"model.layers.{i}.self_attn.qkv_proj.weight": torch.zeros(64, 32) for i in range(5)
    }
    serve(repo_files(weights))
    with pytest.raises(ValueError, match=r"lacks model\.layers\.0\.self_attn\.q_proj\.weight, "):
        fetch_qkv(REPO)


def test_an_unsupported_architecture_is_refused_by_the_name_of_the_repo(serve):
    server = serve(repo_files(tensors(), model_type="phi3"))
    with pytest.raises(ValueError, match=r"^acme/small@main is a phi3 model"):
        fetch_qkv(REPO)
    assert weight_bytes(server) == 0


def test_quantized_weights_are_refused(serve):
    weights = tensors()
    weights["model.layers.0.self_attn.q_proj.weight"] = torch.zeros(512, 1, dtype=torch.uint8)
    serve(repo_files(weights))
    with pytest.raises(ValueError, match="is stored as U8: give the model before quantization"):
        fetch_qkv(REPO)


def test_an_index_that_names_a_missing_file_is_refused(serve):
    files = repo_files(tensors(), shards=3)
    del files["model-00002-of-00003.safetensors"]
    serve(files)
    with pytest.raises(ValueError, match=r"lacks model-00002-of-00003\.safetensors"):
        fetch_qkv(REPO)


def test_a_server_that_is_no_hub_is_named(serve, monkeypatch):
    serve(repo_files(tensors()))
    monkeypatch.setattr(hub.constants, "HUGGINGFACE_HEADER_X_REPO_COMMIT", "X-Absent")
    with pytest.raises(ValueError, match=r"HF_ENDPOINT.*does not answer like a model hub"):
        fetch_qkv(REPO)


def test_two_at_once_fetch_it_once(serve):
    weights = tensors()
    files = repo_files(weights)
    server = serve(files)
    folders, threads = [], []
    for _ in range(2):
        threads.append(threading.Thread(target=lambda: folders.append(fetch_qkv(REPO))))
        threads[-1].start()
    for thread in threads:
        thread.join()
    assert len(folders) == 2
    assert folders[0] == folders[1]
    assert_same(read(folders[0]), weights)
    assert weight_bytes(server) == header_total(files) + payload(weights)


def test_two_processes_at_once_with_the_address_from_the_environment(serve, monkeypatch):
    weights = tensors()
    files = repo_files(weights)
    server = serve(files)
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    code = f"from alps.models.hub import fetch_qkv; print(fetch_qkv({REPO!r}))"
    command = [sys.executable, "-c", code]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    folders = {process.communicate(timeout=120)[0].strip() for process in running}
    assert len(folders) == 1
    assert_same(read(Path(folders.pop())), weights)
    assert weight_bytes(server) == header_total(files) + payload(weights)


def test_a_progress_that_raises_stops_the_fetch(serve, tmp_path):
    serve(repo_files(tensors()))

    def stop(done, total):
        if done > total // 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch_qkv(REPO, progress=stop)
    folder = tmp_path / "cache" / "qkv" / "acme--small@0123456789ab"
    assert len(list(folder.glob("layer-*"))) < LAYERS
    assert not (folder / "model.safetensors.index.json").exists()


def test_the_token_is_in_no_log(serve, caplog, capfd):
    server = serve(repo_files(tensors()))
    with caplog.at_level(logging.DEBUG):
        fetch_qkv(REPO)
        server.gated = True
        with pytest.raises(ValueError):
            fetch_qkv(REPO)
    assert f"Bearer {TOKEN}" in {token for _, token in server.tokens}
    printed = "".join(capfd.readouterr())
    assert TOKEN not in caplog.text + printed
    assert "HTTP Request" not in caplog.text  # one for every range, with its address


def test_a_whole_download_words_its_refusals_alike(serve, monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    serve({})
    with pytest.raises(ValueError, match=r"^the hub has no model acme/none@main, or it is private"):
        download("acme/none", "main", stored_in_float8)
    with pytest.raises(ValueError, match=r"^model.path=a/b/c is neither a folder nor a hub id"):
        download("a/b/c", "main", stored_in_float8)


def test_a_whole_download_takes_the_files_of_this_layout(serve, monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    extra = {"chat_template.jinja": b"{{ messages }}", "tokenizer.json": b"{}"}
    foreign = {"consolidated.safetensors": b"x", "original/params.json": b"{}"}
    server = serve({**repo_files(tensors()), **extra, **foreign})
    folder = materialize(Model(path=f"{REPO}@{server.commit}"))
    assert folder.name == server.commit
    got = {f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file()}
    assert got == {"config.json", "model.safetensors", *extra}


def test_what_cannot_be_trained_is_refused_before_its_weights_come(serve, monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    server = serve(repo_files(tensors(), quantization_config={"quant_method": "gptq"}))
    with pytest.raises(ValueError, match=rf"^{REPO}@main is a quantized checkpoint \(gptq\)"):
        materialize(Model(path=REPO))
    assert not server.served["model.safetensors"]


def test_clients_log_no_url_while_the_hub_is_asked_and_are_left_as_they_were():
    client = logging.getLogger("httpx")
    before = client.level
    client.setLevel(logging.INFO)
    with translate_hub_errors("org/name@main", "model.path=org/name"):
        assert not client.isEnabledFor(logging.INFO)
    assert client.level == logging.INFO
    client.setLevel(before)
