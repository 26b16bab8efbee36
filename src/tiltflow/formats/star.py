"""STAR files, as RELION and Warp write them: named blocks, each a loop of columns.  Only what these programs read is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tiltflow.errors import ParameterError


def render_star(block: str, columns: Mapping[str, Sequence[float | str]]) -> str:
    r"""Return one block, a loop of columns of equal length, in their order.

    Raises
    ------
    ParameterError
        If the columns differ in length, or a name or value holds a blank, which would be read as two.

    Examples
    --------
    >>> print(render_star("TS_01", {"rlnTomoYTilt": [-60.0, 0.0]}), end="")
    <BLANKLINE>
    data_TS_01
    <BLANKLINE>
    loop_
    _rlnTomoYTilt #1
      -60.00000
        0.00000
    <BLANKLINE>
    """
    rows = list(zip(*columns.values(), strict=True)) if len({len(values) for values in columns.values()}) == 1 else None
    if rows is None:
        raise ParameterError(f"block {block!r} has columns of different lengths: { {k: len(v) for k, v in columns.items()} }")
    for word in (block, *columns, *(value for row in rows for value in row if isinstance(value, str))):
        if not word or any(character.isspace() for character in word):
            raise ParameterError(f"{word!r} cannot be written to a STAR file, which separates values by blanks: rename it")
    head = [f"_{name} #{number}" for number, name in enumerate(columns, 1)]
    body = [" ".join(_shown(value) for value in row) for row in rows]
    return "\n".join(["", f"data_{block}", "", "loop_", *head, *body, ""]) + "\n"


def _shown(value: float | str) -> str:
    return f"{value:11.5f}" if isinstance(value, float) else str(value)
