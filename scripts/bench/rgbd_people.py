"""Synthetic RGB-D selfies of ICT-FaceKit heads: people whose shape is known, seen by a phone's depth camera.

Nothing of the model under test is in them but colours (the default head's, carried over by nearest points), which
MediaPipe needs to find eyes and lips.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import roma
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor
from torch.nn.functional import normalize

from ...datasets.rgbd_sequence import RgbdSequence
from ...datasets.synthetic.depth_sensor import DepthSensor
from ...geometry.camera import Camera
from ...geometry.errors import HeadlabError
from ...geometry.fitting.scan import fit_scan
from ...geometry.frame import Frame
from ...geometry.models.closest_surface import closest_points
from ...geometry.models.head_model import HeadModel
from ...geometry.raster import interpolate, rasterize, sample_texture, sh_basis, vertex_normals
from ...geometry.rgbd.register import camera_from
from ...geometry.texture.default_albedo import default_albedo

SIZE, FOCAL = (480, 640), 580.0
_IRIS, _PUPIL = 0.38, 0.14  # radians about ICT's eyeball, which is larger than a real one


@dataclass(frozen=True, eq=False)
class Selfie:
    """Frames of one person and the truth."""

    sequence: RgbdSequence
    truth: Float[Tensor, "frames verts 3"]  #: ICT's vertices in each frame's world (y up, z to the camera), metres
    clean: Float[Tensor, "frames height width"]  #: true depth
    measured: Float[Tensor, "frames height width"]


class Studio:
    """Renders people."""

    def __init__(self, ict: HeadModel, model: HeadModel) -> None:
        self.ict, self.model = ict, model
        self.albedo = default_albedo(model)
        mask = (ict.regions["wide_face"] | ict.regions["scalp"] | ict.regions["neck"]).numpy()
        skin = np.flatnonzero(mask)
        faces = ict.faces.numpy()
        faces = (np.cumsum(mask) - 1)[faces[mask[faces].all(1)]]
        template = ict.template.double().numpy()
        marks = ict.landmarks3d(ict.template).double().numpy()
        fit = fit_scan(model, template[skin], faces, marks)
        head = model.vertices(fit.code).double().numpy()
        hit = closest_points(template, head, model.faces.numpy())
        assert model.uvs is not None and model.uv_faces is not None
        uv = (model.uvs[model.uv_faces[hit.face]] * torch.from_numpy(hit.weights).float()[..., None]).sum(1)
        self._uv = uv[None, None]
        self._eyes = ict.regions["eyes"]

    def colours(self, code: Float[Tensor, "comps"], hair: tuple[float, float, float]) -> Float[Tensor, "verts 3"]:
        """Albedo of every vertex."""
        texture = self.albedo.texture(code).clamp(0.02, 1)
        colour = sample_texture(texture[None], self._uv)[0, 0].clone()
        template = self.ict.template
        crown = self.ict.regions["scalp"] & (template[:, 1] > 0.05) & (template[:, 2] < 0.075)
        colour[crown] = torch.tensor(hair, dtype=torch.float32)
        for name in ("left_eye", "right_eye"):
            ball = template[self.ict.regions[name]]
            offset = ball - ball.mean(0)
            angle = torch.acos((offset[:, 2] / offset.norm(dim=1)).clamp(-1, 1))
            white, iris = torch.tensor([0.85, 0.83, 0.82]), torch.tensor([0.3, 0.2, 0.12])
            own = torch.where((angle < _IRIS)[:, None], iris, white)
            colour[self.ict.regions[name]] = torch.where((angle < _PUPIL)[:, None], torch.full((3,), 0.03), own)
        return colour

    def shoot(self, seed: int, poses: list[tuple[float, float]], sensor: DepthSensor | None = None) -> Selfie:
        """One neutral person in frames of given (yaw, pitch), degrees.

        Args:
            seed: of the person, the light and the sensor's noise.
            poses: yaw positive to the subject's left, pitch positive up.
            sensor: the depth camera.
        """
        rng = np.random.default_rng(seed)
        sensor = sensor or DepthSensor()
        beta = torch.from_numpy(rng.standard_normal(self.ict.shapes)).float()
        shape = self.ict.shaped(beta, torch.zeros(self.ict.expressions))
        code = torch.from_numpy(0.7 * rng.standard_normal(self.albedo.components)).float()
        colour = self.colours(code, tuple(rng.uniform(0.06, 0.2, 3)))
        light = torch.zeros(9, 3)
        light[0] = 2.4 + 0.1 * torch.from_numpy(rng.standard_normal(3)).float()
        light[1:4] = torch.from_numpy(rng.normal(0, 0.25, (3, 1))).float() + torch.tensor([[0.0], [0.15], [0.35]])
        camera = Camera.frontal(FOCAL, SIZE)
        wall = torch.from_numpy(_wall(rng)).float()
        frames, truths, cleans, noisy = [], [], [], []
        pivot = torch.tensor([0.0, -0.03, 0.02])
        for yaw, pitch in poses:
            angles = np.radians([-pitch, yaw]) + rng.normal(0, 0.02, 2)
            turn = roma.rotvec_to_rotmat(torch.tensor([0.0, angles[1], 0.0]).float())
            turn = turn @ roma.rotvec_to_rotmat(torch.tensor([angles[0], 0.0, 0.0]).float())
            place = torch.tensor([0.0, 0.0, -0.52]) + torch.from_numpy(rng.normal(0, [0.012, 0.012, 0.02])).float()
            vertices = (shape - pivot) @ turn.T + place
            image, depth = self._picture(vertices, colour, light, camera, wall)
            image = (image + torch.from_numpy(rng.normal(0, 0.012, image.shape)).float()).clamp(0, 1)
            image = (image * 255).round() / 255
            found = sensor.measure(depth.double().numpy(), FOCAL, rng, image.mean(0).numpy())
            measured = torch.from_numpy(found).float()
            frames.append(Frame(image, depth=measured, source=Path(f"{len(frames) + 1:04d}_color.png")))
            truths.append(vertices)
            cleans.append(depth)
            noisy.append(measured)
        known = camera_from(camera.K, SIZE)
        names = tuple(str(frame.source) for frame in frames)
        sequence = RgbdSequence(Path("synthetic"), names, frames.__getitem__, known)
        return Selfie(sequence, torch.stack(truths), torch.stack(cleans), torch.stack(noisy))

    def _picture(
        self, vertices: Tensor, colour: Tensor, light: Tensor, camera: Camera, wall: Tensor
    ) -> tuple[Float[Tensor, "3 height width"], Float[Tensor, "height width"]]:
        faces = self.ict.faces
        raster = rasterize(camera.to_homogeneous(vertices)[None], faces, camera.size)
        both = torch.cat([vertex_normals(vertices, faces), colour], 1)
        seen = interpolate(raster, both[None], faces)[0]
        lit = seen[..., 3:] * (sh_basis(normalize(seen[..., :3], dim=-1)) @ light).clamp(min=0.02)
        mask = raster.mask[0]
        image = torch.where(mask[..., None], lit, wall).clamp(0, 1).permute(2, 0, 1)
        return image, torch.where(mask, raster.depth[0], 1.3)


def selfie_path(frames: int) -> list[tuple[float, float]]:
    """Yaw and pitch of a person who looks ahead, to the left, to the right, and up, degrees."""
    stops = np.array([[0, 0], [38, 0], [0, 0], [-38, 0], [0, 0], [0, 24], [0, 0]])
    at = np.linspace(0, len(stops) - 1, frames)
    return [(float(y), float(p)) for y, p in zip(*(np.interp(at, range(len(stops)), s) for s in stops.T), strict=True)]


def face_errors(
    ict: HeadModel, truth: Float[Tensor, "verts 3"], model: HeadModel, fitted: Float[Tensor, "verts 3"]
) -> dict[str, float]:
    """Mean distances over the face in millimetres: true face to fitted skin and back, by area, after the same rigid
    alignment (closest points, no scale) for every method; `placed`: where the fit put it; `scaled`: with scale."""
    from ...geometry.models.correspondence import similarity
    from .geometry import Skin, face_distances

    skin = Skin.of(ict)
    real = truth.double().numpy()[skin.vertices]
    head = fitted.double().numpy()
    out = {}
    marks_fit = model.landmarks3d(fitted)[17:].double().numpy()
    marks_real = ict.landmarks3d(truth)[17:].double().numpy()
    for name, with_scale in (("rigid", False), ("scaled", True)):
        moved = _moved(head, similarity(marks_fit, marks_real), with_scale, marks_fit, marks_real)
        chosen = model.regions["face"].numpy()
        for _ in range(12):
            hit = closest_points(moved[chosen], real, skin.faces)
            near = np.linalg.norm(hit.position - moved[chosen], axis=1) < 0.01
            if near.sum() < 100:
                raise HeadlabError("the fitted head and the true one do not meet")
            a, b = moved[chosen][near], hit.position[near]
            moved = _moved(moved, similarity(a, b), with_scale, a, b)
        forth, back, _ = face_distances(model, moved, real, skin.faces, skin.face)
        out |= {f"{name}_fit_to_real": forth, f"{name}_real_to_fit": back}
    forth, back, _ = face_distances(model, head, real, skin.faces, skin.face)
    return out | {"placed_fit_to_real": forth, "placed_real_to_fit": back}


def _moved(points: ndarray, pose: tuple, with_scale: bool, a: ndarray, b: ndarray) -> Float[ndarray, "n 3"]:
    scale, rotation, offset = pose
    if not with_scale:
        scale, offset = 1.0, b.mean(0) - rotation @ a.mean(0)
    return scale * points @ rotation.T + offset


def _wall(rng: np.random.Generator) -> Float[ndarray, "height width 3"]:
    """A wall with soft blotches."""
    from scipy.ndimage import gaussian_filter

    blotches = gaussian_filter(rng.normal(0, 1, (*SIZE, 3)), (60, 60, 0))
    return rng.uniform(0.35, 0.75, 3) + 0.04 * blotches / blotches.std()
