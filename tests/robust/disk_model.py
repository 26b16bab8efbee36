"""What a disk may hold after a power cut: the calls of a run played again, with what was not brought to the disk lost, all or in part.

A file holds what it held when it was last synced; what was written since may be there in part.  A name is there once its folder was
synced after the call that made it; before that it may be there or not.  A rename is one change, never half of it, as journals of file
systems have it.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from tests.robust.shim import Call, Event


class Lost(Enum):
    """What a power cut takes of what was not synced."""

    ALL = "everything unsynced"
    DATA = "the data of all unsynced files, but no name"
    SOME = "the last names, and parts of the data"
    ANY = "any names, and parts of the data"


@dataclass(eq=False)
class File:
    """A file: what it holds, what of that is on the disk, and the writes since."""

    data: bytearray = field(default_factory=bytearray)
    on_disk: bytes = b""
    since: list[tuple[int, bytes | None]] = field(default_factory=list)

    def change(self, place: int, data: bytes | None) -> None:
        """Write at a place, or with no data cut or lengthen to that size."""
        _apply(self.data, place, data)
        self.since.append((place, data))

    def after(self, lost: Lost, chance: random.Random) -> bytes:
        """Return what a power cut leaves."""
        left = bytearray(self.on_disk)
        for place, data in self.since if lost in (Lost.SOME, Lost.ANY) else ():
            if chance.random() < 0.5:
                _apply(left, place, data[: chance.randrange(len(data) + 1)] if data and chance.random() < 0.3 else data)
        return bytes(left)


def _apply(held: bytearray, place: int, data: bytes | None) -> None:
    if data is None:
        held[place:] = bytes(max(0, place - len(held)))
        return
    held.extend(bytes(max(0, place - len(held))))
    held[place : place + len(data)] = data


@dataclass(eq=False)
class Folder:
    """A folder: its names now, and those that it had at the start."""

    names: dict[str, Node] = field(default_factory=dict)


@dataclass(eq=False)
class Link:
    """A symbolic link."""

    target: str


Node = File | Folder | Link


@dataclass(eq=False)
class Change:
    """Names that one call changed together, and whether they are on the disk."""

    parts: tuple[tuple[Folder, str, Node | None], ...]
    on_disk: bool = False


class Disk:
    """A disk on which a run works: `root`, empty at the start, with all above it on the disk already."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.top = Folder()
        self.changes: list[Change] = []
        self._by_inode: dict[int, Node] = {}
        self.unknown: list[str] = []

    def play(self, event: Event) -> None:
        """Let one call happen."""
        call = event.call
        if call is Call.OPEN:
            self._open(event)
        elif call in (Call.WRITE, Call.TRUNCATE, Call.ALLOCATE):
            self._write(event)
        elif call is Call.SYNC:
            self._sync(event)
        elif call is Call.MAP:
            self.unknown.append(f"{event.first} is written through memory")
        elif call is not Call.CHMOD:
            self._rename(event)

    def after(self, lost: Lost, chance: random.Random) -> dict[str, bytes | str | None]:
        """Return what a power cut leaves: by path relative to the root the data of a file, the target of a link, None for a folder."""
        names: dict[Folder, dict[str, Node]] = {}
        ends = chance.randrange(len(self.changes) + 1) if lost is Lost.SOME else 0
        for number, change in enumerate(self.changes):
            if change.on_disk or lost is Lost.DATA or number < ends or (lost is Lost.ANY and chance.random() < 0.5):
                for folder, name, node in change.parts:
                    held = names.setdefault(folder, {})
                    if node is None:
                        held.pop(name, None)
                    else:
                        held[name] = node
        return dict(self._walk(self.top, "", names, lost, chance))

    def _walk(
        self, folder: Folder, path: str, names: Mapping[Folder, Mapping[str, Node]], lost: Lost, chance: random.Random
    ) -> Iterable[tuple[str, bytes | str | None]]:
        for name, node in names.get(folder, {}).items():
            place = f"{path}{name}"
            if isinstance(node, Folder):
                yield place, None
                yield from self._walk(node, f"{place}/", names, lost, chance)
            else:
                yield place, node.target if isinstance(node, Link) else node.after(lost, chance)

    def _find(self, path: str) -> tuple[Folder | None, str]:
        parts = Path(path).relative_to(self.root).parts
        folder = self.top
        for part in parts[:-1]:
            inner = folder.names.get(part)
            if not isinstance(inner, Folder):
                return None, parts[-1]
            folder = inner
        return folder, parts[-1] if parts else ""

    def _change(self, *parts: tuple[Folder | None, str, Node | None]) -> None:
        for folder, name, node in parts:
            if folder is None:
                self.unknown.append(name)
                return
            if node is None:
                folder.names.pop(name, None)
            else:
                folder.names[name] = node
        self.changes.append(Change(tuple((folder, name, node) for folder, name, node in parts if folder is not None)))

    def _open(self, event: Event) -> None:
        folder, name = self._find(event.first)
        node = folder.names.get(name) if folder is not None else None
        if isinstance(node, Folder):  # a file without a name
            self._by_inode[event.inode] = File()
        elif not isinstance(node, File):
            self._by_inode[event.inode] = made = File()
            self._change((folder, name, made))
        elif event.flag:
            node.change(0, None)

    def _write(self, event: Event) -> None:
        node = self._by_inode.get(event.inode)
        if not isinstance(node, File):
            self.unknown.append(event.first)
        elif event.call is Call.WRITE:
            node.change(event.size, event.data)
        elif event.call is Call.TRUNCATE or event.size > len(node.data):
            node.change(event.size, None)

    def _sync(self, event: Event) -> None:
        node = self._by_inode.get(event.inode)
        every = bool(event.flag)
        for each in self._by_inode.values() if every else (node,):
            if isinstance(each, File):
                each.on_disk, each.since = bytes(each.data), []
        if event.first == str(self.root):
            node = self.top
        for change in self.changes:
            if every or any(folder is node for folder, _, _ in change.parts):
                change.on_disk = True

    def _rename(self, event: Event) -> None:
        folder, name = self._find(event.second or event.first)
        if event.call in (Call.UNLINK, Call.RMDIR):
            self._change((folder, name, None))
        elif event.call is Call.MKDIR:
            self._by_inode[event.inode] = made = Folder()
            self._change((folder, name, made))
        elif event.call is Call.SYMLINK:
            self._change((folder, name, Link(event.first)))
        else:
            former, old = self._find(event.first)
            node = former.names.get(old) if former is not None else None
            if node is None:
                self.unknown.append(event.first)
            elif event.call is Call.RENAME:
                self._change((former, old, None), (folder, name, node))
            else:
                self._change((folder, name, node))


def put(state: Mapping[str, bytes | str | None], root: Path, tops: Sequence[str]) -> None:
    """Write a state into an empty `root`, as far as it lies below one of the folders named."""
    for path, held in state.items():
        if path.partition("/")[0] not in tops:
            continue
        place = root / path
        if held is None:
            place.mkdir()
        elif isinstance(held, str):
            place.symlink_to(held)
        else:
            place.write_bytes(held)
