"""The command that looks whether a site is ready."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from tiltflow.cli.application import SOME_FAILED
from tiltflow.cli.command_list import commands
from tiltflow.cli.options import CallbackUrl, TokenFile


@commands.command("check-site", epilog="Exit status: 0 nothing has to be put right; 1 a check failed.")
def check_site(
    *,
    callback_url: CallbackUrl = None,
    token_file: TokenFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Look whether this machine is ready: folders, certificates, token, portal, Prefect, Slurm, and a simulated series by each engine.

    The portal is asked, if --callback-url names it, by requests that change nothing (OPTIONS).
    """
    from tiltflow import console
    from tiltflow.check_site.all_checks import all_checks
    from tiltflow.check_site.finding import Checked, Site, State, failed, run_checks
    from tiltflow.check_site.program import check_version
    from tiltflow.errors import TiltflowError
    from tiltflow.settings import load_settings
    from tiltflow.version import __version__, build

    with console.silent_log():  # what goes wrong is in the findings
        try:
            settings = load_settings()
        except TiltflowError as error:
            wrong = failed(str(error), "correct the setting; nothing else was checked")
            done = [Checked("version", check_version(), 0.0), Checked("settings", wrong, 0.0)]
        else:
            done = list(run_checks(all_checks(settings), Site(settings, callback_url, token_file)))
    bad = [one for one in done if one.finding.state is State.FAILED]
    if as_json:
        rows = [
            {"check": one.name, "state": one.finding.state.lower(), "found": one.finding.found, "remedy": one.finding.remedy}
            for one in done
        ]
        told = {"tiltflow": __version__, "commit": build() or None, "ready": not bad, "checks": rows}
        console.out.print(json.dumps(told, indent=2), markup=False, soft_wrap=True)
    else:
        table = [(one.name, str(one.finding.state), one.finding.found, one.finding.remedy) for one in done]
        console.show_rows(table, ("check", "state", "found", "what to do"))
        summary = (
            f"{len(bad)} of {len(done)} checks failed: {', '.join(one.name for one in bad)}"
            if bad
            else "nothing has to be put right"
        )
        console.out.print(f"\n{summary}", markup=False)
    if bad:
        raise typer.Exit(SOME_FAILED)
