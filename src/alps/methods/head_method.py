"""What all methods that choose heads share: ratio, scope and KV policy."""

from collections.abc import Iterator
from dataclasses import dataclass

from alps.families import KvPolicy, Method, Scope
from alps.heads import HeadSet
from alps.methods.whole import Full
from alps.models.plan import Plan


@dataclass(frozen=True, kw_only=True)
class HeadMethod(Method):
    """Trains the Q/K/V rows of some heads, and by `scope` also everything outside Q/K/V.

    Attributes:
        ratio: Share of all heads, in (0, 1].
        scope: `rest_trains` (everything outside Q/K/V trains too) or `heads_only`.
        kv_policy: When a KV group trains that chosen and unchosen heads share.
    """

    ratio: float
    scope: Scope
    kv_policy: KvPolicy = "any"

    def problems(self) -> Iterator[str]:
        """Sentences about settings that cannot be used."""
        if self.ratio == 0:
            yield (
                f"ratio=0 leaves method={self.name} no head to train: "
                "use method=no_attn, which is the 0 % row of Table 3"
            )
        elif not 0 < self.ratio <= 1:
            yield f"ratio must lie in (0, 1], got {self.ratio}"

    def normalized(self) -> Method:
        """All heads and all the rest are everything: ratio 1 under rest_trains is `full`."""
        everything = self.ratio == 1 and self.scope == "rest_trains" and self.kv_policy != "none"
        return Full(name="full") if everything else self

    def plan(self, heads: HeadSet | None) -> Plan:
        """Rows of the chosen heads, and the rest by scope."""
        rest = self.scope == "rest_trains"
        return Plan(qkv="heads", rest=rest, heads=heads, kv_policy=self.kv_policy)
