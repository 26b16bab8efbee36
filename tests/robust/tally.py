"""The table of the attacks: of each kind how many were tried, and how many the program survived."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Count:
    """Attacks of one kind."""

    tried: int = 0
    survived: int = 0
    broken: list[str] = field(default_factory=list)


@dataclass
class Tally:
    """Counts by kind, in the order in which the kinds came."""

    kinds: dict[str, Count] = field(default_factory=dict)

    def add(self, kind: str, what: str, broken: list[str]) -> None:
        """Count one attack; `broken` says which promises it broke."""
        count = self.kinds.setdefault(kind, Count())
        count.tried += 1
        count.survived += not broken
        if broken:
            count.broken.append(f"{what}: {'; '.join(broken)}")

    def require(self, kind: str) -> None:
        """Raise if an attack of this kind broke a promise, or none was tried."""
        count = self.kinds.get(kind, Count())
        assert count.tried, f"no attack of the kind {kind!r} was tried"
        shown = "\n".join(count.broken[:10])
        assert not count.broken, f"{count.tried - count.survived} of {count.tried} broke a promise:\n{shown}"

    def rows(self) -> list[str]:
        """Return the table, in Markdown."""
        rows = [f"| {kind} | {count.tried} | {count.survived} |" for kind, count in self.kinds.items()]
        return ["| kind | tried | survived |", "|---|---:|---:|", *rows]


TALLY = Tally()
"""Of the whole session."""
