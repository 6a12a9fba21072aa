from dataclasses import dataclass, field

from alps.base.key import canonical, excluded_at_default, excluded_from_key


@dataclass(frozen=True, kw_only=True)
class Part:
    size: int = 1
    where: str = excluded_from_key("here")


@dataclass(frozen=True, kw_only=True)
class Whole:
    parts: tuple[Part, ...] = (Part(),)
    more: dict = field(default_factory=dict)
    path: str = excluded_from_key("a")

    def fingerprint(self) -> str:
        return "content"


def test_canonical_drops_places_and_adds_fingerprints_at_every_depth():
    whole = Whole(parts=(Part(size=2),), more={1: Part(where="there")})
    assert canonical([whole]) == [
        {
            "class": "Whole",
            "parts": [{"class": "Part", "size": 2}],
            "more": {"1": {"class": "Part", "size": 1}},
            "fingerprint": "content",
        }
    ]


def test_canonical_is_equal_for_what_differs_in_places_only():
    moved = Whole(path="b", parts=(Part(where="elsewhere"),))
    assert canonical(moved) == canonical(Whole())
    assert canonical(Whole(parts=(Part(size=3),))) != canonical(Whole())


@dataclass(frozen=True)
class Later:
    since: int = excluded_at_default(3)


def test_a_later_setting_counts_only_away_from_its_default():
    assert canonical(Later()) == canonical(Later(3)) == {"class": "Later"}
    assert canonical(Later(0)) == {"class": "Later", "since": 0}
