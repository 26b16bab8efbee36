"""The settings: what each is, and where it is read from."""

from __future__ import annotations

import difflib
import logging
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    create_model,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from tiltflow.delivery.body import Mode
from tiltflow.errors import SettingsError
from tiltflow.formats.zarrlayout import PyramidLayout, ZarrAxes, ZarrVersion
from tiltflow.interchange.targets import target_names
from tiltflow.recipe.engine_rules import AUTO, EngineOption, all_engines, engine_names, engine_of_last_resort
from tiltflow.settings.values import (
    AbsolutePath,
    Folders,
    Lines,
    Mounts,
    known_address,
    known_engine,
    known_fallback,
    known_targets,
)
from tiltflow.work import Thresholds

PREFIX = "TILTFLOW_"
FILE_VARIABLE = "TILTFLOW_SETTINGS"
RENAMED: Mapping[str, str] = {"ladder": "fallback"}
"""Names of settings that older versions had, and those of today."""
_log = logging.getLogger(__name__)


class SlurmSettings(BaseModel):
    """The Slurm job of one worker: no more than this, and less where the series need less."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, coerce_numbers_to_str=True)

    partition: str | None = Field(default=None, description="Partition of the jobs; Slurm's default if not given.")
    account: str | None = Field(default=None, description="Account that is charged.")
    cores: int = Field(default=8, ge=1, description="Most cores of a job, which works on one series at a time.")
    memory: str = Field(default="16GiB", description="Most memory of a job.")
    walltime: str = Field(default="08:00:00", description="Most time of a job, HH:MM:SS.")
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


class Settings(BaseSettings):
    """Everything that a site can set; :func:`load_settings` adds the options of the engines that are installed."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        coerce_numbers_to_str=True,
        env_prefix=PREFIX,
        env_nested_delimiter="_",
        env_nested_max_split=1,
        env_ignore_empty=True,
        # Lists and mounts have a form of their own beside JSON, which their validators read.
        enable_decoding=False,
    )

    mounts: Mounts = Field(
        default_factory=dict, description="File shares: name to folder, as `lab=/mnt/lab:qa=/mnt/qa` or JSON; a table in the file."
    )
    scratch: AbsolutePath | None = Field(
        default=None,
        description="Where scratch folders are made: fast, local, with room for the aligned stack and the volume of a series.",
    )
    keep_workdir: bool = Field(default=False, description="Keep the scratch folders.")
    export: Annotated[Lines, AfterValidator(known_targets)] = Field(
        default=(),
        description="Programs that every series is written for too, into `export/NAME` beside its products: "
        f"{', '.join(target_names())}; in a variable separated by semicolons.",
    )
    threads: int | None = Field(
        default=None, ge=1, description="Threads for each series; if not given, all cores are divided among the series."
    )
    engine: Annotated[str, AfterValidator(known_engine)] = Field(
        default=AUTO,
        description=f"Engine: {', '.join(engine_names())}, auto for the preferred one that is available, or best for the better "
        "alignment of two.",
    )
    fallback_engine: Annotated[str, AfterValidator(known_fallback)] = Field(
        default=engine_of_last_resort(),
        description=f"Engine that does the work of one that failed or aligned poorly: {', '.join(engine_names())}, or off.",
    )
    fallback: bool = Field(
        default=True, description="When the requested alignment cannot be trusted, the flow tries the next simpler method."
    )
    runner: Literal["threads", "dask", "slurm", "pool"] = Field(
        default="threads",
        description="Where the flow's tasks run: threads of its process, Dask workers on this machine, Slurm jobs, or a pool of Dask "
        "workers that runs share.",
    )
    workers: int = Field(
        default=1,
        ge=1,
        description="Series of a run at the same time: threads, Dask workers, or the most Slurm jobs or places in the pool.",
    )
    pool_address: str | None = Field(
        default=None, description="Address of the Dask scheduler of the pool, as `tcp://head:8786`; for the runner pool."
    )
    slurm: SlurmSettings = Field(default=SlurmSettings(), description="Slurm jobs.")
    token: SecretStr | None = Field(default=None, description="Token for the portal's API; a file is safer.")
    token_file: AbsolutePath | None = Field(default=None, description="File that holds the token; read where no token is given.")
    callback_hosts: Lines = Field(
        default=(),
        description="Hosts, as portal.example or portal.example:8443, that the flow sends the site's token and Secret blocks to; "
        "in a variable separated by semicolons.",
    )
    callback_secrets: Lines = Field(
        default=(),
        description="Prefect Secret blocks that callers of the flow may name as their token; in a variable separated by semicolons.",
    )
    template_folders: Folders = Field(
        default=(),
        description="Folders whose templates NAME.adoc callers of the flow may name; in a variable separated by semicolons.",
    )
    callback_patience_s: float = Field(
        default=900.0,
        ge=0.0,
        description="Seconds for which a run waits for an API that is down; then the callback stays in the outbox, and is sent later.",
    )
    callback_mode: Mode = Field(
        default="run",
        description="One callback for all series at the end of a run, or one for each series as it ends: run, series.",
    )
    state: AbsolutePath | None = Field(
        default=None,
        description="Folder, on a local disk, of what must outlive a run: the outbox for the portal; the user's folder for such "
        "things if not given, or else scratch.",
    )
    evidence_in_callback: bool = Field(
        default=False, description="Send the verdict and its figures to the portal, as the image metadata of each series."
    )
    zarr_version: ZarrVersion = Field(default="0.4", description="Version of OME-Zarr of the pyramid: 0.4 or 0.5 (Zarr 3).")
    zarr_axes: ZarrAxes = Field(
        default="tczyx", description="Axes of the pyramid: tczyx as bioformats2raw writes them, or zyx without time and channel."
    )
    assets_url: Annotated[str, AfterValidator(known_address)] = Field(
        default="",
        description="Address under which the folder Assets (without a share: the folder of the results) is served, for the state of "
        "Neuroglancer; http://localhost:9000/ if not given.",
    )
    swap_volume_types: bool = Field(
        default=False,
        description="Tell the portal that ave_B.mrc is a volume and avebin8_B.mrc an averagedVolume: for portals that have the two "
        "types the other way round.",
    )
    publish_aligned: bool = Field(default=True, description="Put the aligned stack, B_ali.mrc, beside the products.")
    publish_volume: bool = Field(
        default=True, description="Put the volume, B_rec.mrc, beside the products, and those of even and odd views."
    )
    verdict: Thresholds = Field(default=Thresholds(), description="Thresholds of the verdict.")

    @property
    def state_folders(self) -> tuple[Path, ...]:
        """Where the outbox may lie: the first of these that can be written to."""
        if self.state is not None:
            return (self.state,)
        in_scratch = self.scratch / f".tiltflow-state-{os.geteuid()}" if self.scratch is not None else None  # others use it too
        return tuple(folder for folder in (_user_state(), in_scratch) if folder is not None)

    @property
    def pyramid(self) -> PyramidLayout:
        """How the pyramid is laid out."""
        return PyramidLayout(version=self.zarr_version, axes=self.zarr_axes)

    @property
    def recipe_defaults(self) -> dict[str, Any]:
        """What the site decides of every recipe: arguments of :func:`tiltflow.recipe.make_recipe`."""
        return {
            "engine": self.engine,
            "fallback_engine": self.fallback_engine,
            "fallback": self.fallback,
            "pyramid": self.pyramid,
        }

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources of settings, the one with precedence first."""
        file = settings_file()
        return init_settings, _Variables(settings_cls), *([_File(settings_cls, file)] if file else [])

    @model_validator(mode="before")
    @classmethod
    def _understand_old_names(cls, given: dict[str, Any]) -> dict[str, Any]:
        given = dict(given)
        for old, new in RENAMED.items():
            if old in given:
                value = given.pop(old)
                both = f"; both are given, {new!r} counts" if new in given else ""
                _log.warning("the setting %r (%s) is now called %r (%s)%s", old, _variable(old), new, _variable(new), both)
                given.setdefault(new, value)
        return given


def _user_state() -> Path | None:
    """Return the user's folder for what programs keep; None for an account without one."""
    given = os.environ.get("XDG_STATE_HOME", "")
    try:
        return (Path(given) if given.startswith("/") else Path.home() / ".local" / "state") / "tiltflow"
    except RuntimeError:
        return None


def engine_options() -> tuple[EngineOption, ...]:
    """Return the options of the engines that are installed."""
    return tuple(option for engine in all_engines() for option in engine.options)


@cache
def _with_engine_options(options: tuple[EngineOption, ...]) -> type[Settings]:
    """Return the settings with a field for each option of an engine."""
    fields: dict[str, Any] = {
        option.name: (
            str | None if option.default is None else type(option.default),
            Field(option.default, description=option.description),
        )
        for option in options
    }
    return create_model("Settings", __base__=Settings, **fields)


def _model() -> type[Settings]:
    return _with_engine_options(engine_options())


class _Variables(EnvSettingsSource):
    """The environment: exactly the variables that :func:`describe_settings` lists; others of the prefix are logged as warnings."""

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        super().__init__(settings_cls)
        for sentence in unknown_variables():
            _log.warning("%s", sentence)
        self.env_vars = {variable.lower(): os.environ[variable] for variable in _known_variables() if os.environ.get(variable)}

    def __call__(self) -> dict[str, Any]:
        old = {name: self.env_vars[_variable(name).lower()] for name in RENAMED if _variable(name).lower() in self.env_vars}
        return super().__call__() | old


class _File(TomlConfigSettingsSource):
    """The settings file; messages on its errors name its path."""

    def __init__(self, settings_cls: type[BaseSettings], path: Path) -> None:
        try:
            path.open("rb").close()  # a missing file would count as an empty one
            super().__init__(settings_cls, path)
        except tomllib.TOMLDecodeError as error:
            raise SettingsError(f"The settings file {path} is not TOML: {error}.") from error
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"The settings file {path}, named by {FILE_VARIABLE}, cannot be read ({error}).") from error
        _refuse_unknown(self.toml_data, settings_cls, path, "")

    def __call__(self) -> dict[str, Any]:
        # The sources complete each other within a section; a value such as the mounts is taken whole from the first.
        return {name: value for name, value in super().__call__().items() if name in _SECTIONS or name not in self.current_state}


def unknown_variables() -> tuple[str, ...]:
    """Return a sentence on every variable that begins like a setting and is none, with the nearest that is one."""
    documented = {setting.variable for setting in describe_settings()}
    return tuple(
        f"variable {variable} is not a setting.{_nearest(variable, documented)}"
        for variable in sorted(os.environ)
        if variable.startswith(PREFIX) and variable not in _known_variables() and variable != FILE_VARIABLE
    )


def settings_file() -> Path | None:
    """Return the file of settings that the environment names; None where it names none."""
    file = os.environ.get(FILE_VARIABLE)
    return Path(file).expanduser() if file else None


def settings_given(settings: Settings) -> tuple[str, ...]:
    """Return the names of the settings that are not left at their defaults."""
    return tuple(name for name in type(settings).model_fields if name in settings.model_fields_set)


def _known_variables() -> frozenset[str]:
    return frozenset({setting.variable for setting in describe_settings()}.union(map(_variable, RENAMED)))


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
        If one is unknown or has an invalid value.
    """
    try:
        return _model()(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        raise SettingsError(
            "; ".join(_explain(problem) for problem in error.errors(include_input=False, include_url=False))
        ) from None


def describe_settings() -> tuple[SettingHelp, ...]:
    """Return every setting with its variable, default and meaning, for the documentation."""
    return tuple(_describe(_model(), ""))


@dataclass(frozen=True, slots=True)
class _Declared:
    """A setting or a section of settings, as its class declares it."""

    default: Any
    help: str

    @property
    def is_section(self) -> bool:
        return isinstance(self.default, BaseModel) or is_dataclass(self.default)


def _declared(section: type[Any]) -> dict[str, _Declared]:
    """Return the settings of a section by name: a pydantic model, or a plain dataclass whose fields carry their description."""
    if issubclass(section, BaseModel):
        return {
            name: _Declared(field.get_default(call_default_factory=True), field.description or "")
            for name, field in section.model_fields.items()
        }
    return {field.name: _Declared(field.default, field.metadata["description"]) for field in fields(section)}


_SECTIONS = frozenset(name for name, setting in _declared(Settings).items() if setting.is_section)


def _describe(section: type[Any], prefix: str) -> Iterator[SettingHelp]:
    for name, setting in _declared(section).items():
        if setting.is_section:
            yield from _describe(type(setting.default), f"{name}.")
            continue
        full, default = f"{prefix}{name}", setting.default
        shown = (
            "" if default is None or default in ({}, ()) else str(default).lower() if isinstance(default, bool) else str(default)
        )
        yield SettingHelp(full, _variable(full), shown, setting.help)


def _variable(name: str) -> str:
    """Return the environment variable of a setting: `slurm.partition` is `TILTFLOW_SLURM_PARTITION`."""
    return PREFIX + name.replace(".", "_").upper()


def _refuse_unknown(values: Mapping[str, Any], section: type[Any], path: Path, prefix: str) -> None:
    known = _declared(section)
    for key, value in values.items():
        if key not in known and (prefix or key not in RENAMED):
            raise SettingsError(f"{path}: unknown setting {prefix + key!r}.{_nearest(key, known)}")
        if key in known and known[key].is_section and isinstance(value, Mapping):
            _refuse_unknown(value, type(known[key].default), path, f"{key}.")


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, sorted(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else f" Known: {', '.join(sorted(known))}."


def _explain(problem: Mapping[str, Any]) -> str:
    *section, name = (str(part) for part in problem["loc"])
    full = ".".join([*section, name])
    if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        known = _declared(type(_declared(Settings)[section[0]].default) if section else _model())
        return f"unknown setting {full!r}.{_nearest(name, known)}"
    setting = next((setting.name for setting in describe_settings() if f"{full}.".startswith(f"{setting.name}.")), full)
    return f"setting {full} ({_variable(setting)}): {problem['msg'].removeprefix('Value error, ')}"
