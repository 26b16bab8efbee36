"""Where inputs are read and assets go."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiltflow.delivery.find_series import RESULT_ENDINGS, axis_pairs, find_series, look_alikes, natural_key, other_axis
from tiltflow.delivery.layout import Layout, plain_layout, resolve_input
from tiltflow.errors import LocationError
from tiltflow.work import Asset, AssetType

SAMPLE = "Lab/PI/Project/Session/Sample"


@pytest.fixture
def share(tmp_path: Path) -> Path:
    """A mounted share whose own path has a component called Projects."""
    folder = tmp_path / "Projects" / "MyProjects"
    (folder / "Projects" / SAMPLE).mkdir(parents=True)
    return folder


def test_an_input_lies_below_projects_of_its_share(share: Path) -> None:
    layout = resolve_input({"lab": share}, "lab", SAMPLE)
    assert layout.folder == share / "Projects" / SAMPLE
    assert layout.primary_path(layout.folder / "B.mrc") == f"{SAMPLE}/B.mrc"


def test_assets_mirror_projects_by_component_and_not_by_text(share: Path) -> None:
    layout = resolve_input({"lab": share}, "lab", SAMPLE)
    output = layout.output_of(layout.folder / "B.mrc")
    assert output == share / "Assets" / SAMPLE / "B"
    assert layout.output == share / "Assets" / SAMPLE
    assert layout.asset_path(output, Asset(AssetType.TILT_MOVIE, "tiltMov_B.mp4")) == f"{SAMPLE}/B/tiltMov_B.mp4"


def test_a_folder_called_projects_further_down_keeps_its_name(share: Path) -> None:
    inner = share / "Projects" / "Lab" / "Projects" / "AProjectsB"
    inner.mkdir(parents=True)
    layout = resolve_input({"lab": share}, "lab", "Lab/Projects/AProjectsB")
    assert layout.output_of(inner / "B.st") == share / "Assets" / "Lab" / "Projects" / "AProjectsB" / "B"


PART = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0\n", exclude_categories=("Cs",)), min_size=1, max_size=20
).filter(lambda part: part not in {".", ".."})


@given(st.lists(PART | st.just("Projects"), min_size=1, max_size=6), PART)
def test_the_asset_path_is_always_the_input_path_without_its_ending(parts: list[str], stem: str) -> None:
    share = Path("/mnt/Projects/share")
    folder = share.joinpath("Projects", *parts)
    layout = Layout(inputs=share / "Projects", assets=share / "Assets", folder=folder)
    source = folder / f"{stem}.mrc"
    path = layout.asset_path(layout.output_of(source), Asset(AssetType.NEUROGLANCER_ZARR, "x.zarr/0"))
    assert path == "/".join([*parts, stem, "x.zarr", "0"])
    assert layout.primary_path(source) == "/".join([*parts, f"{stem}.mrc"])


def test_an_unknown_share_is_named_with_the_nearest_known_one(share: Path) -> None:
    with pytest.raises(LocationError, match=r"Unknown file share 'RMLEMHedwig'. Did you mean 'RMLEMHedwigQA'\? Known shares: RML"):
        resolve_input({"RMLEMHedwigQA": share}, "RMLEMHedwig", SAMPLE)
    with pytest.raises(LocationError, match="set TILTFLOW_MOUNTS"):
        resolve_input({}, "lab", SAMPLE)


def test_a_share_that_is_not_mounted_is_told_apart_from_an_unknown_one(tmp_path: Path) -> None:
    with pytest.raises(LocationError, match="check that it is mounted"):
        resolve_input({"lab": tmp_path / "absent"}, "lab", SAMPLE)
    with pytest.raises(LocationError, match="has no folder Projects"):
        resolve_input({"lab": tmp_path}, "lab", SAMPLE)


@pytest.mark.parametrize("input_dir", [f"/{SAMPLE}", f"{SAMPLE}/", f"/{SAMPLE}/", f"//{SAMPLE}//"])
def test_slashes_that_a_portal_puts_around_the_folder_are_left_out(share: Path, input_dir: str) -> None:
    layout = resolve_input({"lab": share}, "lab", input_dir)
    assert layout == resolve_input({"lab": share}, "lab", SAMPLE)
    assert layout.primary_path(layout.folder / "B.mrc") == f"{SAMPLE}/B.mrc"


@pytest.mark.parametrize(
    ("input_dir", "reason"),
    [
        ("../Assets/Lab", "goes up"),
        ("/../Assets/Lab/", "goes up"),
        ("/", "names no folder"),
        ("//", "names no folder"),
        (f"{SAMPLE}/../../../../../../Assets", "goes up"),
        ("/etc", "has no folder 'etc'"),  # of the share, not of the machine
        ("", "names no folder"),
        (".", "names no folder"),
        ("Lab\0", "not allowed in a path"),
        ("Lab/PI/Projekt", r"has no folder 'Projekt'.*Did you mean 'Project'"),
        (f"Projects/{SAMPLE}", "leave that part out"),
        (f"{SAMPLE}/deeper", "has no folder 'deeper'"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused_with_the_reason(share: Path, input_dir: str, reason: str) -> None:
    with pytest.raises(LocationError, match=reason):
        resolve_input({"lab": share}, "lab", input_dir)


def test_a_symbolic_link_may_not_leave_the_share(share: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (share / "Projects" / "Lab" / "link").symlink_to(outside)
    with pytest.raises(LocationError, match=r"leads out of .* by a symbolic link"):
        resolve_input({"lab": share}, "lab", "Lab/link")


def test_a_symbolic_link_may_not_leave_projects_for_assets(share: Path) -> None:
    (share / "Assets").mkdir()
    (share / "Projects" / "Lab" / "link").symlink_to(share / "Assets")
    with pytest.raises(LocationError, match="leads out of"):
        resolve_input({"lab": share}, "lab", "Lab/link")


def test_a_symbolic_link_inside_projects_is_followed(share: Path) -> None:
    (share / "Projects" / "Lab" / "link").symlink_to(share / "Projects" / SAMPLE)
    assert resolve_input({"lab": share}, "lab", "Lab/link").output == share / "Assets" / "Lab" / "link"


def test_a_share_reached_by_a_link_is_fine(share: Path, tmp_path: Path) -> None:
    (tmp_path / "mount").symlink_to(share)
    layout = resolve_input({"lab": tmp_path / "mount"}, "lab", SAMPLE)
    assert layout.output_of(layout.folder / "B.mrc") == tmp_path / "mount" / "Assets" / SAMPLE / "B"


def test_products_are_never_put_among_the_inputs_by_a_link(share: Path) -> None:
    (share / "Assets").symlink_to(share / "Projects")
    layout = resolve_input({"lab": share}, "lab", SAMPLE)
    with pytest.raises(LocationError, match="nothing is ever written"):
        layout.output_of(layout.folder / "B.mrc")


def test_products_are_never_put_outside_the_share_by_a_link(share: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (share / "Assets").symlink_to(tmp_path / "elsewhere")
    layout = resolve_input({"lab": share}, "lab", SAMPLE)
    with pytest.raises(LocationError, match="leads out of its share"):
        layout.output_of(layout.folder / "B.mrc")


def test_scratch_in_projects_is_refused(share: Path) -> None:
    layout = resolve_input({"lab": share}, "lab", SAMPLE)
    layout.refuse_projects(share / "Assets", "The scratch folder")
    with pytest.raises(LocationError, match=r"The scratch folder, .*nothing is ever written"):
        layout.refuse_projects(layout.folder / "scratch", "The scratch folder")


def test_a_plain_run_names_things_relative_to_its_own_two_folders(tmp_path: Path) -> None:
    layout = plain_layout(tmp_path / "in", tmp_path / "Projects" / "out")
    source = tmp_path / "in" / "B.mrc"
    output = layout.output_of(source)
    assert output == tmp_path / "Projects" / "out" / "B"
    assert layout.primary_path(source) == "B.mrc"
    assert layout.asset_path(output, Asset(AssetType.THUMBNAIL, "keyimg_B_s.jpg")) == "B/keyimg_B_s.jpg"


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).touch()
    return folder


def test_every_file_with_one_of_the_four_endings_is_a_series_in_natural_order(tmp_path: Path) -> None:
    fill(tmp_path, "ts10.mrc", "ts2.MRC", "ts1.st", "TS3.ST", "ts4.Mrc", "ts5.mrc.mdoc", "notes.txt", "._ts1.mrc")
    (tmp_path / "folder.mrc").mkdir()
    assert [path.name for path in find_series(tmp_path)] == ["._ts1.mrc", "ts1.st", "ts2.MRC", "TS3.ST", "ts10.mrc"]


def test_one_series_can_be_chosen_by_name(tmp_path: Path) -> None:
    fill(tmp_path, "a.mrc", "b.mrc")
    assert find_series(tmp_path, "b.mrc") == (tmp_path / "b.mrc",)
    assert len(find_series(tmp_path, "")) == 2


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("c.mrc", "Did you mean"),
        ("../a.mrc", "is a path"),
        ("/etc/a.mrc", "is a path"),
        ("notes.txt", "not the name of a tilt series"),
    ],
)
def test_a_name_that_is_not_there_is_refused_with_the_reason(tmp_path: Path, name: str, reason: str) -> None:
    fill(tmp_path, "a.mrc", "b.mrc", "notes.txt")
    with pytest.raises(LocationError, match=reason):
        find_series(tmp_path, name)


def test_a_folder_without_series_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(LocationError, match=f"No tilt series in {tmp_path}: it is empty"):
        find_series(tmp_path)
    with pytest.raises(LocationError, match=r"ends in \.mrc, .* nor an image of another kind \(.*\.tif.*\) with its \.mdoc; check"):
        find_series(tmp_path, by_mdoc=True)
    fill(tmp_path, "notes.txt")
    with pytest.raises(LocationError, match=f"No tilt series in {tmp_path}: none of its 1 files ends in .mrc"):
        find_series(tmp_path)
    with pytest.raises(LocationError, match="No folder"):
        find_series(tmp_path / "absent")


def test_two_series_of_one_base_name_clash_unless_one_is_chosen(tmp_path: Path) -> None:
    fill(tmp_path, "a.mrc", "a.st")
    with pytest.raises(LocationError, match=r"a\.mrc and a\.st .* share the base name 'a'"):
        find_series(tmp_path)
    assert find_series(tmp_path, "a.st") == (tmp_path / "a.st",)


def test_a_file_that_links_out_of_the_share_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "share"
    folder.mkdir()
    fill(tmp_path, "secret.mrc")
    (folder / "a.mrc").symlink_to(tmp_path / "secret.mrc")
    assert find_series(folder) == (folder / "a.mrc",)
    with pytest.raises(LocationError, match="a symbolic link out of"):
        find_series(folder, within=folder)


@pytest.mark.parametrize("beside", ["a.rawtlt", "a.mrc.mdoc", "a.mdoc", "a.tlt", "a.edf", "a.txt", "a_EVN.mrc"])
def test_a_file_beside_a_series_that_links_out_of_the_share_is_refused(tmp_path: Path, beside: str) -> None:
    folder = tmp_path / "share"
    folder.mkdir()
    fill(folder, "a.mrc")
    (tmp_path / "secret").write_text("of another user")
    (folder / beside).symlink_to(tmp_path / "secret")
    assert find_series(folder) == (folder / "a.mrc",)
    with pytest.raises(LocationError, match=rf"{beside} is a symbolic link out of"):
        find_series(folder, within=folder)
    (folder / "inside").write_text("of this share")
    (folder / beside).unlink()
    (folder / beside).symlink_to(folder / "inside")
    assert find_series(folder, within=folder) == (folder / "a.mrc",)


def test_a_dangling_link_is_listed_and_not_dropped_in_silence(tmp_path: Path) -> None:
    (tmp_path / "a.mrc").symlink_to(tmp_path / "gone.mrc")
    assert find_series(tmp_path) == (tmp_path / "a.mrc",)


def test_files_named_like_results_of_no_series_there_are_processed_and_remarked_upon(tmp_path: Path) -> None:
    fill(tmp_path, "other_rec.mrc", "ave_ts.mrc", "ts.mrc", "._ts.mrc", "average.mrc")
    sources = find_series(tmp_path)
    assert len(sources) == 5
    assert [Path(problem.where).name for problem in look_alikes(sources)] == ["._ts.mrc", "ave_ts.mrc", "other_rec.mrc"]


@pytest.mark.parametrize(
    ("files", "left_out"),
    [
        *[({"B.st", f"B{ending}.mrc"}, {f"B{ending}.mrc": "B.st"}) for ending in RESULT_ENDINGS],
        *[({f"B{ending}.mrc"}, {}) for ending in RESULT_ENDINGS],  # its series is not there
        ({"B.mrc", "B_rec.mrc", "B_ali.mrc"}, {"B_rec.mrc": "B.mrc", "B_ali.mrc": "B.mrc"}),
        ({"B.mrc", "B_rec.MRC", "B_ali.st"}, {"B_rec.MRC": "B.mrc", "B_ali.st": "B.mrc"}),
        ({"B.st", "B_rec_EVN.mrc", "B_EVN_CTF.mrc"}, {"B_rec_EVN.mrc": "B.st", "B_EVN_CTF.mrc": "B.st"}),
        ({"B_rec.mrc", "B_rec_ODD.mrc"}, {"B_rec_ODD.mrc": "B_rec.mrc"}),
        ({"B.st", "C_rec.mrc"}, {}),
        ({"B.st", "B2_rec.mrc"}, {}),
        ({"B.st", "b_rec.mrc"}, {}),
        ({"B.st", "B_recorded.mrc", "B_rec2.mrc", "B_evn.mrc", "Brec.mrc"}, {}),
        ({"_rec.mrc", "B.st"}, {}),
        ({"C.st", "B.tif", "B_EVN.mrc", "B_ODD.mrc"}, {"B_EVN.mrc": "B.tif", "B_ODD.mrc": "B.tif"}),
        ({"B.st", "B_rec_even.mrc", "B_rec_odd.mrc"}, {"B_rec_even.mrc": "B.st", "B_rec_odd.mrc": "B.st"}),
        ({"B.tif", "B_rec.mrc"}, {}),  # a picture without an .mdoc is no series
    ],
    ids=str,
)
def test_results_are_left_out_where_their_series_lies_beside_them(
    tmp_path: Path, files: set[str], left_out: dict[str, str]
) -> None:
    fill(tmp_path, *files)
    sources = find_series(tmp_path)
    assert {path.name for path in sources} == files - set(left_out) - {"B.tif"}
    told = {Path(each.where).name: each.message for each in look_alikes(sources) if "is left out" in each.message}
    assert set(told) == set(left_out)
    for name, origin in left_out.items():
        halves = {f"{Path(origin).stem}_EVN": "holds the even frames", f"{Path(origin).stem}_ODD": "holds the odd frames"}
        what = halves.get(Path(name).stem, "is a result")
        assert told[name].startswith(f"{name} is left out: by its name it {what} of {origin}")
        assert told[name].endswith("; to process it, give it by its name")
        assert find_series(tmp_path, name) == (tmp_path / name,)


@pytest.mark.parametrize(
    ("sizes", "pairs"),
    [
        ({"xa.st": 10, "xb.st": 10}, [("xa.st", "xb.st")]),
        ({"xa.st": 10, "xb.st": 10, "ya.mrc": 5, "yb.mrc": 9}, [("xa.st", "xb.st"), ("ya.mrc", "yb.mrc")]),
        ({"gridA.st": 10, "gridB.st": 10}, [("gridA.st", "gridB.st")]),
        ({"x_a1.st": 10, "x_b1.st": 10, "x_a2.st": 10, "x_b3.st": 10}, [("x_a1.st", "x_b1.st")]),
        ({"xa.st": 10, "xb.mrc": 10}, [("xa.st", "xb.mrc")]),
        ({"xa.st": 10, "xb.st": 20}, [("xa.st", "xb.st")]),
        ({"xa.st": 10, "xb.st": 21}, []),  # of other sizes
        ({"xa.st": 10, "xb.st": 10, "xc.st": 10}, []),  # a row of letters
        ({"tomo1a.st": 10}, []),
        ({"tomo1a.st": 10, "tomo2b.st": 10}, []),
        ({"xa.st": 10, "xB.st": 10}, []),
        ({"xb.st": 10, "x.st": 10}, []),
        ({"a.st": 10, "b.st": 10}, []),  # without a name in common, no data set of IMOD
    ],
)
def test_two_axes_are_remarked_upon_and_both_processed(tmp_path: Path, sizes: dict[str, int], pairs: list[tuple[str, str]]) -> None:
    for name, size in sizes.items():
        (tmp_path / name).write_bytes(b"x" * size)
    sources = find_series(tmp_path)
    assert {path.name for path in sources} == set(sizes)
    assert [(a.name, b.name) for a, b in axis_pairs(sources)] == pairs
    remarks = [problem.message for problem in look_alikes(sources)]
    assert len(remarks) == len(pairs)
    for remark, names in zip(remarks, pairs, strict=True):
        assert remark.startswith(f"{names[0]} and {names[1]} look like the two axes of one specimen")
        assert "each is done as a series of its own" in remark


def test_a_series_knows_the_file_beside_it_that_looks_like_its_other_axis(tmp_path: Path) -> None:
    fill(tmp_path, "xa.st", "xb.st", "y.st")
    assert other_axis(tmp_path / "xa.st") == tmp_path / "xb.st"
    assert other_axis(tmp_path / "xb.st") == tmp_path / "xa.st"
    assert other_axis(tmp_path / "y.st") is None
    assert other_axis(tmp_path / "gone" / "xa.st") is None


VIEWS, FRAMES = "PixelSpacing = 2.5\n\n[ZValue = 0]\nTiltAngle = 1\n", "[FrameSet = 0]\nTiltAngle = 1\n"


@pytest.mark.parametrize(
    ("files", "mdocs", "found"),
    [
        (["a.tif"], {}, []),
        (["a.tif"], {"a.tif.mdoc": VIEWS}, ["a.tif"]),
        (["a.tif"], {"a.mdoc": VIEWS}, ["a.tif"]),
        (
            ["a.tiff", "b.TIF", "c.TIFF"],
            {"a.tiff.mdoc": VIEWS, "b.TIF.mdoc": VIEWS, "c.mdoc": VIEWS},
            ["a.tiff", "b.TIF", "c.TIFF"],
        ),
        (["a10.tif", "a9.mrc"], {"a10.tif.mdoc": VIEWS}, ["a9.mrc", "a10.tif"]),
        (["a.tif", "b.tif"], {"b.tif.mdoc": VIEWS}, ["b.tif"]),
        (["a.tif"], {"a.tif.mdoc": FRAMES}, []),  # a movie of frames
        (["a.tif"], {"a.tif.mdoc": FRAMES, "a.mdoc": VIEWS}, ["a.tif"]),
        (["a.tif"], {"a.tif.mdoc": ""}, []),
        (["a.tif"], {"a.mrc.mdoc": VIEWS}, []),
        (["a.mrc", "a.tif"], {"a.mdoc": VIEWS}, ["a.mrc"]),  # the .mdoc is that of a.mrc
        (["a.st", "a.tif"], {"a.st.mdoc": VIEWS}, ["a.st"]),
        (["a.png"], {"a.png.mdoc": VIEWS}, []),
        ([], {"a.tif.mdoc": VIEWS}, []),
    ],
)
def test_in_a_folder_a_tiff_is_a_series_where_an_mdoc_says_so(
    tmp_path: Path, files: list[str], mdocs: dict[str, str], found: list[str]
) -> None:
    fill(tmp_path, *files, "z.st")
    for name, text in mdocs.items():
        (tmp_path / name).write_text(text)
    assert [path.name for path in find_series(tmp_path, by_mdoc=True)] == [*found, "z.st"]
    of_the_contract = [name for name in found if name.endswith((".mrc", ".st"))]
    assert [path.name for path in find_series(tmp_path)] == [*of_the_contract, "z.st"]


@pytest.mark.parametrize("by_mdoc", [False, True])
@pytest.mark.parametrize("name", ["a.tif", "b.TIFF"])
def test_a_tiff_that_is_called_for_by_name_is_a_series_without_an_mdoc(tmp_path: Path, name: str, by_mdoc: bool) -> None:
    fill(tmp_path, "a.tif", "a.mrc", "b.TIFF")
    assert find_series(tmp_path, name, by_mdoc=by_mdoc) == (tmp_path / name,)


def test_a_tiff_clashes_with_another_series_of_its_base_name(tmp_path: Path) -> None:
    fill(tmp_path, "a.st", "a.tif")
    (tmp_path / "a.tif.mdoc").write_text(VIEWS)
    with pytest.raises(LocationError, match=r"a\.st and a\.tif .* share the base name 'a'"):
        find_series(tmp_path, by_mdoc=True)
    assert find_series(tmp_path) == (tmp_path / "a.st",)


def test_a_folder_of_tiffs_alone_says_when_they_are_taken(tmp_path: Path) -> None:
    fill(tmp_path, "a.tif")
    with pytest.raises(LocationError, match=r"a\.tif is taken only with an \.mdoc .* or by name: --file a\.tif"):
        find_series(tmp_path, by_mdoc=True)
    with pytest.raises(LocationError, match=r"a\.tif is taken only by name: x_file_name"):
        find_series(tmp_path)


def test_the_products_of_a_tiff_are_named_as_those_of_any_stack(share: Path) -> None:
    layout = resolve_input({"lab": share}, "lab", SAMPLE)
    assert layout.output_of(layout.folder / "B.tif") == layout.output_of(layout.folder / "B.st")


@given(st.lists(st.integers(0, 10**6), unique=True, min_size=2))
def test_natural_order_is_the_order_of_the_numbers(numbers: list[int]) -> None:
    paths = [Path(f"ts_{number}.mrc") for number in numbers]
    assert sorted(paths, key=natural_key) == [Path(f"ts_{number}.mrc") for number in sorted(numbers)]


def test_natural_order_takes_any_name() -> None:
    names = ["x²3.mrc", "x٣.mrc", "10.mrc", "9.mrc", "a.mrc"]
    assert sorted((Path(name) for name in names), key=natural_key)[:2] == [Path("9.mrc"), Path("10.mrc")]


@pytest.mark.parametrize(("name", "meant"), [("B.mrcs", "B.mrc"), ("B.Mrc", "B.mrc"), ("B.St", "B.st"), ("B.MRCS", "B.mrc")])
def test_a_stack_whose_ending_is_spelled_otherwise_is_named_in_the_refusal(tmp_path, name, meant):
    (tmp_path / name).touch()
    with pytest.raises(LocationError, match=rf"{name} may be one by another spelling of the ending: rename it to {meant}"):
        find_series(tmp_path)
    with pytest.raises(LocationError, match=rf"must end in one of .* Rename it to {meant}"):
        find_series(tmp_path, name)


def test_other_files_are_not_said_to_be_stacks(tmp_path):
    (tmp_path / "B.txt").touch()
    with pytest.raises(LocationError) as caught:
        find_series(tmp_path)
    assert "rename" not in str(caught.value)


@pytest.mark.parametrize(("by_mdoc", "how"), [(False, "by name: x_file_name"), (True, "with an .mdoc of its views beside it")])
def test_frames_of_a_series_that_is_not_taken_are_no_series(tmp_path: Path, *, by_mdoc: bool, how: str) -> None:
    fill(tmp_path, "B.tif", "B_EVN.mrc", "B_ODD.mrc")
    with pytest.raises(
        LocationError, match=f"by their names B_EVN.mrc and B_ODD.mrc hold half of the frames .*B.tif is taken only {how}"
    ):
        find_series(tmp_path, by_mdoc=by_mdoc)
    assert find_series(tmp_path, "B.tif") == (tmp_path / "B.tif",)
    assert find_series(tmp_path, "B_EVN.mrc") == (tmp_path / "B_EVN.mrc",)
