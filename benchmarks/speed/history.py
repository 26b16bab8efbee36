"""Ratios of every release, kept in `docs/figures/speed_history.json`, and a warning where the newest is slower than the last.

All are of this version to something else that was measured in the same session, so that machines can differ; smaller is quicker:

* `gold_wall`, `gold_cpu` (`patches_...`, `markerless_...`): to version 0.1, with `whole_run.py --against`;
* `wall_of_imod`, `cpu_of_imod`: to IMOD and the documented commands, with `whole_run.py --imod`;
* `cpu_yardsticks`: CPU time of the whole run, in units of a fixed piece of work (:func:`speed.start_up.yardstick`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import record

NAME = "speed_history"
PICTURE = Path(__file__).parents[2] / "docs" / "pictures" / "speed_history.svg"
WORSE = 1.15
"""A ratio that is so many times that of the last entry is told: repeated runs on a busy machine differ by a tenth."""

BASE = "0.1"
"""The version that `--against` ratios in the history are to."""

COLUMNS = {
    "gold_wall": "wall, of 0.1",
    "gold_cpu": "CPU, of 0.1",
    "wall_of_imod": "wall, of IMOD",
    "cpu_of_imod": "CPU, of IMOD",
    "cpu_yardsticks": "CPU, yardsticks",
}
"""The ratios that the documentation shows, and their heads."""
_PLOTTED = {"gold_wall": "#2f6db3", "gold_cpu": "#7fb0e6", "wall_of_imod": "#c4572a", "cpu_of_imod": "#e9a07f"}
"""The ratios that are plotted, and their colours."""


def read_history() -> list[dict[str, Any]]:
    """Return the entries, the oldest first; none where there is no file."""
    path = record.FOLDER / f"{NAME}.json"
    if not path.is_file():
        return []
    releases: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["releases"]
    return releases


def regressions(ratios: Mapping[str, float], case: str, releases: list[dict[str, Any]]) -> Iterator[str]:
    """Yield a sentence for each ratio that is worse than in the newest entry that has it for the same case.

    >>> last = [{"version": "0.2.0", "ratios": {"gold_cpu": {"value": 0.4, "case": "small"}}}]
    >>> list(regressions({"gold_cpu": 0.5}, "small", last))
    ['WARNING: gold_cpu is 0.500, and was 0.400 at version 0.2.0: 25 % slower']
    >>> list(regressions({"gold_cpu": 0.45}, "small", last)), list(regressions({"gold_cpu": 0.5}, "large", last))
    ([], [])
    """
    for name, ratio in ratios.items():
        for release in reversed(releases):
            kept = release["ratios"].get(name)
            if kept is not None and kept["case"] == case:
                if ratio > WORSE * kept["value"]:
                    slower = f"{ratio / kept['value'] - 1:.0%}".replace("%", " %")
                    yield f"WARNING: {name} is {ratio:.3f}, and was {kept['value']:.3f} at version {release['version']}: {slower} slower"
                break


def tell_regressions(ratios: Mapping[str, float], case: str) -> None:
    """Print whether a ratio is worse than in the last entry of the history."""
    releases = read_history()
    found = list(regressions(ratios, case, releases))
    known = any(kept["case"] == case for release in releases for name, kept in release["ratios"].items() if name in ratios)
    if found:
        print("\n".join(found))
        print("other work on the machine may be the cause: measure it beside the other version, with --against CHECKOUT")
    elif known:
        print(f"nothing is more than {round(100 * (WORSE - 1))} % slower than in the last entry of the history")
    else:
        print("the history has no entry of this case to compare with")


def keep_release(version: str, ratios: Mapping[str, float], case: str) -> None:
    """Put ratios into the entry of a version, which other runs may have begun, and write table and picture anew."""
    releases = read_history()
    entry = next((each for each in releases if each["version"] == version), None)
    if entry is None:
        releases.append(entry := {"version": version, "ratios": {}})
    entry |= {"date": datetime.now(UTC).date().isoformat(), "machine": record.machine()}
    entry["ratios"] |= {name: {"value": round(ratio, 3), "case": case} for name, ratio in ratios.items()}
    write_history(releases)


def write_history(releases: list[dict[str, Any]]) -> None:
    """Write the history, with its table as the documentation shows it, and the plot."""
    told = {"releases": releases, "figures": {}, "table": table(releases)}
    path = record.FOLDER / f"{NAME}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    PICTURE.write_text(plot(releases), encoding="utf-8")


def table(releases: list[dict[str, Any]]) -> list[str]:
    """Return the rows of the table."""
    rows = [["version", "date", *COLUMNS.values()], ["---"] * (2 + len(COLUMNS))]
    for release in releases:
        kept = release["ratios"]
        rows.append(
            [release["version"], release["date"], *(f"{kept[name]['value']:.2f}" if name in kept else "" for name in COLUMNS)]
        )
    return [f"| {' | '.join(row)} |" for row in rows]


def plot(releases: list[dict[str, Any]]) -> str:
    """Return a drawing of the ratios by release: a line each, 1 as fast as what it is compared with."""
    width, height, left, top = 560, 240, 40, 12
    across, down = width - left - 130, height - top - 30
    most = max([1.0, *(kept["value"] for release in releases for name, kept in release["ratios"].items() if name in _PLOTTED)])

    def place(index: int, value: float) -> tuple[float, float]:
        return left + 20 + (across - 40) * index / max(1, len(releases) - 1), top + down * (1 - value / most)

    shapes = []
    for value in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = place(0, value)[1]
        shapes.append(f'<path d="M{left} {y:.1f}H{left + across}" stroke="#ddd"/>')
        shapes.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.2f}</text>')
    for index, release in enumerate(releases):
        shapes.append(f'<text x="{place(index, 0)[0]:.1f}" y="{height - 10}" text-anchor="middle">{release["version"]}</text>')
    for row, (name, colour) in enumerate(_PLOTTED.items()):
        points = [place(index, each["ratios"][name]["value"]) for index, each in enumerate(releases) if name in each["ratios"]]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        shapes.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        shapes += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>' for x, y in points]
        shapes.append(f'<text x="{left + across + 12}" y="{top + 14 + 20 * row}" fill="{colour}">{COLUMNS[name]}</text>')
    style = 'font-family="sans-serif" font-size="12" fill="#333" style="background:#fff"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" {style}>'
    return "\n".join([head, *shapes, "</svg>", ""])
