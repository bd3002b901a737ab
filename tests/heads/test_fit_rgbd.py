"""Heads from RGB-D captures: real frames (skipped without them), and what goes wrong with captures."""

import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from headlab.datasets.depth_map import read_depth, write_depth
from headlab.datasets.rgbd_sequence import open_rgbd
from headlab.geometry.errors import HeadlabError, NoFaceError
from headlab.geometry.files import write_png
from headlab.heads.fit_rgbd import RgbdConfig, fit_rgbd
from headlab.heads.rgbd_output import surface_colours, write_surface

QUICK = RgbdConfig(photometric=False)


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    return shared / "data/rgbd/subject_a"


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """Three frames that may be spoilt."""
    for number in ("0001", "0003", "0005"):
        for kind in ("color", "depth"):
            shutil.copy(folder / f"{number}_{kind}.png", tmp_path)
    shutil.copy(folder / "intrinsics.txt", tmp_path)
    for file in tmp_path.iterdir():
        file.chmod(0o644)
    return tmp_path


@pytest.mark.slow
def test_real_frames(folder: Path, fit_tools, detector, tmp_path: Path) -> None:
    fit = fit_rgbd(fit_tools, open_rgbd(folder), detector)
    report = fit.head.report
    assert report["rgbd"]["fused"] == 8 and len(fit.views) == 4 and fit.views[0].name == "front"
    assert 85 < report["rgbd"]["eye_corners_fitted_mm"] < 100
    assert report["rgbd"]["face_to_fused_median_mm"] < 3
    assert report["landmark_nme"] < 0.04
    from headlab.geometry.raster import rasterize

    vertices = fit_tools.model.vertices(fit.head.codes[0])
    camera = fit.head.cameras[0]
    raster = rasterize(camera.to_homogeneous(vertices)[None], fit_tools.model.faces, camera.size)
    name = fit.frames[0].source.name.replace("_color", "_depth_fused")  # upstream's, not ours
    fused = read_depth(folder / name)
    face = fit_tools.model.regions["face"][fit_tools.model.faces].all(1)
    both = raster.mask[0] & face[raster.face[0].clamp(min=0).long()] & (fused > 0)
    assert float((raster.depth[0] - fused)[both].abs().median()) < 0.004
    assert fit.head.albedo is not None and bool(fit.head.albedo.isfinite().all())
    write_surface(tmp_path / "fused.ply", fit)
    colours = surface_colours(fit)
    assert float(colours.std()) > 0.02 and (tmp_path / "fused.ply").stat().st_size > 10_000


def test_one_frame(folder: Path, fit_tools, detector) -> None:
    whole = open_rgbd(folder)
    one = replace(whole, names=whole.names[:1])
    fit = fit_rgbd(fit_tools, one, detector, QUICK)
    assert len(fit.head.cameras) == 1 and 85 < fit.head.report["rgbd"]["eye_corners_fitted_mm"] < 100
    assert fit.head.report["rgbd"]["face_to_fused_median_mm"] < 4


def test_one_bad_frame_is_left_out(copy: Path, fit_tools, detector) -> None:
    (copy / "0003_color.png").write_bytes(b"\x89PNG rubbish")
    write_depth(copy / "0005_depth.png", torch.zeros(480, 640))
    fit = fit_rgbd(fit_tools, open_rgbd(copy), detector, QUICK)
    skipped = fit.head.report["rgbd"]["skipped_frames"]
    assert set(skipped) == {"0003_color.png", "0005_color.png"}
    assert "0 everywhere" in skipped["0005_color.png"]
    assert fit.head.sources == ("0001_color.png",)


def test_nothing_usable(copy: Path, fit_tools, detector) -> None:
    for number in ("0001", "0003", "0005"):
        write_depth(copy / f"{number}_depth.png", torch.zeros(480, 640))
    with pytest.raises(HeadlabError, match=r"none of its 3 frames can be used.*0 everywhere"):
        fit_rgbd(fit_tools, open_rgbd(copy), detector, QUICK)
    for number in ("0001", "0003", "0005"):
        write_depth(copy / f"{number}_depth.png", torch.full((480, 640), 1.0))
        write_png(copy / f"{number}_color.png", torch.full((3, 480, 640), 0.5))
    with pytest.raises(NoFaceError, match="no face found"):
        fit_rgbd(fit_tools, open_rgbd(copy), detector, QUICK)


def test_wrong_unit_is_said(copy: Path, fit_tools, detector) -> None:
    with pytest.raises(HeadlabError, match=r"eye corners are \d+ mm apart.*--depth-scale 0\.001"):
        fit_rgbd(fit_tools, open_rgbd(copy, depth_scale=0.0002), detector, QUICK)


def test_missing_intrinsics_are_estimated_with_a_warning(copy: Path, fit_tools, detector) -> None:
    (copy / "intrinsics.txt").unlink()
    sequence = open_rgbd(copy)
    assert sequence.camera is None
    with pytest.warns(UserWarning, match=r"focal length \d+ pixels estimated"):
        fit = fit_rgbd(fit_tools, sequence, detector, QUICK)
    assert fit.head.report["rgbd"]["focal_estimated"] == pytest.approx(536, rel=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        given = fit_rgbd(fit_tools, sequence, detector, replace(QUICK, focal=536.0))
    assert float(given.head.cameras[0].K[0, 0]) == 536
