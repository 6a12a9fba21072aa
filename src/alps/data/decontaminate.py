"""Decontamination: detects training examples that share n-grams of words with benchmark prompts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from alps.data.example import Example
from alps.data.files.read import read_rows

PROMPT_FIELDS = ("question", "prompt", "problem", "instruction", "text")
"""Fields of a benchmark document that can hold its prompt; the first with a text counts."""

_WORD = re.compile(r"\w+")


class BenchmarkPrompts:
    """N-grams of the prompts of benchmarks.

    Words are runs of letters, digits and underscores, in lower case. A prompt of fewer than n words
    contaminates only an example whose instruction is that prompt: a shared common word would drop
    too many.
    """

    def __init__(self, paths: Sequence[Path], ngram: int):
        """Reads the prompts.

        Args:
            paths: Files of benchmark documents.
            ngram: Words in an n-gram.

        Raises:
            ValueError: If a file cannot be read, or a document has no prompt.
        """
        self.ngram = ngram
        self._ngrams: set[str] = set()
        self._short: set[str] = set()
        for path in paths:
            for place, row in read_rows(path):
                words = words_of(_prompt(place, row))
                if len(words) < ngram:
                    self._short.add(" ".join(words))
                self._ngrams.update(_ngrams(words, ngram))

    def contaminate(self, example: Example) -> bool:
        """Whether instruction or answer of the example share an n-gram with a prompt."""
        instruction = words_of(example.instruction)
        if " ".join(instruction) in self._short:
            return True
        return any(
            gram in self._ngrams
            for words in (instruction, words_of(example.answer))
            for gram in _ngrams(words, self.ngram)
        )


def words_of(text: str) -> list[str]:
    """Words of a text, case-folded."""
    return _WORD.findall(text.casefold())


def _ngrams(words: Sequence[str], n: int) -> Iterator[str]:
    return (" ".join(words[i : i + n]) for i in range(len(words) - n + 1))


def _prompt(place: str, row: object) -> str:
    has = row if isinstance(row, dict) else {}
    for name in PROMPT_FIELDS:
        if isinstance(has.get(name), str) and words_of(has[name]):
            return has[name]
    fields = ", ".join(map(str, has)) or "none"
    raise ValueError(
        f"data.decontaminate: {place} has no prompt; the fields {', '.join(PROMPT_FIELDS)} "
        f"are looked for, it has: {fields}"
    )
