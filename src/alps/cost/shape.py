"""Sizes of a model from its `config.json`, to count parameters without loading weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alps.heads.geometry import Geometry
from alps.models.architecture import FAMILIES, geometry_of, language_config, read_config
from alps.models.training_plan import TrainingPlan


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """Sizes of a Llama-like model: gated MLP, RMS norms, separate q, k and v.

    Attributes:
        geometry: Shape of the attention.
        hidden: Width of the residual stream (d_model).
        intermediate: Width inside the MLP.
        vocab: Size of the vocabulary.
        tied: Whether embedding and output layer are one matrix.
        qkv_bias: Whether q, k and v have biases.
        output_bias: Whether o has one.
        mlp_bias: Whether the MLP's matrices have biases.
        head_norms: Whether q and k are normalized per head (Qwen3, Gemma-3).
        post_norms: Whether the outputs of attention and MLP are normalized, too (Gemma-3).
    """

    geometry: Geometry
    hidden: int
    intermediate: int
    vocab: int
    tied: bool
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    head_norms: bool = False
    post_norms: bool = False

    @classmethod
    def read(cls, folder: Path) -> ModelShape:
        """Shape of the model in `folder`, from its `config.json`.

        Raises:
            ValueError: If the file is missing or the architecture not supported; one sentence.
        """
        return cls.of(read_config(folder), folder)

    @classmethod
    def of(cls, config: Mapping[str, Any], folder: Path | str) -> ModelShape:
        """Shape from the contents of a `config.json`.

        Args:
            config: Contents of the file.
            folder: Its folder, for messages.

        Raises:
            ValueError: If its architecture is not supported; one sentence.
        """
        geometry, config = geometry_of(config, folder), language_config(config, folder)
        missing = {"intermediate_size", "vocab_size"} - config.keys()
        if missing:
            raise ValueError(f"config.json in {folder} has no {', '.join(sorted(missing))}")
        family = FAMILIES[config["model_type"]]
        asked = family.qkv_bias is None and bool(config.get("attention_bias"))
        return cls(
            geometry=geometry,
            hidden=config["hidden_size"],
            intermediate=config["intermediate_size"],
            vocab=config["vocab_size"],
            tied=bool(config.get("tie_word_embeddings")),
            qkv_bias=asked or bool(family.qkv_bias),
            output_bias=asked,
            mlp_bias=family.mlp_bias and bool(config.get("mlp_bias")),
            head_norms=family.head_norms,
            post_norms=family.post_norms,
        )

    @property
    def query_width(self) -> int:
        """Width of all queries of a token, and of the output of attention."""
        return self.geometry.num_heads * self.geometry.head_dim

    @property
    def matrices(self) -> dict[str, tuple[int, int]]:
        """(inputs, outputs) of each linear layer of a block, in forward order."""
        d, f, queries = self.hidden, self.intermediate, self.query_width
        keys = self.geometry.num_kv_heads * self.geometry.head_dim
        return {
            "q_proj": (d, queries), "k_proj": (d, keys), "v_proj": (d, keys),
            "o_proj": (queries, d), "gate_proj": (d, f), "up_proj": (d, f), "down_proj": (f, d),
        }  # fmt: skip

    @property
    def num_qkv(self) -> int:
        """Parameters of all q, k and v with biases, which `method=no_attn` freezes."""
        return self.geometry.qkv_rows * (self.hidden + self.qkv_bias)

    @property
    def num_matmul(self) -> int:
        """Parameters in matrix products: all matrices, with the output layer even if tied."""
        block = sum(inputs * outputs for inputs, outputs in self.matrices.values())
        return self.geometry.num_layers * block + self.vocab * self.hidden

    @property
    def num_parameters(self) -> int:
        """All parameters; tied embeddings count once."""
        g, d = self.geometry, self.hidden
        norms = (4 if self.post_norms else 2) * d + 2 * g.head_dim * self.head_norms
        biases = self.output_bias * d + self.mlp_bias * (2 * self.intermediate + d)
        biases += self.qkv_bias * (g.num_heads + 2 * g.num_kv_heads) * g.head_dim
        embedding = 0 if self.tied else self.vocab * d
        return self.num_matmul + embedding + g.num_layers * (norms + biases) + d

    def num_trainable(self, plan: TrainingPlan) -> int:
        """Trainable parameters under a plan."""
        if plan.lora is not None:
            widths = sum(sum(self.matrices[name]) for name in plan.lora.targets)
            return self.geometry.num_layers * plan.lora.rank * widths
        rest = (self.num_parameters - self.num_qkv) * plan.rest
        if plan.heads is None:
            return rest + self.num_qkv * (plan.qkv == "all")
        g = self.geometry
        rows = sum(
            len(g.query_rows(heads)) + 2 * len(g.kv_rows(heads, plan.kv_policy))
            for heads in plan.heads.by_layer().values()
        )
        return rest + rows * (self.hidden + (self.qkv_bias and plan.train_bias))
