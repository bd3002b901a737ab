"""Train both fields of a set of heads, one after the other, and keep them in one file.

TrainingSet ──> identity ──> its latents ──> expression ──> folder/fields.safetensors
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from ..errors import HeadlabError
from ..files import plain, write_json
from .expression import ExpressionConfig, ExpressionField
from .field_files import save_fields
from .head_fields import HeadFields
from .identity import IdentityConfig, IdentityField
from .losses import ExpressionWeights, IdentityWeights
from .mlp import DeepSDF
from .training import TrainConfig, train_identity
from .training_expression import ExpressionTrainConfig, train_expression
from .training_growth import widened
from .training_set import TrainingSet

#: Radius of the sphere from which NPM's network starts, in the fields' unit.
_SPHERE = 0.4


@dataclass(frozen=True)
class NpmConfig:
    """Sizes of the global baseline; the defaults are the released ones."""

    latent: int = 512
    hidden: int = 1024
    layers: int = 8
    expression_latent: int = 200
    expression_hidden: int = 1024
    expression_layers: int = 6


@dataclass(frozen=True)
class FieldsConfig:
    """What is trained, and how."""

    kind: Literal["nphm", "npm"] = "nphm"
    identity: IdentityConfig = field(default_factory=IdentityConfig)
    expression: ExpressionConfig = field(default_factory=ExpressionConfig)
    npm: NpmConfig = field(default_factory=NpmConfig)
    identity_training: TrainConfig = field(default_factory=TrainConfig)
    expression_training: ExpressionTrainConfig = field(default_factory=ExpressionTrainConfig)
    half: bool = False
    """Write the file in half precision."""


def build_networks(
    config: FieldsConfig, data: TrainingSet
) -> tuple[IdentityField | DeepSDF, ExpressionField | DeepSDF]:
    """Fresh networks, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.identity_training.loop.seed)  # the layers' own initialisation takes no generator
        if config.kind == "nphm":
            identity = IdentityField(config.identity, data.mean_anchors())
            last = identity.mlp_pos[-1]
            assert isinstance(last, torch.nn.Linear)
            # Anchors start at their means; at random they would be 20 mm off, which a short training pays for.
            torch.nn.init.zeros_(last.weight)
            torch.nn.init.zeros_(last.bias)
            return identity, ExpressionField(replace(config.expression, layout=config.identity.layout))
        npm = config.npm
        network = DeepSDF(npm.latent, npm.hidden, npm.layers)
        network.initialise_as_sphere(_SPHERE, torch.Generator().manual_seed(config.identity_training.loop.seed))
        wide = npm.latent + npm.expression_latent
        return network, DeepSDF(wide, npm.expression_hidden, npm.expression_layers, out=3)


def train_fields(
    data: TrainingSet,
    config: FieldsConfig,
    folder: Path,
    callback: Callable[[str, int, dict[str, float]], None] | None = None,
    begun: HeadFields | None = None,
) -> HeadFields:
    """Train, or go on with what the folder holds.

    Args:
        data: heads, and poses if there shall be an expression field.
        config: what and how; saved as JSON.
        folder: of the run: identity/, expression/, config.json and fields.safetensors.
        callback: told "identity" or "expression", the step and its terms.
        begun: fields of the same heads, small or as large: the identity field grows out of theirs.

    Raises:
        HeadlabError: the data are no training set, `begun` is larger or of another kind, or as `train_auto_decoder`.
    """
    data.check()
    if config.kind == "npm":
        config = _npm_weights(config)
    identity, expression = build_networks(config, data)
    start = None
    if begun is not None:
        if not isinstance(begun.identity, IdentityField) or not isinstance(identity, IdentityField):
            raise HeadlabError("only NPHM's ensembles grow; train other fields from the start")
        draws = torch.Generator().manual_seed(config.identity_training.loop.seed)
        start = widened(begun.identity, begun.identity_latents, identity, draws)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", {"fields": asdict(config), "source": data.source, "heads": list(data.names)})

    def tell(stage: str) -> Callable[[int, dict[str, float]], None] | None:
        return None if callback is None else partial(callback, stage)

    first = train_identity(identity, data.heads, config.identity_training, folder / "identity", tell("identity"), start)
    facts: dict[str, Any] = {
        "source": data.source,
        "heads": len(data.heads),
        "poses": len(data.poses),
        "config": plain(asdict(config)),
        "identity_steps": first.steps,
        "identity_cpu_s": round(first.seconds, 1),
    }
    if begun is not None:
        facts["begun"] = {name: begun.facts.get(name) for name in ("identity_steps", "identity_cpu_s")}
    fields = HeadFields(identity, None, first.latents, torch.zeros(0, 0), data.frame, data.canonical, facts)
    if data.poses:
        with torch.no_grad():
            anchors = fields.anchors(first.latents)
        second = train_expression(
            expression, data.poses, first.latents, anchors, config.expression_training, folder / "expression",
            tell("expression"),
        )  # fmt: skip
        facts = facts | {"expression_steps": second.steps, "expression_cpu_s": round(second.seconds, 1)}
        fields = replace(fields, expression=expression, expression_latents=second.latents, facts=facts)
    save_fields(folder / "fields.safetensors", fields, half=config.half)
    return fields


def _npm_weights(config: FieldsConfig) -> FieldsConfig:
    """The released weights of NPM, unless others were chosen."""
    identity, expression = config.identity_training, config.expression_training
    if identity.weights == IdentityWeights():
        identity = replace(identity, weights=IdentityWeights.npm())
    if expression.weights == ExpressionWeights():
        expression = replace(expression, weights=ExpressionWeights.npm())
    return replace(config, identity_training=identity, expression_training=expression)
