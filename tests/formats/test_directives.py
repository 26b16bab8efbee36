"""Directive files: their grammar, their layers, their templates, and what must never get through."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiltflow.errors import DirectiveError, LocationError
from tiltflow.formats.directives import (
    Directive,
    layer_directives,
    parse_directives,
    parse_override,
    read_directives,
    render_directives,
    render_template,
    split_axis,
    variables_of_template,
)

WORDS = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-", min_size=1, max_size=12)
NAMES = st.lists(WORDS, min_size=2, max_size=4).map(".".join)
VALUES = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=30).map(lambda text: text.strip(" "))
DIRECTIVES = st.builds(Directive, NAMES, VALUES)

LINE_ENDS = ["\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029", "\0", "\x1b"]


def pairs(directives) -> list[tuple[str, str]]:
    return [(each.name, each.value) for each in directives]


class TestParsing:
    def test_keys_and_values_are_read_and_comments_and_blank_lines_are_not(self):
        text = "# plastic\n\n  setupset.copyarg.gold=10\n\t comparam.tilt.tilt.RADIAL \t=  0.35,\t0.05  \n   # more\n"
        found = parse_directives(text, "x.adoc")
        assert pairs(found) == [("setupset.copyarg.gold", "10"), ("comparam.tilt.tilt.RADIAL", "0.35, 0.05")]
        assert [each.origin for each in found] == ["x.adoc:3", "x.adoc:4"]

    def test_a_blank_value_is_a_removal(self):
        (found,) = parse_directives("comparam.tilt.tilt.LOG =\n", "x.adoc")
        assert found.removes
        assert found.value == ""

    def test_what_follows_the_first_equals_sign_is_all_value(self):
        (found,) = parse_directives("setupset.copyarg.name = a=b # c", "x.adoc")
        assert found.value == "a=b # c"

    def test_windows_line_ends_and_a_byte_order_mark_do_no_harm(self):
        assert pairs(parse_directives("\ufeffsetupset.copyarg.gold = 5\r\nsetupset.scanHeader = 1\r\n", "x")) == [
            ("setupset.copyarg.gold", "5"),
            ("setupset.scanHeader", "1"),
        ]

    @pytest.mark.parametrize(
        "line",
        [
            "just words",
            "gold = 10",
            "a.b.c.d.e = 1",
            "a..b = 1",
            ".a.b = 1",
            "a.b. = 1",
            "a b.c = 1",
            "= 3",
            "[section]",
            "a.b:c = 1",
        ],
    )
    def test_a_malformed_line_is_an_error_that_names_file_and_line(self, line):
        with pytest.raises(DirectiveError, match=r"lab\.adoc:2: "):
            parse_directives(f"# first\n{line}\n", "lab.adoc")

    @settings(deadline=None)
    @given(st.lists(DIRECTIVES))
    def test_what_is_written_is_read_back(self, directives):
        assert pairs(parse_directives(render_directives(directives), "x")) == pairs(directives)

    @settings(deadline=None)
    @given(st.lists(DIRECTIVES), st.text())
    def test_a_heading_cannot_become_a_directive(self, directives, heading):
        try:
            found = parse_directives(render_directives(directives, heading), "x")
        except DirectiveError:
            return  # a control character in the heading is refused, too
        assert pairs(found) == pairs(directives)

    @settings(deadline=None)
    @given(st.text(st.sampled_from("ab.= #\t\r\n\u2028\x85_0-")))
    def test_any_text_is_either_directives_or_a_directive_error(self, text):
        try:
            found = parse_directives(text, "x")
        except DirectiveError:
            return
        assert pairs(parse_directives(render_directives(found), "x")) == pairs(found)

    def test_a_file_that_is_not_there_is_named(self, tmp_path):
        with pytest.raises(LocationError, match=r"absent\.adoc"):
            read_directives(tmp_path / "absent.adoc")

    def test_a_file_in_another_encoding_is_refused_with_advice(self, tmp_path):
        path = tmp_path / "latin.adoc"
        path.write_bytes("# 10 Å\n".encode("latin-1"))
        with pytest.raises(DirectiveError, match=r"latin\.adoc: byte 5 is not UTF-8.*save the file as UTF-8"):
            read_directives(path)


class TestSmuggling:
    @pytest.mark.parametrize("end", LINE_ENDS)
    def test_no_directive_holds_a_line_end(self, end):
        with pytest.raises(DirectiveError, match="at place 2"):
            Directive("setupset.copyarg.gold", f"1{end}setupset.copyarg.dual = 1")

    @pytest.mark.parametrize("end", LINE_ENDS)
    def test_an_override_holds_no_line_end(self, end):
        with pytest.raises(DirectiveError, match="--set"):
            parse_override(f"setupset.copyarg.gold=1{end}setupset.copyarg.dual = 1")

    @pytest.mark.parametrize("end", LINE_ENDS)
    def test_a_template_variable_holds_no_line_end(self, end):
        with pytest.raises(DirectiveError, match="variable name"):
            render_template("setupset.copyarg.name = {{ name }}", {"name": f"TS{end}setupset.copyarg.dual = 1"})

    @settings(deadline=None)
    @given(st.text())
    def test_whatever_the_name_of_a_file_it_stays_one_value(self, name):
        template = "setupset.copyarg.name = {{ name }}\nsetupset.copyarg.gold = 10\n"
        try:
            found = parse_directives(render_template(template, {"name": name}), "x")
        except DirectiveError:
            return
        assert pairs(found) == [("setupset.copyarg.name", name), ("setupset.copyarg.gold", "10")]

    def test_a_name_is_not_a_template(self):
        assert render_template("{{ name }}", {"name": "{{ 7 * 7 }}"}) == "{{ 7 * 7 }}"


class TestOverrides:
    def test_name_and_value_are_parted_at_the_first_equals_sign(self):
        found = parse_override(" comparam.tilt.tilt.THICKNESS = 300 ")
        assert (found.name, found.value, found.origin) == ("comparam.tilt.tilt.THICKNESS", "300", "--set")

    def test_a_blank_value_removes(self):
        assert parse_override("comparam.tilt.tilt.LOG=").removes

    def test_without_an_equals_sign_the_error_says_how_to_write_it(self):
        with pytest.raises(DirectiveError, match="write --set directive=value"):
            parse_override("comparam.tilt.tilt.THICKNESS")


class TestLayers:
    def test_the_later_layer_wins_and_keeps_the_order_of_first_mention(self):
        scope = parse_directives("a.x = 1\na.y = 1\na.z = 1", "scope")
        system = parse_directives("a.y = 2", "system")
        batch = parse_directives("a.z = 4\na.w = 4", "batch")
        layered = layer_directives(scope, system, batch)
        assert pairs(layered.directives) == [("a.x", "1"), ("a.y", "2"), ("a.z", "4"), ("a.w", "4")]
        assert [each.origin for each in layered.directives] == ["scope:1", "system:1", "batch:1", "batch:2"]
        assert not layered.problems

    def test_a_blank_value_in_a_later_layer_removes_and_a_value_after_it_restores(self):
        value, blank = [Directive("a.x", "1")], [Directive("a.x", "")]
        assert layer_directives(value, blank).directives[0].removes
        assert layer_directives(value, blank, value).directives[0].value == "1"

    def test_a_name_given_twice_in_one_file_is_reported_and_the_last_counts(self):
        layered = layer_directives(parse_directives("a.x = 1\na.y = 0\na.x = 2\n", "lab.adoc"))
        assert pairs(layered.directives) == [("a.x", "2"), ("a.y", "0")]
        (problem,) = layered.problems
        assert problem.where == "lab.adoc:3"
        assert "'2' replaces '1'" in problem.message

    @settings(deadline=None, max_examples=50)
    @given(st.lists(st.lists(DIRECTIVES), max_size=4))
    def test_every_name_is_in_force_once_with_its_last_value(self, layers):
        expected = {each.name: each.value for layer in layers for each in layer}
        found = pairs(layer_directives(*layers).directives)
        assert len(found) == len(expected)
        assert dict(found) == expected


class TestAxes:
    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("runtime.Fiducials.any.seedingMethod", ("runtime.Fiducials.any.seedingMethod", "any")),
            ("runtime.Fiducials.b.seedingMethod", ("runtime.Fiducials.any.seedingMethod", "b")),
            ("setupset.copyarg.a", ("setupset.copyarg.a", "any")),
            ("comparam.x.a.y", ("comparam.x.a.y", "any")),
        ],
    )
    def test_the_axis_is_the_third_component_of_runtime_directives(self, name, expected):
        assert split_axis(name) == expected


class TestTemplates:
    def test_values_and_decisions_are_filled_in_and_lines_keep_their_numbers(self):
        text = "{% if focus %}a.focus = {{ focus }}{% endif %}\na.gold = {{ gold }}\n"
        found = parse_directives(render_template(text, {"focus": 0, "gold": 10}), "t")
        assert [(each.name, each.line) for each in found] == [("a.gold", 2)]

    def test_an_unknown_variable_is_named_with_the_known_ones(self):
        with pytest.raises(DirectiveError, match=r"lab\.adoc: 'THICKNES' is undefined; a template may use gold, THICKNESS"):
            render_template("a.b = {{ THICKNES }}", {"gold": 10, "THICKNESS": 100}, "lab.adoc")

    def test_a_malformed_template_is_named_with_its_line(self):
        with pytest.raises(DirectiveError, match=r"lab\.adoc:2: the template is malformed"):
            render_template("a.b = 1\na.c = {{ gold", {"gold": 10}, "lab.adoc")

    @pytest.mark.parametrize(
        "text",
        [
            "{{ ''.__class__.__mro__ }}",
            "{{ gold.__init__.__globals__ }}",
            "{% include '/etc/passwd' %}",
            "{{ cycler.__init__.__globals__ }}",
            "{{ gold / 0 }}",
            "{{ gold + 'x' }}",
            "{{ range(10**9) | list }}",
        ],
    )
    def test_a_template_reaches_nothing_outside_and_fails_as_a_directive_error(self, text):
        with pytest.raises(DirectiveError, match=r"^t: "):
            render_template(text, {"gold": 10}, "t")

    def test_none_prints_nothing_and_counts_as_false(self):
        assert render_template("[{{ x }}{% if x %}yes{% endif %}]", {"x": None}) == "[]"

    @pytest.mark.parametrize("name", [" TS_01", "TS_01 ", "TS_01\u00a0"])
    def test_a_name_that_would_lose_a_blank_is_refused(self, name):
        with pytest.raises(DirectiveError, match="begins or ends with a blank"):
            render_template("a.b = {{ name }}", {"name": name})

    def test_the_variables_that_a_template_asks_for_are_told(self):
        assert variables_of_template("{% if focus %}{{ gold }}{% endif %} {{ THICKNESS * 2 }}") == {"focus", "gold", "THICKNESS"}


def test_jinja_waits_until_a_template_is_rendered():
    code = "import sys, tiltflow.formats.directives; sys.exit('jinja2' in sys.modules or 'numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parent).returncode == 0


@pytest.mark.parametrize(
    "held", ["root:x:0:0:root:/root:/bin/bash", "TOKEN=s3cret", "s3cretbase64==", "-----BEGIN KEY-----\ns3cret"]
)
def test_a_file_of_another_kind_is_not_quoted(held):
    with pytest.raises(DirectiveError) as caught:
        parse_directives(f"# a remark\n\n{held}\n", "asked.adoc")
    said = str(caught.value)
    assert said.startswith("asked.adoc:3: this line is not a directive, nor is any other of the file")
    assert not [word for word in ("root", "s3cret", "TOKEN", "KEY") if word in said]
