"""batchruntomo's command line: spellings, values, data sets, and what is said when it is wrong."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiltflow.batchruntomo.arguments import HelpRequest, parse_arguments
from tiltflow.batchruntomo.options import OPTIONS, find_option
from tiltflow.errors import ParameterError
from tiltflow.parallel import usable_cores


@pytest.fixture
def adoc(tmp_path):
    path = tmp_path / "a.adoc"
    path.write_text("setupset.copyarg.name = A\n")
    return path


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("DirectiveFile", "DirectiveFile"),
        ("directive", "DirectiveFile"),
        ("di", "DirectiveFile"),
        ("Di", "DirectiveFile"),
        ("directivefile", "DirectiveFile"),
        ("ro", "RootName"),
        ("cu", "CurrentLocation"),
        ("st", "StartingStep"),
        ("en", "EndingStep"),
        ("cp", "CPUMachineList"),
        ("cpus", "CPUMachineList"),
        ("gp", "GPUMachineList"),
        ("gpu", "GPUMachineList"),
        ("StartF", "StartForFirstSetOnly"),
        ("fi", "StartForFirstSetOnly"),
        ("val", "ValidationType"),
    ],
)
def test_options_are_known_by_both_names_and_by_their_beginnings(word, name):
    assert find_option(word).name == name


@pytest.mark.parametrize("word", ["e", "S", "s", "", "c"])
def test_a_beginning_of_several_options_is_ambiguous(word):
    with pytest.raises(ParameterError, match="Ambiguous option"):
        find_option(word)


@given(st.sampled_from(OPTIONS), st.booleans(), st.data())
def test_every_beginning_finds_its_option_or_is_ambiguous(option, long, data):
    name = option.name if long else option.short
    word = name[: data.draw(st.integers(1, len(name)))]
    sharing = [each for each in OPTIONS if each.name.startswith(word) or each.short.startswith(word)]
    if len(sharing) == 1 or word == name:
        assert find_option(word) is option
    else:
        with pytest.raises(ParameterError, match=f"-{option.name}"):
            find_option(word)


def test_the_commands_of_relion_and_of_short_names_are_the_same(adoc, tmp_path):
    long = parse_arguments(
        [
            "-DirectiveFile",
            str(adoc),
            "-CurrentLocation",
            f"{tmp_path}/",
            "-RootName",
            "A",
            "-StartingStep",
            "0",
            "-EndingStep",
            "6",
        ]
    )
    assert long == parse_arguments(["-di", str(adoc), "-cu", str(tmp_path), "-ro", "A", "-st", "0", "-en", "6"])
    (one,) = long.data_sets
    assert (one.directive_file, one.name, one.folder, long.last_step, long.threads) == (adoc, "A", tmp_path, 6, None)


def test_words_without_an_option_are_directive_files(adoc, tmp_path):
    other = tmp_path / "b.adoc"
    other.touch()
    request = parse_arguments([str(other), "-di", str(adoc), "-en", "6"])
    assert [each.directive_file for each in request.data_sets] == [adoc, other]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["-en", "6"], "at least one directive file"),
        (["-di", "nowhere.adoc"], "nowhere.adoc does not exist"),
        (["-di", "A", "-nonsense"], "Illegal option: -nonsense"),
        (["-di", "A", "-en"], "A value was expected after -EndingStep"),
        (["-di", "A", "-en", "six"], "takes a number, not 'six'"),
        (["-di", "A", "-validation", "1.5"], "takes a whole number, not '1.5'"),
        (["-di", "A", "-cp", "0"], "between 1 and 128"),
        (["-di", "A", "-cp", "129"], "between 1 and 128"),
        (["-di", "A", "-cp", "localhost:x"], "not a machine's name"),
        (["-di", "A", "-di", "A", "-ro", "a", "-ro", "b", "-ro", "c"], "one directive file or one per root name"),
        (["-di", "A", "-ro", "a", "-ro", "b", "-cu", "."], "enter it for each"),
        (["-di", "A", "-cu", ".", "-cu", "."], "enter it for each"),
        (["-di", "A", "-deliver", "x"], "-DeliverToDirectory is not supported"),
        (["-di", "A", "-st", "106"], "step of a second axis"),
        (["-di", "A", "-use"], "needs a -StartingStep after the tracking"),
    ],
)
def test_what_is_wrong_is_an_error_that_names_it(words, complaint, adoc):
    with pytest.raises(ParameterError, match=complaint):
        parse_arguments([str(adoc) if word == "A" else word for word in words])


def test_one_directive_file_stands_for_several_root_names(adoc, tmp_path):
    request = parse_arguments(["-di", str(adoc), "-ro", "a", "-ro", "b", "-cu", "x", "-cu", "y"])
    assert [(each.directive_file, each.name, str(each.folder)) for each in request.data_sets] == [
        (adoc, "a", "x"),
        (adoc, "b", "y"),
    ]


@pytest.mark.parametrize(
    ("cpus", "threads", "remark"),
    [
        ("1", 1, ""),
        ("128", min(128, usable_cores()), "asks for 128 cores"),
        ("localhost:1", 1, ""),
        ("localhost#1", 1, ""),
        ("druid:1,tubule:1", 1, "all work is done on this machine"),
    ],
)
def test_cores_are_those_of_this_machine(cpus, threads, remark, adoc):
    request = parse_arguments([str(adoc), "-cp", cpus])
    assert request.threads == threads
    assert bool(request.remarks) == bool(remark)
    assert remark in " ".join(request.remarks)


@pytest.mark.parametrize("option", [each for each in OPTIONS if each.unheeded], ids=lambda option: option.name)
def test_an_option_without_effect_is_said(option, adoc):
    value = [] if option.kind == "switch" else ["1"]
    assert parse_arguments([str(adoc), f"-{option.name}", *value]).remarks == (f"-{option.name} has no effect: {option.unheeded}",)


def test_options_may_come_from_a_file_and_from_the_standard_input(adoc, tmp_path):
    file = tmp_path / "parameters"
    file.write_text(f"# mine\nDirectiveFile\t{adoc}\n\nEndingStep 6\nExitOnError\n")
    expected = parse_arguments(["-di", str(adoc), "-en", "6", "-exit"])
    assert parse_arguments(["-param", str(file)]) == expected
    assert parse_arguments(["-StandardInput"], read_input=lambda: file.read_text() + os.linesep) == expected


@pytest.mark.parametrize("words", [[], ["-help"], ["--help"], ["-usage"], ["-di", "x", "-h"]])
def test_help_is_asked_for(words):
    assert isinstance(parse_arguments(words), HelpRequest)


@pytest.mark.parametrize(("given", "first"), [("6", 7), ("7", 7), ("8", 8)])
def test_an_existing_alignment_is_used_from_step_7_on(given, first, adoc):
    assert parse_arguments([str(adoc), "-use", "-st", given]).first_step == first


def test_a_limit_alone_is_a_number_of_threads(adoc):
    assert parse_arguments([str(adoc), "-limit", "1"]).threads == 1
    assert parse_arguments([str(adoc), "-limit", "1", "-cp", "2"]).threads == 1
