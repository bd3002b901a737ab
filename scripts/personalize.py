"""`headlab personalize`: about 20 photos of one person -> a diffusion model that knows that person."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro


@dataclass(frozen=True)
class Personalize:
    """Teach the diffusion model one person; `headlab transfer --model OUT` then edits that person's photos with it."""

    album: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Photos of one person, or a folder of them; about 20 that differ in expression, pose and light are best."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder for the personalised model; made if need be."""
    base: Path | None = None
    """Model to start from: the folder of one; by default the one that comes with headlab."""
    method: Literal["lora", "full"] = "lora"
    """Train adapters (merged at the end), or all weights. The encoder's parameters stay in either case."""
    rank: int = 16
    """Of the adapters."""
    steps: int = 400
    """Of training."""
    minutes: float = math.inf
    """End earlier."""
    batch: int = 8
    """Examples per step."""
    rate: float | None = None
    """Learning rate; 3e-4 for lora, 3e-5 for full."""
    variants: int = 4
    """Examples made of each photo."""
    prior: float = 1.0
    """Weight of L_PR: keeps what the base model knows of other people."""
    prior_pictures: int = 48
    """Pictures of other people that the base model makes for it."""
    triplet: float = 0.05
    """Weight of L_TID: nearer to the person than to others, by the identity embedder."""
    shape: float = 0.02
    """Weight of L_id_DECA, per square millimetre: the face's shape as the regressor reads it."""
    model: str = "default"
    """Head model."""
    anyone: bool = False
    """Do not check that all photos show one person."""
    seed: int = 0
    """Of everything that is drawn."""
    run_folder: Path | None = None
    """Folder for checkpoints, so that an interrupted run goes on when started again; else none are kept."""
    landmarks: Literal["auto", "solutions", "tasks"] = "auto"
    """Which MediaPipe finds the landmarks."""
    overwrite: bool = False
    """Write into a folder that already holds files."""

    def run(self) -> None:
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("starting", total=None)
            about = personalize_command(self, lambda stage: bar.update(task, description=stage))
        for name, why in about["skipped"].items():
            print(f"left out {name}: {why}")
        print(f"{self.out}: learned from {len(about['photos'])} photos in {about['seconds']:.0f} s")
        print(f"use it: headlab transfer --source happy --target PHOTO --model {self.out} -o FOLDER")


def personalize_command(options: Personalize, progress=lambda stage: None) -> dict[str, Any]:
    """What `headlab personalize` does; returns what it wrote to personal.json.

    Raises:
        HeadlabError: unusable numbers, fewer than two photos with a face, two people, a model that cannot be read, or
            an output folder in the way.
    """
    import tempfile
    import time

    from ..geometry.errors import HeadlabError
    from ..heads.output_folder import check_output

    # Before the slow imports: what is plainly wrong shall be said at once.
    if not options.album:
        raise HeadlabError("no album given; name photos of one person, or a folder of them")
    for name, low in (("rank", 1), ("steps", 1), ("batch", 1), ("variants", 1), ("prior_pictures", 1), ("seed", 0)):
        if getattr(options, name) < low:
            raise HeadlabError(f"--{name.replace('_', '-')} is at least {low}, not {getattr(options, name)}")
    for name in ("prior", "triplet", "shape"):
        if not 0 <= getattr(options, name) < math.inf:
            raise HeadlabError(f"--{name} is a weight of 0 or more, not {getattr(options, name)}")
    if options.rate is not None and not 0 < options.rate < 1:
        raise HeadlabError(f"--rate lies between 0 and 1, not {options.rate}")
    check_output(options.out, options.overwrite)

    from ..heads.album import album_files

    album_files(options.album)

    from ..diffusion.identity import load_embedder, load_shape_reader
    from ..diffusion.identity_losses import IdentityWeights
    from ..diffusion.personal import PersonalConfig
    from ..diffusion.training import TrainingConfig
    from ..geometry.files import write_json
    from ..geometry.landmarks import open_detector
    from ..heads.album import read_album
    from ..heads.assets import find_asset
    from ..heads.fit import FitConfig
    from ..heads.output_folder import output_folder
    from ..heads.personal_examples import ExamplesConfig
    from ..heads.personalize import PersonalizeConfig, personalize
    from ..heads.transfer_renderer import PERSONAL, load_editor
    from ..heads.transfer_source import Workshop

    start = time.perf_counter()
    editor = load_editor(options.base)
    reader, embedder = load_shape_reader(), load_embedder()
    training = TrainingConfig(
        steps=options.steps,
        minutes=options.minutes,
        batch=options.batch,
        rate=options.rate or (3e-4 if options.method == "lora" else 3e-5),
        warmup=min(20, options.steps),
        average=0.98,
        seed=options.seed,
        save_every=200,
        picture_every=10**9,
        log_every=20,
    )
    config = PersonalizeConfig(
        PersonalConfig(
            options.method,
            options.rank,
            options.prior_pictures,
            prior=options.prior,
            identity=IdentityWeights(triplet=options.triplet, shape=options.shape, latest=0.6),
            training=training,
        ),
        ExamplesConfig(options.variants, seed=options.seed),
    )
    with open_detector(options.landmarks, find_asset("face_landmarker")) as detector:
        workshop = Workshop(options.model, detector, FitConfig(), 512, progress)
        album = read_album(options.album, workshop, reader, embedder, anyone=options.anyone)
        with tempfile.TemporaryDirectory(prefix="headlab-") as temporary:
            folder = options.run_folder or Path(temporary)
            tuned, about = personalize(
                editor.diffusion,
                workshop.model,
                album,
                folder,
                config,
                reader=reader,
                embedder=embedder,
                progress=progress,
            )
    about |= {"base": editor.name, "seconds": round(time.perf_counter() - start, 1)}
    progress("writing")
    with output_folder(options.out, options.overwrite) as folder:
        tuned.save(folder, about={"personal": about})
        write_json(folder / PERSONAL, about)
    return about
