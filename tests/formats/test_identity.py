"""The checksum of a stack: as it is said, whatever its length."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tiltflow.formats import identity

BLOCK = 16 << 20


@pytest.mark.parametrize("size", [0, 1, (256 << 10) + 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 12345])
def test_the_checksum_is_that_of_the_checksums_of_blocks_of_16_mib(tmp_path: Path, size: int) -> None:
    contents = (bytes(range(251)) * (size // 251 + 1))[:size]
    path = tmp_path / "B.mrc"
    path.write_bytes(contents)
    blocks = [contents[start : start + BLOCK] for start in range(0, size, BLOCK)]
    expected = hashlib.sha256(b"".join(hashlib.sha256(block).digest() for block in blocks)).hexdigest()
    assert identity.identity_of(path).stack == expected


def test_a_system_that_reads_less_than_it_is_asked_for_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "B.mrc"
    path.write_bytes(bytes(range(250)) * 9000)
    whole, preadv = identity.identity_of(path).stack, identity.os.preadv
    monkeypatch.setattr(identity.os, "preadv", lambda file, buffers, place: preadv(file, [buffers[0][:1000]], place))
    identity._checksum.cache_clear()
    assert identity.identity_of(path).stack == whole
