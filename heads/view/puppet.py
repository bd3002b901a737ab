"""Another head's expression on this one, live: same model, other ARKit model, or any other model."""

from dataclasses import dataclass, field, replace

import torch

from ...geometry.code import HeadCode
from ...geometry.code_formats import arkit_weights, from_arkit
from ...geometry.errors import HeadlabError
from ...geometry.frame import Frame
from ...geometry.models.convert import convert_code
from ...geometry.models.correspondence import Correspondence, find_correspondence
from ...geometry.models.head_model import HeadModel
from ..head_fit import HeadFit
from ..transfer import PhotoHead, Source, TransferConfig, transferred_code
from .opened import OpenedHead


@dataclass(eq=False)
class Puppeteer:
    """The head that gives the expression."""

    giver: OpenedHead
    takes_eyes: bool = True
    takes_neck: bool = False
    _match: dict[int, Correspondence] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.giver.model is None:
            raise HeadlabError(f"{self.giver.name} cannot give its expression: {self.giver.note}")

    def on(self, model: HeadModel, fit: HeadFit, code: HeadCode, frame: int, strength: float = 1.0) -> HeadCode:
        """`code` with the giver's expression; identity, place, light and texture stay.

        Args:
            model: of the head that takes it.
            fit: whose head it is; its first camera is where the head is seen from.
            code: of the head that takes it, without batch axes.
            frame: of the giver.
            strength: 0 nothing, 1 the giver's expression, more exaggerates.

        Raises:
            HeadlabError: the two models have no common expressions or landmarks.
        """
        given = self.giver.fit.codes[frame % self.giver.frames]
        if self.giver.fit.model != fit.model:
            given = self._translated(given, model)
        camera = self.giver.fit.cameras[frame % self.giver.frames]
        source = PhotoHead(_no_photo(), _alone(self.giver.fit, given, camera))
        target = PhotoHead(_no_photo(), _alone(fit, code, fit.cameras[0]))
        config = TransferConfig(strength=strength, eyes=self.takes_eyes)
        new = transferred_code(model, Source(self.giver.name, given.expression, source), target, config)
        return new.with_(neck=code.neck + strength * (given.neck - code.neck)) if self.takes_neck else new

    def _translated(self, given: HeadCode, model: HeadModel) -> HeadCode:
        """The giver's code in another model's parameters: by ARKit's names where both have them, else by shape."""
        own = self.giver.model
        assert own is not None
        try:
            return from_arkit(model, arkit_weights(own, given), None).with_(neck=given.neck, rotation=given.rotation)
        except HeadlabError:
            if id(model) not in self._match:
                self._match[id(model)] = find_correspondence(own, model)
            return convert_code(given, own, model, self._match[id(model)])


def _no_photo() -> Frame:
    """Codes are transferred without pixels."""
    return Frame(torch.zeros(3, 1, 1))


def _alone(fit: HeadFit, code: HeadCode, camera) -> HeadFit:
    return replace(fit, codes=code.map(lambda value: value[None]), cameras=(camera,), sources=(fit.sources[0],))
