"""Greedy answers to many questions, in batches of similar length."""

from __future__ import annotations

import sys
import time

import torch

from alps.data.template import prompt
from alps.evals.subject import Subject
from alps.models.load import pad_id

SECONDS_BETWEEN_LINES = 15.0


def generate(subject: Subject, questions: list[str], max_new_tokens: int, title: str) -> list[str]:
    """The model's greedy answer to each question, without special tokens, in their order.

    Args:
        subject: Model, tokenizer and template.
        questions: Instructions.
        max_new_tokens: Longest answer.
        title: Names the work in progress lines.
    """
    tokenizer, template = subject.tokenizer, subject.data.template
    prompts = [prompt(template, q, tokenizer) for q in questions]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    device = next(subject.model.parameters()).device
    answers = [""] * len(prompts)
    began = printed = time.perf_counter()
    for start in range(0, len(order), subject.batch_size):
        members = order[start : start + subject.batch_size]
        ids, mask = _pad_left([prompts[i] for i in members], pad_id(tokenizer))
        with torch.inference_mode():
            output = subject.model.generate(  # pyright: ignore[reportCallIssue]
                input_ids=ids.to(device),
                attention_mask=mask.to(device),
                max_new_tokens=max_new_tokens,
                do_sample=False,
                num_beams=1,
                use_cache=True,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=pad_id(tokenizer),
            )
        for i, row in zip(members, output[:, ids.shape[1] :], strict=True):
            answers[i] = str(tokenizer.decode(row, skip_special_tokens=True))
        now, done = time.perf_counter(), start + len(members)
        if now - printed > SECONDS_BETWEEN_LINES:
            printed, left = now, (now - began) / done * (len(order) - done)
            print(f"{title}: {done}/{len(order)} answers, {left:.0f} s left", file=sys.stderr)
    return answers


def _pad_left(prompts: list[list[int]], padding: int) -> tuple[torch.Tensor, torch.Tensor]:
    length = max(map(len, prompts))
    ids = torch.tensor([[padding] * (length - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (length - len(p)) + [1] * len(p) for p in prompts])
    return ids, mask
