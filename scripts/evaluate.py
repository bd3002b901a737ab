"""`headlab evaluate`: how good heads, pictures and networks are. One subcommand per kind of question.

A new kind is a dataclass with `run()` in a module of its own (scripts/evaluate_NAME.py) and one line in `What`.
"""

from dataclasses import dataclass
from typing import Annotated

import tyro

from .evaluate_geometry import EvaluateGeometry
from .evaluate_images import EvaluateEmotion, EvaluateIdentity, EvaluateImages
from .evaluate_meshes import EvaluateMeshes
from .evaluate_more import EvaluateDepth, EvaluateGrid, EvaluateScan, MakeStudy, ReadAnswers

What = (
    Annotated[EvaluateGeometry, tyro.conf.subcommand("geometry")]
    | Annotated[EvaluateMeshes, tyro.conf.subcommand("meshes")]
    | Annotated[EvaluateScan, tyro.conf.subcommand("scan")]
    | Annotated[EvaluateImages, tyro.conf.subcommand("images")]
    | Annotated[EvaluateIdentity, tyro.conf.subcommand("identity")]
    | Annotated[EvaluateEmotion, tyro.conf.subcommand("emotion")]
    | Annotated[EvaluateDepth, tyro.conf.subcommand("depth")]
    | Annotated[MakeStudy, tyro.conf.subcommand("study")]
    | Annotated[ReadAnswers, tyro.conf.subcommand("answers")]
    | Annotated[EvaluateGrid, tyro.conf.subcommand("grid")]
)


@dataclass(frozen=True)
class Evaluate:
    """Measure how good heads are."""

    what: What

    def run(self) -> None:
        self.what.run()


def main(args: Evaluate) -> None:
    """Run the command."""
    args.run()


if __name__ == "__main__":
    main(tyro.cli(tyro.conf.OmitSubcommandPrefixes[Evaluate]))  # type: ignore[arg-type]
