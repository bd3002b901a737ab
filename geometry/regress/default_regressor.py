"""The default regressor: one look at a face crop gives β, ψ, gaze, pose, camera, light and albedo of the default head.

Trained on synthetic people only; its weights come with the package (see `default_weights/README.md`). It starts the
optimisers, and its β is the same for one person's faces as far as it was trained to be.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from ..camera import Camera
from ..code import HeadCode
from ..errors import HeadlabError
from ..fitting.landmark_fit import LandmarkFit, LandmarkReport
from ..fitting.priors import LandmarkPriors
from ..landmarks.ibug68 import IBUG68, OUTER_EYE_CORNERS
from ..models.default import load_default_head
from ..models.head_model import HeadModel
from ..rodrigues import rotvec_to_rotmat
from .default_crop import CROP, UprightSquare
from .default_decode import focus, heads_of_numbers, placed
from .default_net import SHAPES, DefaultNet, HeadNumbers

WEIGHTS = Path(__file__).with_name("default_weights") / "default_regressor.safetensors"
#: The head in use may differ by so much from the one the weights were trained with, metres.
_SAME_HEAD = 5e-4


@dataclass(frozen=True)
class DefaultRegressor:
    """A trained network and the head model it speaks of. Frozen: gradients flow to pixels, not to weights."""

    net: DefaultNet
    model: HeadModel

    def numbers(self, crops: Float[Tensor, "batch 3 height width"]) -> HeadNumbers:
        """Read upright face crops (sRGB, 0..1; see `UprightSquare`). Differentiable in the pixels.

        Identity is the mean of what the crop and its mirror image tell: faces are nearly symmetric, and what the
        network makes of pose and light is not.

        Raises:
            HeadlabError: another size.
        """
        if crops.ndim != 4 or crops.shape[1:] != (3, CROP, CROP):
            raise HeadlabError(
                f"the regressor reads crops of shape (n, 3, {CROP}, {CROP}), not {tuple(crops.shape)}; "
                "cut them with UprightSquare"
            )
        numbers = self.net(torch.cat([crops, crops.flip(-1)]))
        here, mirrored = numbers.shape.chunk(2)
        return replace(numbers[: len(crops)], shape=(here + mirrored) / 2)

    def regress(self, crops: Float[Tensor, "batch 3 height width"]) -> tuple[HeadCode, Camera]:
        """Heads and cameras of upright face crops, batched. Differentiable in the pixels."""
        return heads_of_numbers(self.model, self.numbers(crops), CROP)

    def regress_photo(
        self, image: Float[Tensor, "3 height width"], landmarks: Float[Tensor, "points 2"], focal: float | None = None
    ) -> tuple[HeadCode, Camera]:
        """One head in a photo, and the photo's camera: frontal, at the world's origin. No batch axes.

        Landmarks serve only to cut the crop.

        Args:
            image: sRGB, 0..1.
            landmarks: MediaPipe's 478 points or the 68 of iBUG, pixels.
            focal: focal length in pixels; None: the likely one of `LandmarkPriors`.

        Raises:
            HeadlabError: the landmarks cannot be used.
        """
        return self.regress_photos([image], [landmarks], [focal])[0]

    def regress_photos(
        self,
        images: Sequence[Float[Tensor, "3 _ _"]],
        landmarks: Sequence[Float[Tensor, "points 2"]],
        focals: Sequence[float | int | None],
        batch: int | None = None,
    ) -> list[tuple[HeadCode, Camera]]:
        """`regress_photo` of many photos, which the network sees together.

        Args:
            images: sRGB, 0..1, of any sizes.
            landmarks: of one face in each, pixels.
            focals: focal lengths in pixels; None where unknown.
            batch: show the network exactly so many crops at a time, blank ones where there are fewer. What it reads in
                one is then the same to the last bit whatever comes with it. None: all at once.

        Raises:
            HeadlabError: the landmarks cannot be used.
        """
        known, squares = [], []
        for image, points, focal in zip(images, landmarks, focals, strict=True):
            if not bool(torch.isfinite(points).all()):
                raise HeadlabError("some landmarks are not finite numbers; leave out photos in which no face was found")
            if focal is not None and not 0 < focal < math.inf:
                raise HeadlabError(
                    f"a focal length must be a positive number of pixels, not {focal}; use None if unknown"
                )
            known.append(float(focal) if focal else LandmarkPriors().field_of_view * max(image.shape[-2:]))
            squares.append(UprightSquare.from_landmarks(points.to(image)[None]))
        heads = []
        with torch.no_grad():
            crops = torch.cat([square.cut(image[None]) for square, image in zip(squares, images, strict=True)])
            step = batch or len(crops)
            for first in range(0, len(crops), step):
                some = crops[first : first + step]
                numbers = self.numbers(pad(some, (0, 0, 0, 0, 0, 0, 0, step - len(some))))
                for i in range(first, first + len(some)):
                    height, width = images[i].shape[-2:]
                    one = numbers[i - first : i - first + 1]
                    heads.append(self._in_photo(one, squares[i], known[i], (height, width)))
        return heads

    def _in_photo(
        self, numbers: HeadNumbers, square: UprightSquare, focal: float, size: tuple[int, int]
    ) -> tuple[HeadCode, Camera]:
        """From a crop's camera, which looks at the face, to the photo's, which may see it in a corner."""
        codes, _ = heads_of_numbers(self.model, numbers, CROP)
        pixel = square.to_image(CROP * (0.5 + numbers.offset)[:, None])[:, 0]
        pixels_per_metre = torch.exp(numbers.log_scale) * square.side
        centre = pixel.new_tensor([size[1] / 2, size[0] / 2])
        ray = pad((pixel - centre) * pixel.new_tensor([1.0, -1.0]) / focal, (0, 1), value=-1.0)
        # Turn the crop upright again, then the axis onto the ray. y runs up in the world.
        turn = rotvec_to_rotmat(pad(-square.angle[:, None], (2, 0)))
        aside = rotvec_to_rotmat(_between(ray))
        position = ray * (focal / pixels_per_metre)[:, None]
        codes = placed(self.model, codes, aside @ turn @ numbers.rotation, position, focus(self.model, codes.shape))
        return codes[0], Camera.frontal(focal, size, pixel.dtype)

    def first_fit(
        self,
        images: Sequence[Float[Tensor, "3 _ _"]],
        landmarks: Float[Tensor, "photos 478 2"],
        focal: Sequence[float | None] | None = None,
        heads: Sequence[tuple[HeadCode, Camera]] | None = None,
    ) -> LandmarkFit:
        """One person in one or more photos, as a start for `fit_landmarks(init=...)`.

        β and albedo are the means of what the photos tell.

        Args:
            images: sRGB, 0..1.
            landmarks: of the person's face in each, pixels.
            focal: focal lengths in pixels; None where unknown.
            heads: what `regress_photos` gave for them, where it has been asked already.
        """
        if not images or len(images) != len(landmarks):
            raise HeadlabError(f"{len(images)} photos came with landmarks of {len(landmarks)}; give one set per photo")
        focals = [None] * len(images) if focal is None else focal
        if heads is None:
            heads = [self.regress_photo(*args) for args in zip(images, landmarks, focals, strict=True)]
        cameras = tuple(camera for _, camera in heads)
        names = heads[0][0].arrays()
        codes = HeadCode(**{name: torch.stack([getattr(code, name) for code, _ in heads]) for name in names})
        assert codes.albedo is not None
        codes = codes.with_(
            shape=codes.shape.mean(0).expand_as(codes.shape).clone(),
            albedo=codes.albedo.mean(0).expand_as(codes.albedo).clone(),
        )
        points = [
            camera.project(self.model.landmarks3d(self.model.vertices(codes[i]), "478"))
            for i, camera in enumerate(cameras)
        ]
        seen = torch.stack(points)
        right, left = OUTER_EYE_CORNERS
        error = (seen - landmarks)[:, list(IBUG68)].norm(dim=-1).mean(-1)
        nme = error / (landmarks[:, right] - landmarks[:, left]).norm(dim=-1).clamp(min=1e-9)
        report = LandmarkReport(tuple(nme.tolist()), 0, len(heads), math.nan, False, 0.0)
        return LandmarkFit(codes, cameras, seen, landmarks, report)


@lru_cache(maxsize=2)
def load_default_regressor(path: Path = WEIGHTS) -> DefaultRegressor:
    """The regressor of the default head.

    Args:
        path: weights of the recipe `scripts/recipes/default_regressor.py`; by default those of the package.

    Raises:
        HeadlabError: the file is missing, damaged, or was trained for another head.
    """
    from safetensors.torch import load_file

    model = load_default_head()
    try:
        state = {name: value.float() if value.is_floating_point() else value for name, value in load_file(path).items()}
        probe = state.pop("probe")
        net = DefaultNet(model.expressions, state["out.weight"].shape[0] - DefaultNet.fixed_outputs(model.expressions))
        net.load_state_dict(state)
    except Exception as error:
        raise HeadlabError(
            f"the regressor's weights {path} cannot be read ({error}); install headlab again or train them anew"
        ) from error
    if probe.shape != probe_head(model).shape or float((probe - probe_head(model)).abs().max()) > _SAME_HEAD:
        raise HeadlabError(
            f"the regressor's weights {path.name} were trained for another version of the default head; "
            "train them anew with headlab.scripts.recipes.default_regressor"
        )
    return DefaultRegressor(net.eval().requires_grad_(False), model)


def probe_head(model: HeadModel) -> Float[Tensor, "points 3"]:
    """Landmarks of a head with a definite code: tells whether codes mean the same for two models. Metres."""
    shape = torch.from_numpy(np.cos(np.arange(SHAPES))).float()
    expression = torch.from_numpy(0.5 + 0.5 * np.sin(np.arange(model.expressions))).float()
    return model.landmarks3d(model.shaped(shape, expression), "478")


def _between(ray: Float[Tensor, "batch 3"]) -> Float[Tensor, "batch 3"]:
    """Smallest rotation (vector) that takes the direction -z to that of the ray."""
    unit = torch.nn.functional.normalize(ray, dim=-1)
    axis = torch.linalg.cross(unit.new_tensor([0.0, 0.0, -1.0]).expand_as(unit), unit)
    sine = axis.norm(dim=-1, keepdim=True)
    angle = torch.atan2(sine, -unit[:, 2:])
    return axis * torch.where(sine > 1e-9, angle / sine.clamp(min=1e-9), 1.0)
