"""Generated word problems of two or three steps with worked answers.

The answers follow GSM8K: every step shows its arithmetic and the last line is `#### n`. Numbers are
small for small models, and examples are short for training on CPUs.
"""

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from alps.data.example import Example, Split
from alps.data.generators.distinct import distinct

VERSION = 1  # part of run keys: raise it whenever the examples change
NUM_TRAIN = 5000
NUM_TEST = 400

# One template per paragraph: the values of its numbers, wordings of the question (?), and the
# worked answer (=), where [t = b * c] shows a step and names its result. The last result is the
# answer. A step is evaluated from left to right.
_TEMPLATES = """
b:2-9 c:2-12 g:2-20
? {name} has {b} boxes of {c} {thing}s and gives away {g}. How many {thing}s are left?
? {b} boxes hold {c} {thing}s each. {name} takes out {g}. How many {thing}s remain?
= {b} boxes of {c} {thing}s are [t = b * c] {thing}s.
= [n = t - g] {thing}s are left.

a:2-6 b:2-6 p:2-9 q:2-9
? {name} buys {a} {thing}s at ${p} each and {b} {item}s at ${q} each. What does {she} spend?
? A {thing} costs ${p} and a {item} costs ${q}. What do {a} {thing}s and {b} {item}s cost?
= The {thing}s cost [s = a * p] dollars.
= The {item}s cost [t = b * q] dollars.
= Together that is [n = s + t] dollars.

a:2-9 p:2-9 b:20,50,100
? {name} buys {a} {thing}s at ${p} each and pays with a ${b} bill. How much change does {she} get?
? {name} has ${b}. {She} buys {a} {thing}s for ${p} each. How many dollars are left?
= {a} {thing}s cost [c = a * p] dollars.
= [n = b - c] dollars are left.

a:3-30 b:2-20 k:2-9
? {name} has {a} {food}, gets {b} more and shares them among {k} friends. How many does each get?
? {k} children share {a} small and {b} large {food} equally. How many does each child get?
= There are [t = a + b] {food}.
= Each gets [n = t / k] {food}.

a:2-12 k:3-6
? {name} is {a} years old. {other} is {k} times as old. How old are they together?
? {other} is {k} times as old as {name}, who is {a}. What is the sum of their ages?
= {other} is [b = a * k] years old.
= Together they are [n = a + b] years old.

p:20-100/10 q:10,20,25,50
? A coat costs ${p} and is sold at {q}% off. What is the new price in dollars?
? A {thing} set costs ${p}. {name} gets a discount of {q}%. How many dollars does {she} pay?
= {q}% of {p} is [d = p * q / 100] dollars.
= The price is [n = p - d] dollars.

p:20-100/10 q:10,20,25,50 a:2-20
? Of {p} guests {q}% bring {food}. Then {a} more come with {food}. How many guests bring {food}?
? {name} has read {q}% of {p} pages. {She} reads {a} more. How many pages has {she} read?
= {q}% of {p} is [d = p * q / 100].
= With {a} more that is [n = d + a].

h:2-4 g:2-4 s:20-90/10 v:20-90/10
? A train runs {h} hours at {s} km/h and then {g} hours at {v} km/h. How far does it go?
? {name} drives {h} hours at {s} km/h and {g} hours at {v} km/h. How many km does {she} drive?
= First it is [a = h * s] km.
= Then it is [b = g * v] km.
= The whole way is [n = a + b] km.

d:10-60 a:2-20 s:2-6
? {name} has to walk {d} km and has done {a} km. At {s} km an hour, how many hours are left?
? A trail is {d} km long. After {a} km {name} goes on at {s} km/h. How many hours does it take?
= [r = d - a] km are left.
= That takes [n = r / s] hours.

a:2-12 w:2-9 b:5-50
? {name} has ${b} and saves ${a} a week. How many dollars does {she} have after {w} weeks?
? Each week {name} puts ${a} into a box with ${b} in it. How much is in it after {w} weeks?
= In {w} weeks {name} saves [s = w * a] dollars.
= With the first {b} it is [n = s + b] dollars.

p:2-12 h:2-8 d:2-6
? {name} earns ${p} an hour and works {h} hours a day. How much does {she} earn in {d} days?
? A helper gets ${p} an hour for {h} hours on each of {d} days. How many dollars is that?
= A day brings [a = p * h] dollars.
= {d} days bring [n = a * d] dollars.

a:2-20 b:2-12
? A farm has {a} hens and {b} goats. How many legs do they have?
? {name} counts the legs of {a} birds and {b} cows. How many legs are there?
= {a} animals with 2 legs have [s = a * 2] legs.
= {b} animals with 4 legs have [t = b * 4] legs.
= Together that is [n = s + t] legs.

a:2-6 t:6-60 b:2-12
? {a} {thing}s cost ${t}. How many dollars do {b} {thing}s cost?
? {name} paid ${t} for {a} {thing}s. What would {b} {thing}s cost?
= One {thing} costs [p = t / a] dollars.
= {b} {thing}s cost [n = p * b] dollars.

p:2-9 k:2-9 c:5-50
? One {thing} costs ${p}. A pack of {k} {thing}s costs ${c}. How many dollars does the pack save?
? {name} pays ${c} for {k} {thing}s instead of ${p} for each. How many dollars does {she} save?
= One by one they cost [s = k * p] dollars.
= That saves [n = s - c] dollars.

p:60-200/10 a:5-20 d:2-7
? A book has {p} pages. {name} reads {a} pages a day for {d} days. How many pages are left?
? {name} reads {a} of the {p} pages of a book on each of {d} days. How many are unread?
= {name} reads [r = a * d] pages.
= [n = p - r] pages are left.

a:2-9 b:2-9 d:2-7
? {name} eats {a} {food} in the morning and {b} at night. How many does {she} eat in {d} days?
? Each day {name} sells {a} {food} and {other} sells {b}. How many do they sell in {d} days?
= A day makes [t = a + b] {food}.
= {d} days make [n = t * d] {food}.

a:10-60/2 b:2-12
? {name} had {a} {food}, ate half of them and gave away {b}. How many are left?
? Half of {a} {food} are bad. {name} eats {b} of the good ones. How many good ones are left?
= Half of {a} is [h = a / 2].
= [n = h - b] {food} are left.

a:10-60 b:2-20 c:2-20
? A bus has {a} riders. At a stop {b} get off and {c} get on. How many riders are there now?
? {a} people are in a shop. {b} leave and {c} come in. How many people are in the shop?
= After {b} leave there are [r = a - b].
= After {c} come there are [n = r + c].

a:2-12 b:2-12 p:2-5
? A garden is {a} m long and {b} m wide. What does a fence around it cost at ${p} a metre?
? {name} fences a field of {a} m by {b} m. A metre of fence costs ${p}. What does {she} pay?
= Two sides are [s = a + b] metres.
= The way around is [t = s * 2] metres.
= The fence costs [n = t * p] dollars.

a:3-24 b:3-24 c:3-24
? {name} scores {a}, {b} and {c} points in three games. What is the average?
? Three bags weigh {a} kg, {b} kg and {c} kg. What is their mean weight in kg?
= The sum is [s = a + b + c].
= The average is [n = s / 3].

a:2-12 b:2-12 c:2-6
? A wall is {a} m by {b} m. A tin of paint covers {c} square metres. How many tins does it need?
? {name} has carpets of {c} square metres. How many cover a floor of {a} m by {b} m?
= The area is [s = a * b] square metres.
= That needs [n = s / c] of them.

b:2-9 p:2-6 t:10-60
? A taxi costs ${b} plus ${p} a km. {name} pays ${t}. How many km did {she} ride?
? {name} rents a bike for ${b} plus ${p} an hour and pays ${t}. How many hours did {she} have it?
= Without the first {b} it is [r = t - b] dollars.
= At {p} dollars each that is [n = r / p].

a:2-12 k:2-5 e:2-9
? {name} has {a} {thing}s. {other} has {k} times as many but loses {e}. How many has {other} now?
? A shop sold {a} {thing}s on Monday. On Friday it sold {e} fewer than {k} times that. How many?
= {k} times {a} is [t = a * k].
= {e} fewer is [n = t - e].

h:2-4 m:5-55/5 b:5-30/5
? A film lasts {h} hours and {m} minutes with a break of {b} minutes. How many minutes is that?
? {name} swims {h} hours, runs {m} minutes and rests {b} minutes. How many minutes is that?
= {h} hours are [s = h * 60] minutes.
= Together it is [n = s + m + b] minutes.

k:2-6 r:2-12 t:12-144
? A machine makes {r} {thing}s an hour. How many hours do {k} machines need for {t} {thing}s?
? {k} friends make {r} {thing}s an hour each. How many hours do they need for {t} {thing}s?
= In an hour they make [s = k * r] {thing}s.
= They need [n = t / s] hours.
"""


class _Template(NamedTuple):
    """A parsed paragraph of `_TEMPLATES`."""

    numbers: Mapping[str, Sequence[int]]
    wordings: Sequence[str]
    steps: str


def examples(split: Split) -> Iterator[Example]:
    """The examples of a split, always the same in the same order."""
    num_examples = NUM_TRAIN if split == "train" else NUM_TEST
    return distinct(draw, split, f"mini_math {VERSION}", num_examples)


def draw(rng: random.Random) -> Example:
    """Draws one example; repeats are possible."""
    template = rng.choice(_PARSED_TEMPLATES)
    while True:
        numbers = {name: rng.choice(values) for name, values in template.numbers.items()}
        try:
            steps, answer = evaluate_steps(template.steps, numbers)
            break
        except ArithmeticError:
            continue
    fields = {**_draw_words(rng), **numbers}
    return Example(
        instruction=rng.choice(template.wordings).format(**fields),
        answer=f"{steps.format(**fields)}\n#### {answer}",
        check={"answer": str(answer)},
    )


def evaluate_steps(steps: str, numbers: Mapping[str, int]) -> tuple[str, int]:
    """Replaces every `[t = a * b]` with its arithmetic.

    Args:
        steps: The worked answer of a template.
        numbers: The numbers by name.

    Returns:
        The steps with the arithmetic shown, and the last result.

    Raises:
        ArithmeticError: If a result is not an integer above one (the wordings are in the plural).
    """
    known = dict(numbers)
    result = 0

    def show(step: re.Match[str]) -> str:
        nonlocal result
        words = step[2].split()
        operands = [known[word] if word in known else int(word) for word in words[::2]]
        result, shown = operands[0], str(operands[0])
        for operator, operand in zip(words[1::2], operands[1:], strict=True):
            result = _OPERATIONS[operator](result, operand)
            shown += f" {operator} {operand}"
        if result < 2:
            raise ArithmeticError(f"{shown} = {result}")
        known[step[1]] = result
        return f"{shown} = {result}"

    return re.sub(r"\[(\w) = ([^]]+)\]", show, steps), result


def _divide(dividend: int, divisor: int) -> int:
    if dividend % divisor:
        raise ArithmeticError(f"{dividend} / {divisor} is not whole")
    return dividend // divisor


def _draw_words(rng: random.Random) -> dict[str, str]:
    name, other = rng.sample(_WOMEN + _MEN, 2)
    thing, item = rng.sample(_THINGS, 2)
    words = {"name": name, "other": other, "thing": thing, "item": item, "food": rng.choice(_FOODS)}
    she = "she" if name in _WOMEN else "he"
    return words | {"she": she, "She": she.title()}


def _parse_template(paragraph: str) -> _Template:
    numbers, *lines = paragraph.strip().splitlines()
    return _Template(
        numbers={
            name: _parse_values(values) for name, values in re.findall(r"(\w):(\S+)", numbers)
        },
        wordings=[line[2:] for line in lines if line.startswith("?")],
        steps="\n".join(line[2:] for line in lines if line.startswith("=")),
    )


def _parse_values(text: str) -> Sequence[int]:
    """Parses `1,5` (alternatives), `2-9` (inclusive) or `10-60/10` (every tenth)."""
    if "," in text:
        return [int(value) for value in text.split(",")]
    first, last, step = (int(number) for number in re.split("[-/]", f"{text}/1")[:3])
    return range(first, last + 1, step)


_OPERATIONS = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__, "/": _divide}
_WOMEN = ("Ana", "Mia", "Zoe", "Emma", "Lucy", "Nina", "Rosa", "Sara", "Tina", "Amy", "Jane")
_MEN = ("Ben", "Leo", "Max", "Sam", "Tom", "Omar", "Paul", "Adam", "Ivan", "Noah", "Jack")
_THINGS = ("pen", "book", "toy", "card", "ball", "cup", "sticker", "stamp", "candle", "button")
_FOODS = ("apples", "pears", "plums", "cookies", "lemons", "peaches", "nuts", "figs", "muffins")
_PARSED_TEMPLATES = tuple(
    _parse_template(paragraph) for paragraph in _TEMPLATES.strip().split("\n\n")
)
