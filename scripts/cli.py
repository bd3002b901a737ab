"""The `headlab` command: one subcommand per module of this folder.

Exit codes: 0 done; 2 wrong input (one line says what, why and what to do); 130 interrupted; 1 our fault.
"""

import os
import sys
from typing import Annotated

# Read when numpy and torch start their threads, so this comes before anything that imports them. Threads that spin
# while they wait bring everything to a crawl where other work shares the cores; BLAS only gets small matrices.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import tyro

from ..geometry.errors import HeadlabError
from .assets import Assets
from .batch import Batch
from .booth import Booth
from .convert import Convert
from .data import Data
from .edit_attribute import EditAttribute
from .evaluate import Evaluate
from .fit import Fit
from .generate import Generate
from .personalize import Personalize
from .track import Track
from .train import Train
from .transfer import Transfer
from .view import View

Command = (
    Annotated[Fit, tyro.conf.subcommand("fit")]
    | Annotated[Track, tyro.conf.subcommand("track")]
    | Annotated[Transfer, tyro.conf.subcommand("transfer")]
    | Annotated[Batch, tyro.conf.subcommand("batch")]
    | Annotated[View, tyro.conf.subcommand("view")]
    | Annotated[Convert, tyro.conf.subcommand("convert")]
    | Annotated[EditAttribute, tyro.conf.subcommand("edit-attribute")]
    | Annotated[Personalize, tyro.conf.subcommand("personalize")]
    | Annotated[Booth, tyro.conf.subcommand("booth")]
    | Annotated[Generate, tyro.conf.subcommand("generate")]
    | Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Data, tyro.conf.subcommand("data")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Assets, tyro.conf.subcommand("assets")]
)


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line, run the command, exit."""
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    command = tyro.cli(
        tyro.conf.OmitSubcommandPrefixes[Command],  # type: ignore[arg-type]
        prog="headlab",
        description="3D human heads from photos, videos, depth and scans: fit, edit, train, measure, view, export.",
        args=[argument for argument in arguments if argument != "--debug"],
    )
    try:
        command.run()
    except HeadlabError as error:
        if debug:
            raise
        print(f"headlab: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        if debug:
            raise
        print("headlab: interrupted; nothing half-written was left", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if debug:
            raise
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        print(f"headlab: {reason}; this is a bug: please report it with the output of --debug", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
