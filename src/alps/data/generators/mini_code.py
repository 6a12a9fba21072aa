"""Generated tasks: write a small Python function from its signature and docstring.

An example fills a template (a function that applies a condition or a change) with phrases (the
condition and the change). Expected test results come from functions of this file, not from the
reference answer.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from alps.data.example import Example, Split
from alps.data.generators.distinct import distinct

VERSION = 1  # part of run keys: raise it whenever the examples change
NUM_TRAIN = 5000
NUM_TEST = 400


class Phrase(NamedTuple):
    """A condition on `x`, or a change of it, in words, as code and as a function.

    Attributes:
        words: The phrase in the docstring, after the noun for `x`.
        code: The phrase as an expression of `x`.
        apply: The phrase as a function, written independently of `code`.
        edges: Values that distinguish the phrase from similar ones; the tests use all of them.
    """

    words: str
    code: str
    apply: Callable[[Any], Any]
    edges: Sequence[Any] = ()


Draw = Callable[[random.Random], Phrase]


def examples(split: Split) -> Iterator[Example]:
    """The examples of a split, always the same in the same order."""
    num_examples = NUM_TRAIN if split == "train" else NUM_TEST
    return distinct(draw, split, f"mini_code {VERSION}", num_examples)


def draw(rng: random.Random) -> Example:
    """Draws one example; repeats are possible."""
    template = rng.choice(_TEMPLATES)
    condition, change = template.condition(rng), template.change(rng)
    fields = {"c": condition.words, "cx": condition.code, "m": change.words, "mx": change.code}
    signature, docstring = template.request.format(**fields).split(": ", 1)
    names, parameter = signature.split("(")
    name = rng.choice(names.split("|"))
    head = f"def {name}({parameter}:\n    "
    arguments = _arguments(rng, template.takes, (*condition.edges, *change.edges))
    tests = [[[x], template.solve(x, condition.apply, change.apply)] for x in arguments]
    return Example(
        instruction=f'{rng.choice(_REQUESTS)}\n\n{head}"""{docstring}"""',
        answer=f"```python\n{head}{template.body.format(**fields)}\n```",
        check={"entry_point": name, "tests": tests},
    )


def _arguments(rng: random.Random, takes: str, edges: Sequence[Any]) -> list[Any]:
    if takes == "number":
        return [*edges, 0, *rng.sample(range(21, 40), 2)]
    lists = [list(edges), [], *([edge] for edge in edges[:4])]
    for size in (6, 8):
        numbers = rng.choices(_NUMBERS, k=size)
        lists.append(rng.sample(_WORDS, size) if takes == "words" else numbers)
    for values in lists:
        rng.shuffle(values)
    return [dict(zip(_WORDS, x, strict=False)) for x in lists] if takes == "entries" else lists


def _number_test(rng: random.Random) -> Phrase:
    k, d = rng.randint(3, 20), rng.randint(3, 9)
    near = (k - 1, k, k + 1)
    ends = (k - 1, k, k + d, k + d + 1)
    return rng.choice(
        (
            Phrase(f"greater than {k}", f"x > {k}", lambda x: x > k, near),
            Phrase(f"less than {k}", f"x < {k}", lambda x: x < k, near),
            Phrase(f"at least {k}", f"x >= {k}", lambda x: x >= k, near),
            Phrase(f"at most {k}", f"x <= {k}", lambda x: x <= k, near),
            Phrase(f"not {k}", f"x != {k}", lambda x: x != k, near),
            Phrase(f"divisible by {d}", f"x % {d} == 0", lambda x: not x % d, (2 * d, d + 1, 1)),
            Phrase(f"from {k} to {k + d}", f"{k} <= x <= {k + d}", range(k, k + d + 1).count, ends),
            Phrase("even", "x % 2 == 0", lambda x: not x & 1, (2, 3)),
            Phrase("odd", "x % 2 == 1", lambda x: x & 1, (2, 3)),
        )
    )


def _number_step(rng: random.Random) -> Phrase:
    k, d = rng.randint(2, 20), rng.randint(2, 9)
    return rng.choice(
        (
            Phrase(f"plus {k}", f"x + {k}", lambda x: sum((x, k)), (1, k)),
            Phrase(f"minus {k}", f"x - {k}", lambda x: -(k - x), (1, k)),
            Phrase(f"times {d}", f"x * {d}", lambda x: sum([x] * d), (1, d)),
            Phrase(f"subtracted from {k}", f"{k} - x", lambda x: -x + k, (1, k)),
            Phrase("squared", "x * x", lambda x: pow(x, 2), (1, 5)),
        )
    )


def _text_test(rng: random.Random) -> Phrase:
    k, a = rng.randint(2, 8), rng.choice("abcdefghilmnoprst")
    sizes = tuple("zyxwvutsrq"[: k + i] for i in (-1, 0, 1))
    places = (f"{a}yz", f"y{a}z", f"yz{a}", "zzz")
    return rng.choice(
        (
            Phrase(f"longer than {k}", f"len(x) > {k}", lambda x: x[k:] != "", sizes),
            Phrase(f"shorter than {k}", f"len(x) < {k}", lambda x: x[k - 1 :] == "", sizes),
            Phrase(f"of length {k}", f"len(x) == {k}", lambda x: sum(map(bool, x)) == k, sizes),
            Phrase(f"with '{a}' in them", f"'{a}' in x", lambda x: x.count(a), places),
            Phrase(f"without '{a}'", f"'{a}' not in x", lambda x: not x.count(a), places),
            Phrase(f"starting with '{a}'", f"x.startswith('{a}')", lambda x: x[0] == a, places),
            Phrase(f"ending with '{a}'", f"x.endswith('{a}')", lambda x: x[-1] == a, places),
        )
    )


def _text_step(rng: random.Random) -> Phrase:
    (a, b), k = rng.sample("aeioulnrst", 2), rng.randint(2, 5)

    def phrase(words: str, code: str, apply: Callable[[str], str]) -> Phrase:
        return Phrase(words, code, apply, (f"{a}{b}{a}", "abcdefgh"))

    return rng.choice(
        (
            phrase(
                f"with each '{a}' replaced by '{b}'",
                f"x.replace('{a}', '{b}')",
                lambda x: b.join(x.split(a)),
            ),
            phrase(f"without any '{a}'", f"x.replace('{a}', '')", lambda x: "".join(x.split(a))),
            phrase(f"without the first {k} letters", f"x[{k}:]", lambda x: "".join([*x][k:])),
            phrase(f"repeated {k} times", f"x * {k}", lambda x: "".join([x] * k)),
            phrase("reversed", "x[::-1]", lambda x: "".join(reversed(x))),
        )
    )


def _list_change(rng: random.Random) -> Phrase:
    k = rng.randint(2, 6)

    def phrase(words: str, code: str, keep: Callable[[int, int], bool]) -> Phrase:
        def apply(x: list[int]) -> list[int]:
            return [value for i, value in enumerate(x) if keep(i, len(x))]

        return Phrase(words, code, apply, tuple(range(k + 2)))

    return rng.choice(
        (
            phrase(f"the first {k} items", f"x[:{k}]", lambda i, n: i < k),
            phrase(f"the last {k} items", f"x[-{k}:]", lambda i, n: i >= n - k),
            phrase(f"all but the first {k} items", f"x[{k}:]", lambda i, n: i >= k),
            phrase(f"all but the last {k} items", f"x[:-{k}]", lambda i, n: i < n - k),
            phrase(f"the items at indices divisible by {k}", f"x[::{k}]", lambda i, n: i % k == 0),
        )
    )


def _joined(draw_one: Draw, items: Sequence[Any]) -> Draw:
    """Extends a sampler of single conditions to two conditions joined by `and` or `or`.

    They are joined only if dropping either one changes the result for some of the `items`, and some
    but not all of them satisfy the joined condition.
    """

    def draw_some(rng: random.Random) -> Phrase:
        first, word, combine = draw_one(rng), *rng.choice((("and", all), ("or", any)))
        while rng.random() < 0.6:
            second = draw_one(rng)

            def apply(x: Any, second: Phrase = second) -> bool:
                return combine((first.apply(x), second.apply(x)))

            kept = [[x for x in items if apply(x) is value] for value in (True, False)]
            differ = [[x for x in items if apply(x) != bool(y.apply(x))] for y in (first, second)]
            if all(groups := kept + differ):
                edges = (*map(rng.choice, groups), *first.edges, *second.edges)
                words, code = (f"{first[i]} {word} {second[i]}" for i in (0, 1))
                return Phrase(words, code, apply, edges)
        return first

    return draw_some


def _chained(draw_one: Draw) -> Draw:
    """Extends a sampler of single changes to two consecutive ones."""

    def draw_some(rng: random.Random) -> Phrase:
        first, second = draw_one(rng), draw_one(rng)
        edges = (*first.edges, *second.edges)
        if rng.random() < 0.4 or all(second.apply(first.apply(x)) == x for x in edges):
            return first
        return Phrase(
            f"{first.words}, then {second.words}",
            second.code.replace("x", f"({first.code})"),
            lambda x: second.apply(first.apply(x)),
            edges,
        )

    return draw_some


_NUMBERS = range(1, 31)
_WORDS = ("sun", "apple", "tree", "car", "stone", "bird", "lamp", "ocean", "hat", "planet", "note")
_number_condition, _number_change = _joined(_number_test, _NUMBERS), _chained(_number_step)
_text_condition, _text_change = _joined(_text_test, _WORDS), _chained(_text_step)


class Template(NamedTuple):
    """A kind of function to write.

    Attributes:
        request: Alternative names, the parameter and the docstring; `{c}` is the condition, `{m}`
            the change.
        body: Reference lines after the signature; `{cx}` and `{mx}` are code.
        solve: Result for an argument, a condition and a change, written independently of `body`.
        condition: Sampler of conditions.
        change: Sampler of changes.
        takes: Type of the argument; a name in `_arguments`.
    """

    request: str
    body: str
    solve: Callable[..., Any]
    condition: Draw = _number_condition
    change: Draw = _number_change
    takes: str = "numbers"


_TEMPLATES = (
    Template(
        "keep|pick|select(values): Return a list of the numbers in values that are {c}.",
        "return [x for x in values if {cx}]",
        lambda values, test, change: list(filter(test, values)),
    ),
    Template(
        "convert|apply|update(values): Return a list of each number in values {m}.",
        "return [{mx} for x in values]",
        lambda values, test, change: list(map(change, values)),
    ),
    Template(
        "collect|process(values): Return a list of each number {m}, if the number is {c}.",
        "return [{mx} for x in values if {cx}]",
        lambda values, test, change: list(map(change, filter(test, values))),
    ),
    Template(
        "total|add_up|sum_some(values): Return the sum of the numbers in values that are {c}.",
        "return sum(x for x in values if {cx})",
        lambda values, test, change: sum(filter(test, values)),
    ),
    Template(
        "first|find|search(values): Return the first number in values that is {c}, or -1.",
        "for x in values:\n        if {cx}:\n            return x\n    return -1",
        lambda values, test, change: next(filter(test, values), -1),
    ),
    Template(
        "check|every|verify(values): Return True if all numbers in values are {c}.",
        "return all({cx} for x in values)",
        lambda values, test, change: all(map(test, values)),
    ),
    Template(
        "part|take|cut(x): Return {m} of the list x.",
        "return {mx}",
        lambda values, test, change: change(values),
        change=_list_change,
    ),
    Template(
        "adjust|step|move(x): If x is {c}, return x {m}, otherwise return x.",
        "if {cx}:\n        return {mx}\n    return x",
        lambda number, test, change: change(number) if test(number) else number,
        takes="number",
    ),
    Template(
        "words|keep_words|choose(items): Return a list of the strings in items {c}.",
        "return [x for x in items if {cx}]",
        lambda words, test, change: list(filter(test, words)),
        condition=_text_condition,
        change=_text_change,
        takes="words",
    ),
    Template(
        "rewrite|map_words(items): Return a list of each string in items {m}.",
        "return [{mx} for x in items]",
        lambda words, test, change: list(map(change, words)),
        condition=_text_condition,
        change=_text_change,
        takes="words",
    ),
    Template(
        "entries|choose|lookup(data): Return a dict of the entries of data whose value is {c}.",
        "return {{k: x for k, x in data.items() if {cx}}}",
        lambda data, test, change: {key: data[key] for key in data if test(data[key])},
        takes="entries",
    ),
)
_REQUESTS = ("Write this Python function.", "Complete this function.", "Implement this function:")
