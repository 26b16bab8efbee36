"""A session: what it does of what arrives, in which order, and what it leaves to the next one."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from dataclasses import replace

import pytest
from tests.conftest import write_small_series
from tests.watch.conftest import LONG_AGO

from tiltflow import stopping
from tiltflow.errors import LocationError
from tiltflow.pipeline import check_results, process
from tiltflow.record import read_run
from tiltflow.report import INDEX_NAME, METRICS_NAME
from tiltflow.watch import LEDGER_NAME, Ledger, Rules, State, assign, watch
from tiltflow.watch.session import LOCK_NAME


def entries(plan):
    with Ledger(plan.ledger_path, plan.output) as ledger:
        return {path.name: entry for path, entry in ledger.entries().items()}


def states(plan):
    return {name: entry.state.value for name, entry in entries(plan).items()}


def written_long_ago(path):
    os.utime(path, (LONG_AGO, LONG_AGO))
    return path


@pytest.fixture
def good(folder):
    return written_long_ago(write_small_series(folder / "B.st"))


def without_hidden(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


@pytest.mark.usefixtures("fake_imod")
def test_one_look_does_what_is_whole_and_says_what_waits(plan, folder, good, heard, write_without_angles):
    write_without_angles(folder / "A.mrc")
    content = good.read_bytes()
    (folder / "C.st").write_bytes(content[:-9000])
    outcome = watch(plan(), heard)
    assert (outcome.done, outcome.failed) == (1, 1)
    assert states(plan()) == {"A.mrc": "failed", "B.st": "done", "C.st": "growing"}
    found = entries(plan())
    assert found["C.st"].why == "3 of 5 views of its header have arrived"
    assert found["A.mrc"].verdict.startswith("FAILED at read: ")
    assert "tilt angles" in found["A.mrc"].why
    assert found["B.st"].verdict.startswith(("GOOD", "DOUBTFUL", "POOR"))
    assert heard.of("C.st") == ["arrives: 3 of 5 views of its header have arrived"]
    assert [line.split(":")[0] for line in heard.of("B.st")] == ["is whole", "begins", "done"]
    assert heard.lines[-1].startswith("session: 1 growing (C.st: 3 of 5 views of its header have arrived), 1 done (1 ")
    (page,) = outcome.pages
    assert page == plan().output / INDEX_NAME
    assert without_hidden(plan().output) == ["A", "B", INDEX_NAME, METRICS_NAME, "run.json"]
    assert "B" in (plan().output / METRICS_NAME).read_text()
    run = read_run(plan().output / "run.json")
    assert {entry.name: entry.status for entry in run.series} == {"A": "error", "B": "success"}
    assert run.status == "done"


@pytest.mark.usefixtures("fake_imod")
def test_the_same_session_again_does_nothing_twice_and_knows_of_the_results(plan, good, heard):
    watch(plan())
    (before,) = [*check_results(plan().output)]
    made = (plan().output / "B" / "run.json").stat().st_mtime_ns
    outcome = watch(plan(), heard)
    assert (outcome.done, outcome.failed) == (0, 0)
    assert heard.begun() == []
    assert before.differences == ()
    assert (plan().output / "B" / "run.json").stat().st_mtime_ns == made
    assert [entry.status for entry in read_run(plan().output / "run.json").series] == ["success"]


@pytest.mark.usefixtures("fake_imod")
def test_results_of_another_recipe_or_that_are_gone_are_made_again(plan, good, heard):
    watch(plan())
    watch(plan(thickness=52), heard)
    assert heard.begun() == ["B.st"]
    heard.news.clear()
    shutil.rmtree(plan().output / "B")
    watch(plan(thickness=52), heard)
    assert "is whole: done again: its results are gone" in heard.of("B.st")
    assert heard.begun() == ["B.st"]
    assert states(plan()) == {"B.st": "done"}


@pytest.mark.usefixtures("fake_imod")
def test_results_that_a_run_made_are_kept(plan, good, heard):
    asked = plan()
    result = process(good, asked.recipes, asked.site, output=asked.output / "B")
    assert result.ok
    assert watch(asked, heard).done == 1
    assert "already done by this recipe, nothing to do" in heard.of("B.st")


@pytest.mark.usefixtures("fake_imod")
def test_a_file_that_changes_after_it_was_done_is_done_again(plan, folder, good, heard):
    watch(plan())
    (folder / "B.rawtlt").write_text("\n".join(map(str, range(-40, 41, 20))))
    watch(plan(), heard)
    assert heard.of("B.st")[0].startswith("has changed since it was done: ")
    assert states(plan()) == {"B.st": "growing"}, "it changed a moment ago"
    heard.news.clear()
    time.sleep(1.0)
    watch(plan(), heard)
    assert any("done again: the stack, or a file beside it, has changed since" in line for line in heard.of("B.st"))
    assert states(plan()) == {"B.st": "done"}


@pytest.mark.usefixtures("fake_imod")
def test_a_growing_file_is_taken_when_it_is_whole_and_never_before(plan, folder, heard, tmp_path):
    content = write_small_series(tmp_path / "B.st").read_bytes()
    (folder / "B.st.mdoc").write_text("".join(f"[ZValue = {z}]\nTiltAngle = {z}\n" for z in range(5)))

    def arrive():
        with (folder / "B.st").open("wb") as file:
            for start in range(0, len(content), 7000):
                file.write(content[start : start + 7000])
                file.flush()
                time.sleep(0.25)

    microscope = threading.Thread(target=arrive)
    microscope.start()
    asked = replace(plan(), once=False, until_idle_s=0.0, rules=Rules(still_s=0.6))
    ended = {}

    def when_begun(source, recipe, site, *, output, on_progress):
        ended["whole"] = source.stat().st_size == len(content)
        return process(source, recipe, site, output=output, on_progress=on_progress)

    outcome = watch(asked, heard, work=when_begun)
    microscope.join()
    assert (outcome.done, outcome.failed) == (1, 0)
    assert ended == {"whole": True}
    assert heard.begun() == ["B.st"]
    said = heard.of("B.st")
    assert said[0].startswith("arrives: ")
    assert said[said.index("begins") - 1] == "is whole: 5 views"
    assert sum(line.startswith("is whole") for line in said) == 1


class Clock:
    """A clock that goes on by itself, and by what is put to it."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


def test_an_incomplete_series_is_told_when_it_stalls_and_once_more_when_it_is_given_up(plan, folder, heard):
    content = write_small_series(folder / "B.st").read_bytes()
    (folder / "B.st").write_bytes(content[:-1])
    clock, patient = Clock(), replace(plan(), rules=Rules(still_s=60.0, patience_s=3600.0))
    lacks = "4 of 5 views of its header have arrived"
    for ahead_s, told in (
        (0.0, [f"arrives: {lacks}"]),
        (30.0, []),
        (61.0, [f"waits: {lacks}"]),
        (3590.0, [f"waits: {lacks}"]),  # a session tells what waits, once
        (3610.0, [f"is not done: given up after 1 h without a change: {lacks}"]),
        (9000.0, []),
    ):
        heard.news.clear()
        clock.ahead_s = ahead_s
        outcome = watch(patient, heard, clock=clock)
        assert heard.of("B.st") == told, ahead_s
        assert (outcome.done, outcome.failed) == (0, int("given up" in " ".join(told)))
    assert states(patient) == {"B.st": "skipped"}
    (folder / "B.st").write_bytes(content)
    heard.news.clear()
    for ahead_s in (9015.0, 9090.0):
        clock.ahead_s = ahead_s
        watch(patient, heard, clock=clock)
    assert heard.of("B.st")[:3] == ["has changed: 5 views so far; taken after 60 s without a change", "is whole: 5 views", "begins"]


def test_priority_decides_and_then_age(plan, tmp_path, heard, write_without_angles):
    one, two = tmp_path / "one", tmp_path / "two"
    for place, names in ((one, "AB"), (two, "CD")):
        place.mkdir()
        for age, name in enumerate(names):
            write_without_angles(place / f"{name}.mrc", LONG_AGO - age)
    watch(plan(one, two, priorities=("two=1",)), heard)
    assert heard.begun() == ["two/D.mrc", "two/C.mrc", "one/B.mrc", "one/A.mrc"]
    assert without_hidden(plan().output) == ["one", "two"]
    assert without_hidden(plan().output / "one") == ["A", "B", INDEX_NAME, METRICS_NAME, "run.json"]


def test_newest_first(plan, folder, heard, write_without_angles):
    for age, name in enumerate("ABC"):
        write_without_angles(folder / f"{name}.mrc", LONG_AGO - age)
    watch(plan(newest_first=True), heard)
    assert heard.begun() == ["A.mrc", "B.mrc", "C.mrc"]


def test_what_another_run_has_done_meanwhile_counts_as_done(plan, good, heard, fake_imod):
    asked = plan()
    fake_imod.setenv("FAKE_BATCHRUNTOMO", "abort")
    for _ in range(3):
        assert watch(asked).failed == 1
    fake_imod.setenv("FAKE_BATCHRUNTOMO", "good")
    assert process(good, asked.recipes, asked.site, output=asked.output / "B").ok
    outcome = watch(asked, heard)
    assert (outcome.done, outcome.failed, heard.begun()) == (0, 0, [])
    assert heard.of("B.st")[0].startswith("was done by another run: ")
    assert states(asked) == {"B.st": "done"}
    assert [entry.status for entry in read_run(asked.output / "run.json").series] == ["success"]


def test_a_series_that_fails_is_tried_once_a_session_and_three_times_in_all(plan, folder, heard, write_without_angles):
    path = write_without_angles(folder / "B.mrc")
    for tries in (1, 2, 3, 3):
        outcome = watch(plan(), heard)
        assert outcome.failed == int(len(heard.begun()) == tries or tries < 3)
        assert entries(plan())["B.mrc"].tries == tries
        if tries == 3:
            heard.news.clear()
    assert heard.begun() == []
    watch(replace(plan(), once=False, until_idle_s=0.0), heard)
    assert heard.begun() == ["B.mrc"], "somebody started this one"
    heard.news.clear()
    write_without_angles(path, LONG_AGO + 1)
    watch(plan(), heard)
    assert heard.begun() == []
    time.sleep(1.1)
    watch(plan(), heard)
    assert heard.begun() == ["B.mrc"], "another file is another matter"


def test_what_a_killed_session_left_in_the_middle_is_taken_up_but_not_for_ever(plan, folder, heard, write_without_angles):
    write_without_angles(folder / "B.mrc")
    watch(plan())
    for tries, begun in ((9, ["B.mrc"]), (10, [])):
        left = replace(entries(plan())["B.mrc"], state=State.RUNNING, tries=tries)
        with Ledger(plan().ledger_path, plan().output) as ledger:
            ledger.save([left])
        heard.news.clear()
        outcome = watch(plan(), heard)
        assert heard.begun() == begun
        assert outcome.failed == 1
    assert "FAILED: the process that worked on it died, 10 times" in heard.of("B.mrc")[0]


def test_of_two_files_with_one_base_name_the_second_is_left_out_in_words(plan, folder, heard, write_without_angles):
    write_without_angles(folder / "B.mrc")
    write_without_angles(folder / "B.st")
    watch(plan(), heard)
    assert heard.begun() == ["B.mrc"]
    (said,) = heard.of("B.st")
    assert said == (
        f"is not done: its results would lie in {plan().output / 'B'}, which holds those of {folder / 'B.mrc'}: rename one of them, "
        "or give another --output"
    )
    heard.news.clear()
    (folder / "B.st").rename(folder / "C.st")
    for _ in range(2):
        watch(plan(), heard)
        time.sleep(1.1)
    assert "C.st" in heard.begun()


@pytest.mark.usefixtures("fake_imod")
def test_a_file_that_is_renamed_or_a_folder_that_is_moved_takes_its_state_along(plan, folder, good, heard, tmp_path):
    watch(plan())
    folder.rename(tmp_path / "moved")
    asked = plan(tmp_path / "moved")
    watch(asked, heard)
    assert heard.begun() == []
    assert {path.parent.name: entry.state for path, entry in Ledger(asked.ledger_path, asked.output).entries().items()} == {
        "moved": State.DONE
    }


def test_what_is_gone_before_its_turn_is_left_out_and_taken_when_it_is_back(plan, folder, heard, write_without_angles):
    path = write_without_angles(folder / "B.mrc", time.time())
    watch(plan(rules=Rules(still_s=60.0)))
    away = path.rename(folder.parent / "B.mrc")
    watch(plan(), heard)
    assert heard.of("B.mrc") == ["is not done: it is not there any more"]
    away.rename(path)
    os.utime(path, (LONG_AGO, LONG_AGO))
    for _ in range(2):
        watch(plan(), heard)
        time.sleep(1.1)
    assert heard.begun() == ["B.mrc"]


def test_a_folder_that_cannot_be_read_for_a_while_is_told_twice_and_costs_no_other(plan, tmp_path, heard, write_without_angles):
    one, two = tmp_path / "one", tmp_path / "two"
    for place in (one, two):
        place.mkdir()
    write_without_angles(two / "B.mrc")
    one.rename(tmp_path / "away")

    def mended(news):
        heard(news)
        if "cannot be read" in news.words:
            (tmp_path / "away").rename(one)

    asked = plan(folders=assign([tmp_path / "one", two], plan().output))
    watch(replace(asked, once=False, until_idle_s=1.0), mended)
    assert heard.begun() == ["two/B.mrc"]
    assert [line for line in heard.of(str(one)) if "watched" not in line] == [
        "cannot be read (No such file or directory); it is tried again at each look",
        "is all right again",
    ]


def test_a_wrong_table_keeps_series_waiting_until_it_is_mended(plan, folder, heard, write_without_angles):
    write_without_angles(folder / "B.mrc")
    table = folder / "series.csv"

    seen_while_wrong = []

    def edit():
        heard.wait_for("B.mrc: FAILED")
        table.write_text("name,thick\n")
        heard.wait_for("series.csv")
        write_without_angles(folder / "C.mrc")
        heard.wait_for("C.mrc: is whole")
        time.sleep(0.5)
        seen_while_wrong.extend(heard.begun())
        table.write_text("name,thickness\nC,60\n")
        heard.wait_for("C.mrc: FAILED")
        os.kill(os.getpid(), signal.SIGTERM)

    editor = threading.Thread(target=edit)
    editor.start()
    with stopping.stoppable(), pytest.raises(stopping.Interrupted):
        watch(replace(plan(), once=False), heard)
    editor.join()
    assert seen_while_wrong == ["B.mrc"]
    assert heard.begun() == ["B.mrc", "C.mrc"]
    said = heard.of(str(folder))
    assert "series.csv" in said[1]
    assert said[2] == "is all right again"


def test_what_leads_out_of_a_share_is_not_read(plan, folder, tmp_path, heard, write_without_angles):
    secret = write_without_angles(tmp_path / "secret.mrc")
    (folder / "B.mrc").symlink_to(secret)
    (watched,) = plan().folders
    watch(plan(folders=(replace(watched, within=folder),)), heard)
    assert heard.begun() == []
    assert "is a symbolic link out of" in " ".join(heard.of("B.mrc"))


def test_a_name_that_no_record_can_hold_is_told_and_costs_nothing(plan, folder, heard, write_without_angles):
    write_without_angles(folder / "B.mrc")
    shutil.copy(folder / "B.mrc", os.fsencode(folder) + b"/\xff.mrc")
    watch(plan(), heard)
    assert heard.begun() == ["B.mrc"]
    assert any("is not UTF-8 text" in line for line in heard.lines)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_second_session_on_the_same_results_is_refused_with_the_first_one_named(plan, tmp_path, heard, elsewhere):
    asked = replace(plan(), once=False)
    second = replace(asked, ledger=tmp_path / "other.sqlite") if elsewhere else asked
    refused = []

    def try_a_second():
        heard.wait_for("is watched")
        try:
            watch(second)
        except LocationError as error:
            refused.append(str(error))
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=try_a_second)
    thread.start()
    with stopping.stoppable(), pytest.raises(stopping.Interrupted):
        watch(asked, heard)
    thread.join()
    (said,) = refused
    assert f"of another session (process {os.getpid()} on " in said
    assert not (asked.output / LOCK_NAME).exists()
    assert not list(asked.output.glob(f"{LEDGER_NAME}.lock"))


def test_a_session_that_is_interrupted_leaves_its_series_to_the_next_and_counts_no_try(plan, folder, heard, write_without_angles):
    write_without_angles(folder / "B.mrc")

    def stopped(_source, _recipe, _site, *, output, on_progress):
        os.kill(os.getpid(), signal.SIGTERM)
        while True:
            stopping.pause(0.1)

    with stopping.stoppable(), pytest.raises(stopping.Interrupted):
        watch(plan(), heard, work=stopped)
    found = entries(plan())["B.mrc"]
    assert (found.state, found.tries, found.why) == (State.WHOLE, 0, "interrupted")
    assert read_run(plan().output / "run.json").status == "interrupted"
    watch(plan())
    assert states(plan()) == {"B.mrc": "failed"}


def test_several_at_once_and_never_more(plan, folder, write_without_angles):
    for name in "ABCDE":
        write_without_angles(folder / f"{name}.mrc")
    now, most, lock = [0], [0], threading.Lock()

    def counted(source, recipe, site, *, output, on_progress):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.2)
        with lock:
            now[0] -= 1
        return process(source, recipe, site, output=output, on_progress=on_progress)

    assert watch(plan(jobs=2), work=counted).failed == 5
    assert most == [2]


def test_pages_and_record_are_current_while_the_session_goes_on(plan, folder, write_without_angles):
    for name in "AB":
        write_without_angles(folder / f"{name}.mrc")
    seen = []

    def looked_at(source, recipe, site, *, output, on_progress):
        seen.append(
            (
                source.stem,
                (output.parent / INDEX_NAME).exists(),
                [each.status for each in read_run(output.parent / "run.json").series],
            )
        )
        return process(source, recipe, site, output=output, on_progress=on_progress)

    watch(plan(), work=looked_at)
    assert seen == [("A", False, ["waiting"]), ("B", True, ["error", "waiting"])]


def test_a_session_until_nothing_new_comes_waits_for_what_is_not_still_yet(plan, folder, heard, write_without_angles):
    write_without_angles(folder / "B.mrc", time.time())
    begin = time.monotonic()
    watch(replace(plan(), once=False, until_idle_s=0.0), heard)
    assert heard.begun() == ["B.mrc"]
    assert time.monotonic() - begin < 20.0
