"""`headlab train nphm`: identity and expression fields of heads, from registered scans or any morphable model."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    from ..geometry.sdf.train_fields import FieldsConfig
    from ..geometry.sdf.training_set import TrainingSet

# What needs torch is imported by the command itself: it would make every `--help` slow.


@dataclass(frozen=True)
class TrainNphm:
    """Train neural parametric heads: an identity field and an expression field, or the global baseline.

    Goes on where it was stopped when started again with the same folder.
    """

    source: Annotated[str, tyro.conf.Positional]
    """Folder of SUBJECT/EXPRESSION/{registration,scan,flame}.ply as the NPHM dataset has it; or "default", "ict",
    "flame2020", "flame2023" or a head model's file: then people are drawn from that model."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder of the run; fields.safetensors in it is what other commands take."""
    kind: Literal["nphm", "npm"] = "nphm"
    """Local ensemble (NPHM) or one global network (NPM)."""
    size: Literal["small", "released"] = "small"
    """Networks that a processor core trains within an hour, or the published configuration, for a GPU."""
    neutral: str = ""
    """Of a folder: the canonical expression, neutral with the mouth open: its name, or a JSON file of
    {subject: expression}. The first of each subject where nothing is said."""
    people: int = 80
    """Of a head model: how many are drawn."""
    expressions: int = 20
    """Of a head model: of each person; 0 trains no expression field."""
    steps: int | None = None
    """Of the identity field; the size's own where absent."""
    expression_steps: int | None = None
    """Of the expression field."""
    minutes: float | None = None
    """End the identity field after so many minutes of processor time."""
    expression_minutes: float | None = None
    batch: int | None = None
    """Heads per step."""
    seed: int = 0
    half: bool = False
    """Write the fields in half precision."""

    def run(self) -> None:
        fields = train_nphm(self)
        print(f"wrote {self.out / 'fields.safetensors'}: {fields.kind}, {len(fields.identity_latents)} heads")


def train_nphm(args: TrainNphm):
    """Make the samples, train both fields; returns `HeadFields`.

    Raises:
        HeadlabError: the source or a number is wrong, or training fails.
    """
    from ..geometry.errors import HeadlabError
    from ..geometry.sdf.train_fields import train_fields

    _check(args)

    def tell(stage: str, step: int, row: dict[str, float]) -> None:
        if (step + 1) % 100 == 0:
            print(
                json.dumps({"stage": stage, "step": step + 1, **{k: round(v, 5) for k, v in row.items()}}), flush=True
            )

    data = _samples(args)
    if len(data.heads) < 2:
        raise HeadlabError(f"{args.source} gives one head; fields of one person can show nobody else: give more")
    return train_fields(data, fields_config(args), args.out, tell)


def _check(args: TrainNphm) -> None:
    """Numbers and the folder, before samples are drawn for minutes."""
    from ..geometry.errors import HeadlabError

    if args.people < 2 or args.expressions < 0:
        raise HeadlabError("--people must be at least 2 and --expressions at least 0")
    counts = (("--steps", args.steps), ("--expression-steps", args.expression_steps), ("--batch", args.batch))
    for name, value in counts:
        if value is not None and value < 1:
            raise HeadlabError(f"{name} must be at least 1, not {value}")
    for name, value in (("--minutes", args.minutes), ("--expression-minutes", args.expression_minutes)):
        if value is not None and not value > 0:
            raise HeadlabError(f"{name} must be more than 0, not {value:g}")
    if args.out.exists() and not args.out.is_dir():
        raise HeadlabError(f"{args.out} is a file; give a folder for the run")


def fields_config(args: TrainNphm) -> "FieldsConfig":
    """Sizes and schedules."""
    from ..geometry.sdf.presets import small_fields
    from ..geometry.sdf.train_fields import FieldsConfig

    config = small_fields(args.kind) if args.size == "small" else FieldsConfig(kind=args.kind)
    loops = []
    for training, steps, minutes in (
        (config.identity_training, args.steps, args.minutes),
        (config.expression_training, args.expression_steps, args.expression_minutes),
    ):
        loop = replace(training.loop, seed=args.seed, batch=args.batch or training.loop.batch)
        loop = loop if steps is None else replace(loop, steps=steps)
        loops.append(loop if minutes is None else replace(loop, minutes=minutes))
    return replace(
        config,
        half=args.half,
        identity_training=replace(config.identity_training, loop=loops[0]),
        expression_training=replace(config.expression_training, loop=loops[1]),
    )


def _samples(args: TrainNphm) -> "TrainingSet":
    from ..geometry.sdf.model_heads import HeadsConfig, model_training_set
    from .field_sources import field_source

    def done(number: int) -> None:
        print(f"\r{number} heads sampled", end="", flush=True)

    source = field_source(args.source)
    try:
        if isinstance(source, Path):
            from ..datasets.nphm import nphm_training_set

            return nphm_training_set(source, args.neutral, seed=args.seed, callback=done)
        return model_training_set(source, HeadsConfig(args.people, args.expressions, seed=args.seed), done)
    finally:
        print()
