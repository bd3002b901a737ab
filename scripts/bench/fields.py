"""Pictures of neural head fields: two people and what lies between them, eight expressions, three resolutions.

python -m headlab.scripts.bench.fields build/pictures [--fields RUN]
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
from jaxtyping import Float
from torch import Tensor

from ...geometry.files import write_png
from ...geometry.sdf.default_fields import load_default_fields
from ...geometry.sdf.extract import box_grid, components, extract_surface, pose_mesh
from ...geometry.sdf.field_files import load_fields
from ...geometry.sdf.head_fields import HeadFields
from ...geometry.sdf.model_heads import SCRIPT
from .field_pictures import shaded, sheet


@dataclass(frozen=True)
class Args:
    """Draw pictures of fields."""

    out: Annotated[Path, tyro.conf.Positional]
    """Folder for interpolation.png, expressions.png and resolutions.png."""
    fields: Path | None = None
    """Trained fields; headlab's own where absent."""
    people: tuple[int, int] = (0, 3)
    """Training heads between which is interpolated."""
    expressions: tuple[int, ...] = (0, 2, 3, 4, 5, 8, 11, 18)
    """Numbers of the script, of the first person."""
    resolutions: tuple[int, ...] = (64, 128, 256)
    resolution: int = 128
    """Of the other pictures."""
    side: int = 256
    """Of one head, pixels."""


def interpolation(fields: HeadFields, args: Args) -> Float[Tensor, "3 rows columns"]:
    """Five heads from one person to another, from the front and from the side."""
    first, second = (fields.identity_latents[i] for i in args.people)
    rows: list[list[Tensor]] = [[], []]
    for share in torch.linspace(0, 1, 5):
        mesh = fields.extract(first + share * (second - first), resolution=args.resolution)
        for row, yaw in zip(rows, (0.0, 50.0), strict=True):
            row.append(shaded(mesh, args.side, yaw))
    return sheet(rows)


def expressions(fields: HeadFields, args: Args) -> Float[Tensor, "3 rows columns"]:
    """One neutral mesh, posed."""
    person = args.people[0]
    mesh = extract_surface(fields.surface(fields.identity_latents[person]), box_grid(args.resolution), normals=False)
    pictures = []
    for number in args.expressions:
        code = fields.expression_latents[person * len(SCRIPT) + number]
        with torch.no_grad():
            deformation = fields.deformation(fields.identity_latents[person], code)
        pictures.append(shaded(pose_mesh(mesh, deformation), args.side))
    half = (len(pictures) + 1) // 2
    return sheet([pictures[:half], pictures[half:]])


def main(args: Args) -> None:
    fields = load_default_fields() if args.fields is None else load_fields(args.fields)
    args.out.mkdir(parents=True, exist_ok=True)
    write_png(args.out / "interpolation.png", interpolation(fields, args))
    write_png(args.out / "expressions.png", expressions(fields, args))
    pictures = []
    for resolution in args.resolutions:
        mesh = fields.extract(fields.identity_latents[args.people[0]], resolution=resolution)
        print(f"{resolution}: {len(mesh.vertices)} vertices, parts of {components(mesh)} triangles")
        pictures.append(shaded(mesh, 2 * args.side, 25.0))
    write_png(args.out / "resolutions.png", sheet([pictures]))


if __name__ == "__main__":
    main(tyro.cli(Args))
