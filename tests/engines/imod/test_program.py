"""Which program is taken for IMOD."""

import sys

import pytest

from tiltflow.engines.imod.program import find_imod, is_stand_in, required_imod
from tiltflow.engines.registry import choose_engine
from tiltflow.errors import UnsupportedError

CONSOLE_SCRIPT = (
    f"#!{sys.executable}\nimport sys\nfrom tiltflow.batchruntomo import main\nif __name__ == '__main__':\n    sys.exit(main())\n"
)


def install(folder, name, text):
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / name
    program.write_text(text)
    program.chmod(0o755)
    return program


def link(folder):
    script = install(folder / "venv", "tiltflow-batchruntomo", CONSOLE_SCRIPT)
    (folder / "batchruntomo").symlink_to(script)


STAND_INS = {
    "a link to the script": link,
    "a copy of the script": lambda folder: install(folder, "batchruntomo", CONSOLE_SCRIPT),
    "a script that calls the script": lambda folder: install(
        folder, "batchruntomo", '#!/bin/sh\nexec /opt/venv/bin/tiltflow-batchruntomo "$@"\n'
    ),
    "a script that calls the command": lambda folder: install(
        folder, "batchruntomo", '#!/bin/sh\nexec tiltflow batchruntomo "$@"\n'
    ),
    "a script that calls the module": lambda folder: install(
        folder, "batchruntomo", '#!/bin/sh\nexec python3 -m tiltflow.batchruntomo "$@"\n'
    ),
}


@pytest.fixture(params=STAND_INS.values(), ids=STAND_INS)
def stand_in(request, tmp_path, monkeypatch):
    """The folder of a stand-in, alone on the PATH."""
    folder = tmp_path / "ours"
    folder.mkdir()
    request.param(folder)
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_the_stand_in_is_never_taken_for_imod(stand_in):
    assert is_stand_in(stand_in / "batchruntomo")
    assert find_imod() is None
    engine, reason = choose_engine("auto")
    assert engine.name == "native"
    assert "batchruntomo is not on the PATH" in reason


@pytest.mark.parametrize("order", ["stand-in first", "IMOD first"])
def test_imod_is_found_behind_the_stand_in(order, stand_in, tmp_path, monkeypatch):
    real = install(
        tmp_path / "imod" / "bin", "batchruntomo", "#!/usr/bin/env python\n# batchruntomo - run data sets in batch mode\n"
    )
    folders = [stand_in, real.parent] if order == "stand-in first" else [real.parent, stand_in]
    monkeypatch.setenv("PATH", ":".join(map(str, folders)))
    assert find_imod() == real
    assert choose_engine("auto")[0].name == "imod"


def test_a_program_that_is_no_script_is_imods(tmp_path):
    program = install(tmp_path, "batchruntomo", "")
    program.write_bytes(b"\x7fELF tiltflow-batchruntomo")
    assert not is_stand_in(program)


def test_a_program_that_cannot_be_read_is_imods(tmp_path):
    assert not is_stand_in(tmp_path / "nowhere")


def test_only_the_stand_in_on_the_path_is_no_imod_to_run(tmp_path, monkeypatch):
    link(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnsupportedError, match=r"requested for B\.st, but batchruntomo is not on the PATH"):
        required_imod("B.st")
