"""Where settings come from, and what is said about wrong ones."""

from __future__ import annotations

import logging
import os
from dataclasses import Field, fields
from operator import attrgetter
from pathlib import Path

import pytest

from tiltflow.errors import SettingsError
from tiltflow.parallel import usable_cores
from tiltflow.settings import (
    FILE_VARIABLE,
    PREFIX,
    SettingHelp,
    Settings,
    describe_settings,
    load_settings,
    load_site,
    load_token,
)
from tiltflow.work import Thresholds


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
    assert (site.engine_options["imod_cpus"], site.engine_options["imod_gpu"], site.keep_workdir) == (None, None, False)
    assert site.engine_options["keep_imod"] is False
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


def test_a_job_has_no_more_cores_than_slurm_gave_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiltflow.settings.site.usable_cores", lambda: 4)
    for given, cores in {"3": 3, "64": 4, "0": 1, "2(x2)": 4}.items():
        monkeypatch.setenv("SLURM_CPUS_ON_NODE", given)
        assert load_site().threads == cores
    assert load_site(jobs=2).threads == 2
    assert load_site(threads=7).threads == 7


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
        ("TILTFLOW_MOUNTS", "lab=mnt", r"setting mounts\.lab \(TILTFLOW_MOUNTS\): 'mnt' is not an absolute path"),
        ("TILTFLOW_MOUNTS", "lab=/a:lab=/b", "'lab' is given twice"),
        ("TILTFLOW_MOUNTS", '{"lab": ', "begins like JSON but is not valid"),
        ("TILTFLOW_SCRATCH", "tmp", "'tmp' is not an absolute path"),
        ("TILTFLOW_THREADS", "many", r"setting threads \(TILTFLOW_THREADS\): .*valid integer"),
        ("TILTFLOW_THREADS", "0", "greater than or equal to 1"),
        ("TILTFLOW_RUNNER", "kubernetes", "'threads', 'dask', 'slurm' or 'pool'"),
        ("TILTFLOW_SLURM_CORES", "0", r"setting slurm\.cores \(TILTFLOW_SLURM_CORES\)"),
        ("TILTFLOW_SLURM_DIRECTIVES", "[1", "begins like JSON but is not valid"),
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
    assert "variable TILTFLOW_MOUNT is not a setting. Did you mean 'TILTFLOW_MOUNTS'?" in caplog.text


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
    assert (site.engine_options["imod_cpus"], site.engine_options["imod_gpu"]) == ("8", "0")


@pytest.mark.parametrize(("text", "kept"), [("true", True), ("1", True), ("false", False), ("0", False)])
def test_an_option_of_an_engine_may_be_a_truth_value(monkeypatch: pytest.MonkeyPatch, text: str, kept: bool) -> None:
    monkeypatch.setenv("TILTFLOW_KEEP_IMOD", text)
    assert load_site().engine_options["keep_imod"] is kept
    monkeypatch.setenv("TILTFLOW_KEEP_IMOD", "perhaps")
    with pytest.raises(SettingsError, match=r"setting keep_imod \(TILTFLOW_KEEP_IMOD\): .*valid boolean"):
        load_settings()


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
    assert load_token(load_settings()) is None

    def opened(path: Path | None = None) -> str:
        token = load_token(load_settings(), path)
        assert token is not None
        return token.get_secret_value()

    monkeypatch.setenv("TILTFLOW_TOKEN_FILE", str(files["set"]))
    assert opened() == "token-set"
    monkeypatch.setenv("TILTFLOW_TOKEN", "token-variable")
    assert opened() == "token-variable"
    assert opened(files["named"]) == "token-named"


def test_a_token_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"absent cannot be read \(No such file"):
        load_token(load_settings(), tmp_path / "absent")
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(SettingsError, match="empty is empty"):
        load_token(load_settings(), tmp_path / "empty")
    (tmp_path / "binary").write_bytes(b"\xff\x00")
    with pytest.raises(SettingsError, match="it is not text"):
        load_token(load_settings(), tmp_path / "binary")


def test_a_token_file_that_others_can_read_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "token"
    path.write_text("s3cr3t")
    path.chmod(0o600)
    with caplog.at_level(logging.DEBUG):
        load_token(load_settings(), path)
        assert caplog.text == ""
        path.chmod(0o644)
        load_token(load_settings(), path)
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


OTHER_VALUES = {
    "mounts": "a=/b",
    "runner": "dask",
    "callback_mode": "series",
    "state": "/state",
    "keep_workdir": "true",
    "keep_imod": "true",
    "swap_volume_types": "true",
    "publish_aligned": "false",
    "publish_volume": "false",
    "imod_audit": "false",
    "engine": "imod",
    "export": "warp",
    "fallback_engine": "off",
    "fallback": "false",
    "evidence_in_callback": "true",
    "slurm.directives": "--a",
    "slurm.prologue": "b",
    "callback_hosts": "portal.example",
    "callback_secrets": "b",
    "template_folders": "/x",
    "zarr_version": "0.5",
    "zarr_axes": "zyx",
    "assets_url": "https://x/Assets",
    "scratch": "/x",
    "token_file": "/x",
    "slurm.shared_folder": "/x",
}
"""Values unlike the defaults; every other setting takes 3."""


@pytest.mark.parametrize("setting", describe_settings(), ids=lambda setting: setting.name)
def test_every_setting_has_a_variable_that_sets_it_and_nothing_else(setting: SettingHelp, monkeypatch: pytest.MonkeyPatch) -> None:
    def values(settings: Settings) -> dict[str, object]:
        return {each.name: attrgetter(each.name)(settings) for each in describe_settings()}

    before = values(load_settings())
    monkeypatch.setenv(setting.variable, OTHER_VALUES.get(setting.name, "3"))
    after = values(load_settings())
    assert {name for name in before if before[name] != after[name]} == {setting.name}


def test_every_setting_can_stand_in_the_file(settings_file: Path) -> None:
    rows: dict[str, list[str]] = {"": [], "slurm": [], "verdict": []}
    for setting in describe_settings():
        section, _, name = setting.name.rpartition(".")
        value = OTHER_VALUES.get(setting.name, "3")
        rows[section].append(f"{name} = {value if value in ('3', 'true', 'false') else repr(value)}")
    text = "\n".join([*rows[""], "[slurm]", *rows["slurm"], "[verdict]", *rows["verdict"]])
    settings_file.write_text(text)
    settings = load_settings()
    assert all(attrgetter(setting.name)(settings) not in (None, (), {}) for setting in describe_settings())


def test_a_share_given_by_an_argument_or_a_variable_hides_those_of_the_file(
    settings_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings_file.write_text('[mounts]\nlab = "/mnt/lab"\n')
    assert load_settings(mounts={"qa": "/mnt/qa"}).mounts == {"qa": Path("/mnt/qa")}
    monkeypatch.setenv("TILTFLOW_MOUNTS", '{"em": "/mnt/em"}')
    assert load_settings().mounts == {"em": Path("/mnt/em")}


@pytest.mark.parametrize(
    "variable", ["TILTFLOW_MOUNTS_LAB", "TILTFLOW_SLURM", "TILTFLOW_SLURM_PARTITOIN", "TILTFLOW_VERDICT_ERROR"]
)
def test_only_the_variables_of_the_documentation_set_anything(
    variable: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = load_settings()
    monkeypatch.setenv(variable, "/mnt/lab")
    assert load_settings() == before
    assert f"variable {variable} is not a setting. Did you mean" in caplog.text


@pytest.mark.parametrize(
    ("file", "variables", "arguments", "fallback", "remark"),
    [
        ("", {}, {}, True, ""),
        ("", {"LADDER": "false"}, {}, False, "is now called 'fallback' (TILTFLOW_FALLBACK)"),
        ("ladder = false", {}, {}, False, "is now called 'fallback'"),
        ("", {}, {"ladder": False}, False, "is now called 'fallback'"),
        ("", {"FALLBACK": "false"}, {}, False, ""),
        ("", {"LADDER": "true", "FALLBACK": "false"}, {}, False, "both are given, 'fallback' counts"),
        ("", {"LADDER": "false", "FALLBACK": "true"}, {}, True, "both are given, 'fallback' counts"),
        ("ladder = false\nfallback = true", {}, {}, True, "both are given, 'fallback' counts"),
        ("fallback = true", {"LADDER": "false"}, {}, True, "both are given, 'fallback' counts"),
        ("ladder = false", {"FALLBACK": "true"}, {}, True, "both are given, 'fallback' counts"),
        ("ladder = true", {"LADDER": "false"}, {}, False, "is now called 'fallback'"),
        ("fallback = true", {"FALLBACK": "false"}, {}, False, ""),
    ],
)
def test_the_old_name_of_the_fallback_works_with_a_remark_and_gives_way_to_the_new_one(
    settings_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    file: str,
    variables: dict[str, str],
    arguments: dict[str, bool],
    fallback: bool,
    remark: str,
) -> None:
    settings_file.write_text(file)
    for name, value in variables.items():
        monkeypatch.setenv(f"TILTFLOW_{name}", value)
    assert load_settings(**arguments).fallback is fallback
    assert remark in caplog.text
    assert bool(remark) == bool(caplog.text)


def test_an_old_name_with_a_value_without_sense_is_named_as_the_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILTFLOW_LADDER", "sometimes")
    with pytest.raises(SettingsError, match=r"setting fallback \(TILTFLOW_FALLBACK\): .*valid boolean"):
        load_settings()


def test_the_thresholds_of_the_verdict_are_those_of_the_core(settings_file: Path) -> None:
    assert load_site().thresholds == Thresholds()
    settings_file.write_text("[verdict]\nerror_good_px = 0.25\ntracks_good = 5\n")
    assert load_site().thresholds == Thresholds(error_good_px=0.25, tracks_good=5)
    described = {setting.name: setting for setting in describe_settings()}
    for field in fields(Thresholds):
        setting = described[f"verdict.{field.name}"]
        assert setting.default == ("" if field.default is None else str(field.default))
        assert setting.help.endswith(
            (": good up to this.", ": poor above this.", ": good from this.", ": poor below this.", " volume.")
        )


@pytest.mark.parametrize("field", fields(Thresholds), ids=lambda field: field.name)
def test_no_threshold_may_be_negative(field: Field[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"TILTFLOW_VERDICT_{field.name.upper()}", "-1")
    with pytest.raises(SettingsError, match=rf"setting verdict\.{field.name} .*greater than or equal to 0"):
        load_settings()


def test_an_unknown_threshold_is_refused_with_the_nearest_name(settings_file: Path) -> None:
    with pytest.raises(SettingsError, match=r"unknown setting 'verdict\.eror_good_px'\. Did you mean 'error_good_px'"):
        load_settings(verdict={"eror_good_px": 1})
    settings_file.write_text("[verdict]\ntracks = 3\n")
    with pytest.raises(SettingsError, match=r"tiltflow\.toml: unknown setting 'verdict\.tracks'\. Did you mean 'tracks_"):
        load_settings()
