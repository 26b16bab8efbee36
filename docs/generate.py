"""Write the generated pages and pictures of this folder; `make docs` runs it, and a test keeps the pages equal to the code."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent


def commands_page() -> str:
    """Return `commands.md`: the help of every command, as it is printed."""
    os.environ |= {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
    from typer.main import get_command
    from typer.testing import CliRunner

    from tiltflow.cli import app

    runner = CliRunner()
    parts = ["# Commands\n", "Made by `make docs` from the command itself; a test keeps the two equal.\n"]
    names = list(getattr(get_command(app), "commands", {}))
    for name in ["", *names]:
        arguments = [name, "--help"] if name else ["--help"]
        text = runner.invoke(app, arguments, prog_name="tiltflow", color=False).output
        lines = [line.rstrip() for line in text.strip().splitlines()]
        parts += [f"## tiltflow {name}".rstrip() + "\n", "```text", *lines, "```\n"]
    return "\n".join(parts)


def products_page() -> str:
    """Return `products.md`: the catalogue, and which step makes what."""
    from tiltflow.products.catalogue import PRODUCTS, STEPS

    maker = {asset_type: step.name for step in STEPS for asset_type in step.makes}
    rows = [
        f"| `{product.pattern.replace('{name}', 'B').replace('{view}', 'NNN')}` | `{product.asset_type}` | {product.description} "
        f"| `{maker[product.asset_type]}` |"
        for product in PRODUCTS
    ]
    head = [
        "# Products",
        "",
        "Made by `make docs` from the catalogue in `products/`; a test keeps the two equal. For an input `B.st`, in its folder:",
        "",
        "| file | asset type | what it is | step |",
        "|---|---|---|---|",
    ]
    return "\n".join([*head, *rows, ""])


def parameters_page() -> str:
    """Return `parameters.md`: the nine parameters, by the names that each door has for them."""
    from tiltflow.recipe import PARAMETERS

    rows = [
        f"| `{each.option}` | `{each.imod}` | {each.default} | {each.least} to {each.most} | {each.help} |"
        for each in PARAMETERS.values()
    ]
    head = [
        "# The nine parameters",
        "",
        "Made by `make docs` from `src/tiltflow/recipe/parameters.py`; a test keeps the two equal.",
        "",
        "These are the choices that IMOD's users know. `tiltflow run` and `tiltflow directives` have an option for each; the templates",
        "and the Prefect flow `BRT` use IMOD's names, and the flow asks for all nine. `--fiducialless` is given or left out; all others",
        "take a whole number. Everything else is set by a [directive](directives.md), in a template or by `--set`.",
        "",
        "| option | IMOD, templates, flow | default | values | what it decides |",
        "|---|---|---|---|---|",
    ]
    derived = [
        "",
        "Templates may also use `SurfacesToAnalyze` (`TwoSurfaces` + 1) and `rpa_thickness` (1.5 times `THICKNESS`, rounded down).",
    ]
    return "\n".join([*head, *rows, *derived, ""])


def settings_table() -> str:
    """Return every setting of a site, the thresholds of the verdict among them, as a table."""
    from tiltflow.settings import describe_settings

    rows = [
        f"| `{each.name}` | `{each.variable}` | {f'`{each.default}`' if each.default else ''} | {each.help} |"
        for each in describe_settings()
    ]
    return "\n".join(["| setting | variable | default | what it is |", "|---|---|---|---|", *rows])


def with_block(page: str, block: str, make: Callable[[], str]) -> str:
    """Return a page that is written by hand, with what stands between the markers of a block made anew."""
    begin, end = f"<!-- {block}: made by `make docs` -->\n\n", f"\n\n<!-- end of {block} -->"
    before, found, rest = (HERE / page).read_text(encoding="utf-8").partition(begin)
    after = rest.partition(end)[2]
    if not (found and after):
        raise SystemExit(f"{page} lacks the markers of the block {block!r}")
    return before + begin + make() + end + after


def schema_of(record: str) -> str:
    """Return the JSON schema of a `run.json`: that of a series or that of a run."""
    from tiltflow.record import RunRecord, SeriesRecord

    model = {"series": SeriesRecord, "run": RunRecord}[record]
    return json.dumps(model.model_json_schema(by_alias=True), indent=1) + "\n"


PAGES = {
    "commands.md": commands_page,
    "operating.md": functools.partial(with_block, "operating.md", "settings", settings_table),
    "parameters.md": parameters_page,
    "products.md": products_page,
    "schema/series-record.schema.json": functools.partial(schema_of, "series"),
    "schema/run-record.schema.json": functools.partial(schema_of, "run"),
}


def write_demo_picture(results: Path, target: Path) -> None:
    """Put the demo's key image, a section of its volume and a frame of each movie side by side."""
    import av
    import numpy as np
    from PIL import Image, ImageDraw

    from tiltflow.formats.mrc import open_mrc

    side, bar = 384, 24
    volume = open_mrc(results / "demo_rec.mrc")
    section = np.asarray(volume[volume.shape[0] // 2], np.float32)[::-1]
    low, high = np.percentile(section, [0.5, 99.5])
    grey = np.uint8(np.clip((section - low) / (high - low), 0, 1) * 255)
    pictures = {"key image": Image.open(next(results.glob("demo_ali.*.jpg"))), "section of the volume": Image.fromarray(grey)}
    for label, movie in (("tilt movie, first view", "tiltMov_demo.mp4"), ("averaged volume, movie", "keyMov_demo.mp4")):
        with av.open(str(results / movie)) as container:
            frames = [frame.to_image() for frame in container.decode(video=0)]
        pictures[label] = frames[0 if "first" in label else len(frames) // 2]
    sheet = Image.new("L", (side * len(pictures), side + bar), 255)
    draw = ImageDraw.Draw(sheet)
    for column, (label, picture) in enumerate(pictures.items()):
        sheet.paste(picture.convert("L").resize((side, side), Image.Resampling.LANCZOS), (column * side, bar))
        draw.text((column * side + 6, 6), label, fill=0)
    target.parent.mkdir(parents=True, exist_ok=True)
    sheet.quantize(64).save(target, optimize=True)


def main() -> None:
    """Write the pages; with the folder of a demo run as argument, its picture too."""
    for name, page in PAGES.items():
        (HERE / name).parent.mkdir(exist_ok=True)
        (HERE / name).write_text(page(), encoding="utf-8")
    if len(sys.argv) > 1:
        write_demo_picture(Path(sys.argv[1]) / "results" / "demo", HERE / "pictures" / "demo.png")


if __name__ == "__main__":
    main()
