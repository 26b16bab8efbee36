"""A matplotlib figure as SVG that takes its colours and its font from the page: light, dark and printed.

Figures are drawn in stand-in colours, which become the variables of the page's style sheet.  matplotlib is imported by the first
figure, not before.
"""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK = "#010101"
FAINT = "#020202"
FIRST = "#030303"
SECOND = "#040404"
THIRD = "#050505"
GOOD = "#060606"
BAD = "#070707"

_VARIABLES = {
    INK: "var(--ink)",
    FAINT: "var(--line)",
    FIRST: "var(--plot-1)",
    SECOND: "var(--plot-2)",
    THIRD: "var(--plot-3)",
    GOOD: "var(--good)",
    BAD: "var(--poor)",
}
_STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": FAINT,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "none",
    "font.size": 9.0,
    "grid.color": FAINT,
    "grid.linewidth": 0.5,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.4,
    "lines.markersize": 3.5,
    "savefig.facecolor": "none",
    "svg.fonttype": "none",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}
_BOTTOM, _RIGHT, _TOP = 0.45, 0.08, 0.1

# matplotlib keeps its style in one global table, and several series may be drawn at once.
_style_lock = threading.Lock()


def draw(name: str, description: str, paint: Callable[[Axes], None], *, size: tuple[float, float], left: float) -> str:
    """Return what `paint` draws, as an SVG element.

    Parameters
    ----------
    name
        Keeps the drawing's internal names apart from those of other drawings on a page.
    description
        What those hear who cannot see it.
    size, left
        Width and height, and the room for labels at the left, inches.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    width, height = size
    buffer = io.StringIO()
    with _style_lock, mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        # Fixed margins: a layout engine would draw everything twice to find them.
        box = (left / width, _BOTTOM / height, 1 - (left + _RIGHT) / width, 1 - (_BOTTOM + _TOP) / height)
        figure = Figure(figsize=size)
        paint(figure.add_axes(box))
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _for_page(buffer.getvalue(), name, description)


def _for_page(svg: str, name: str, description: str) -> str:
    """Return the element alone, with the page's colours and font, a size that follows the page, and names of its own."""
    element = svg[svg.index("<svg") :]
    for stand_in, variable in _VARIABLES.items():
        element = element.replace(stand_in, variable)
    element = re.sub(r'\bid="', f'id="{name}-', element)
    element = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", element)
    element = re.sub(r" font-family: [^;]*;", "", element.replace("xlink:href", "href"))
    element = re.sub(
        r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', rf'<svg class="plot" role="img" aria-label="{escape(description)}" \1>', element
    )
    return re.sub(r"<(metadata|style)\b.*?</\1>", "", element, flags=re.DOTALL).strip()
