"""Cache of embeddings in `outputs/embeddings`, shared by all reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch import Tensor

from alps.base.atomic import replacing
from alps.base.provenance import git_state, versions
from alps.data.example import Example
from alps.embedding.pooling import Progress, TokenizedTexts, mean_pooled, tokenize_texts
from alps.embedding.request import Request
from alps.models.checkpoint import materialize
from alps.models.load import (
    check_loadable,
    context_length,
    load_model,
    load_tokenizer,
    pad_id,
)

Bar = Callable[[str], AbstractContextManager[Progress]]
"""Opens a progress bar with a title."""


def embed_all(
    request: Request, examples: Mapping[str, Sequence[Example]], bar: Bar
) -> tuple[dict[str, Float[np.ndarray, "_ d"]], dict[str, Any]]:
    """Embeddings of every dataset, and their provenance.

    The model is loaded only if embeddings are missing.

    Args:
        request: The request.
        examples: Dataset -> examples.
        bar: Shows the progress of a dataset.

    Raises:
        ValueError: If the model is not available, its context is too short, or its hidden states
            are not finite.
    """
    s, place = request.settings, materialize(request.model)
    check_loadable(place)
    tokenizer, context = load_tokenizer(place), context_length(place)

    @cache
    def model() -> Any:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        loaded: Any = load_model(place, getattr(torch, s.dtype))
        return loaded.eval().to(device)

    vectors, encoded = {}, {}
    for source in request.sources:
        texts = tokenize_texts(examples[source.name], tokenizer, s.template, s.text, s.max_length)
        if context is not None and max(map(len, texts.ids)) > context:
            raise ValueError(
                f"rows of {source.name} are longer than the model's context of {context} tokens: "
                f"set max_length={context} or less"
            )

        def compute(
            texts: TokenizedTexts = texts, title: str = f"embedding {source.name}"
        ) -> Tensor:
            loaded = model()  # before the bar is shown
            with bar(title) as progress:
                return mean_pooled(loaded, texts.ids, pad_id(tokenizer), s.batch_tokens, progress)

        path = request.embeddings_path(source)
        vectors[source.name] = embed_cached(path, len(texts.ids), compute)
        encoded[source.name] = texts
    return vectors, provenance(request, encoded)


def embed_cached(
    path: Path, num_rows: int, compute: Callable[[], Float[Tensor, "n d"]]
) -> Float[np.ndarray, "n d"]:
    """Cached embeddings (float32), computed and stored if missing.

    A file that is damaged or has another number of rows is replaced.

    Raises:
        ValueError: If a number is NaN or infinite.
    """
    try:
        cached = load_file(path)["embeddings"]
        if len(cached) == num_rows:
            return cached
    except (SafetensorError, OSError, KeyError):
        pass
    vectors = compute().numpy()
    if not np.isfinite(vectors).all():
        raise ValueError("the model's hidden states hold NaN or infinity: is its checkpoint whole?")
    with replacing(path) as temporary:
        save_file({"embeddings": vectors}, temporary)
    return vectors


def provenance(request: Request, encoded: Mapping[str, TokenizedTexts]) -> dict[str, Any]:
    """Model, settings, content of the data, and versions."""
    s = request.settings
    shared = ("num_rows", "seed", "text", "template", "max_length", "dtype")
    commit, dirty = git_state()
    return {
        "model": {"name": request.model.name, "hash": request.model.fingerprint()},
        "settings": {name: getattr(s, name) for name in shared},
        "datasets": [
            {
                "name": source.name,
                "hash": source.fingerprint(),
                "num_rows": len(encoded[source.name].ids),
                "num_tokens": sum(map(len, encoded[source.name].ids)),
                "num_cut": encoded[source.name].num_cut,
                "embeddings": request.embeddings_path(source).name,
            }
            for source in request.sources
        ],
        "versions": {**versions(), "scikit-learn": version("scikit-learn")},
        "git_commit": commit,
        "git_dirty": dirty,
    }
