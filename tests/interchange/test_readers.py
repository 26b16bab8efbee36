"""What the programs' own readers, and readers that others wrote, take from the exports."""

import json

import numpy as np
import pytest

from tiltflow.formats.edf import parse_edf
from tiltflow.formats.mrc import open_mrc
from tiltflow.formats.tilts import read_tilts
from tiltflow.formats.transforms import read_transforms
from tiltflow.interchange.export import export_series


def exported(known, target):
    (made,) = export_series(known.folder, [target])
    return made.folder


def test_etomofiles_reads_the_data_set_and_misses_nothing(results):
    import etomofiles

    folder = exported(results, "imod")
    table = etomofiles.read(folder)
    assert len(table) == 9
    assert not table.isna().any(axis=None)
    assert (np.flatnonzero(table["excluded"]) + 1).tolist() == results.left_out == [2, 7]
    assert set(table["tilt_axis_angle"]) == {-8.0}
    assert set(table["xaxistilt"]) == {0.0}
    np.testing.assert_array_equal(table["xtilt"], np.full(9, 1.7))


def test_every_file_of_the_data_set_has_a_line_for_every_view(results):
    folder, name = exported(results, "imod"), results.name
    for suffix in (".tlt", ".xtilt", ".rawtlt"):
        assert len(read_tilts(folder / f"{name}{suffix}")) == 9
    for suffix in (".xf", "_fid.xf", ".prexg", ".tltxf"):
        assert len(read_transforms(folder / f"{name}{suffix}")) == 9
    assert (folder / f"{name}.xf").read_bytes() == (results.folder / f"{name}.xf").read_bytes()


def test_views_left_out_are_in_every_list_that_imod_reads_counted_from_1(results):
    folder = exported(results, "imod")
    listed = "2,7"
    assert f"EXCLUDELIST2 {listed}\n" in (folder / "tilt.com").read_text()
    assert f"ExcludeList {listed}\n" in (folder / "align.com").read_text()
    assert f"SkipViews {listed}\n" in (folder / "track.com").read_text()
    assert parse_edf((folder / f"{results.name}.edf").read_text())["Setup.AxisA.ExcludeProjections"] == listed


def test_a_view_that_the_reconstruction_alone_leaves_out_is_left_out_too(write_known):
    known = write_known(overrides=("comparam.tilt.tilt.EXCLUDELIST=4",))
    assert "EXCLUDELIST2 2,4,7\n" in (exported(known, "imod") / "tilt.com").read_text()


def test_without_views_left_out_no_list_is_written(write_known):
    folder = exported(write_known(left_out=()), "imod")
    assert "EXCLUDELIST" not in (folder / "tilt.com").read_text()
    assert "ExcludeList" not in (folder / "align.com").read_text()


def test_links_lead_to_the_stack_and_to_the_volume(results):
    folder = exported(results, "imod")
    for name, target in (
        (f"{results.name}.mrc", results.series.path),
        (f"{results.name}_rec.mrc", results.folder / f"{results.name}_rec.mrc"),
    ):
        assert (folder / name).is_symlink()
        assert not (folder / name).readlink().is_absolute()
        assert (folder / name).resolve() == target.resolve()
        open_mrc(folder / name).close()


def test_imodmodel_reads_the_points_that_were_used_in_views_that_were_kept(results):
    from imodmodel.models import ImodModel

    model = ImodModel.from_file(exported(results, "imod") / f"{results.name}.fid")
    alignment = results.alignment
    used = (alignment.track_weights > 0) & alignment.included
    assert model.minx.cscale == (8.0, 8.0, 8.0)
    assert (model.header.xmax, model.header.ymax, model.header.zmax) == (81, 60, 9)
    (points,) = model.objects
    assert points.header.flags.open
    assert len(points.contours) == len(used)
    for contour, xy, seen in zip(points.contours, alignment.tracks.xy, used, strict=True):
        np.testing.assert_array_equal(contour.points[:, 2], np.flatnonzero(seen))
        np.testing.assert_allclose(contour.points[:, :2], xy[seen], atol=6e-4)


def test_cryoet_alignment_reads_the_files_of_imod_as_the_json_beside_them(results):
    """It ignores XAXISTILT, OFFSET and SHIFT: all are in the transforms and in .xtilt."""
    from cryoet_alignment import read
    from cryoet_alignment.io.cryoet_data_portal import Alignment

    folder = exported(results, "czi")
    found = Alignment.from_imod(read(str(folder / results.name)))
    told = read(folder / "alignment_metadata.json")
    assert [entry.z_index + 1 for entry in found.per_section_alignment_parameters] == [1, 3, 4, 5, 6, 8, 9]
    for one, other in zip(found.per_section_alignment_parameters, told.per_section_alignment_parameters, strict=True):
        assert (one.z_index, one.tilt_angle, one.volume_x_rotation) == (other.z_index, other.tilt_angle, other.volume_x_rotation)
        np.testing.assert_allclose(one.in_plane_rotation, other.in_plane_rotation, atol=1e-6)
        np.testing.assert_allclose([one.x_offset, one.y_offset], [other.x_offset, other.y_offset], atol=2e-3)


def test_cryoet_alignment_reads_the_data_set_of_imod_too(results):
    from cryoet_alignment import read

    found = read(str(exported(results, "imod") / results.name))
    assert found.tiltcom.EXCLUDELIST2 == [2, 7]
    assert found.tiltcom.XAXISTILT == 0


def test_cryoet_alignment_makes_of_warps_transforms_what_warp_has(results):
    """Its own way from IMOD's files to Warp's XML: the angles have the sign of the `.tlt` that is exported."""
    from cryoet_alignment import read
    from cryoet_alignment.io.cryoet_data_portal import Alignment

    warp = Alignment.from_imod(read(str(exported(results, "czi") / results.name))).to_warp(pixel_size_a=8.0, image_size_px=(81, 60))
    angles = {entry.z_index: entry.tilt_angle for entry in warp.entries}
    written = read_tilts(exported(results, "warp") / results.name / f"{results.name}.tlt")
    np.testing.assert_allclose([angles[view] for view in results.kept], written, atol=1e-3)


def test_relion_alignment_of_cryoet_alignment_reads_the_stars(results):
    from cryoet_alignment import read

    found = read(exported(results, "relion5") / "tomograms.star")
    assert found.tomo_name == results.name
    assert len(found.entries) == 7
    assert found.pixel_size_a == 8.0


@pytest.mark.parametrize("mdoc", [True, False])
def test_relion_has_the_exposure_before_each_view_or_is_told_that_none_is_known(write_known, mdoc):
    import starfile

    known = write_known(mdoc=mdoc)
    (made,) = export_series(known.folder, ["relion5"])
    rows = starfile.read(made.folder / "tilt_series" / f"{known.name}.star")
    # 3 electrons a view in the order of acquisition, which is that of the stack here
    assert rows["rlnMicrographPreExposure"].tolist() == ([3.0 * view for view in known.kept] if mdoc else [0.0] * 7)
    assert any("rlnMicrographPreExposure is 0" in remark for remark in made.remarks) is not mdoc


def test_aretomo_has_a_dark_frame_for_every_view_left_out(results):
    import alnfile.data_model
    from cryoet_alignment import read

    path = exported(results, "aretomo") / f"{results.name}.aln"
    found = read(path)
    assert found.RawSize == (81, 60, 9)
    by_tilt = np.argsort(results.series.tilt_deg)
    dark = {(int(np.flatnonzero(by_tilt == view - 1)[0]), view) for view in results.left_out}
    assert {(frame.section_idx, frame.val2) for frame in found.DarkFrames} == dark
    assert len(found.GlobalAlignments) + len(found.DarkFrames) == 9
    assert len(alnfile.data_model.AlnData.from_file(path).DarkFrames) == 2


def test_alnfile_turns_the_rows_into_our_transforms(write_known):
    import alnfile

    known = write_known(z_shift=0.0)
    table = alnfile.read(exported(known, "aretomo") / f"{known.name}.aln")
    np.testing.assert_allclose(alnfile.df_to_xf(table), known.alignment.transforms[known.kept], atol=5e-3)


def test_aretomo_takes_tilts_order_and_exposure_in_the_order_of_the_stack(write_known):
    known = write_known(by_tilt=True)
    table = np.loadtxt(exported(known, "aretomo") / f"{known.name}_TLT.txt")
    np.testing.assert_allclose(table[:, 0], known.series.tilt_deg, atol=5e-3)
    assert table[:, 1].tolist() == [9, 7, 5, 3, 1, 2, 4, 6, 8]
    assert set(table[:, 2]) == {3.0}


def test_ome_zarr_models_opens_the_pyramid_of_the_portal_whose_rows_are_those_of_the_mrc_file(results):
    import zarr
    from ome_zarr_models import open_ome_zarr

    folder = exported(results, "czi")
    group = zarr.open_group(folder / f"{results.name}.zarr", mode="r")
    assert type(open_ome_zarr(group)).__module__.startswith("ome_zarr_models.v04")
    (told,) = group.attrs["multiscales"]
    assert [axis["name"] for axis in told["axes"]] == ["z", "y", "x"]
    assert "not flipped" in told["metadata"]["description"]
    assert "omero" not in group.attrs
    with open_mrc(results.folder / f"{results.name}_rec.mrc") as volume:
        voxels = np.stack([volume[z] for z in range(volume.shape[0])])
    np.testing.assert_array_equal(group["0"][:], voxels)
    assert group["0"].dtype == np.int16
    assert [group[str(level)].shape for level in range(3)] == [(40, 60, 81), (20, 30, 41), (10, 15, 21)]
    mean = np.rint(voxels[:, :, :80].reshape(20, 2, 30, 2, 40, 2).mean(axis=(1, 3, 5), dtype=np.float32))
    np.testing.assert_array_equal(group["1"][:, :, :40], mean)
    tomogram = json.loads((folder / "tomogram_metadata.json").read_text())
    assert tomogram["scales"][2] == {"x": 21, "y": 15, "z": 10}
    assert tomogram["voxel_spacing"] == 8.0


def test_without_a_volume_the_portal_gets_the_alignment_and_is_told(write_known):
    known = write_known(volume=False)
    (made,) = export_series(known.folder, ["czi"])
    assert not (made.folder / f"{known.name}.zarr").exists()
    assert any("no pyramid" in remark for remark in made.remarks)


def test_the_tilt_series_of_the_portal_has_an_entry_for_every_view(results):
    told = json.loads((exported(results, "czi") / "tiltseries_metadata.json").read_text())
    assert told["size"] == {"x": 81, "y": 60, "z": 9}
    assert told["total_flux"] == 27.0
    assert [one["frame_acquisition_order"] for one in told["per_section_parameter"]] == list(range(9))
