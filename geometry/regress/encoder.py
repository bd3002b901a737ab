"""CodeEncoder: photo crop -> code. DECA's E_flame and E_detail and EMOCA's E_expression are all of this kind."""

from jaxtyping import Float
from torch import Tensor, nn

from .resnet import ResNet, ResNetConfig

#: Side of the crop the networks see, pixels.
CROP = 224

#: Units of the hidden layer.
HIDDEN = 1024


class CodeEncoder(nn.Module):
    """ResNet-50 and two fully connected layers, with the authors' parameter names (`encoder.*`, `layers.*`)."""

    def __init__(self, outputs: int, trunk: ResNetConfig | None = None, hidden: int = HIDDEN) -> None:
        """Args:
        outputs: length of the code: 236 for E_flame, 128 for E_detail, 50, 53 or 56 for E_expression.
        trunk: sizes of the residual network; ResNet-50 where absent.
        hidden: units of the hidden layer.
        """
        super().__init__()
        trunk = trunk or ResNetConfig()
        self.encoder = ResNet(trunk)
        self.layers = nn.Sequential(nn.Linear(trunk.features, hidden), nn.ReLU(), nn.Linear(hidden, outputs))

    @property
    def outputs(self) -> int:
        last = self.layers[2]
        assert isinstance(last, nn.Linear)
        return last.out_features

    def forward(self, image: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch outputs"]:
        """Args:
        image: RGB in 0..1, 224 x 224 for the published weights.
        """
        return self.layers(self.encoder(image))
