"""Sizes and schedules of fields that a processor core trains: those of the remade table and of the shipped fields."""

from typing import Literal

from .expression import ExpressionConfig
from .identity import IdentityConfig
from .layout import EnsembleLayout
from .losses import ExpressionWeights, IdentityWeights
from .train_fields import FieldsConfig, NpmConfig
from .training import TrainConfig
from .training_config import LoopConfig
from .training_expression import ExpressionTrainConfig


def small_fields(
    kind: Literal["nphm", "npm"], identity_minutes: float = 12.0, expression_minutes: float = 4.0
) -> FieldsConfig:
    """Networks a tenth of the released ones' width, with short and steep schedules.

    What is not the field itself (losses, schedule, start of the latents, share of the face) is the same for both kinds.

    Args:
        kind: NPHM's ensemble or NPM's network.
        identity_minutes: of processor time.
        expression_minutes: likewise.
    """
    loop = LoopConfig(
        steps=100_000, minutes=identity_minutes, batch=6, rate=4e-3 if kind == "nphm" else 2e-3, latent_rate=4e-3,
        decay="cosine", warmup=50, clip=1.0, latent_clip=1.0, save_every=1000, log_every=100,
    )  # fmt: skip
    posing = LoopConfig(
        steps=100_000, minutes=expression_minutes, batch=8, rate=2e-3, latent_rate=4e-3,
        decay="cosine", warmup=50, clip=1.0, latent_clip=1.0, save_every=1000, log_every=100,
    )  # fmt: skip
    weights = IdentityWeights() if kind == "nphm" else IdentityWeights.npm()
    of_expression = ExpressionWeights() if kind == "nphm" else ExpressionWeights.npm()
    return FieldsConfig(
        kind=kind,
        identity=IdentityConfig(EnsembleLayout(latent_global=32, latent_local=16), hidden=64, anchor_hidden=64),
        expression=ExpressionConfig(latent=32, code=16, hidden=128),
        npm=NpmConfig(64, 192, 6, expression_latent=32, expression_hidden=128),
        identity_training=TrainConfig(190, 190, 2e-3, weights, "anchors", loop),
        expression_training=ExpressionTrainConfig(400, 40, weights=of_expression, loop=posing),
    )
