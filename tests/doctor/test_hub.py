"""The hub: unreachable, offline, gated, private, silent, and a cache that has everything."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from alps.doctor import context as context_module
from alps.doctor import hub
from alps.doctor.hub import inputs, network, token

COMMIT = "0" * 40
LLAMA = ("model=llama3_2_1b", "data=alpaca", "evals=[gsm8k]", "method=full")
READILY = ("model=llama3_2_1b", "data=mini_math", "evals=none", "task_model=readily")


class Hub(BaseHTTPRequestHandler):
    """A hub with the repos of `LLAMA`; `gated` lists those that need a token."""

    gated: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    tokens = ("good",)

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def answer(self):
        given = self.headers.get("Authorization", "")
        known = given.removeprefix("Bearer ") in self.tokens
        if self.path == "/api/whoami-v2":
            self.send(200 if known else 401, {"name": "me"})
        elif any(repo in self.path for repo in self.absent):
            self.send(404 if known else 401, {}, "RepoNotFound")
        elif "/api/datasets/" in self.path:
            files = [{"rfilename": ".gitattributes"}, {"rfilename": "data.parquet"}]
            self.send(200, {"id": "a/b", "sha": COMMIT, "siblings": files})
        elif any(repo in self.path for repo in self.gated) and not known:
            self.send(401, {}, "GatedRepo")
        else:
            self.send(200, {})

    def send(self, status: int, body: dict, error: str = ""):
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", '"1"')
        if error:
            self.send_header("X-Error-Code", error)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, format, *args):
        """Nothing."""


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from huggingface_hub import _snapshot_download, constants, file_download

    folder = tmp_path / "hub"
    for module in (constants, _snapshot_download, file_download):
        if hasattr(module, "HF_HUB_CACHE"):
            monkeypatch.setattr(module, "HF_HUB_CACHE", str(folder))
    return folder


def states(findings) -> dict[str, str]:
    return {finding.name: finding.state for finding in findings}


def test_offline(found):
    (finding,) = found(network)
    assert finding.state == "info" and "HF_HUB_OFFLINE is set" in finding.text
    findings = found(inputs, *LLAMA, tiny=False)
    assert set(states(findings).values()) == {"missing"} and len(findings) == 3
    assert all("unset HF_HUB_OFFLINE" in finding.remedy for finding in findings)


def test_nobody_listens(found, cut_network, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    cut_network()
    start = time.monotonic()
    (finding,) = found(network)
    assert finding.state == "warning" and "cannot be reached: Connection refused" in finding.text
    findings = found(inputs, *LLAMA, tiny=False)
    assert set(states(findings).values()) == {"missing"}
    assert {f.remedy for f in findings} == {"alps prefetch with a network"}
    assert time.monotonic() - start < 10


def test_a_hub_that_accepts_and_stays_silent(found, monkeypatch, start_hub):
    class Silent(Hub):
        def answer(self):
            threading.Event().wait(5)

    monkeypatch.setattr(context_module, "NETWORK_SECONDS", 0.2)
    start_hub(Silent)
    (finding,) = found(network)
    assert finding.state == "warning" and "timed out" in finding.text


def test_a_lookup_that_hangs_is_given_up(found, monkeypatch, start_hub):
    """As that of a name, which no timeout of a client limits."""
    start_hub(Hub)
    monkeypatch.setattr(hub, "LOOKUP_SECONDS", 0.2)
    monkeypatch.setattr(hub, "_look_up_model", lambda model: threading.Event().wait(5))
    findings = found(inputs, "model=llama3_2_1b", "data=mini_math", "evals=none", tiny=False)
    assert states(findings)["model llama3_2_1b"] == "missing"
    assert "no answer within 0.2 s" in findings[0].text


def test_a_proxy_that_answers_for_the_hub(found, start_hub):
    class Proxy(Hub):
        def answer(self):
            self.send(502, {})

    start_hub(Proxy)
    assert [f.state for f in found(network)] == ["warning"]


def test_everything_may_be_read(found, start_hub):
    address = start_hub(Hub)
    (finding,) = found(network)
    assert (finding.state, finding.text) == ("ok", f"{address} answers")
    findings = found(inputs, *LLAMA, tiny=False)
    assert list(states(findings)) == ["model llama3_2_1b", "data alpaca", "benchmark gsm8k"]
    assert set(states(findings).values()) == {"ok"}
    assert all("not yet here" in finding.text for finding in findings)


def test_gated_repos_need_a_token(found, start_hub, monkeypatch):
    class Gated(Hub):
        gated = ("meta-llama/Llama-3.2-1B", "openai/gsm8k")

    start_hub(Gated)
    model, data, benchmark = found(inputs, *LLAMA, tiny=False)
    assert (model.state, data.state, benchmark.state) == ("missing", "ok", "missing")
    assert "meta-llama/Llama-3.2-1B@main is gated: accept its licence" in model.text
    assert "is gated" in benchmark.text
    monkeypatch.setenv("HF_TOKEN", "good")
    assert set(states(found(inputs, *LLAMA, tiny=False)).values()) == {"ok"}


def test_repos_that_are_not_there_or_private(found, start_hub):
    class Lacking(Hub):
        absent = ("meta-llama/Llama-3.2-1B", "gsm8k")

    start_hub(Lacking)
    model, _, benchmark = found(inputs, *LLAMA, tiny=False)
    assert model.state == "missing" and "or it is private and HF_TOKEN is not set" in model.text
    assert benchmark.state == "missing"


def test_finished_task_models_of_the_hub(found, start_hub):
    class Gated(Hub):
        gated = ("Llama-3.2-1B-Instruct",)

    start_hub(Gated)
    found_states = states(found(inputs, *READILY, tiny=False))
    assert found_states["task model Llama-3.2-1B-Instruct"] == "missing"
    assert found_states["model llama3_2_1b"] == "ok"


def test_tokens(found, start_hub, monkeypatch):
    start_hub(Hub)
    assert [f.state for f in found(token)] == ["info"]
    (finding,) = found(token, *LLAMA, tiny=False)
    assert finding.state == "warning" and "gated and private" in finding.text
    monkeypatch.setenv("HF_TOKEN", "good")
    (finding,) = found(token, *LLAMA, tiny=False)
    assert (finding.state, finding.text) == ("ok", "HF_TOKEN")
    monkeypatch.setenv("HF_TOKEN", "expired")
    assert [f.state for f in found(token)] == ["warning"]
    (finding,) = found(token, *LLAMA, tiny=False)
    assert finding.state == "missing" and "HTTP 401" in finding.text


def test_a_token_in_a_file_is_not_tried_without_the_hub(found, tmp_path):
    (tmp_path / "token").write_text("saved")
    (finding,) = found(token)
    assert (finding.state, finding.text) == (
        "ok", "saved by `hf auth login`, not tried without the hub"
    )  # fmt: skip


def test_a_model_in_the_cache_needs_no_network(found, empty_cache):
    repo = empty_cache / "models--meta-llama--Llama-3.2-1B"
    snapshot = repo / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(COMMIT)
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps(index))
    for name in ("config.json", "tokenizer.json", "model-1.safetensors"):
        (snapshot / name).write_text("{}")
    settings = ("model=llama3_2_1b", "data=mini_math", "evals=none", "method=full")
    assert states(found(inputs, *settings, tiny=False))["model llama3_2_1b"] == "missing"
    (snapshot / "model-2.safetensors").write_text("{}")
    model, _ = found(inputs, *settings, tiny=False)
    assert model.state == "ok" and "is in the hub cache" in model.text


def test_data_in_the_cache_needs_no_network(found, empty_cache, make_context):
    source = make_context("data=alpaca").runs[0].data
    repo = empty_cache / f"datasets--{source.hub.replace('/', '--')}"
    folder = repo / "snapshots" / source.revision
    folder.mkdir(parents=True)
    assert states(found(inputs, "data=alpaca"))["data alpaca"] == "missing"
    (folder / "data").mkdir()
    (folder / source.files[0].replace("*", "0")).parent.mkdir(exist_ok=True)
    (folder / source.files[0].replace("*", "0")).write_text("")
    assert states(found(inputs, "data=alpaca"))["data alpaca"] == "ok"


def test_local_inputs(found, tmp_path):
    assert states(found(inputs)) == {"model tiny": "ok", "data mini_math": "ok"}
    folder = tmp_path / "model"
    folder.mkdir()
    shape = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 64}
    more = {"intermediate_size": 8, "vocab_size": 9, "model_type": "llama"}
    (folder / "config.json").write_text(json.dumps({**shape, **more}))
    for name, problem in (("model.safetensors", "no safetensors"), ("vocab.json", "no tokenizer")):
        model, _ = found(inputs, f"model.path={folder}")
        assert model.state == "missing" and problem in model.text
        (folder / name).write_text("{}")
    assert found(inputs, f"model.path={folder}")[0].state == "ok"


def test_documents_in_a_folder(found, tmp_path):
    findings = found(inputs, "evals=[gsm8k,humaneval]", f"evals.data_dir={tmp_path}")
    found_states = states(findings)
    assert found_states["benchmark gsm8k"] == found_states["benchmark humaneval"] == "missing"
    assert any("which does not exist: copy it there" in finding.text for finding in findings)


def test_evalplus_from_its_own_server(found, monkeypatch, tmp_path):
    monkeypatch.setenv("ALPS_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(hub, "head", lambda address, seconds: None)
    assert states(found(inputs, "evals=[humaneval]"))["benchmark humaneval"] == "ok"

    def refuse(address: str, seconds: float) -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr(hub, "head", refuse)
    assert states(found(inputs, "evals=[humaneval]"))["benchmark humaneval"] == "missing"


def test_ifeval_needs_more_than_its_documents(found, start_hub, monkeypatch):
    start_hub(Hub)
    monkeypatch.setattr("alps.evals.harness.ifeval.has_punkt", lambda data_dir: False)
    finding = next(f for f in found(inputs, "evals=[ifeval]") if f.name == "benchmark ifeval")
    assert finding.state == "missing" and "punkt_tab" in finding.text
    monkeypatch.setattr("alps.evals.harness.ifeval.has_punkt", lambda data_dir: True)
    assert states(found(inputs, "evals=[ifeval]"))["benchmark ifeval"] == "ok"
