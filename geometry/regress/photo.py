"""From a photo to a head and a camera of the whole photo, by way of DECA's crop."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from ..camera import Camera, WeakPerspective
from ..code import HeadCode
from ..landmarks.ibug68 import IBUG68
from ..models.flame_landmarks import flame_landmarks
from ..models.head_model import HeadModel
from .codes import DecaCode
from .crop import CropTransform, FaceSquare
from .deca import Deca, check_model

#: Distance of the pinhole camera, metres. Weak perspective is the limit of far cameras; at 10 m a point 5 cm before or
#: behind the plane of agreement is off by half a percent of its distance from the image centre.
DISTANCE = 10.0


@dataclass(frozen=True)
class PhotoHead:
    """One head in one photo. No batch axes."""

    code: HeadCode  #: FLAME's; the head stands at the origin, the camera looks at it
    camera: Camera  #: of the whole photo
    deca: DecaCode  #: the network's own codes
    crop: CropTransform  #: what the network saw


def head_from_photo(
    deca: Deca,
    photo: Float[Tensor, "3 height width"],
    landmarks: Float[Tensor, "points 2"],
    model: HeadModel,
    *,
    distance: float = DISTANCE,
    order: Literal[1, 3] = 1,
    detail: bool = True,
) -> PhotoHead:
    """Crop a face, read its codes and place the head in the photo.

    Args:
        deca: the networks.
        photo: sRGB, 0..1.
        landmarks: the 68 iBUG points, or MediaPipe's 478, pixels of the photo.
        model: FLAME with its landmark tables.
        distance: of the camera, metres; see `photo_camera`.
        order: 3 for frames of a video that EMOCA should see as its own video loader cuts them; else 1.
        detail: read the detail code, too.

    Raises:
        HeadlabError: the face is too small, or the model is not FLAME.
        ValueError: another number of landmarks.
    """
    return heads_from_photos(deca, [photo], [landmarks], model, distance=distance, order=order, detail=detail)[0]


def heads_from_photos(
    deca: Deca,
    photos: Sequence[Float[Tensor, "3 _ _"]],
    landmarks: Sequence[Float[Tensor, "points 2"]],
    model: HeadModel,
    *,
    batch: int | None = None,
    distance: float = DISTANCE,
    order: Literal[1, 3] = 1,
    detail: bool = True,
) -> list[PhotoHead]:
    """`head_from_photo` of many photos, which the networks see together.

    Args:
        deca: the networks.
        photos: sRGB, 0..1, of any sizes.
        landmarks: of one face in each.
        model: FLAME with its landmark tables.
        batch: show the networks exactly so many crops at a time, blank ones where there are fewer, so that what they
            read in one does not depend on its company. None: all at once.
        distance: see `head_from_photo`.
        order: likewise.
        detail: likewise.
    """
    check_model(model)
    transforms, crops = [], []
    for photo, marks in zip(photos, landmarks, strict=True):
        if len(marks) not in (68, 478):
            raise ValueError(f"68 or 478 landmarks expected, got {len(marks)}")
        points = marks if len(marks) == 68 else marks[list(IBUG68)]
        transforms.append(FaceSquare.from_landmarks(points).transform())
        crops.append(transforms[-1].crop(photo, order).to(next(deca.coarse.parameters())))
    heads = []
    step = batch or len(crops)
    for first in range(0, len(crops), step):
        some = torch.stack(crops[first : first + step])
        with torch.inference_mode():
            read = deca.encode(pad(some, (0, 0, 0, 0, 0, 0, 0, step - len(some))), detail=detail)
        read = read.map(lambda value: value.to(model.template.device, model.template.dtype).clone())
        for i in range(first, first + len(some)):
            codes = read[i - first]
            code = codes.head_code()
            plane = float(flame_landmarks(model, code).landmarks3d[..., 2].mean())
            height, width = photos[i].shape[-2:]
            camera = photo_camera(
                codes.weak_perspective, transforms[i], (height, width), distance=distance, plane=plane
            )
            heads.append(PhotoHead(code, camera, codes, transforms[i]))
    return heads


def photo_camera(
    weak: WeakPerspective,
    crop: CropTransform,
    size: tuple[int, int],
    *,
    distance: float = DISTANCE,
    plane: float = 0.0,
) -> Camera:
    """Pinhole camera of a photo that agrees with DECA's camera of the crop.

    Exactly on the world plane z = `plane`; a point h before it is moved away from the crop's centre by the factor
    1 / (1 - h / distance). Pixels of crop and photo are matched centre to centre: what DECA draws on a crop pixel lies
    where that pixel was taken from.

    Args:
        weak: DECA's [s, tx, ty].
        crop: photo -> crop.
        size: (height, width) of the photo.
        distance: from the plane, metres.
        plane: metres; the mean depth of the face keeps errors smallest.
    """
    camera = weak.to_pinhole(crop.size, distance)
    t = camera.t + camera.t.new_tensor([0.0, 0.0, plane])
    # A crop may be turned (`CropTransform.of_whole`): the turn goes to the extrinsics, so that K stays upright.
    inverse = crop.inverse.to(camera.K.device)
    factor = 1 / crop.scale
    turn = torch.eye(3, dtype=torch.float64, device=inverse.device)
    turn[:2, :2] = inverse[:2, :2] / factor
    centre = camera.K[..., :2, 2].double() - 0.5
    K = camera.K.double()
    K[..., :2, :2] = K[..., :2, :2] * factor
    K[..., :2, 2] = centre @ inverse[:2, :2].mT + inverse[:2, 2] + 0.5
    dtype = camera.K.dtype
    turned = replace(camera, R=turn.to(dtype) @ camera.R, t=t @ turn.mT.to(dtype), K=K.to(dtype))
    return replace(turned, size=size)
