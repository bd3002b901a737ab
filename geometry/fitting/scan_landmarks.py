"""Find the 68 landmarks on a scan by looking at it: render it, run MediaPipe, lift the points to the surface."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..camera import Camera
from ..errors import HeadlabError
from ..landmarks.face_landmarks import LandmarkDetector
from ..landmarks.ibug68 import IBUG68
from ..raster import interpolate, rasterize, sample_texture, vertex_normals
from ..rodrigues import rotvec_to_rotmat

_SIZE = 512  # pixels
_DISTANCE = 4.0  # of the camera, in sizes of the scan
_AROUND = (0.0, 45.0, -45.0, 90.0, -90.0, 135.0, -135.0, 180.0)  # yaws tried until a face is found, degrees
#: Yaw and pitch about the frontal view, degrees.
_FAN = ((0.0, 0.0), (-20.0, 0.0), (20.0, 0.0), (0.0, -12.0), (0.0, 12.0), (-35.0, 0.0), (35.0, 0.0))


@dataclass(frozen=True)
class ScanTexture:
    """Colours of a scan."""

    image: Float[Tensor, "3 height width"]
    uvs: Float[Tensor, "texcoords 2"]  #: v up: v = 0 is the image's bottom row
    uv_faces: Int[Tensor, "faces 3"]


def scan_landmarks(
    vertices: Float[Tensor, "verts 3"],
    faces: Int[Tensor, "faces 3"],
    detector: LandmarkDetector,
    texture: ScanTexture | None = None,
) -> Float[Tensor, "68 3"]:
    """The 68 points on a scan's surface, in its unit; NaN where no view sees one.

    Args:
        vertices: of the scan in any unit, +Y up. Which way it faces does not matter.
        faces: counter-clockwise seen from outside.
        detector: MediaPipe.
        texture: colours; without them the surface is rendered grey, which MediaPipe also recognises.

    Raises:
        HeadlabError: no face is found on the scan.
    """
    look = _Look(vertices.float(), faces.long(), texture)
    front = _facing(look, detector)
    total, weight = torch.zeros(68, 3), torch.zeros(68, 1)
    for yaw, pitch in _FAN:
        camera = look.camera(front + yaw, pitch)
        seen = look.detect(camera, detector)
        if seen is None:
            continue
        low, high = seen.amin(0), seen.amax(0)
        side = max(1, round(float((high - low).max()) * 1.6))
        left, top = ((low + high - side) / 2).tolist()
        close = camera.cropped(left, top, (side, side)).resized((_SIZE, _SIZE))
        points = look.detect(close, detector)
        if points is not None:
            lifted, squareness = look.lift(points, close)
            total += lifted * squareness
            weight += squareness
    return torch.where(weight > 0.05, total / weight.clamp(min=1e-6), torch.nan)


def _facing(look: "_Look", detector: LandmarkDetector) -> float:
    """Yaw, in degrees, from which the face is seen most squarely."""
    for yaw in _AROUND:
        points = look.detect(look.camera(yaw, 0.0), detector)
        if points is not None:
            lifted, weight = look.lift(points, look.camera(yaw, 0.0))
            right, left = lifted[36:42].mean(0), lifted[42:48].mean(0)
            if (weight[36:48] > 0).all():
                across = left - right  # of the eyes; the face looks at right angles to it
                return math.degrees(math.atan2(float(across[2]), float(across[0])))
            return float(yaw)
    raise HeadlabError(
        "no face is found on the scan; turn it so that +Y is up, or give its 68 landmarks (a hidden or noisy face "
        "cannot be found)"
    )


@dataclass(frozen=True)
class _Look:
    """Renders the scan."""

    vertices: Float[Tensor, "verts 3"]
    faces: Int[Tensor, "faces 3"]
    texture: ScanTexture | None

    def camera(self, yaw: float, pitch: float) -> Camera:
        """A camera that sees all of the scan from a direction, in degrees."""
        turn = rotvec_to_rotmat(torch.tensor([math.radians(pitch), 0.0, 0.0])) @ rotvec_to_rotmat(
            torch.tensor([0.0, math.radians(yaw), 0.0])
        )
        low, high = self.vertices.amin(0), self.vertices.amax(0)
        extent = float((high - low).max())
        camera = Camera.frontal(0.95 * _SIZE * _DISTANCE, (_SIZE, _SIZE))
        rotation = camera.R @ turn
        return Camera(
            camera.K,
            rotation,
            -rotation @ ((low + high) / 2) + torch.tensor([0.0, 0.0, _DISTANCE * extent]),
            camera.size,
        )

    def detect(self, camera: Camera, detector: LandmarkDetector) -> Float[Tensor, "68 2"] | None:
        """The 68 points of the largest face, in pixels."""
        raster = rasterize(camera.to_homogeneous(self.vertices)[None], self.faces, camera.size)
        normals = vertex_normals(self.vertices, self.faces) @ camera.R.T
        normal = torch.nn.functional.normalize(interpolate(raster, normals[None], self.faces)[0], dim=-1)
        colour = torch.full((3,), 0.8)
        if self.texture is not None:
            uv = interpolate(raster, self.texture.uvs[None], self.texture.uv_faces)
            colour = sample_texture(self.texture.image[None], uv)[0]
        light = 0.35 + 0.65 * (normal @ torch.tensor([0.2, -0.4, -0.9])).clamp(min=0)
        image = torch.where(raster.mask[0][..., None], colour * light[..., None], torch.tensor(0.9)).clamp(0, 1)
        faces = detector.detect(image.permute(2, 0, 1).contiguous())
        return faces[0].points[list(IBUG68)] if faces else None

    def lift(
        self, points: Float[Tensor, "68 2"], camera: Camera
    ) -> tuple[Float[Tensor, "68 3"], Float[Tensor, "68 1"]]:
        """The surface under pixels, and how squarely it is seen there (0: not hit)."""
        raster = rasterize(camera.to_homogeneous(self.vertices)[None], self.faces, camera.size)
        attributes = torch.cat([self.vertices, vertex_normals(self.vertices, self.faces)], 1)
        position, normal = interpolate(raster, attributes[None], self.faces)[0].split(3, -1)
        x = points[:, 0].long().clamp(0, camera.size[1] - 1)
        y = points[:, 1].long().clamp(0, camera.size[0] - 1)
        towards = torch.nn.functional.normalize(-camera.R.T @ camera.t - position[y, x], dim=-1)
        facing = (torch.nn.functional.normalize(normal[y, x], dim=-1) * towards).sum(-1).clamp(0, 1)
        return position[y, x], torch.where(raster.mask[0][y, x], facing**2, 0.0)[:, None]
