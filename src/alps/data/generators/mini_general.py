"""Generated requests with one or two constraints that a program can check.

Similar to IFEval (verifiable format instructions), with its own topics, wordings and rules. Each
reference answer satisfies every constraint of its example by construction.
"""

import json
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from alps.data.example import Example, Split
from alps.data.generators.distinct import distinct

VERSION = 1  # part of run keys: raise it whenever the examples change
NUM_TRAIN = 5000
NUM_TEST = 400

# Topics and facts about them. Each fact contains the topic's last word once and no comma.
_TOPICS = """
the moon: The moon has no air. The moon pulls on the sea. We see one side of the moon. A month is
one trip of the moon around Earth. People walked on the moon in 1969.

bread: Bread is made from flour and water. Yeast makes bread rise. Fresh bread smells good. Bakers
make bread before dawn. Old bread makes fine toast.

cats: Cats sleep most of the day. Many homes have cats. Most cats dislike water. Mice fear cats.
At night cats see well.

rain: Rain falls from clouds. Plants need rain to grow. After rain the air is clean. Heavy rain
fills rivers. Deserts get little rain.

bees: Bees make honey from nectar. Flowers need bees to spread pollen. Wild bees may live alone. A
hive holds thousands of bees. In winter bees keep warm together.

tea: Tea is a hot drink. Green tea has a mild taste. Many people drink tea with milk. Farmers in
Asia grow tea. A cup of tea helps us relax.

trains: Trains run on steel rails. Fast trains link big cities. Old trains used coal and steam.
Some trains carry only goods. Quiet trains are pleasant for readers.

trees: Trees give us shade. Birds nest in trees. Old trees have many rings. Paper is made from
trees. In autumn some trees lose their leaves.

soccer: Soccer is played with a round ball. Two teams play soccer on grass. Children love soccer.
A game of soccer lasts ninety minutes. Many fans watch soccer on weekends.

the sea: The sea is salty. Fish live in the sea. Ships cross the sea with cargo. Storms make the
sea rough. Waves shape the coast of the sea.

books: Books tell stories. Libraries lend books for free. Some books have pictures. We learn from
books. Good books make long trips short.

dogs: Dogs are loyal friends. Most dogs love long walks. Trained dogs guide blind people. Farmers
use dogs to herd sheep. Young dogs chew on shoes.

music: Music can change our mood. Bands play music on stage. Soft music helps us sleep. People
dance to music at parties. Every culture has music of its own.

the sun: The sun is a star. Plants live from the light of the sun. Never look straight at the sun.
Planets travel around the sun. In winter the sun sets early.

bikes: Bikes have two wheels. Riding bikes keeps us fit. In Denmark bikes are everywhere. Some
bikes have a small motor. Good bikes need strong brakes.

snow: Snow is frozen water. Children build forts from snow. Deep snow blocks the roads. Skiers
wait for snow all year. In spring the snow melts.

gardens: Gardens need water and care. Some gardens grow only herbs. City gardens cool the air.
Worms help gardens by mixing the soil. Old gardens attract visitors.

maps: Maps show us the way. Sailors once drew maps by hand. Phones hold maps of every town. Some
maps show mountains in brown. Pirates hid maps in bottles.

clocks: Clocks tell us the time. Early clocks used water or sand. Tower clocks ring each hour.
Kitchen clocks help cooks. All clocks need power or a spring.
"""

# Ways to ask for each kind of constraint; the names in braces are its parameters.
_REQUESTS = """
num_bullets: Use exactly {count} bullet points that start with a dash.
num_bullets: Answer with {count} bullet points, each after a dash.
num_numbered: Make a numbered list of {count} items.
num_numbered: Number your {count} points 1., 2. and so on.
num_sentences: Use exactly {count} sentences.
num_sentences: Your answer must have {count} sentences.
num_paragraphs: Write {count} paragraphs with a blank line between them.
num_paragraphs: Put a blank line between your {count} paragraphs.
json_keys: Answer only with a JSON object that has the keys {keys}.
json_keys: Reply in JSON with exactly the keys {keys}.
lowercase: Use only lower case letters.
lowercase: Do not use any capital letters.
uppercase: Write everything in capital letters.
uppercase: Use upper case letters only.
quoted: Put your whole answer in double quotes.
quoted: Wrap the entire answer in double quotes.
starts_with: Start with "{phrase}"
starts_with: The first words must be "{phrase}"
ends_with: End with "{phrase}"
ends_with: Finish with the words "{phrase}"
no_commas: Use no commas.
no_commas: Do not use any commas.
postscript: Add a last line that starts with P.S.
postscript: Close with a postscript after P.S.
use_word: Say "{word}" exactly {count} times.
use_word: Use the word "{word}" exactly {count} times.
avoid_word: Do not use the word "{word}".
avoid_word: Avoid the word "{word}".
max_words: Use at most {count} words.
max_words: Keep it to {count} words or fewer.
min_words: Use at least {count} words.
min_words: Write {count} words or more.
"""


class Topic(NamedTuple):
    """A topic: its name, the word that every fact contains once, and the facts."""

    name: str
    word: str
    facts: Sequence[str]


@dataclass
class Draft:
    """A draft of the answer, edited by each constraint before it is rendered as text."""

    topic: Topic
    facts: Sequence[str]
    layout: Callable[[Sequence[str]], str] = " ".join
    finish: Callable[[str], str] = str

    @property
    def text(self) -> str:
        """The current answer."""
        return self.finish(self.layout(self.facts))


Constrain = Callable[[random.Random, Draft], dict[str, Any]]


def examples(split: Split) -> Iterator[Example]:
    """The examples of a split, always the same in the same order."""
    num_examples = NUM_TRAIN if split == "train" else NUM_TEST
    return distinct(draw, split, f"mini_general {VERSION}", num_examples)


def draw(rng: random.Random) -> Example:
    """Draws one example; repeats are possible."""
    topic = rng.choice(_PARSED_TOPICS)
    draft = Draft(topic, rng.sample(topic.facts, rng.randint(2, 3)))
    requests, constraints = [rng.choice(_QUESTIONS).format(topic=topic.name)], []
    for kind in _draw_kinds(rng):
        params = KINDS[kind][1](rng, draft)
        constraints.append({"kind": kind, **params})
        words = {name: _in_words(value) for name, value in params.items()}
        requests.append(rng.choice(_WORDINGS[kind]).format(**words))
    return Example(
        instruction=" ".join(requests), answer=draft.text, check={"constraints": constraints}
    )


def _draw_kinds(rng: random.Random) -> Sequence[str]:
    first, second = rng.sample(list(KINDS), 2)
    group, other = KINDS[first][0], KINDS[second][0]
    if group == other or {first, second} in _INCOMPATIBLE or rng.random() < 0.4:
        return [first]
    return [first, second] if group < other else [second, first]


def _layout(layout: Callable[[Sequence[str]], str]) -> Constrain:
    def constrain(rng: random.Random, draft: Draft) -> dict[str, Any]:
        draft.layout = layout
        return {"count": len(draft.facts)}

    return constrain


def _finish(finish: Callable[[str], str]) -> Constrain:
    def constrain(rng: random.Random, draft: Draft) -> dict[str, Any]:
        draft.finish = finish
        return {}

    return constrain


def _json_keys(rng: random.Random, draft: Draft) -> dict[str, Any]:
    keys = rng.sample(_JSON_KEYS, 2)
    draft.layout = lambda facts: json.dumps(dict(zip(keys, facts, strict=False)))
    return {"keys": keys}


def _starts_with(rng: random.Random, draft: Draft) -> dict[str, Any]:
    phrase = rng.choice(_OPENINGS)
    draft.finish = lambda text: f"{phrase}{_gap(text)}{text}"
    return {"phrase": phrase}


def _ends_with(rng: random.Random, draft: Draft) -> dict[str, Any]:
    phrase = rng.choice(_CLOSINGS)
    draft.finish = lambda text: f"{text}{_gap(text)}{phrase}"
    return {"phrase": phrase}


def _gap(text: str) -> str:
    return "\n" if "\n" in text else " "


def _postscript(rng: random.Random, draft: Draft) -> dict[str, Any]:
    fact = rng.choice([fact for fact in draft.topic.facts if fact not in draft.facts])
    draft.finish = lambda text: f"{text}\nP.S. {fact}"
    return {}


def _use_word(rng: random.Random, draft: Draft) -> dict[str, Any]:
    word = draft.topic.word
    return {"word": word, "count": len(re.findall(rf"\b{word}\b", draft.text, re.IGNORECASE))}


def _avoid_word(rng: random.Random, draft: Draft) -> dict[str, Any]:
    words = re.findall(r"[a-z]{4,}", " ".join(draft.topic.facts).lower())
    return {"word": rng.choice([word for word in words if word not in draft.text.lower()])}


def _max_words(rng: random.Random, draft: Draft) -> dict[str, Any]:
    return {"count": len(draft.text.split()) + rng.randint(0, 4)}


def _min_words(rng: random.Random, draft: Draft) -> dict[str, Any]:
    return {"count": len(draft.text.split()) - rng.randint(0, 4)}


def _in_words(value: str | int | Sequence[str]) -> str | int:
    """A parameter in words: a list of keys becomes `"fact" and "note"`."""
    if isinstance(value, str | int):
        return value
    return " and ".join(f'"{item}"' for item in value)


def _parse_topic(paragraph: str) -> Topic:
    name, facts = " ".join(paragraph.split()).split(": ", 1)
    return Topic(name, name.split()[-1], re.split(r"(?<=\.) ", facts))


def _parse_requests(lines: str) -> Mapping[str, Sequence[str]]:
    wordings: dict[str, list[str]] = {}
    for line in lines.strip().splitlines():
        kind, wording = line.split(": ", 1)
        wordings.setdefault(kind, []).append(wording)
    return wordings


_PARSED_TOPICS = tuple(_parse_topic(paragraph) for paragraph in _TOPICS.strip().split("\n\n"))
_WORDINGS = _parse_requests(_REQUESTS)
_QUESTIONS = (
    "Tell me about {topic}.",
    "Write a short text about {topic}.",
    "What do you know about {topic}?",
    "Give some facts about {topic}.",
    "Describe {topic} for a child.",
    "What should one know about {topic}?",
)
_OPENINGS = ("In short:", "Fun fact:", "Quick answer:", "Here we go:", "My notes:", "As we know:")
_CLOSINGS = ("That is all.", "The end.", "Hope this helps!", "Now you know.", "Any questions?")
_JSON_KEYS = ("fact", "note", "detail", "extra", "first", "second")

# Group of each kind of constraint, and the function that edits a draft to satisfy it and returns
# the parameters for `alps.evals.mini.check_general`. An example has at most one kind per group, and
# groups are applied in this order: layout, finish, content.
KINDS: Mapping[str, tuple[int, Constrain]] = {
    "num_bullets": (0, _layout(lambda facts: "\n".join(f"- {fact}" for fact in facts))),
    "num_numbered": (0, _layout(lambda facts: "\n".join(map("{}. {}".format, range(1, 9), facts)))),
    "num_sentences": (0, _layout(" ".join)),
    "num_paragraphs": (0, _layout("\n\n".join)),
    "json_keys": (0, _json_keys),
    "lowercase": (1, _finish(str.lower)),
    "uppercase": (1, _finish(str.upper)),
    "quoted": (1, _finish('"{}"'.format)),
    "starts_with": (1, _starts_with),
    "ends_with": (1, _ends_with),
    "no_commas": (1, _finish(str)),
    "postscript": (1, _postscript),
    "use_word": (2, _use_word),
    "avoid_word": (2, _avoid_word),
    "max_words": (2, _max_words),
    "min_words": (2, _min_words),
}
# Pairs that contradict each other.
_INCOMPATIBLE = (
    *({"num_sentences", kind} for kind in ("postscript", "ends_with")),
    *({"quoted", kind} for kind in ("num_bullets", "num_numbered", "num_paragraphs")),
    *(
        {"json_keys", kind}
        for kind, (group, _) in KINDS.items()
        if group == 1 and kind != "lowercase"
    ),
)
