"""Training rows that a benchmark asks for: found by the words they share with its prompts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from alps.data.example import Example
from alps.data.files.read import read_rows

PROMPT_FIELDS = ("question", "prompt", "problem", "instruction", "text")
"""Where a benchmark's row has its prompt; the first field that is a text."""

_WORD = re.compile(r"\w+")


class BenchmarkPrompts:
    """The n-grams of all prompts.

    Words are runs of letters, digits and underscores, in lower case. A prompt of fewer than n words
    is found only where a row's instruction is that prompt and nothing else: anything less would
    leave out every row with a common word.
    """

    def __init__(self, paths: Sequence[Path], ngram: int):
        """Reads all prompts.

        Args:
            paths: Files of rows.
            ngram: Words in an n-gram.

        Raises:
            ValueError: If a file cannot be read, or a row has no prompt.
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

    def ask_for(self, example: Example) -> bool:
        """Whether the row shares an n-gram with a prompt, in its instruction or its answer."""
        instruction = words_of(example.instruction)
        if " ".join(instruction) in self._short:
            return True
        return any(
            gram in self._ngrams
            for words in (instruction, words_of(example.answer))
            for gram in _ngrams(words, self.ngram)
        )


def words_of(text: str) -> list[str]:
    """Words of a text, in lower case."""
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
