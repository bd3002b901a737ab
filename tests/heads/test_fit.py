"""fit_photos: from images to a HeadFit."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from skimage.data import coffee
from synthetic import tiny_head

from headlab.geometry.errors import HeadlabError, NoFaceError
from headlab.geometry.fitting.photometric import colour_error
from headlab.geometry.frame import Frame
from headlab.geometry.landmarks import IBUG68
from headlab.heads.fit import FitConfig, FitTools, detect_face, fit_photos
from headlab.heads.head_fit import HeadFit


@pytest.fixture(scope="module")
def frame(astronaut) -> Frame:
    return Frame(astronaut, source=Path("astronaut.png"))


@pytest.fixture(scope="module")
def fitted(fit_tools: FitTools, detector, frame: Frame) -> HeadFit:
    return fit_photos(fit_tools, [frame], detector)


def nme(fit: HeadFit, tools: FitTools, photo: int, points: torch.Tensor) -> float:
    found = fit.cameras[photo].project(tools.model.landmarks3d(tools.model.vertices(fit.codes[photo]), "68"))
    return float((found - points[list(IBUG68)]).norm(dim=1).mean() / (points[33] - points[263]).norm())


def test_a_photo_is_fitted(fitted: HeadFit, fit_tools: FitTools, detector, frame: Frame) -> None:
    points = detector.detect(frame.image)[0].points
    assert nme(fitted, fit_tools, 0, points) < 0.025
    assert fitted.model == "default" and fitted.sources == ("astronaut.png",)
    assert fitted.codes.shape.shape == (1, fit_tools.model.shapes)
    assert fitted.codes.light is not None and fitted.codes.albedo is not None
    assert fitted.albedo.shape == (3, 256, 256)
    assert 0 <= fitted.albedo.min() and fitted.albedo.max() <= 1 and fitted.albedo.isfinite().all()
    assert all(value.isfinite().all() for value in fitted.codes.arrays().values())


def test_the_report_says_what_was_done(fitted: HeadFit) -> None:
    report = fitted.report
    assert report["model"] == "default" and report["commercial_use"] is True
    assert 0 < report["landmark_nme"] < 0.02
    (photo,) = report["photos"]
    assert photo["source"] == "astronaut.png" and photo["size"] == [512, 512]
    assert photo["focal_from"] == "fitted" and photo["face"] == 0 and len(photo["faces"]) == 1
    left, top, right, bottom = photo["faces"][0]["box"]
    assert 0 < left < right < 512 and 0 < top < bottom < 512
    assert list(report["seconds"]) == ["landmarks", "geometry", "photometric", "texture"]
    assert report["photometric"]["colour_error_after"] < report["photometric"]["colour_error_before"]
    assert {"headlab", "torch", "mediapipe"} <= set(report["versions"])


def test_stages_are_announced_and_pixels_may_be_left_out(fit_tools: FitTools, detector, frame: Frame) -> None:
    stages: list[str] = []
    fit = fit_photos(fit_tools, [frame], detector, FitConfig(photometric=False), stages.append)
    assert stages == ["landmarks", "geometry", "texture"]
    assert fit.codes.light is None and "photometric" not in fit.report


def test_the_network_alone_reads_a_photo(fit_tools: FitTools, detector, frame: Frame) -> None:
    stages: list[str] = []
    fit = fit_photos(fit_tools, [frame, frame], detector, FitConfig(method="regress"), stages.append)
    assert stages == ["landmarks", "network", "texture"]
    assert fit.report["method"] == "regress" and "landmark_solver" not in fit.report
    assert fit.report["photos"][0]["focal_from"] == "assumed"
    assert nme(fit, fit_tools, 0, detector.detect(frame.image)[0].points) < 0.1
    assert fit.codes.light is not None and fit.codes.albedo is not None
    assert torch.equal(fit.codes.shape[0], fit.codes.shape[1])
    assert torch.equal(fit.codes.albedo[0], fit.codes.albedo[1])
    assert fit.albedo is not None and bool(fit.albedo.isfinite().all())


def test_auto_refines_the_networks_reading_as_well_as_plain_fitting(
    fit_tools: FitTools, detector, frame: Frame, fitted: HeadFit
) -> None:
    stages: list[str] = []
    fit = fit_photos(fit_tools, [frame], detector, FitConfig(method="auto"), stages.append)
    assert stages == ["landmarks", "network", "geometry", "photometric", "texture"]
    points = detector.detect(frame.image)[0].points
    assert nme(fit, fit_tools, 0, points) < nme(fitted, fit_tools, 0, points) + 0.002
    errors = []
    for one in (fit, fitted):
        codes, cameras = one.codes, one.cameras
        errors.append(colour_error(fit_tools.model, fit_tools.albedo, codes, cameras, [frame.image], points[None]))
    assert errors[0] < 1.01 * errors[1]


@pytest.mark.parametrize("method", ["auto", "regress"])
def test_the_network_is_not_used_for_other_models(detector, frame: Frame, method) -> None:
    tools = FitTools.build("egg", tiny_head(12).to(dtype=torch.float32))
    with pytest.raises(HeadlabError, match="reads the default head, not egg; use --method optimise"):
        fit_photos(tools, [frame], detector, FitConfig(method=method))


def test_the_focal_length_is_the_users_then_the_files(fit_tools: FitTools, detector, frame: Frame) -> None:
    def focal(frame: Frame, given: float | None) -> tuple[float, str]:
        fit = fit_photos(fit_tools, [frame], detector, FitConfig(focal=given, photometric=False))
        return float(fit.cameras[0].K[0, 0]), fit.report["photos"][0]["focal_from"]

    exif = replace(frame, focal=800.0)
    assert focal(exif, None) == (pytest.approx(800, rel=1e-5), "EXIF")
    assert focal(exif, 1200.0) == (pytest.approx(1200, rel=1e-5), "option")


@pytest.mark.parametrize("focal", [0.0, -5.0, float("nan"), float("inf")])
def test_senseless_focal_lengths_are_refused(fit_tools: FitTools, detector, frame: Frame, focal: float) -> None:
    with pytest.raises(HeadlabError, match="focal length must be a positive"):
        fit_photos(fit_tools, [frame], detector, FitConfig(focal=focal))


def test_faces_that_are_not_there_are_refused(fit_tools: FitTools, detector, frame: Frame) -> None:
    with pytest.raises(NoFaceError, match="asked for face 5, but only 1 found"):
        fit_photos(fit_tools, [frame], detector, FitConfig(face=5))
    with pytest.raises(HeadlabError, match="no face -1"):
        fit_photos(fit_tools, [frame], detector, FitConfig(face=-1))
    with pytest.raises(HeadlabError, match="no photos"):
        fit_photos(fit_tools, [], detector)


def test_a_photo_without_a_face_is_named(fit_tools: FitTools, detector, frame: Frame) -> None:
    cup = torch.from_numpy(coffee()).permute(2, 0, 1).float() / 255
    with pytest.raises(NoFaceError, match=r"cup.jpg: no face found"):
        fit_photos(fit_tools, [frame, Frame(cup, source=Path("cup.jpg"))], detector)


def test_the_second_face_can_be_chosen(detector, frame: Frame) -> None:
    """Two astronauts side by side, the right one smaller."""
    small = torch.nn.functional.interpolate(frame.image[None], (340, 340), mode="area")[0]
    both = torch.full((3, 512, 860), 0.5)
    both[:, :, :512], both[:, 100:440, 515:855] = frame.image, small
    first, faces = detect_face(Frame(both), detector, 0)
    second, _ = detect_face(Frame(both), detector, 1)
    assert len(faces) == 2
    assert first.box[2] < 512 < second.box[0]


def test_a_transparent_half_is_filled_from_the_other(fit_tools: FitTools, detector, frame: Frame, fitted) -> None:
    """Pixels the mask takes out are not in the texture."""
    from headlab.geometry.texture.uv_raster import to_uv

    green = frame.image.clone()
    mask = torch.ones(512, 512)
    middle = int(detector.detect(frame.image)[0].points[1, 0])
    spoilt = (torch.arange(512) > middle + 12).expand(512, 512)
    green[:, spoilt] = 0.5 * green[:, spoilt] + 0.5 * torch.tensor([0.0, 1.0, 0.0])[:, None]
    mask[spoilt] = 0
    fit = fit_photos(fit_tools, [replace(frame, image=green, mask=mask)], detector, FitConfig(photometric=False))
    face = to_uv(fit_tools.uv_raster, fit_tools.model, fit_tools.model.regions["face"].float()[:, None])[..., 0] > 0.99
    colour = fit.albedo[:, face]
    assert (colour[1] > colour[0] + 0.1).float().mean() < 0.02


def test_a_model_without_a_texture_layout_gives_geometry_and_says_what_is_missing(detector, frame: Frame) -> None:
    egg = tiny_head(12).to(dtype=torch.float32)
    fit = fit_photos(FitTools.build("egg", egg), [frame], detector)
    assert fit.albedo is None and fit.codes.light is None
    assert [reason.split(":")[0] for reason in fit.report["skipped"]] == ["photometric refinement", "texture"]
    face = egg.vertices(fit.codes[0])
    middle = fit.cameras[0].project(face).mean(0)
    points = detector.detect(frame.image)[0].points
    assert (middle - points.mean(0)).norm() < (points[33] - points[263]).norm()


def test_models_without_landmarks_are_refused() -> None:
    with pytest.raises(HeadlabError, match="no 478- or 68-point landmark embedding"):
        FitTools.build("tiny", replace(tiny_head(2, rings=6), landmarks={}))


@pytest.mark.slow
def test_photos_of_different_sizes_share_one_identity(shared, fit_tools: FitTools, detector) -> None:
    from headlab.datasets.photo import read_photo

    frames = [read_photo(shared / "data/photos/multiview_a" / f"view_{i}.jpg") for i in range(2)]
    small = torch.nn.functional.interpolate(frames[1].image[None], scale_factor=0.5, mode="area")[0]
    frames[1] = replace(frames[1], image=small)
    fit = fit_photos(fit_tools, frames, detector)
    assert torch.equal(fit.codes.shape[0], fit.codes.shape[1])
    assert fit.codes.albedo is not None and torch.equal(fit.codes.albedo[0], fit.codes.albedo[1])
    assert not torch.equal(fit.codes.rotation[0], fit.codes.rotation[1])
    assert [camera.size for camera in fit.cameras] == [frame.size for frame in frames]
    for i, frame in enumerate(frames):
        assert nme(fit, fit_tools, i, detector.detect(frame.image)[0].points) < 0.04
