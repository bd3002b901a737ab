"""personalize: an album of one person -> a diffusion model that knows that person.

photos ──> one identity, fitted (`album`) ──> examples (`personal_examples`) ──> stage 2 (`diffusion/personal`)
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..diffusion.bundle import LatentDiffusion
from ..diffusion.identity import Embedder, ShapeReader
from ..diffusion.personal import PersonalConfig, personalized, prior_examples
from ..geometry.errors import HeadlabError
from ..geometry.models.head_model import HeadModel
from .album import Album
from .personal_examples import ExamplesConfig, personal_examples


@dataclass(frozen=True)
class PersonalizeConfig:
    """How an album is learned."""

    personal: PersonalConfig = field(default_factory=PersonalConfig)
    examples: ExamplesConfig = field(default_factory=ExamplesConfig)


def personalize(
    base: LatentDiffusion,
    model: HeadModel,
    album: Album,
    folder: Path,
    config: PersonalizeConfig | None = None,
    *,
    reader: ShapeReader | None = None,
    embedder: Embedder | None = None,
    progress: Callable[[str], None] = lambda stage: None,
) -> tuple[LatentDiffusion, dict[str, Any]]:
    """A personalised model and what to keep about it.

    Args:
        base: the model of many people; stays as it is.
        model: head model of the album's fit.
        album: the person.
        folder: for checkpoints.
        config: see `PersonalizeConfig`.
        reader: for L_id_DECA.
        embedder: for L_TID.
        progress: called with the name of each stage.

    Raises:
        HeadlabError: the album's head model lacks texture coordinates; see `diffusion.personal.personalized`.
    """
    config = config or PersonalizeConfig()
    if model.uvs is None or "face" not in model.regions:
        raise HeadlabError(f"{model.name} has no texture coordinates or regions; personalize with the default head")
    personal = config.personal
    examples = personal_examples(model, album.heads, base, config.examples, progress)
    progress("pictures of other people")
    seed = personal.training.seed
    prior = prior_examples(base, model, personal.prior_pictures, personal.prior_steps, seed)
    steps, losses = personal.training.steps, []

    def told(row: dict) -> None:
        losses.append(row)
        progress(f"learning: step {row['step']} of {steps}")

    tuned = personalized(
        base, examples, prior, personal, folder, reader=reader, embedder=embedder, callback=told, told=config
    )
    third = max(1, len(losses) // 3)

    def mean(rows: list[dict]) -> dict[str, float]:
        names = {name for row in rows for name in row if name != "step"}
        return {name: sum(row.get(name, 0.0) for row in rows) / len(rows) for name in sorted(names)}

    about = {
        "photos": [head.fit.sources[head.index] for head in album.heads],
        "skipped": album.skipped,
        "distance": round(album.distance, 4),
        "examples": examples.count,
        "method": personal.method,
        "steps": steps,
        "losses": {"first_third": mean(losses[:third]), "last_third": mean(losses[-third:])} if losses else {},
    }
    return tuned, about
