"""Where the rows of the remade NPHM table err: one test person's true surface in the colours of the distances to each.

python -m headlab.scripts.bench.nphm_errors ICT build/nphm_table errors.png --person 3
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import tyro

from ...geometry.files import write_png
from ...geometry.models.ict import load_ict
from ...geometry.raster import closest_point
from ...geometry.sdf.extract import SdfMesh
from ...geometry.sdf.model_heads import HeadsConfig, draw_people
from ...geometry.sdf.sampling import LOWEST
from ...heads.metrics.geometry_table import observed_points
from ...heads.metrics.surface_score import MILLIMETRES, HeadSurface
from ...viewers.canvas import Picture
from ...viewers.figures import contact_sheet
from ...viewers.heat_map import heat_colors, with_color_bar
from .field_pictures import shaded
from .nphm_rows import NAMES, Row, Settings, made_row, table_config, tested_head
from .nphm_training import TESTED, TRAINED


@dataclass(frozen=True)
class Args:
    """Draw the errors."""

    ict: Annotated[Path, tyro.conf.Positional]
    runs: Annotated[Path, tyro.conf.Positional]
    output: Annotated[Path, tyro.conf.Positional]
    rows: tuple[Row, ...] = ("nphm_small", "npm", "global", "local", "parametric")
    person: int = 0
    """Of the twenty test people."""
    table: Literal["identity", "front", "edited"] = "identity"
    limit: float = 1.0
    """Millimetres shown in the last colour."""
    side: int = 260
    """Pixels of each view."""
    settings: Settings = field(default_factory=Settings)


def main(args: Args) -> None:
    torch.set_num_threads(1)
    model = load_ict(args.ict)
    people = draw_people(model, HeadsConfig(TRAINED + TESTED, seed=args.settings.seed))
    head = tested_head(args.settings, args.table, model, people[TRAINED + args.person], args.person)
    truth = HeadSurface(head.canonical[0], head.faces, head.on_face).outer()
    config = table_config(args.settings, args.table, args.person)
    # The same points as in the table: its draws begin with the cloud.
    cloud = observed_points(truth, config, torch.Generator().manual_seed(config.seed * 1_000_003))
    pictures, captions = [_views(truth, None, args)], ["true"]
    for row in args.rows:
        found = made_row(row, args.settings, args.runs, model, people, expressions=False).canonical(cloud).outer()
        distance, _, _ = closest_point(found.vertices, found.faces, truth.vertices)
        # As in the table, nothing is judged below the cut through the neck.
        errors = torch.where(truth.vertices[:, 1] > LOWEST + 0.03, MILLIMETRES * distance, math.nan)
        pictures.append(_views(truth, errors, args))
        captions.append(f"{NAMES[row]}: {float(errors[truth.faces.unique()].nanmean()):.2f} mm")
        print(captions[-1], flush=True)
    sheet = contact_sheet(pictures, captions, columns=len(pictures))
    image = torch.from_numpy(with_color_bar(sheet, args.limit)).permute(2, 0, 1) / 255
    write_png(args.output, image)


def _views(truth: HeadSurface, errors: torch.Tensor | None, args: Args) -> Picture:
    """From the front, and below it from the side."""
    colors = None if errors is None else heat_colors(errors, args.limit)
    mesh = SdfMesh(truth.vertices, truth.faces, None, {})
    views = torch.cat([shaded(mesh, args.side, yaw, colors) for yaw in (0.0, -50.0)], -2)
    return np.asarray((views.permute(1, 2, 0) * 255).round().byte().numpy())


if __name__ == "__main__":
    main(tyro.cli(Args))
