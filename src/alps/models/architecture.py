"""Supported model families: their attention geometry and the names of their parts.

The one place that knows them. All families name their parts as Llama does; `FAMILIES` lists what
else distinguishes them. Imports no torch.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from alps.heads.geometry import Geometry

if TYPE_CHECKING:
    from torch import Tensor, nn

QUERY = "q_proj"
QKV = (QUERY, "k_proj", "v_proj")
LINEAR = (*QKV, "o_proj", "gate_proj", "up_proj", "down_proj")
"""Linear layers of a transformer block, in the order of the forward pass."""

EMBEDDING, OUTPUT = "model.embed_tokens.weight", "lm_head.weight"

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
"""A checkpoint has one of them at least."""

TEXT_PREFIX = "language_model."
"""Prefix of the language model's tensors in a multimodal checkpoint."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """Differences between a model family and Llama.

    Attributes:
        defaults: Values of transformers' config class for fields that `config.json` may omit.
        qkv_bias: Whether q, k and v have biases; None: q, k, v and o do if `attention_bias` is set.
        mlp_bias: Whether the MLP has biases if `mlp_bias` is set.
        head_norms: Whether q and k are normalized per head (`q_norm`, `k_norm`).
        post_norms: Whether the outputs of attention and MLP are normalized, too.
    """

    defaults: Mapping[str, Any] = field(default_factory=dict)
    qkv_bias: bool | None = None
    mlp_bias: bool = False
    head_norms: bool = False
    post_norms: bool = False


GEMMA3_DEFAULTS = {
    "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
    "vocab_size": 262_208, "tie_word_embeddings": True,
}  # fmt: skip

FAMILIES = {
    "llama": Family(mlp_bias=True),
    "mistral": Family(defaults={"num_key_value_heads": 8}, qkv_bias=False),
    "qwen2": Family(defaults={"num_key_value_heads": 32}, qkv_bias=True),
    "qwen3": Family(defaults={"num_key_value_heads": 32, "head_dim": 128}, head_norms=True),
    "gemma3_text": Family(defaults=GEMMA3_DEFAULTS, head_norms=True, post_norms=True),
}
"""Families by `model_type`."""

MULTIMODAL = {"gemma3": "gemma3_text"}
"""`model_type` of a multimodal checkpoint -> that of its language model."""

SUPPORTED = (*FAMILIES, *MULTIMODAL)

FUSED = ("phi3", "phi", "gpt2", "gpt_neox", "gpt_bigcode", "falcon", "bloom", "mpt", "chatglm")

REQUIRED = {"num_attention_heads", "num_hidden_layers", "hidden_size"}


def read_config(folder: Path) -> Mapping[str, Any]:
    """The model's `config.json`.

    Raises:
        ValueError: If it is missing or unreadable.
    """
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):
        config = None
    if not isinstance(config, Mapping):
        raise ValueError(f"{folder} is not a model folder: it has no readable config.json")
    return config


def language_config(config: Mapping[str, Any], folder: Path | str) -> Mapping[str, Any]:
    """The language model's settings in a `config.json`, with the defaults of its family.

    Args:
        config: The parsed `config.json`.
        folder: Its folder, for messages.

    Raises:
        ValueError: If the architecture has no separate q, k and v projections or is unknown.
    """
    kind = config.get("model_type", "unknown")
    if kind in FUSED:
        raise ValueError(
            f"{folder} is a {kind} model, whose q, k and v are one fused matrix; "
            f"supported architectures: {', '.join(SUPPORTED)}"
        )
    if kind not in SUPPORTED:
        raise ValueError(
            f"{folder} is a {kind} model; supported architectures: {', '.join(SUPPORTED)}"
        )
    if is_multimodal(config):
        kind, outer = MULTIMODAL[kind], config
        inner = config.get("text_config")
        config = dict(inner) if isinstance(inner, Mapping) else {}
        if "tie_word_embeddings" in outer:
            config["tie_word_embeddings"] = outer["tie_word_embeddings"]
    return {**FAMILIES[kind].defaults, **config, "model_type": kind}


def read_geometry(folder: Path) -> Geometry:
    """Attention geometry of the model in `folder`.

    Raises:
        ValueError: If the architecture has no separate q, k and v projections or is unknown.
    """
    return geometry_of(read_config(folder), folder)


def geometry_of(config: Mapping[str, Any], folder: Path | str) -> Geometry:
    """Attention geometry of the model that a `config.json` describes.

    Args:
        config: The parsed `config.json`.
        folder: Its folder, for messages.

    Raises:
        ValueError: If the architecture has no separate q, k and v projections or is unknown.
    """
    config = language_config(config, folder)
    missing = REQUIRED - config.keys()
    if missing:
        raise ValueError(f"config.json in {folder} has no {', '.join(sorted(missing))}")
    sizes = (*sorted(REQUIRED), "num_key_value_heads", "head_dim")
    for name in sizes:
        if not isinstance(config.get(name) or 1, int):
            raise ValueError(f"config.json in {folder}: {name} is no number, but {config[name]!r}")
    return _geometry(config)


def model_geometry(model: nn.Module) -> Geometry:
    """Attention geometry of a transformers model in memory."""
    config: Any = model.config
    return _geometry(config.get_text_config().to_dict())


def _geometry(config: Mapping[str, Any]) -> Geometry:
    num_heads = config["num_attention_heads"]
    return Geometry(
        num_layers=config["num_hidden_layers"],
        num_heads=num_heads,
        num_kv_heads=config.get("num_key_value_heads") or num_heads,
        head_dim=config.get("head_dim") or config["hidden_size"] // num_heads,
    )


def is_multimodal(config: Mapping[str, Any]) -> bool:
    """Whether the checkpoint of a `config.json` holds a vision model beside the language model."""
    return config.get("model_type") in MULTIMODAL


def stored_in_float8(folder: Path) -> bool:
    """Whether the weights in `folder` are stored in float8 and must be dequantized.

    Raises:
        ValueError: If the architecture is not supported or the weights are quantized otherwise.
    """
    config = read_config(folder)
    geometry_of(config, folder)
    quantization = config.get("quantization_config")
    if not quantization:
        return False
    how = quantization.get("quant_method") if isinstance(quantization, Mapping) else None
    if how != "fp8" or is_multimodal(config):
        raise ValueError(
            f"{folder} is a quantized checkpoint ({how or 'of an unknown method'}), whose weights "
            "cannot be trained or compared: give the model before quantization, or "
            "optim.frozen_dtype=nf4 to keep what does not train in 4 bits"
        )
    return True


def qkv_names(layer: int, prefix: str = "") -> list[str]:
    """Weights of the q, k and v projections of a layer."""
    return [f"{prefix}model.layers.{layer}.self_attn.{name}.weight" for name in QKV]


def qkv_and_bias_names(layer: int, prefix: str = "") -> list[str]:
    """Weights of the q, k and v projections of a layer, then their biases."""
    weights = qkv_names(layer, prefix)
    return weights + [name.replace("weight", "bias") for name in weights]


def qkv_heights(geometry: Geometry) -> Mapping[str, int]:
    """Number of rows of each q, k and v weight and bias of a model, by name."""
    g = geometry
    counts = (g.num_heads, g.num_kv_heads, g.num_kv_heads) * 2
    return {
        name: count * g.head_dim
        for layer in range(g.num_layers)
        for name, count in zip(qkv_and_bias_names(layer), counts, strict=True)
    }


def text_prefix(names: Container[str]) -> str:
    """Prefix of the language model among the tensors of a checkpoint; mostly empty."""
    return TEXT_PREFIX if qkv_names(0, TEXT_PREFIX)[0] in names else ""


def causal_lm(model: nn.Module) -> Any:
    """The transformers model, also below peft's wrapper."""
    wrapped: Any = model
    return wrapped.get_base_model() if hasattr(model, "get_base_model") else model


def decoder_of(model: nn.Module) -> Any:
    """The stack of transformer blocks with embeddings and final norm, without the output layer."""
    return causal_lm(model).get_decoder()


def attentions(model: nn.Module) -> Iterator[nn.Module]:
    """The attention module of each layer, in order."""
    for layer in decoder_of(model).layers:
        yield layer.self_attn


class Projection(NamedTuple):
    """A q, k or v projection of a model.

    Attributes:
        layer: Number of its layer, from 0.
        attention: The module it belongs to.
        name: Its name there.
        module: The linear layer.
    """

    layer: int
    attention: nn.Module
    name: str
    module: Any

    def replace(self, module: nn.Module) -> None:
        """Puts another module in its place."""
        setattr(self.attention, self.name, module)


def projections(model: nn.Module) -> list[Projection]:
    """All q, k and v projections of a model, layer by layer.

    Raises:
        ValueError: If the model has no separate projections.
    """
    try:
        return [
            Projection(layer, attention, name, getattr(attention, name))
            for layer, attention in enumerate(attentions(model))
            for name in QKV
        ]
    except AttributeError:
        raise ValueError(
            f"{type(model).__name__} has no layers with separate q_proj, k_proj and v_proj"
        ) from None


def output_logits(model: nn.Module, hidden: Tensor) -> Tensor:
    """Logits of the decoder's hidden states, capped softly where the config asks for it (Gemma)."""
    lm = causal_lm(model)
    logits = lm.get_output_embeddings()(hidden)
    cap = getattr(lm.config.get_text_config(), "final_logit_softcapping", None)
    return logits if cap is None else (logits / cap).tanh() * cap
