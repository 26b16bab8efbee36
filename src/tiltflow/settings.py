"""How the work is done at this site: the only reader of the environment.

Each setting is taken from the first of these that gives it:

1. an argument of the call (an option of the command);
2. an environment variable, `TILTFLOW_` and the setting's name (`TILTFLOW_SCRATCH`, `TILTFLOW_SLURM_PARTITION`);
3. the TOML file that `TILTFLOW_SETTINGS` names;
4. the default.

Settings decide how the work is done.  The two that can touch the result, `engine` and `fallback`, become part of the recipe and
of its hash.
"""

from __future__ import annotations

import difflib
import json
import logging
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from tiltflow.errors import SettingsError
from tiltflow.model import Site, Thresholds

PREFIX = "TILTFLOW_"
FILE_VARIABLE = "TILTFLOW_SETTINGS"

_log = logging.getLogger(__name__)


def _parse_mounts(value: Any) -> Any:
    """Read `name=/path:name2=/path2`; JSON and tables pass through."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("{"):
        try:
            return json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError(f"{value!r} begins like JSON but is none ({error})") from error
    mounts: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in value.split(":"))):
        name, separator, path = part.partition("=")
        if not separator or not name.strip() or not path.strip():
            raise ValueError(f"{part!r} is not of the form name=/path; write name=/path:name2=/path2, or JSON")
        if name.strip() in mounts:
            raise ValueError(f"share {name.strip()!r} is given twice")
        mounts[name.strip()] = path.strip()
    return mounts


def _absolute(value: Any) -> Any:
    if not isinstance(value, (str, Path)):
        return value
    path = Path(value).expanduser()
    if not path.is_absolute():
        raise ValueError(f"{str(value)!r} is not an absolute path")
    return path


def _lines(value: Any) -> Any:
    """Read a list from one variable: JSON, or parts between semicolons."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError(f"{value!r} begins like JSON but is none ({error})") from error
    return [part.strip() for part in value.split(";") if part.strip()]


AbsolutePath = Annotated[Path, BeforeValidator(_absolute)]
Mounts = Annotated[dict[str, AbsolutePath], BeforeValidator(_parse_mounts)]
Lines = Annotated[tuple[str, ...], BeforeValidator(_lines)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, coerce_numbers_to_str=True)


class SlurmSettings(_Section):
    """What a Slurm job of one worker asks for."""

    partition: str | None = Field(default=None, description="Partition of the jobs; Slurm's default if not given.")
    account: str | None = Field(default=None, description="Account that is charged.")
    cores: int = Field(default=8, ge=1, description="Cores of a job; a job works on one series at a time.")
    memory: str = Field(default="16GiB", description="Memory of a job.")
    walltime: str = Field(default="08:00:00", description="Longest duration of a job, HH:MM:SS.")
    directives: Lines = Field(
        default=(), description="Further #SBATCH options, as `--gres=gpu:1`; in a variable separated by semicolons."
    )
    prologue: Lines = Field(
        default=(),
        description="Shell lines run before the worker starts, as `module load IMOD`; in a variable separated by semicolons.",
    )
    interface: str | None = Field(default=None, description="Network interface that workers and scheduler talk over, as `ib0`.")
    shared_folder: AbsolutePath | None = Field(
        default=None,
        description="Folder that all nodes see, for the job scripts and logs; needed unless the home folder is shared.",
    )


_LIMITS = Thresholds()


class VerdictSettings(_Section):
    """From where on a result counts as good, and from where on as poor; what lies between is doubtful."""

    error_good_px: float = Field(
        default=_LIMITS.error_good_px, ge=0, description="Estimated error of the alignment, raw pixels: good up to."
    )
    error_poor_px: float = Field(default=_LIMITS.error_poor_px, ge=0, description="The same: poor beyond.")
    error_good_nm: float | None = Field(default=None, ge=0, description="The same in nm, to be kept as well: good up to.")
    error_poor_nm: float | None = Field(default=None, ge=0, description="The same in nm: poor beyond.")
    leave_out_good_px: float = Field(
        default=_LIMITS.leave_out_good_px, ge=0, description="Error on points left out of the fit, raw pixels: good up to."
    )
    leave_out_poor_px: float = Field(default=_LIMITS.leave_out_poor_px, ge=0, description="The same: poor beyond.")
    leave_out_good_nm: float | None = Field(default=None, ge=0, description="The same in nm, to be kept as well: good up to.")
    leave_out_poor_nm: float | None = Field(default=None, ge=0, description="The same in nm: poor beyond.")
    residual_good_px: float = Field(
        default=_LIMITS.residual_good_px, ge=0, description="Mean residual of the fit, raw pixels: good up to."
    )
    residual_poor_px: float = Field(default=_LIMITS.residual_poor_px, ge=0, description="The same: poor beyond.")
    residual_good_nm: float | None = Field(default=None, ge=0, description="The same in nm, to be kept as well: good up to.")
    residual_poor_nm: float | None = Field(default=None, ge=0, description="The same in nm: poor beyond.")
    axis_good_deg: float = Field(
        default=_LIMITS.axis_good_deg, ge=0, description="Tilt axis, degrees away from the one that was read: good up to."
    )
    excluded_good: float = Field(default=_LIMITS.excluded_good, ge=0, description="Fraction of the views left out: good up to.")
    excluded_poor: float = Field(default=_LIMITS.excluded_poor, ge=0, description="The same: poor beyond.")
    tracks_good: int = Field(default=_LIMITS.tracks_good, ge=0, description="Tracks that the alignment rests on: good from.")
    tracks_poor: int = Field(default=_LIMITS.tracks_poor, ge=0, description="The same: poor below.")
    contrast_good: float = Field(
        default=_LIMITS.contrast_good, ge=0, description="Texture of the specimen relative to the empty volume: good from."
    )
    contrast_poor: float = Field(default=_LIMITS.contrast_poor, ge=0, description="The same: poor below.")


class Settings(_Section):
    """Everything that a site can set."""

    mounts: Mounts = Field(
        default_factory=dict, description="File shares: name to folder, as `lab=/mnt/lab:qa=/mnt/qa` or JSON; a table in the file."
    )
    scratch: AbsolutePath | None = Field(
        default=None,
        description="Where scratch folders are made: fast, local, with room for the aligned stack and the volume of a series.",
    )
    keep_workdir: bool = Field(default=False, description="Keep the scratch folders.")
    threads: int | None = Field(
        default=None, ge=1, description="Threads for each series; the cores shared out among the series if not given."
    )
    engine: Literal["auto", "native", "imod"] = Field(
        default="auto", description="What the flow aligns and reconstructs with; auto: IMOD where batchruntomo is on the PATH."
    )
    fallback: bool = Field(
        default=True, description="When the requested alignment cannot be trusted, the flow tries the next simpler method."
    )
    runner: Literal["threads", "dask", "slurm"] = Field(
        default="threads",
        description="What runs the flow's tasks: threads of its process, Dask workers on this machine, or Slurm jobs.",
    )
    workers: int = Field(default=1, ge=1, description="Series at the same time: threads, Dask workers, or the most Slurm jobs.")
    slurm: SlurmSettings = Field(default=SlurmSettings(), description="Slurm jobs.")
    token: SecretStr | None = Field(default=None, description="Token for the portal's API; a file is safer.")
    token_file: AbsolutePath | None = Field(default=None, description="File that holds the token; read where no token is given.")
    callback_patience_s: float = Field(
        default=900.0, ge=0.0, description="Seconds for which an API that is down is tried again before the callback is given up."
    )
    evidence_in_callback: bool = Field(
        default=False, description="The verdict and its figures travel to the portal, as the image metadata of each series."
    )
    imod_cpus: str = Field(default="1", description="What batchruntomo is given as -cp: a number of cores or a list of machines.")
    imod_gpu: str | None = Field(default=None, description="What batchruntomo is given as -gpu; no GPU if not given.")
    verdict: VerdictSettings = Field(default=VerdictSettings(), description="What counts as good.")


_SECTIONS = frozenset(name for name, field in Settings.model_fields.items() if isinstance(field.default, BaseModel))


@dataclass(frozen=True, slots=True)
class SettingHelp:
    """One setting as the documentation shows it."""

    name: str
    variable: str
    default: str
    help: str


def load_settings(**overrides: Any) -> Settings:
    """Return the settings of this site; an override that is None counts as not given.

    Raises
    ------
    SettingsError
        If one is unknown or has a value that makes no sense.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    variables = _read_environment(os.environ)
    name = os.environ.get(FILE_VARIABLE)
    in_file = _read_file(Path(name).expanduser()) if name else {}
    try:
        return Settings.model_validate(_layered(in_file, variables, given))
    except ValidationError as error:
        raise SettingsError(
            "; ".join(_explain(problem) for problem in error.errors(include_input=False, include_url=False))
        ) from None


def load_site(*, jobs: int = 1, **overrides: Any) -> Site:
    """Return how the work is done here, with the cores shared out among `jobs` series at once.

    Raises
    ------
    SettingsError
        If a setting is unknown or has a value that makes no sense.
    """
    return site_from(load_settings(**overrides), jobs)


def site_from(settings: Settings, jobs: int = 1, cores: int | None = None) -> Site:
    """Return the part of the settings that the core needs; `cores` of one machine are shared out among `jobs`."""
    return Site(
        mounts=dict(settings.mounts),
        scratch=settings.scratch,
        threads=settings.threads or max(1, (cores or usable_cores()) // jobs),
        imod_cpus=settings.imod_cpus,
        imod_gpu=settings.imod_gpu,
        keep_workdir=settings.keep_workdir,
        thresholds=Thresholds(**settings.verdict.model_dump()),
    )


def load_token(token_file: Path | None = None) -> SecretStr | None:
    """Return the token for the portal's API: from `token_file`, else from the settings; None where there is none.

    Raises
    ------
    SettingsError
        If the file cannot be read or is empty.
    """
    settings = load_settings()
    if token_file is None and settings.token is not None:
        return settings.token
    path = token_file or settings.token_file
    return _read_token(path) if path is not None else None


def usable_cores() -> int:
    """Return the cores that this process may use: what Slurm, a container or `taskset` left it."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe_settings() -> tuple[SettingHelp, ...]:
    """Return every setting with its variable, default and meaning, for the documentation."""
    return tuple(_describe(Settings, ""))


def _describe(model: type[BaseModel], prefix: str) -> Iterator[SettingHelp]:
    for name, field in model.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if isinstance(default, BaseModel):
            yield from _describe(type(default), f"{name}.")
            continue
        full = f"{prefix}{name}"
        shown = (
            "" if default is None or default in ({}, ()) else str(default).lower() if isinstance(default, bool) else str(default)
        )
        yield SettingHelp(full, PREFIX + full.replace(".", "_").upper(), shown, field.description or "")


def _read_file(path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"The settings file {path}, named by {FILE_VARIABLE}, cannot be read ({error}).") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"The settings file {path} is not TOML: {error}.") from error
    _refuse_unknown(values, Settings, path, "")
    return values


def _refuse_unknown(values: Mapping[str, Any], model: type[BaseModel], path: Path, prefix: str) -> None:
    for key, value in values.items():
        if key not in model.model_fields:
            raise SettingsError(f"{path}: unknown setting {prefix + key!r}.{_nearest(key, model.model_fields)}")
        default = model.model_fields[key].get_default(call_default_factory=True)
        if isinstance(default, BaseModel) and isinstance(value, Mapping):
            _refuse_unknown(value, type(default), path, f"{key}.")


def _read_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings that variables give; an empty variable counts as not set, one that sets nothing is warned of."""
    settings = {setting.variable: setting.name for setting in describe_settings()}
    values: dict[str, Any] = {}
    for variable in sorted(environment):
        if variable in settings and environment[variable]:
            *section, name = settings[variable].split(".")
            (values.setdefault(section[0], {}) if section else values)[name] = environment[variable]
        elif variable.startswith(PREFIX) and variable not in settings and variable != FILE_VARIABLE:
            _log.warning("variable %s sets nothing.%s", variable, _nearest(variable, set(settings)))
    return values


def _layered(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the layers as one, later ones first; sections are joined, values such as the mounts are replaced whole."""
    joined: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            if name in _SECTIONS and isinstance(value, Mapping) and isinstance(joined.get(name), Mapping):
                value = {**joined[name], **value}
            joined[name] = value
    return joined


def _nearest(name: str, known: Mapping[str, Any] | set[str]) -> str:
    close = difflib.get_close_matches(name, sorted(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else f" Known: {', '.join(sorted(known))}."


def _explain(problem: Mapping[str, Any]) -> str:
    name = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"unknown setting {name!r}.{_nearest(name, Settings.model_fields)}"
    variable = PREFIX + "_".join(str(part) for part in problem["loc"][:2]).upper()
    return f"setting {name} ({variable}): {problem['msg'].removeprefix('Value error, ')}"


def _read_token(path: Path) -> SecretStr:
    try:
        open_to_others = path.stat().st_mode & 0o077
        token = SecretStr(path.read_text(encoding="utf-8").strip())
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SettingsError(f"The token file {path} cannot be read ({reason}).") from None
    if not token:
        raise SettingsError(f"The token file {path} is empty.")
    if open_to_others:
        _log.warning("the token file %s can be read by others; chmod 600 it", path)
    return token
