"""A small opened head, still or as a track, for tests of the viewers."""

from dataclasses import replace
from pathlib import Path

import torch
from riggable import ramp_texture, random_code, riggable_head

from headlab.geometry.camera import Camera
from headlab.geometry.models.head_model import HeadModel, LandmarkEmbedding
from headlab.heads.head_fit import HeadFit
from headlab.heads.view.opened import OpenedHead


def model() -> HeadModel:
    marks = LandmarkEmbedding(torch.arange(0, 680, 10), torch.full((68, 3), 1 / 3))
    return replace(riggable_head(), landmarks={"68": marks})


def head(frames: int = 1, seed: int = 2, path: Path = Path("head.npz"), name: str = "one") -> OpenedHead:
    codes = [random_code(model(), seed + i) for i in range(frames)]
    shape = codes[0].shape
    place = torch.tensor([0.0, 0.0, -1.0])
    rows = [code.with_(shape=shape, translation=place, rotation=code.rotation * 0.3) for code in codes]
    stacked = rows[0].map(lambda value: value[None])
    for row in rows[1:]:
        stacked = replace(stacked, **{k: torch.cat([v, row.arrays()[k][None]]) for k, v in stacked.arrays().items()})
    camera = Camera.frontal(300.0, (96, 80))
    report = {"times": [0.1 * i for i in range(frames)]}
    fit = HeadFit("riggable", stacked, (camera,) * frames, ramp_texture(), ("a.png",) * frames, report)
    return OpenedHead(name, path, fit, model())
