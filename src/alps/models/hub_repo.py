"""Locating and downloading q, k and v in one commit of a hub repo."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from huggingface_hub import HfApi, constants, errors, hf_hub_url
from huggingface_hub.utils import (
    build_hf_headers,
    hf_raise_for_status,
    http_backoff,
    http_stream_backoff,
)

from alps.models.architecture import qkv_and_bias_names, qkv_names, text_prefix

WORKERS = 4  # layers downloaded in parallel; only a chunk of each is in memory
RETRIES = 5
MAX_HEADER = 100_000_000  # bytes; the limit of the safetensors format itself
INDEX, SINGLE = constants.SAFETENSORS_INDEX_FILE, constants.SAFETENSORS_SINGLE_FILE
WEIGHTS = (".bin", ".gguf", ".pth", ".pt", ".h5", ".msgpack", ".safetensors")
ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
# That of the httpx version the installed hub client is built on.
HTTPError = errors.HTTPError  # pyright: ignore[reportPrivateImportUsage]
PARSE_ERRORS = (ValueError, KeyError, TypeError, AttributeError, IndexError)


def timeout() -> int:
    """Seconds without a byte; read at each request, like the endpoint."""
    return constants.HF_HUB_DOWNLOAD_TIMEOUT


class TensorLocation(NamedTuple):
    """Bytes [start, end) of a file of the repo that hold a tensor."""

    file: str
    start: int
    end: int
    name: str
    dtype: str
    shape: list[int]


class HubCommit(NamedTuple):
    """One commit of a hub repo."""

    repo: str
    revision: str
    commit: str

    def __str__(self) -> str:
        return f"{self.repo}@{self.revision}"

    def files(self) -> set[str]:
        """Names of all files.

        Raises:
            ValueError: If config.json or the safetensors are not among them.
        """
        info = HfApi().model_info(self.repo, revision=self.commit, timeout=timeout())
        files = {s.rfilename for s in info.siblings or ()}
        if not files & {INDEX, SINGLE}:
            raise ValueError(_how_to_convert(self, sorted(files)))
        if "config.json" not in files:
            raise ValueError(
                f"{self} has no config.json: it is not a model in transformers' layout"
            )
        return files

    def read(self, file: str) -> bytes:
        """The content of a small file."""
        url = hf_hub_url(self.repo, file, revision=self.commit)
        answer = http_backoff(
            "GET", url, headers=build_hf_headers(), timeout=timeout(), max_retries=RETRIES
        )
        hf_raise_for_status(answer)
        return answer.content

    def layers(self, files: Collection[str], num_layers: int) -> list[list[TensorLocation]]:
        """q, k and v of each layer in stored order, located by the headers of safetensors."""
        holding = {SINGLE}
        if INDEX in files:
            index = self.read(INDEX)
            try:
                places = dict(json.loads(index)["weight_map"])
                prefix = text_prefix(places)
                names = (n for i in range(num_layers) for n in qkv_and_bias_names(i, prefix))
                holding = {places[name] for name in names if name in places}
            except PARSE_ERRORS:
                raise ValueError(f"{INDEX} of {self} is damaged: it maps no names") from None
            if missing := holding - set(files):
                raise ValueError(f"{self} lacks {min(missing)}, which its index names")
        with ThreadPoolExecutor(WORKERS) as pool:
            headers = list(pool.map(self.header, sorted(holding)))
        found = {tensor.name: tensor for header in headers for tensor in header}
        return [self._layer(layer, found) for layer in range(num_layers)]

    def _layer(self, layer: int, found: Mapping[str, TensorLocation]) -> list[TensorLocation]:
        prefix = text_prefix(found)
        missing = [name for name in qkv_names(layer, prefix) if name not in found]
        if missing:
            raise ValueError(
                f"{self} lacks {', '.join(missing)}: give a model with plain q, k and v weights"
            )
        names = qkv_and_bias_names(layer, prefix)
        tensors = sorted(found[name] for name in names if name in found)
        for tensor in tensors:
            if tensor.dtype not in ITEM_BYTES:
                raise ValueError(
                    f"{tensor.name} of {self} is stored as {tensor.dtype}: "
                    f"give the model before quantization, in {', '.join(ITEM_BYTES)}"
                )
            if tensor.end - tensor.start != math.prod(tensor.shape) * ITEM_BYTES[tensor.dtype]:
                raise ValueError(f"{tensor.file} of {self} has a damaged header: {tensor.name}")
        return tensors

    def header(self, file: str) -> list[TensorLocation]:
        """Locations of all tensors of a safetensors file.

        By hand, because `HfApi.parse_safetensors_file_metadata` omits the header's length, without
        which no byte of a tensor can be addressed, and reads the whole file where a server ignores
        ranges.
        """
        begin = 8 + int.from_bytes(b"".join(self.stream(file, 0, 8)), "little")
        text = b"".join(self.stream(file, 8, begin)) if begin <= MAX_HEADER else b""
        try:
            entries = json.loads(text)
            entries.pop("__metadata__", None)
            return [
                TensorLocation(
                    file, begin + start, begin + end, name, entry["dtype"], entry["shape"]
                )
                for name, entry in entries.items()
                for start, end in [entry["data_offsets"]]
            ]
        except PARSE_ERRORS:
            raise ValueError(
                f"{file} of {self} has a damaged header: it is no safetensors file"
            ) from None

    def stream(self, file: str, start: int, end: int) -> Iterator[bytes]:
        """Streams bytes [start, end) of a file; resumes after connection errors.

        Raises:
            ValueError: If bytes are missing after several retries, or the answer is not a range.
        """
        tries = 0
        while start < end:
            cause = "a short answer"
            try:
                for chunk in self._answer(file, start, end):
                    start, tries = start + len(chunk), 0
                    yield chunk
            except errors.HfHubHTTPError:
                raise  # an answer of the hub, after the retries of its client
            except HTTPError as error:
                cause = type(error).__name__
            if start < end:
                if tries == RETRIES:
                    raise ValueError(
                        f"{file} of {self} broke off {end - start} bytes early ({cause}): "
                        "repeat the command, which keeps finished layers"
                    )
                time.sleep(min(2**tries, 8))
                tries += 1

    def _answer(self, file: str, start: int, end: int) -> Iterator[bytes]:
        url = hf_hub_url(self.repo, file, revision=self.commit)
        wanted = {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
        headers = build_hf_headers(headers=wanted)
        # A retry inside this context manager would break it: `stream` retries instead.
        options = {"timeout": timeout(), "max_retries": RETRIES, "retry_on_exceptions": ()}
        with http_stream_backoff("GET", url, headers=headers, **options) as answer:
            if answer.status_code == 416:
                raise ValueError(f"{file} of {self} is truncated on the hub: it ends before {end}")
            hf_raise_for_status(answer)
            served = answer.headers.get("Content-Range", "")
            if answer.status_code != 206 or not served.startswith(f"bytes {start}-"):
                raise ValueError(
                    f"{constants.ENDPOINT} or a proxy does not serve byte ranges (HTTP "
                    f"{answer.status_code} for {file} of {self}): download the whole model with "
                    f"`hf download {self.repo} --local-dir FOLDER` and give FOLDER"
                )
            for chunk in answer.iter_raw():
                if len(chunk) > end - start:
                    raise ValueError(f"{file} of {self} came with more bytes than asked for")
                start += len(chunk)
                yield chunk


def _how_to_convert(remote: HubCommit, files: Sequence[str]) -> str:
    weights = [f for f in files if f.endswith(WEIGHTS)]
    held = ", ".join(weights[:3]) + (f" and {len(weights) - 3} more" if weights[3:] else "")
    lack = f"{remote} has no safetensors of a whole model, only {held or 'files without weights'}"
    if any(f.startswith("adapter_model.") for f in weights):
        return f"{lack}: merge the adapter into its base (peft's merge_and_unload), give the folder"
    loadable = [f for f in weights if f.endswith((".gguf", ".bin"))]
    if not loadable:
        return f"{lack}: give a model in transformers' layout"
    which = f"'{remote.repo}'" + f", revision='{remote.revision}'" * (remote.revision != "main")
    if not any(f.endswith(".bin") for f in loadable):
        which += f", gguf_file='{loadable[0]}'"
    return (
        f'{lack}: convert it with `python -c "from transformers import AutoModelForCausalLM as M; '
        f"M.from_pretrained({which}).save_pretrained('FOLDER')\"` and give FOLDER"
    )
