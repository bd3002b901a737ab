"""SyntheticHeads: sample number -> picture and truth."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import roma
import torch
from jaxtyping import Float
from torch import Tensor

from ...geometry.camera import Camera
from ...geometry.code import HeadCode
from ...geometry.errors import HeadlabError
from ...geometry.models.head_model import HeadModel
from ...geometry.regress.default_crop import UprightSquare, rotation2d
from ...geometry.regress.default_decode import focus, placed
from ...geometry.texture.albedo_model import AlbedoModel
from ...geometry.texture.default_albedo import default_albedo
from .backdrop import draw_backdrop, take_picture
from .batch import SyntheticBatch
from .expressions import draw_expression
from .people import draw_person
from .renderer import HeadRenderer
from .scene import draw_scene


@dataclass(frozen=True)
class SyntheticConfig:
    """What to make. The same configuration and index give the same sample."""

    size: int = 128  #: side of the square pictures, pixels
    seed: int = 0
    pictures_per_person: int = 4
    maps: bool = True  #: normals, albedo, depth and mask per pixel as well


class SyntheticHeads:
    """Endless pictures of synthetic people. Sample i shows person i // pictures_per_person."""

    def __init__(self, model: HeadModel, config: SyntheticConfig, albedo: AlbedoModel | None = None):
        """Prepare a head model with 478 or 68 landmarks, texture coordinates and the regions of the default head.

        Args:
            model: float32, on the CPU.
            config: what to make.
            albedo: colours of the skin; the default ones where None.

        Raises:
            HeadlabError: the model lacks landmarks or texture coordinates.
        """
        points = [name for name in ("478", "68") if name in model.landmarks]
        if not points or model.uvs is None or model.uv_faces is None:
            raise HeadlabError(f"{model.name} has no landmarks or texture coordinates; synthetic pictures need both")
        missing = {"root", "left_eye", "right_eye"} - set(model.joint_names)
        missing |= {"face", "lips", "eyelids", "eyes"} - set(model.regions)
        if missing:
            raise HeadlabError(f"{model.name} has no {', '.join(sorted(missing))}; synthetic pictures need them")
        if config.size < 16 or config.pictures_per_person < 1:
            raise HeadlabError("synthetic pictures need a size of at least 16 and at least one picture per person")
        self.model, self.config, self.points = model, config, points[0]
        self.albedo = default_albedo(model) if albedo is None else albedo
        self.renderer = HeadRenderer(model, self.albedo)
        std = model.expression_std
        self.expression_scale = np.ones(model.expressions) if std is None else std.double().numpy()

    def batch(self, indices: Sequence[int]) -> SyntheticBatch:
        """Make these samples; each depends on the seed and its own index alone."""
        cfg, model = self.config, self.model
        owner = [i // cfg.pictures_per_person for i in indices]
        people = [
            draw_person(np.random.default_rng([cfg.seed, 1, p]), model.shapes, self.albedo.components) for p in owner
        ]
        chances = [np.random.default_rng([cfg.seed, 2, i]) for i in indices]
        faces = [draw_expression(rng, model.expression_names, self.expression_scale) for rng in chances]
        scenes = [draw_scene(rng) for rng in chances]

        def stack(values: list) -> Tensor:
            return torch.from_numpy(np.stack([np.asarray(v, np.float32) for v in values]))

        turn = roma.euler_to_rotvec("ZYX", list(stack([(s.roll, s.yaw, -s.pitch) for s in scenes]).unbind(-1)))
        codes = model.neutral((len(owner),)).with_(
            shape=stack([p.shape for p in people]),
            expression=stack([f.psi for f in faces]),
            eyes=stack([f.eyes for f in faces]),
            albedo=stack([p.albedo for p in people]),
            light=stack([s.light for s in scenes]),
        )
        distance = stack([s.distance for s in scenes])
        faults = stack([(s.crop_turn, s.crop_log_size, *s.crop_shift) for s in scenes])
        codes, camera, vertices = self.aim(codes, turn, distance, faults)
        pictures, maps = self.renderer.draw(
            codes,
            vertices,
            camera,
            people,
            scenes,
            stack([draw_backdrop(rng, cfg.size) for rng in chances]),
            cfg.maps,
        )
        images = [take_picture(rng, image) for rng, image in zip(chances, pictures.numpy(), strict=True)]
        return SyntheticBatch(
            torch.tensor(list(indices)),
            torch.tensor(owner),
            torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(),
            codes,
            camera,
            camera.project(model.landmarks3d(vertices, self.points)),
            torch.tensor([f.emotion for f in faces]),
            stack([f.valence_arousal for f in faces]),
            distance,
            maps,
        )

    def aim(
        self,
        codes: HeadCode,
        turn: Float[Tensor, "batch 3"],
        distance: Float[Tensor, "batch"],
        faults: Float[Tensor, "batch 4"],
    ) -> tuple[HeadCode, Camera, Tensor]:
        """Place heads before cameras whose pictures are crops by landmarks, with the detector's faults."""
        size = float(self.config.size)
        position = torch.nn.functional.pad(-distance[:, None], (2, 0))
        middle = focus(self.model, codes.shape, self.points)
        codes = placed(self.model, codes, roma.rotvec_to_rotmat(turn), position, middle)
        rough = Camera.frontal(1.0, (1, 1))
        vertices = self.model.vertices(codes)
        seen = rough.project(self.model.landmarks3d(vertices, self.points))
        square = UprightSquare.from_landmarks(seen)
        # The head turns about the optical axis instead of the camera; y runs up in the world.
        angle = square.angle + faults[:, 0]
        roll = roma.rotvec_to_rotmat(torch.nn.functional.pad(angle[:, None], (2, 0)))
        codes = placed(self.model, codes, roll @ roma.rotvec_to_rotmat(turn), position, middle)
        # Rotating the vertices spares a second skinning: the head lies on the axis.
        vertices = vertices @ roll.mT
        scale = size / (square.side * torch.exp(faults[:, 1]))
        centre = (square.centre - 0.5)[:, None] @ rotation2d(angle)
        corner = size / 2 - scale[:, None] * (centre[:, 0] + faults[:, 2:] * size / scale[:, None])
        K = torch.zeros(len(scale), 3, 3)
        K[:, 0, 0] = K[:, 1, 1] = scale
        K[:, :2, 2], K[:, 2, 2] = corner, 1
        side = self.config.size
        count = len(scale)
        return codes, Camera(K, rough.R.expand(count, 3, 3), rough.t.expand(count, 3), (side, side)), vertices
