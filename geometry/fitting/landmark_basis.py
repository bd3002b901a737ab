"""LandmarkBasis: a head model prepared for landmark fitting, once per model."""

from dataclasses import dataclass

import numpy as np
import torch

from ..models.head_model import HeadModel, LandmarkEmbedding
from .contour import ContourLines
from .landmark_layout import LandmarkLayout, layout_for
from .point_basis import PointBasis


@dataclass(frozen=True, eq=False)
class LandmarkBasis:
    """A model prepared for landmark fitting. Build once, fit many photos."""

    model: HeadModel
    layout: LandmarkLayout
    order: np.ndarray  #: landmarks in the solver's order: fixed ones, then the outline
    fixed: PointBasis
    lines: ContourLines
    candidates: PointBasis
    centre: np.ndarray  #: (3,) the landmarks' centroid on the mean head, metres
    mean_points: np.ndarray  #: (n, 3) landmarks of the mean head, in the layout's order
    eye_distance: float  #: outer-eye distance of the mean head, metres
    root: np.ndarray  #: (3,) the root joint of the mean head, metres
    root_basis: np.ndarray  #: (3, S)

    @classmethod
    def build(cls, model: HeadModel) -> "LandmarkBasis":
        """Restrict the model to its landmarks and trace its contour lines.

        Raises:
            HeadlabError: the model has no usable landmark embedding.
        """
        layout = layout_for(model)
        embedding = model.landmarks[layout.name]
        contour = np.array(layout.contour)
        inner = np.setdiff1d(np.arange(len(layout.detector)), contour)
        lines = ContourLines.build(model, layout)
        index = torch.from_numpy(inner)
        fixed = PointBasis.build(model, LandmarkEmbedding(embedding.faces[index], embedding.weights[index]))
        points = model.landmarks3d(model.template, layout.name).detach().cpu().double().numpy()
        right, left = layout.outer_eyes
        unit = torch.cat([torch.zeros(1, model.shapes), torch.eye(model.shapes)]).to(model.template)
        roots = model.joints(unit)[:, 0].detach().cpu().double().numpy()
        return cls(
            model,
            layout,
            np.concatenate([inner, contour]),
            fixed,
            lines,
            PointBasis.build(model, lines.embedding),
            points.mean(0),
            points,
            float(np.linalg.norm(points[left] - points[right])),
            roots[0],
            (roots[1:] - roots[0]).T,
        )

    def root_of(self, shape: np.ndarray) -> np.ndarray:
        """The root joint (3,) of a person, metres."""
        return self.root + self.root_basis @ shape
