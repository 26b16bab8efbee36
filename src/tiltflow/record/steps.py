"""Steps with keys: what is up to date is not made again.

A step has a key: the hash of its name, its number, the keys of what it was made from, and its own parameters.  The number is raised by
hand when the step gives another output for the same input; the version of tiltflow is recorded, not compared.  `B_steps.json`, beside the
record, lists finished steps with their keys, their files and what they put into the record.  A step whose key and files are there is
taken over: its files are used in place, and its stages, warnings and findings go into the new record.

Files of a run that is not finished lie in a hidden folder beside the results, where the next run finds them.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, is_dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tiltflow.atomic_write import write_text
from tiltflow.disk import copy_file, remove, size_bytes, sync
from tiltflow.record.as_json import as_json
from tiltflow.record.recorder import Recorder
from tiltflow.record.schema import StageEntry, StepSummary

STEPS_SCHEMA: Final = "tiltflow/steps/1"
_SMALL_BYTES = 64 << 20
"""Files up to this size are copied out of a scratch folder on another disk, so that they outlive it."""
_NO_LINK = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP)


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="null")


class StepFile(_Entry):
    """A file or folder that a step made: relative to the folder of the record, or absolute in a scratch folder."""

    path: str
    bytes: int


class StepEntry(_Entry):
    """A finished step: its files by name, and its stages, warnings and findings for the record."""

    name: str
    number: int
    key: str
    made: datetime
    tiltflow: str
    files: dict[str, StepFile] = Field(default_factory=dict)
    stages: list[StageEntry] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)
    found: dict[str, Any] = Field(default_factory=dict)


class StepsFile(_Entry):
    """Contents of `B_steps.json`."""

    model_config = ConfigDict(extra="forbid", validate_by_name=True, ser_json_inf_nan="null")

    steps_schema: Literal["tiltflow/steps/1"] = Field(default=STEPS_SCHEMA, alias="schema")
    steps: list[StepEntry] = Field(default_factory=list)


def step_key(name: str, number: int, after: Iterable[str], params: object) -> str:
    """Return the key of a step, 64 hexadecimal digits.

    Parameters
    ----------
    name, number
        Of the step.
    after
        Keys of what it is made from.
    params
        All else that its output depends on: dataclasses, numbers, texts, and sequences and mappings of these.

    >>> step_key("a", 1, [], {"x": 1}) == step_key("a", 1, [], {"x": 1}) != step_key("a", 2, [], {"x": 1})
    True
    """
    content = [name, number, list(after), _plain(params)]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _plain(value: object) -> object:
    """Return what JSON can hold.

    Raises
    ------
    TypeError
        If a value has no unambiguous text: a key must not depend on where an object lies in memory.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {type(value).__name__: {key: _plain(part) for key, part in asdict(value).items()}}
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise TypeError(f"{value!r} cannot be part of a key")


@dataclass(slots=True)
class Step:
    """A step in the work: either taken over, with its files, or to be made.

    Attributes
    ----------
    name, number, key
        Of the step.
    kept
        Its entry, if it is taken over.
    files
        Where its files are, if it is taken over.
    """

    name: str
    number: int
    key: str
    kept: StepEntry | None = None
    files: dict[str, Path] = field(default_factory=dict)
    stages_before: int = 0
    warnings_before: int = 0

    def bring(self, folder: Path) -> None:
        """Make the files of a step that is taken over appear in a folder, as links."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, path in self.files.items():
            place = folder / name
            if not _same(place, path):
                remove(place)
                place.symlink_to(path)


class Steps:
    """The steps of the work on one series.

    Parameters
    ----------
    recorder
        Of the series.
    output
        The folder of the series; None where nothing is kept and nothing taken over.
    unfinished
        Hidden folder on the same disk for files of steps until they are published.
    redo
        Whether nothing is taken over.
    """

    def __init__(
        self, recorder: Recorder, output: Path | None = None, unfinished: Path | None = None, *, redo: bool = False
    ) -> None:
        self._recorder = recorder
        self._output = output
        self._unfinished = unfinished
        self._redo = redo

    @property
    def path(self) -> Path | None:
        """Where the list of finished steps is kept."""
        return _list_in(self._output, self._recorder.record.name) if self._output is not None else None

    def begin(self, name: str, number: int, after: Iterable[str] = (), params: object = None) -> Step:
        """Return a step, taken over if its key is known and its files are there."""
        record = self._recorder.record
        step = Step(name, number, step_key(name, number, after, params), stages_before=len(record.stages))
        step.warnings_before = len(record.warnings)
        entry = None if self._redo else self._find(step)
        if entry is not None:
            step.kept, step.files = entry, {each: self._place(file) for each, file in entry.files.items()}
            self._restore(entry)
        summary = StepSummary(name=name, key=step.key, kept=entry is not None, made=entry.made if entry else None)
        record.steps = [*(each for each in record.steps if each.name != name), summary]
        self._recorder.save()
        return step

    def made(self, step: Step, files: Mapping[str, Path], found: Mapping[str, Any] | None = None) -> None:
        """Keep what a step has made: its files, its stages and warnings, and values for the record (`found`, fields of it)."""
        if self._output is None:
            return
        record = self._recorder.record
        entry = StepEntry(
            name=step.name,
            number=step.number,
            key=step.key,
            made=datetime.now(UTC),
            tiltflow=record.tiltflow,
            files={name: self._keep(name, path) for name, path in files.items()},
            stages=[stage.model_copy(deep=True) for stage in record.stages[step.stages_before :]],
            warnings=record.warnings[step.warnings_before :],
            found=dict(found or {}),
        )
        # A scratch folder may be gone after a power cut, and its files with it.
        sync(self._place(file) for file in entry.files.values() if not Path(file.path).is_absolute())
        self._write([*(each for each in self._read() if each.key != step.key), entry])

    def key_of(self, name: str) -> str:
        """Return the key of a step of this work."""
        return next(step.key for step in self._recorder.record.steps if step.name == name)

    def found_by(self, name: str) -> dict[str, Any]:
        """Return what a finished step of this work found; empty where nothing is kept."""
        key = self.key_of(name)
        return next((entry.found for entry in self._read() if entry.key == key), {})

    def replacing(self, names: Iterable[str]) -> None:
        """Forget finished steps of earlier runs whose published files are about to be replaced: a key must not outlive its file."""
        replaced = set(names)
        current = {step.key for step in self._recorder.record.steps}
        kept = [
            entry
            for entry in self._read()
            if entry.key in current or not any(file.path.partition("/")[0] in replaced for file in entry.files.values())
        ]
        self._write(kept)

    def discard(self) -> None:
        """Forget what this run has made: its keys are those of an input that was another one by then."""
        made = {step.key for step in self._recorder.record.steps if not step.kept}
        self._write([entry for entry in self._read() if entry.key not in made])

    def settle(self, *, finished: bool, folder: str = "") -> None:
        """Note which files of this run are in their place now: in the folder of the series, or in a folder in that.

        When the work is finished, only its own steps stay, as far as their files are published.  After a failure those of earlier runs
        stay too, and files that were not published are where they were.
        """
        if self._output is None:
            return
        # In a folder of its own lies only what this run made: what it took over is where it was.
        current = {step.key for step in self._recorder.record.steps if not (folder and step.kept)}
        entries = []
        for entry in self._read():
            paths = {name: f"{folder}/{name}" if folder else name for name in entry.files}
            if entry.key in current and all(os.path.lexists(self._output / path) for path in paths.values()):
                entry.files = {name: StepFile(path=path, bytes=size_bytes(self._output / path)) for name, path in paths.items()}
            elif finished:
                continue
            entries.append(entry)
        self._write(entries)

    def _find(self, step: Step) -> StepEntry | None:
        for entry in self._read():
            if entry.key == step.key and all(self._is_there(file) for file in entry.files.values()):
                return entry
        return None

    def _place(self, file: StepFile) -> Path:
        if self._output is None:
            raise ValueError("nothing is kept")
        return (self._output / file.path).absolute()

    def _is_there(self, file: StepFile) -> bool:
        place = self._place(file)
        return place.exists() and size_bytes(place) == file.bytes

    def _restore(self, entry: StepEntry) -> None:
        record = self._recorder.record
        note = f"taken over from the run of {entry.made:%Y-%m-%d %H:%M} UTC"
        for stage in entry.stages:
            took = f" (it took {stage.seconds:.1f} s)" if stage.seconds else ""
            record.stages.append(stage.model_copy(update={"status": "kept", "seconds": None, "notes": [*stage.notes, note + took]}))
        for warning in entry.warnings:
            self._recorder.warn(warning)
        known = type(record).model_fields
        for name, value in entry.found.items():
            if name in known:
                setattr(record, name, [*getattr(record, name), *value] if name == "pictures" else value)

    def _keep(self, name: str, path: Path) -> StepFile:
        """Return a file where the next run finds it: in the hidden folder, or else in the scratch folder as long as that exists."""
        if self._unfinished is None or self._output is None:
            raise ValueError("nothing is kept")
        place = self._unfinished / name
        if not path.is_dir() and not _same(place, path):
            self._unfinished.mkdir(parents=True, exist_ok=True)
            remove(place)
            try:
                place.hardlink_to(path.resolve())
            except OSError as error:
                if error.errno not in _NO_LINK or path.stat().st_size > _SMALL_BYTES:
                    return StepFile(path=str(path.absolute()), bytes=size_bytes(path))
                copy_file(path, place)
        return StepFile(path=place.relative_to(self._output).as_posix(), bytes=size_bytes(place))

    def _read(self) -> list[StepEntry]:
        return _read_list(self.path) if self.path is not None else []

    def _write(self, entries: list[StepEntry]) -> None:
        if self.path is not None:
            _write_list(self.path, entries)


def forget(output: Path, name: str, files: Iterable[str]) -> None:
    """Forget the finished steps of a series in `output` that made these files, or folders that hold them: they are not what they were."""
    lost, path = [PurePath(file) for file in files], _list_in(output, name)
    made_lost = [
        entry for entry in _read_list(path) if any(each.is_relative_to(file.path) for each in lost for file in entry.files.values())
    ]
    _write_list(path, [entry for entry in _read_list(path) if entry not in made_lost])


def _list_in(output: Path, name: str) -> Path:
    return output / f"{name}_steps.json"


def _read_list(path: Path) -> list[StepEntry]:
    try:
        return StepsFile.model_validate_json(path.read_bytes()).steps
    except (OSError, ValidationError):
        return []  # a list that cannot be read keeps nothing


def _write_list(path: Path, entries: list[StepEntry]) -> None:
    write_text(path, as_json(StepsFile(steps=entries)) + "\n", durable=True)


def _same(place: Path, path: Path) -> bool:
    """Return whether two paths lead to one file, however they are spelled."""
    return place.exists() and place.samefile(path)
