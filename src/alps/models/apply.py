"""Applies a training plan to a model, and merges the trained model back into a standard one."""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt
from typing import Any, get_args

import torch
from torch import Tensor, nn

from alps.base.serialization import did_you_mean
from alps.heads.head_set import HeadSet
from alps.models.architecture import QUERY, decoder_of, model_geometry, projections
from alps.models.four_bit import QuantizedLinear, dequantize, is_quantized, linear_from, quantize
from alps.models.head_linear import HeadLinear
from alps.models.training_plan import TrainingPlan
from alps.settings.interfaces import FrozenDtype, KvPolicy, Scope


def apply(model: nn.Module, plan: TrainingPlan) -> nn.Module:
    """Freezes and unfreezes parameters according to a plan, in place.

    Args:
        model: A causal language model with separate q, k and v projections.
        plan: The parameters that train.

    Returns:
        The model, wrapped by peft if the plan has LoRA adapters.
    """
    if plan.lora is not None:
        return _with_lora(model, plan)
    model.requires_grad_(plan.rest)
    for projection in projections(model):
        projection.module.requires_grad_(plan.qkv == "all")
    if plan.heads is not None:
        _split_chosen_heads(model, plan)
    return model


def apply_heads(
    model: nn.Module, heads: HeadSet, scope: Scope = "heads_only", kv_policy: KvPolicy = "any"
) -> nn.Module:
    """Makes the rows of some heads trainable (`alps.apply`), for any training loop.

    Afterwards only trainable parameters require a gradient; pass those to an optimizer.
    `alps.merge` turns the model back into a standard one.

    Args:
        model: A causal language model of transformers (Llama, Mistral, Qwen2, Qwen3, Gemma-3).
        heads: The chosen heads.
        scope: `heads_only`, or `rest_trains`: everything outside Q/K/V trains too.
        kv_policy: Whether a KV group trains that chosen and unchosen heads share.

    Returns:
        The model itself, changed in place.

    Raises:
        ValueError: If the geometry or architecture differs, or heads were applied already.
    """
    for name, value, known in (("scope", scope, Scope), ("kv_policy", kv_policy, KvPolicy)):
        if value not in get_args(known):
            raise ValueError(f"there is no {name}={value}{did_you_mean(value, get_args(known))}")
    _check_projections(model)
    heads.check_geometry(model_geometry(model))
    return apply(model, TrainingPlan.of_heads(heads, scope, kv_policy))


def _check_projections(model: nn.Module) -> None:
    for module in (projection.module for projection in projections(model)):
        if isinstance(module, HeadLinear):
            raise ValueError("heads were applied to this model already: alps.merge it first")
        quantized = not isinstance(module, nn.Linear) or not module.weight.is_floating_point()
        if quantized and not is_quantized(getattr(module, "weight", torch.empty(0))):
            raise ValueError(
                f"a {type(module).__name__} cannot be trained in part: q, k and v must be plain "
                "linear layers, or 4-bit ones of bitsandbytes"
            )


def merge(model: nn.Module) -> nn.Module:
    """Merges trained rows or adapters into the weights and restores the standard layers.

    A `HeadLinear` is replaced in place; frozen rows stay bit-equal. Layers quantized by
    `cast_frozen` are dequantized; those quantized by transformers stay so, except the ones with
    trained rows.
    """
    _dequantize_layers(model)
    if hasattr(model, "merge_and_unload"):
        return model.merge_and_unload()  # pyright: ignore[reportCallIssue]
    for projection in projections(model):
        if isinstance(projection.module, HeadLinear):
            projection.replace(projection.module.merged())
    return model


def merge_heads(model: nn.Module) -> nn.Module:
    """Merges trained rows into the weights and restores the standard layers (`alps.merge`).

    Raises:
        ValueError: If the model has no trained rows or adapters.
    """
    applied = any(isinstance(module, HeadLinear) for module in model.modules())
    if not applied and not hasattr(model, "merge_and_unload"):
        raise ValueError(
            "this model has no trainable heads: none were applied to it, or it was merged already"
        )
    return merge(model)


def checkpoint_activations(model: nn.Module) -> None:
    """Enables activation checkpointing in each layer.

    Transformers then makes the output of the embedding require a gradient, which only reentrant
    checkpointing needs. This is undone, because the backward pass would visit every layer.
    """
    decoder = decoder_of(model)
    decoder.gradient_checkpointing_enable({"use_reentrant": False})
    decoder.disable_input_require_grads()


def cast_frozen(model: nn.Module, dtype: FrozenDtype) -> None:
    """Casts frozen parameters to a lower precision; buffers are unchanged.

    Args:
        model: A model with its plan applied.
        dtype: `float32`, `bfloat16`, or `nf4`: linear layers of the blocks in 4 bits, all else
            in bfloat16.
    """
    if dtype == "nf4":
        for layer in decoder_of(model).layers:
            _quantize_frozen(layer)
    torch_dtype = torch.float32 if dtype == "float32" else torch.bfloat16
    for parameter in model.parameters():
        if not parameter.requires_grad and not is_quantized(parameter):
            parameter.data = parameter.data.to(torch_dtype)


def _quantize_frozen(module: nn.Module) -> None:
    for name, child in list(module.named_children()):
        if isinstance(child, HeadLinear):
            child.weight = quantize(child.weight)
        elif type(child) is nn.Linear and not child.weight.requires_grad:
            setattr(module, name, QuantizedLinear(child))
        else:
            _quantize_frozen(child)


def _dequantize_layers(module: nn.Module) -> None:
    for name, child in list(module.named_children()):
        if isinstance(child, QuantizedLinear):
            setattr(module, name, linear_from(dequantize(child.weight), child.bias))
        else:
            _dequantize_layers(child)


def num_trainable(model: nn.Module) -> int:
    """Number of trainable parameters; tied ones count once."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def num_parameters(model: nn.Module) -> int:
    """Number of parameters; tied ones count once."""
    return sum(p.numel() for p in model.parameters())


def qkv_parameters(model: nn.Module) -> Iterator[nn.Parameter]:
    """Parameters of all q, k and v projections, including their adapters."""
    for projection in projections(model):
        yield from projection.module.parameters()


def _split_chosen_heads(model: nn.Module, plan: TrainingPlan) -> None:
    assert plan.heads is not None
    geometry, chosen = plan.heads.geometry, plan.heads.by_layer()
    for projection in projections(model):
        heads = chosen.get(projection.layer, [])
        if projection.name == QUERY:
            rows = geometry.query_rows(heads)
        else:
            rows = geometry.kv_rows(heads, plan.kv_policy)
        if rows:
            projection.replace(HeadLinear(projection.module, rows, plan.train_bias))


def _with_lora(model: nn.Module, plan: TrainingPlan) -> nn.Module:
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


def initial_adapters(model: nn.Module) -> Iterator[tuple[nn.Parameter, Tensor]]:
    """Adapter parameters with the initial values of peft, for a model on the meta device.

    Draws from torch's global generator as peft does when it creates the adapters.
    """
    from peft.tuners.lora import LoraLayer

    layers: list[Any] = [module for module in model.modules() if isinstance(module, LoraLayer)]
    for layer in layers:
        for name in layer.lora_A:
            down, up = layer.lora_A[name], layer.lora_B[name]
            drawn = nn.Linear(down.in_features, down.out_features, bias=False)
            nn.Linear(up.in_features, up.out_features, bias=False)
            nn.init.kaiming_uniform_(drawn.weight, a=sqrt(5))
            yield down.weight, drawn.weight.detach()
            yield up.weight, torch.zeros(up.out_features, up.in_features)
