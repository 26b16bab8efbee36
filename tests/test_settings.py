"""Where settings come from, and what is said about wrong ones."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from tiltflow.errors import SettingsError
from tiltflow.settings import FILE_VARIABLE, PREFIX, describe_settings, load_settings, load_site, load_token, usable_cores

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the settings of the machine that runs the tests."""
    for variable in list(os.environ):
        if variable.startswith(PREFIX):
            monkeypatch.delenv(variable)


@pytest.fixture
def settings_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "tiltflow.toml"
    path.touch()
    monkeypatch.setenv(FILE_VARIABLE, str(path))
    return path


def test_without_any_setting_the_defaults_hold() -> None:
    site = load_site()
    assert site.mounts == {}
    assert site.scratch is None
    assert site.threads == usable_cores()
    assert (site.imod_cpus, site.imod_gpu, site.keep_workdir) == ("1", None, False)
    assert load_settings().runner == "threads"


def test_an_argument_beats_a_variable_beats_the_file_beats_the_default(
    settings_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_settings().workers == 1
    settings_file.write_text("workers = 2")
    assert load_settings().workers == 2
    monkeypatch.setenv("TILTFLOW_WORKERS", "3")
    assert load_settings().workers == 3
    assert load_settings(workers=4).workers == 4
    assert load_settings(workers=None).workers == 3


def test_the_sources_complete_each_other_within_a_section(settings_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings_file.write_text('[slurm]\npartition = "slow"\naccount = "em"\n')
    monkeypatch.setenv("TILTFLOW_SLURM_PARTITION", "fast")
    slurm = load_settings(slurm={"cores": 2}).slurm
    assert (slurm.partition, slurm.account, slurm.cores) == ("fast", "em", 2)


@pytest.mark.parametrize(
    "text",
    ["lab=/mnt/lab:qa=/mnt/q=a b", " lab = /mnt/lab : qa=/mnt/q=a b:", '{"lab": "/mnt/lab", "qa": "/mnt/q=a b"}'],
)
def test_mounts_are_read_from_pairs_or_json(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILTFLOW_MOUNTS", text)
    assert load_site().mounts == {"lab": Path("/mnt/lab"), "qa": Path("/mnt/q=a b")}


def test_mounts_are_a_table_in_the_file_and_a_variable_replaces_them_all(
    settings_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings_file.write_text('[mounts]\nlab = "/mnt/lab"\n"RML EM" = "/mnt/em"\n')
    assert load_site().mounts == {"lab": Path("/mnt/lab"), "RML EM": Path("/mnt/em")}
    monkeypatch.setenv("TILTFLOW_MOUNTS", "other=/mnt/other")
    assert load_site().mounts == {"other": Path("/mnt/other")}


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("TILTFLOW_MOUNTS", "/mnt/lab", r"setting mounts \(TILTFLOW_MOUNTS\): '/mnt/lab' is not of the form name=/path"),
        ("TILTFLOW_MOUNTS", "lab=", "not of the form"),
        ("TILTFLOW_MOUNTS", "lab=mnt", "'mnt' is not an absolute path"),
        ("TILTFLOW_MOUNTS", "lab=/a:lab=/b", "'lab' is given twice"),
        ("TILTFLOW_MOUNTS", '{"lab": ', "begins like JSON but is none"),
        ("TILTFLOW_SCRATCH", "tmp", "'tmp' is not an absolute path"),
        ("TILTFLOW_THREADS", "many", r"setting threads \(TILTFLOW_THREADS\): .*valid integer"),
        ("TILTFLOW_THREADS", "0", "greater than or equal to 1"),
        ("TILTFLOW_RUNNER", "kubernetes", "'threads', 'dask' or 'slurm'"),
        ("TILTFLOW_SLURM_CORES", "0", r"setting slurm\.cores \(TILTFLOW_SLURM_CORES\)"),
        ("TILTFLOW_SLURM_DIRECTIVES", "[1", "begins like JSON but is none"),
    ],
)
def test_a_value_without_sense_is_named_with_its_variable(
    variable: str, value: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=reason):
        load_settings()


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILTFLOW_SCRATCH", "")
    monkeypatch.setenv("TILTFLOW_SLURM_CORES", "")
    assert load_settings().scratch is None
    assert load_settings().slurm.cores == 8


def test_a_misspelt_variable_is_warned_of_with_the_nearest_name(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TILTFLOW_MOUNT", "lab=/mnt/lab")
    load_settings()
    assert "variable TILTFLOW_MOUNT sets nothing. Did you mean 'TILTFLOW_MOUNTS'?" in caplog.text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("scrtch = '/tmp'", "unknown setting 'scrtch'. Did you mean 'scratch'?"),
        ("[slurm]\npartitoin = 'x'", "unknown setting 'slurm.partitoin'. Did you mean 'partition'?"),
        ("[slrum]\npartition = 'x'", "unknown setting 'slrum'. Did you mean 'slurm'?"),
        ("scratch = ", "is not TOML"),
        ("slurm = 1", "setting slurm (TILTFLOW_SLURM)"),
        ("threads = 'x'", "setting threads (TILTFLOW_THREADS)"),
    ],
)
def test_what_is_wrong_with_the_file_is_said(settings_file: Path, text: str, reason: str) -> None:
    settings_file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert reason in str(caught.value)


def test_a_settings_file_that_is_missing_or_no_text_is_named(settings_file: Path) -> None:
    settings_file.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match=r"tiltflow\.toml, named by TILTFLOW_SETTINGS, cannot be read"):
        load_settings()
    settings_file.unlink()
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings()


def test_an_unknown_argument_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(SettingsError, match=r"unknown setting 'thread'\. Did you mean 'threads'"):
        load_settings(thread=2)


def test_numbers_in_the_file_may_stand_for_texts(settings_file: Path) -> None:
    settings_file.write_text("imod_cpus = 8\nimod_gpu = 0")
    site = load_site()
    assert (site.imod_cpus, site.imod_gpu) == ("8", "0")


def test_lists_in_variables_are_parts_between_semicolons_or_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILTFLOW_SLURM_DIRECTIVES", "--gres=gpu:1; --qos=a,b ;")
    monkeypatch.setenv("TILTFLOW_SLURM_PROLOGUE", '["module load IMOD", "a; b"]')
    slurm = load_settings().slurm
    assert slurm.directives == ("--gres=gpu:1", "--qos=a,b")
    assert slurm.prologue == ("module load IMOD", "a; b")


def test_the_home_folder_may_be_written_as_a_tilde(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILTFLOW_SCRATCH", "~/scratch")
    assert load_settings().scratch == Path.home() / "scratch"


def test_the_cores_are_shared_out_among_the_series_unless_threads_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = usable_cores()
    assert load_site(jobs=1).threads == cores
    assert load_site(jobs=cores + 1).threads == 1
    monkeypatch.setenv("TILTFLOW_THREADS", "7")
    assert load_site(jobs=3).threads == 7


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no processor affinity")
def test_only_the_cores_that_this_process_may_use_count() -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_the_token_comes_from_the_named_file_then_the_variable_then_the_set_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {}
    for name in ("named", "set"):
        files[name] = tmp_path / name
        files[name].write_text(f"  token-{name}\n")
        files[name].chmod(0o600)
    assert load_token() is None

    def opened(path: Path | None = None) -> str:
        token = load_token(path)
        assert token is not None
        return token.get_secret_value()

    monkeypatch.setenv("TILTFLOW_TOKEN_FILE", str(files["set"]))
    assert opened() == "token-set"
    monkeypatch.setenv("TILTFLOW_TOKEN", "token-variable")
    assert opened() == "token-variable"
    assert opened(files["named"]) == "token-named"


def test_a_token_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"absent cannot be read \(No such file"):
        load_token(tmp_path / "absent")
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(SettingsError, match="empty is empty"):
        load_token(tmp_path / "empty")
    (tmp_path / "binary").write_bytes(b"\xff\x00")
    with pytest.raises(SettingsError, match="it is not text"):
        load_token(tmp_path / "binary")


def test_a_token_file_that_others_can_read_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "token"
    path.write_text("s3cr3t")
    path.chmod(0o600)
    with caplog.at_level(logging.DEBUG):
        load_token(path)
        assert caplog.text == ""
        path.chmod(0o644)
        load_token(path)
    assert "chmod 600" in caplog.text
    assert "s3cr3t" not in caplog.text


def test_the_token_shows_neither_in_the_settings_nor_in_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILTFLOW_TOKEN", "s3cr3t")
    settings = load_settings()
    assert "s3cr3t" not in repr(settings) + str(settings) + settings.model_dump_json()
    monkeypatch.setenv("TILTFLOW_THREADS", "s3cr3t-too")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert "s3cr3t" not in str(caught.value)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings().threads = 2  # type: ignore[misc]


def test_every_setting_has_a_variable_that_sets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "mounts": "a=/b",
        "runner": "dask",
        "keep_workdir": "true",
        "engine": "imod",
        "fallback": "false",
        "evidence_in_callback": "true",
        "slurm.directives": "--a",
        "slurm.prologue": "b",
    }
    for setting in describe_settings():
        path_or_number = "/x" if "folder" in setting.name or setting.name in {"scratch", "token_file"} else "3"
        monkeypatch.setenv(setting.variable, values.get(setting.name, path_or_number))
    dumped = load_settings().model_dump(exclude_unset=True)
    sections = {name for name, value in dumped.items() if name in {"slurm", "verdict"} and isinstance(value, dict)}
    given = set(dumped) - sections | {f"{section}.{name}" for section in sections for name in dumped[section]}
    assert given == {setting.name for setting in describe_settings()}


def test_the_operators_page_documents_every_setting() -> None:
    page = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    for setting in describe_settings():
        row = f"| `{setting.name}` | `{setting.variable}` | {f'`{setting.default}`' if setting.default else ''} | {setting.help} |"
        assert row in page, f"docs/operating.md lacks the row:\n{row}"
