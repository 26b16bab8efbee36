"""Write what is generated in this folder: whole pages, the figures of the benchmarks, and with a demo's folder its picture.

    python docs/generate.py [--check] [DEMO_FOLDER] [--cryo SERIES_FOLDER]

`make pages` runs it.  With `--check` nothing is written, and the exit status says whether anything would be; tests ask the same.
With `--cryo` and the results of a cryo series, made as `howto/cryo.md` says, the pictures of that page are made.

Figures lie in `figures/NAME.json`, where the benchmark NAME puts them (`benchmarks/record.py`).  A page takes them between marks:

    <!-- figure: NAME.FIGURE -->11.6 G/s<!-- / -->     a figure with its unit
    <!-- table: NAME -->...<!-- / -->                  all that the benchmark printed
    <!-- origin: NAME -->...<!-- / -->                 command, date and machine
"""

from __future__ import annotations

import argparse
import functools
import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FIGURES = HERE / "figures"

_MARKED = re.compile(r"(<!-- (figure|table|origin): ([\w.]+) -->)(.*?)(<!-- / -->)", re.DOTALL)


def commands_page() -> str:
    """Return `commands.md`: the help of every command, as it is printed."""
    from typer.main import get_command
    from typer.testing import CliRunner

    from tiltflow.cli import app

    runner = CliRunner(env={"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"})
    parts = ["# Commands\n", "Made by `make pages` from the command itself; a test keeps the two equal.\n"]
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
    from tiltflow.products.context import STATE_NAMES

    maker = {asset_type: step.name for step in STEPS for asset_type in step.makes}
    rows = [
        f"| `{product.pattern.replace('{name}', 'B').replace('{view}', 'NNN')}` | `{product.asset_type}` | {product.description} "
        f"| `{maker[product.asset_type]}` |"
        for product in PRODUCTS
    ]
    head = [
        "# Products",
        "",
        "Made by `make pages` from the catalogue in `products/`; a test keeps the two equal. For an input `B.st`, in its folder:",
        "",
        "| file | asset type | what it is | step |",
        "|---|---|---|---|",
    ]
    states = " and ".join(f"`{pattern.format(name='B')}`" for pattern in STATE_NAMES)
    tail = [
        "",
        f"Beside them {states}: a state of Neuroglancer that shows the pyramid, and a link that opens it. They are not assets.",
    ]
    return "\n".join([*head, *rows, *tail, ""])


def parameters_page() -> str:
    """Return `parameters.md`: the nine parameters, by the names that each door has for them."""
    from tiltflow.recipe import PARAMETERS

    rows = [
        f"| `{each.option}` | `{each.imod_name}` | {default} | {each.least} to {each.most} | {each.help} |"
        for each in PARAMETERS.values()
        for default in ["by the data" if each.default is None else each.default]
    ]
    head = [
        "# The nine parameters",
        "",
        "Made by `make pages` from `src/tiltflow/recipe/parameters.py`; a test keeps the two equal.",
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


def environment_file() -> str:
    """Return `deploy/tiltflow.env`: every setting with its meaning, left at its default, and what Prefect is to be told."""
    from tiltflow.settings import FILE_VARIABLE, describe_settings

    head = [
        "# The environment of tiltflow's worker: /etc/tiltflow/tiltflow.env",
        "# Made by `make pages` from the settings; a test keeps the two equal.  What is commented out has the default that stands there.",
        "",
        "# Where Prefect's server is.",
        "PREFECT_API_URL=http://127.0.0.1:4200/api",
        "# A sign of life every 30 s, by which a run whose machine died is found (python -m tiltflow_flows.lost_runs).",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY=30",
        "# Nothing leaves the site.",
        "PREFECT_SERVER_ANALYTICS_ENABLED=false",
        "DO_NOT_TRACK=1",
        "# The certificates of a private authority, in the form PEM; REQUESTS_CA_BUNDLE is read too.",
        "#SSL_CERT_FILE=",
        "",
        "# A file of the settings below, in the form TOML; variables count before it.",
        f"#{FILE_VARIABLE}=",
    ]
    for each in describe_settings():
        head += [
            "",
            *textwrap.wrap(each.help, 118, initial_indent="# ", subsequent_indent="# "),
            f"#{each.variable}={each.default}",
        ]
    return "\n".join([*head, ""])


def with_block(page: str, block: str, make: Callable[[], str]) -> str:
    """Return a page that is written by hand, with what stands between the markers of a block made anew."""
    begin, end = f"<!-- {block}: made by `make pages` -->\n\n", f"\n\n<!-- end of {block} -->"
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


def directives_page() -> str:
    """Return `directives.md`: the catalogue of directives."""
    from tiltflow.formats.known_directives import render_catalogue

    return render_catalogue()


PAGES = {
    "../deploy/tiltflow.env": environment_file,
    "commands.md": commands_page,
    "directives.md": directives_page,
    "operating.md": functools.partial(with_block, "operating.md", "settings", settings_table),
    "parameters.md": parameters_page,
    "products.md": products_page,
    "schema/series-record.schema.json": functools.partial(schema_of, "series"),
    "schema/run-record.schema.json": functools.partial(schema_of, "run"),
}


def with_figures(text: str) -> str:
    """Return the text of a page with the figures of the benchmarks between its marks."""
    return _MARKED.sub(lambda found: found[1] + _shown(found[2], found[3]) + found[5], text)


def _shown(kind: str, name: str) -> str:
    benchmark, _, figure = name.partition(".")
    told = figures_of(benchmark)
    if kind == "table":
        table = "\n".join(told["table"])
        return f"\n{table}\n" if table.startswith("|") else f"\n\n```text\n{table}\n```\n"
    if kind == "origin":
        return f"`{told['command']}`, {told['date']}: {told['machine']}."
    return figure_text(told["figures"][figure])


def figures_of(benchmark: str) -> dict[str, Any]:
    """Return what a benchmark has recorded."""
    told: dict[str, Any] = json.loads((FIGURES / f"{benchmark}.json").read_text(encoding="utf-8"))
    return told


def figure_text(figure: dict[str, str]) -> str:
    """Return a figure with its unit, as the pages show it."""
    return f"{figure['value']} {figure['unit']}"


def pages_with_figures() -> Iterator[Path]:
    """Yield every page that is written by hand, as only these have marks."""
    yield from sorted(path for path in HERE.rglob("*.md") if path.relative_to(HERE).as_posix() not in PAGES)


def generated() -> Iterator[tuple[Path, str]]:
    """Yield every page of which something is generated, with the text that it should have."""
    yield from ((HERE / name, page()) for name, page in PAGES.items())
    yield from ((path, with_figures(path.read_text(encoding="utf-8"))) for path in pages_with_figures())


def write_demo_picture(results: Path, target: Path) -> None:
    """Put the demo's key image, a slice of its volume and a frame of each movie side by side."""
    import av
    import numpy as np
    from PIL import Image, ImageDraw

    from tiltflow.formats.mrc import open_mrc

    side, bar = 384, 24
    volume = open_mrc(results / "demo_rec.mrc")
    section = np.asarray(volume[volume.shape[0] // 2], np.float32)[::-1]
    low, high = np.percentile(section, [0.5, 99.5])
    grey = np.uint8(np.clip((section - low) / (high - low), 0, 1) * 255)
    pictures = {"key image": Image.open(next(results.glob("demo_ali.*.jpg"))), "slice of the volume": Image.fromarray(grey)}
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


def write_cryo_pictures(results: Path, folder: Path) -> None:
    """Put a section of a cryo volume beside the same one deconvolved, and take the plots of the CTF and of the exposure from its page."""
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    from tiltflow.formats.mrc import open_mrc
    from tiltflow.record import read_record
    from tiltflow.report.ctf_plots import ctf_plots
    from tiltflow.report.specimen import specimen_of

    name, record, bar, gap = results.name, read_record(results / "run.json"), 34, 6
    specimen = specimen_of(record)
    middle_nm = 0.0 if specimen is None else (specimen.low_nm + specimen.high_nm) / 2
    panels = {}
    for ending, label in (("_rec.mrc", "as reconstructed"), ("_deconv.mrc", "deconvolved")):
        with open_mrc(results / f"{name}{ending}") as volume:
            voxel_nm = volume.header.pixel_size_angstrom[0] / 10
            section = np.asarray(volume[round(volume.shape[0] / 2 + middle_nm / voxel_nm)], np.float32)[::-1]
        low, high = np.percentile(section, [0.5, 99.7])
        panels[label] = np.uint8(np.clip((section - low) / (high - low), 0, 1) * 255)
    ny, nx = section.shape
    sheet = Image.new("L", (2 * nx + gap, ny + bar), 255)
    draw = ImageDraw.Draw(sheet)
    for column, (label, panel) in enumerate(panels.items()):
        left = column * (nx + gap)
        sheet.paste(Image.fromarray(panel), (left, bar))
        draw.text((left + 6, 4), label, fill=0, font=ImageFont.load_default(22))
        draw.rectangle((left + 12, bar + ny - 20, left + 12 + round(100 / voxel_nm), bar + ny - 15), fill=255, outline=0)
    sheet.save(folder / "cryo.jpg", quality=72, optimize=True)
    for plot in ctf_plots(record):
        (folder / f"cryo_{plot.name}.svg").write_text(standing_alone(plot.svg), encoding="utf-8")


def standing_alone(svg: str) -> str:
    """Return a drawing of a page, which has its colours from there, as one that stands alone, on white."""
    colours = {"--ink": "#222", "--soft": "#666", "--line": "#ccc", "--plot-1": "#2f6db3", "--plot-2": "#c4572a"}
    svg = re.sub(r"var\((--[\w-]+)\)", lambda found: colours[found[1]], svg)
    alone = 'xmlns="http://www.w3.org/2000/svg" width="480" style="background:#fff; font-family:sans-serif"'
    return svg.replace("<svg ", f"<svg {alone} ", 1)


def main() -> None:
    """Write the pages, or say which are not as they should be; with the folder of a demo run as argument, its picture too."""
    parser = argparse.ArgumentParser(description="Write what is generated in docs/.")
    parser.add_argument("demo", nargs="?", type=Path, help="the folder of a demo run, for its picture")
    parser.add_argument("--cryo", type=Path, help="the folder of the results of a cryo series, for the pictures of its page")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a page would change")
    asked = parser.parse_args()
    stale = [(path, text) for path, text in generated() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    if asked.check:
        sys.exit("\n".join(f"{path.relative_to(HERE.parent)} is not up to date: run `make pages`" for path, _ in stale) or 0)
    for path, text in stale:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    if asked.demo is not None:
        write_demo_picture(asked.demo / "results" / "demo", HERE / "pictures" / "demo.png")
    if asked.cryo is not None:
        write_cryo_pictures(asked.cryo, HERE / "pictures")


if __name__ == "__main__":
    main()
