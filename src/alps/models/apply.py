"""A plan carried out on a model, and taken back into a plain model."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from alps.models.head_linear import HeadLinear
from alps.models.plan import Plan

PROJECTIONS = ("q_proj", "k_proj", "v_proj")


def apply(model: nn.Module, plan: Plan) -> nn.Module:
    """Freezes and unfreezes what the plan says, in place.

    Args:
        model: A plain causal language model with separate q, k and v projections.
        plan: What trains.

    Returns:
        The model, wrapped by peft where the plan asks for LoRA.
    """
    if plan.lora is not None:
        return _with_lora(model, plan)
    model.requires_grad_(plan.rest)
    for attention in attentions(model):
        for name in PROJECTIONS:
            getattr(attention, name).requires_grad_(plan.qkv == "all")
    if plan.heads is not None:
        _split_chosen_heads(model, plan)
    return model


def merge(model: nn.Module) -> nn.Module:
    """The plain model again, with trained rows or adapters written into its weights.

    A `HeadLinear` is replaced in place; the frozen rows keep their exact bits.
    """
    if hasattr(model, "merge_and_unload"):
        return model.merge_and_unload()  # pyright: ignore[reportCallIssue]
    for attention in attentions(model):
        for name in PROJECTIONS:
            module = getattr(attention, name)
            if isinstance(module, HeadLinear):
                setattr(attention, name, module.merged())
    return model


def attentions(model: nn.Module) -> Iterator[nn.Module]:
    """The attention module of each layer, in order."""
    for layer in model.get_decoder().layers:  # pyright: ignore[reportCallIssue]
        yield layer.self_attn


def num_trainable(model: nn.Module) -> int:
    """Number of parameters with a gradient; tied ones count once."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def num_parameters(model: nn.Module) -> int:
    """Number of parameters; tied ones count once."""
    return sum(p.numel() for p in model.parameters())


def _split_chosen_heads(model: nn.Module, plan: Plan) -> None:
    assert plan.heads is not None
    geometry, chosen = plan.heads.geometry, plan.heads.by_layer()
    for layer, attention in enumerate(attentions(model)):
        heads = chosen.get(layer, [])
        kv_rows = geometry.kv_rows(heads, plan.kv_policy)
        rows = {"q_proj": geometry.query_rows(heads), "k_proj": kv_rows, "v_proj": kv_rows}
        for name, chosen_rows in rows.items():
            if chosen_rows:
                setattr(attention, name, HeadLinear(getattr(attention, name), chosen_rows))


def _with_lora(model: nn.Module, plan: Plan) -> nn.Module:
    from peft import LoraConfig, get_peft_model

    assert plan.lora is not None
    config = LoraConfig(
        r=plan.lora.rank,
        lora_alpha=plan.lora.alpha,  # pyright: ignore[reportArgumentType] - peft accepts floats
        target_modules=list(plan.lora.targets),
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)  # pyright: ignore[reportArgumentType, reportReturnType]
