"""What Prefect, Slurm and the door need of a site: checks that `tiltflow check-site` finds by their entry point."""

from __future__ import annotations

import re
import tempfile
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import prefect
from packaging.requirements import Requirement
from packaging.version import Version
from prefect.client.orchestration import get_client
from prefect.settings import get_current_settings

from tiltflow import command
from tiltflow.check_site.finding import Check, Finding, Site, failed, good, note
from tiltflow.errors import CommandError, SettingsError, TiltflowError
from tiltflow.recipe import BrtParameters, make_recipe
from tiltflow_flows.door import OWN_ENTRYPOINT, describe_door
from tiltflow_flows.lost_runs import LONGEST_SILENCE_S
from tiltflow_flows.lost_runs import NAME as AUTOMATION
from tiltflow_flows.templates import own_templates

_SLURM_LIMIT_S = 60.0
"""Longest wait for sbatch, which answers within a second unless the controller is away."""


def check_door(_site: Site) -> Finding:
    """Look which flow the established name starts."""
    door = describe_door()
    if door.leads_here:
        return good(door.message)
    if door.leads_elsewhere:
        return failed(door.message, "do what the message says, then look again")
    return note(f"{door.message}", f"nothing, if all deployments name {OWN_ENTRYPOINT}")


def check_packages(_site: Site) -> Finding:
    """Look whether Prefect and what comes with it are of the versions that the flow was tested with."""
    needed = [Requirement(text) for text in requires("tiltflow") or ()]
    wrong, found = [], []
    for requirement in needed:
        if requirement.marker is None or not requirement.marker.evaluate({"extra": "prefect"}):
            continue
        try:
            there = version(requirement.name)
        except PackageNotFoundError:
            there = ""
        found.append(f"{requirement.name} {there}")
        if not there or not requirement.specifier.contains(there, prereleases=True):
            wrong.append(f"{requirement.name} {there or 'is not installed'} (needed: {requirement.specifier})")
    if wrong:
        return failed("; ".join(wrong), "pip install 'tiltflow[prefect]'")
    return good(", ".join(found))


def check_server(site: Site) -> Finding:
    """Look whether Prefect's server answers, and is no older than the client here."""
    url = get_current_settings().api.url
    if url is None:
        if site.settings.runner != "threads":
            return failed(f"PREFECT_API_URL is not set, which the runner {site.settings.runner!r} needs", "set PREFECT_API_URL")
        return note(
            "PREFECT_API_URL is not set: every flow starts a server of its own", "set it, as http://prefect.example:4200/api"
        )
    with get_client(sync_client=True) as client:
        if (problem := client.api_healthcheck()) is not None:
            return failed(
                f"{_shown(url)} does not answer ({type(problem).__name__}: {problem})",
                "start the server, or correct PREFECT_API_URL",
            )
        server = Version(client.api_version())
    here = Version(prefect.__version__)
    found = f"{_shown(url)} answers, version {server}; here {here}"
    if server.major != here.major or server < here:
        return failed(f"{found}: a server must not be older than those that ask it", "update the server first, then the workers")
    return good(found)


def check_heartbeats(_site: Site) -> Finding:
    """Look whether runs give signs of life, more often than the server waits for one (:mod:`tiltflow_flows.lost_runs`)."""
    seconds, watched = get_current_settings().flows.heartbeat_frequency, _is_watched()
    remedy = "set PREFECT_FLOWS_HEARTBEAT_FREQUENCY=30"
    if seconds is None:
        return note("runs send none: one whose machine died stays in the state Running", remedy)
    if watched and 2 * seconds >= LONGEST_SILENCE_S:
        return failed(
            f"one in {seconds} s, and a run without one for {LONGEST_SILENCE_S:g} s is started again: all would be", remedy
        )
    if not watched:
        return note(f"one in {seconds} s, and nobody waits for them", f"{remedy}, and run python -m tiltflow_flows.lost_runs once")
    return good(f"one in {seconds} s; a run without one for {LONGEST_SILENCE_S:g} s is started again")


def _is_watched() -> bool:
    if get_current_settings().api.url is None:
        return False
    with get_client(sync_client=True) as client:
        return bool(client.read_automations_by_name(AUTOMATION))


def check_slurm(site: Site) -> Finding:
    """Ask Slurm whether a node could run the largest job of the settings, and sbatch about its very script; nothing is submitted."""
    if site.settings.runner != "slurm":
        return note(f"not used: the runner is {site.settings.runner!r}")
    from tiltflow_flows.job_size import size_of_job
    from tiltflow_flows.slurm import passes, require_possible
    from tiltflow_flows.slurm_cluster import job_script

    slurm = site.settings.slurm
    size = size_of_job(slurm, lambda _threads: [], 1)
    require_possible(slurm, size.cores, size.memory)
    job = f"{slurm.cores} cores, {slurm.memory}, {slurm.walltime}, partition {slurm.partition or 'default'}"
    with tempfile.TemporaryDirectory(prefix="tiltflow-job-") as folder:
        script = Path(folder) / "job.sh"
        script.write_text(job_script(site.settings), encoding="utf-8")
        try:
            command.run("sbatch", ["--test-only", str(script)], cwd=Path(folder), limit_s=_SLURM_LIMIT_S)
        except CommandError as error:
            words = " ".join(error.last_lines) or str(error)
            if passes(SettingsError(words)):
                return note(f"Slurm does not take the job now ({job}): {words}", "the flow waits for it; nothing, if that is known")
            return failed(f"Slurm refuses the job ({job}): {words}", "correct the settings slurm.*")
    return good(f"Slurm would accept the largest job: {job}")


def check_templates(site: Site) -> Finding:
    """Look whether each template of the site's folders can be used."""
    absent = [str(folder) for folder in site.settings.template_folders if not folder.is_dir()]
    if absent:
        return failed(f"of the template_folders {', '.join(absent)} cannot be read", "mount or make it, or correct the setting")
    own, wrong = own_templates(site.settings), []
    for name, path in own.items():
        try:
            make_recipe(BrtParameters(), path, **site.settings.recipe_defaults)
        except TiltflowError as error:
            wrong.append(f"{name}: {error}")
    if wrong:
        return failed("; ".join(wrong), "correct the template, or take it out of the folder")
    return good(f"{len(own)} of the site: {', '.join(sorted(own, key=str.casefold))}" if own else "none of the site's own")


def _shown(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//", url)  # a user and a password may stand before the host


CHECKS = (
    Check("door", check_door),
    Check("Prefect packages", check_packages),
    Check("Prefect server", check_server),
    Check("Prefect heartbeats", check_heartbeats),
    Check("Slurm", check_slurm),
    Check("templates", check_templates),
)
