"""The RGB-D avatar: a capture (colour and depth) and an expression -> edited RGB-D -> point cloud -> fitted head.

capture ──fit_rgbd──> code ──ψ──> new code ──> denoiser from fresh noise, shown the capture's latent ──> edited colour
                                          (or the mesh, `transfer_composite`)
measured depth, moved as the fitted head's surface moves ─────────────────────────────────────> edited depth
edited depth ──back-projected──> points of the head ──fit_scan──> a head of their size and shape
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from ..diffusion.bundle import LatentDiffusion
from ..diffusion.edit import EditConfig
from ..diffusion.identity import face_gram
from ..geometry.camera import Camera
from ..geometry.code import HeadCode
from ..geometry.errors import HeadlabError
from ..geometry.fitting.scan import ScanConfig, ScanFit, fit_scan
from ..geometry.landmarks import LandmarkDetector
from ..geometry.landmarks.ibug68 import IBUG68
from ..geometry.models.head_model import HeadModel
from ..geometry.raster import rasterize
from ..geometry.rgbd.cloud import PointCloud, back_project
from ..geometry.rgbd.selection import lift_points
from .capture_depth import moved_depth
from .edit_photo import EditPhotoConfig, edit_photo
from .head_fit import HeadFit
from .transfer import PhotoHead, Source, TransferConfig, prepare_canvas

#: Points farther than this from the drawn head, along the view, are hair, hands or background, metres.
_REACH = 0.03


@dataclass(frozen=True)
class AvatarConfig:
    """How a capture is edited and read again."""

    photo: EditPhotoConfig = field(
        default_factory=lambda: EditPhotoConfig(
            EditConfig(steps=10, method="dpm++", start="noise", capture=True), depth="head"
        )
    )
    hold_identity: bool = True  #: keep the β of the capture's own points; False: read it off the edited ones anew
    #: Of the fit to the points; a sensor's noise is a few millimetres.
    scan: ScanConfig = field(
        default_factory=lambda: ScanConfig(
            noise=(0.006, 0.006, 0.004, 0.003, 0.003, 0.003), outside_face=0.1, fit_expression=True
        )
    )


@dataclass(frozen=True, eq=False)
class Avatar:
    """An edited capture."""

    image: Float[Tensor, "3 height width"]
    depth: Float[Tensor, "height width"]  #: metres, 0 = none
    cloud: PointCloud  #: of the head, world metres
    fit: ScanFit  #: the head fitted to the cloud; its code lies in the world
    before: ScanFit  #: the head fitted to the capture's own cloud
    landmarks: str  #: where the fit's landmarks come from: "edited picture" or "wanted head"
    beta_drift_mm: float  #: how far β moves if it is read off the edited cloud anew: of the face's vertices, rms

    def head(self, target: PhotoHead) -> HeadFit:
        """The fitted head with the target's colours, as `headlab fit` saves one."""
        old = target.code
        code = self.fit.code.with_(albedo=old.albedo, light=old.light).map(lambda value: value[None])
        report = {"method": "avatar", "landmarks": self.landmarks, **self.fit.report}
        name = target.fit.sources[target.index]
        return replace(target.fit, codes=code, cameras=(target.camera,), sources=(name,), report=report)


def edit_capture(
    model: HeadModel,
    diffusion: LatentDiffusion | None,
    target: PhotoHead,
    code: HeadCode,
    source: Source | None,
    detector: LandmarkDetector,
    config: AvatarConfig | None = None,
    progress: Callable[[str], None] = lambda stage: None,
) -> Avatar:
    """Edit a capture and fit a head to what comes out.

    Args:
        model: head model of the target's fit, with 68 landmarks.
        diffusion: an RGB-D model; None: the mesh makes the colours.
        target: the capture, with depth, and its fit.
        code: the new head (`transfer.transferred_code`).
        source: where the expression comes from; its category or feeling is told to the networks.
        detector: finds the landmarks of the edited picture.
        config: see `AvatarConfig`.
        progress: called with each stage.

    Raises:
        HeadlabError: no depth, a model of colour alone, or no depth where the face is.
    """
    config = config or AvatarConfig()
    seen = target.frame.depth
    if seen is None:
        raise HeadlabError("an avatar needs a capture with depth; give an RGB-D folder, or --depth with the photo")
    if diffusion is not None and not diffusion.depth:
        raise HeadlabError("this diffusion model knows colour alone; take an RGB-D one for captures")

    own = head_cloud(model, target.code, target.camera, target.frame.image, seen)

    def told(done: int, steps: int) -> None:
        progress(f"step {done} of {steps}")

    if diffusion is None:
        progress("mesh")
        image = prepare_canvas(model, target, TransferConfig(composite=config.photo.composite)).picture(code)
        depth = moved_depth(seen, *(drawn_depth(model, x, target.camera) for x in (target.code, code)))
    else:
        edited = edit_photo(model, diffusion, target, code, source, config.photo, told)
        assert edited.depth is not None
        image, depth = edited.image, edited.depth
    progress("fit to the point cloud")
    cloud = head_cloud(model, code, target.camera, image, depth)
    marks, origin = _landmarks(model, code, target.camera, image, depth, detector)
    own_marks, _ = _landmarks(model, target.code, target.camera, target.frame.image, seen, detector)
    before = fit_cloud(model, own, own_marks, config.scan)
    free = fit_cloud(model, cloud, marks, config.scan)
    fit = fit_cloud(model, cloud, marks, config.scan, before.code.shape) if config.hold_identity else free
    drift, gram = free.code.shape - before.code.shape, face_gram(model, model.shapes)
    return Avatar(image, depth, cloud, fit, before, origin, float((drift @ gram @ drift).clamp(min=0).sqrt()))


def head_cloud(
    model: HeadModel,
    code: HeadCode,
    camera: Camera,
    image: Float[Tensor, "3 height width"],
    depth: Float[Tensor, "height width"],
) -> PointCloud:
    """The points of a depth map that lie on the head, world metres.

    Args:
        model: head model.
        code: the head in the picture; its distance need not be right, the median difference is taken off.
        camera: of the picture.
        image: sRGB 0..1.
        depth: metres, 0 = none.

    Raises:
        HeadlabError: there is no depth on the head.
    """
    drawn = drawn_depth(model, code, camera)
    both = (drawn > 0) & (depth > 0)
    if int(both.sum()) < 100:
        raise HeadlabError("the depth map holds nothing where the face is; give depth that is registered to the colour")
    off = depth - drawn
    kept = both & ((off - off[both].median()).abs() < _REACH)
    points = back_project(depth, camera)[kept]
    return PointCloud(points.float(), image.permute(1, 2, 0)[kept].float())


def drawn_depth(model: HeadModel, code: HeadCode, camera: Camera) -> Float[Tensor, "height width"]:
    """Depth of a head, metres, 0 beside it."""
    return rasterize(camera.to_homogeneous(model.vertices(code))[None], model.faces, camera.size).depth[0]


def fit_cloud(
    model: HeadModel,
    cloud: PointCloud,
    landmarks: Float[ndarray, "68 3"],
    config: ScanConfig,
    shape: Float[Tensor, "shape"] | None = None,
) -> ScanFit:
    """A head to a cloud of known unit; of a known β where `shape` is given."""
    points = cloud.points.double().numpy()
    if shape is None:
        return fit_scan(model, points, None, landmarks, config=config)
    template = model.shaped(shape, model.template.new_zeros(model.expressions))
    known = replace(model, template=template, shape_basis=model.shape_basis[..., :0])
    fit = fit_scan(known, points, None, landmarks, config=config)
    return replace(fit, code=fit.code.with_(shape=shape))


def _landmarks(model, code, camera, image, depth, detector) -> tuple[Float[ndarray, "68 3"], str]:
    """The 68 points in the world, under those found in a picture; of the head itself where none are found."""
    faces = detector.detect(image)
    expected = camera.project(model.landmarks3d(model.vertices(code), "68"))
    if faces:
        face = min(faces, key=lambda found: float((found.points.mean(0) - expected.mean(0)).norm()))
        points = face.points[list(IBUG68)]
        size = float((expected[16] - expected[0]).norm())
        if float((points - expected).norm(dim=-1)[17:].mean()) < 0.5 * size:
            lifted = lift_points(points, back_project(depth, camera), depth)
            if np.isfinite(lifted[17:]).all(1).sum() >= 30:
                return lifted, "edited picture"
    drawn = drawn_depth(model, code, camera)
    both = (drawn > 0) & (depth > 0)
    ahead = (depth - drawn)[both].median()
    points = model.landmarks3d(model.vertices(code), "68")
    rays = points - (-camera.R.mT @ camera.t)
    along = (camera.to_camera(points)[:, 2:] + ahead) / camera.to_camera(points)[:, 2:]
    return ((-camera.R.mT @ camera.t) + rays * along).double().numpy(), "wanted head"
