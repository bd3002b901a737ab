"""`headlab booth`: DreamBooth, PortraitBooth and ID-Booth on one's own Stable Diffusion: learn a person, draw them."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro


@dataclass(frozen=True)
class BoothLearn:
    """Learn a person from a folder of photos: LoRA adapters in the UNet of Stable Diffusion 1.5, 2.1 or XL."""

    photos: Annotated[Path, tyro.conf.Positional]
    """Photos of one person: ROOT/images/ID with embeddings in ROOT/ArcFace_embeds/ID (ID-Booth's layout), or any."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder of the run; weights/pytorch_lora_weights.safetensors is what diffusers loads."""
    pipeline: Path
    """Folder of the base pipeline in diffusers' layout. Nothing is downloaded."""
    method: Literal["dreambooth", "portraitbooth", "idbooth"] = "idbooth"
    """dreambooth: L_PR alone; portraitbooth: and L_ID; idbooth: and L_TID."""
    prior: Path | None = None
    """Folder of pictures that the base model made of others (PRIOR/images); made anew where not given."""
    prior_pictures: int = 200
    """How many are made."""
    prior_steps: int = 50
    """Of sampling each."""
    arcface: Path | None = None
    """insightface's backbone.pth, which ID-Booth's embeddings are of; headlab's own embedder where not given."""
    size: int = 512
    """Side of the pictures, pixels: 512, and 1024 for XL."""
    rank: int = 4
    """Of the adapters."""
    steps: int = 6400
    """Of training."""
    batch: int = 1
    """Photos at once; as many pictures of others come with them."""
    rate: float = 1e-4
    """Learning rate."""
    precision: Literal["no", "bf16", "fp16"] = "no"
    """Mixed precision."""
    landmarks: Literal["auto", "solutions", "tasks"] = "auto"
    """Which MediaPipe finds the faces."""
    seed: int = 0
    """Of everything that is drawn."""
    cpu: bool = False
    """Use the CPU even where there is a GPU."""

    def run(self) -> None:
        learn_command(self)
        print(f"wrote {self.out / 'weights/pytorch_lora_weights.safetensors'}")
        print(f"use it: headlab booth draw -o FOLDER --pipeline {self.pipeline} --lora {self.out / 'weights'}")


@dataclass(frozen=True)
class BoothDraw:
    """Draw a person who was learned."""

    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder for the pictures; made if need be."""
    pipeline: Path
    """Folder of the base pipeline."""
    lora: Path
    """What was learned: pytorch_lora_weights.safetensors or its folder; the authors' files serve as well."""
    prompt: tuple[str, ...] = ()
    """What to draw; the base prompt and complex ones where none is given."""
    count: int = 21
    """How many complex prompts: places, poses."""
    gender: str | None = None
    """male, female, ...: a word of the complex prompts."""
    ages: bool = False
    """Vary the age, too."""
    steps: int = 30
    """Of sampling."""
    guidance: float = 5.0
    """Above 1 it stresses the words."""
    size: int | None = None
    """Side of the pictures; the model's own where not given."""
    device: str = "cpu"
    """Where to run: cpu, cuda, ..."""
    seed: int = 0
    """Of prompts and noise."""
    overwrite: bool = False
    """Write into a folder that already holds files."""

    def run(self) -> None:
        from ..heads.output_folder import check_output

        check_output(self.out, self.overwrite)
        print(f"wrote {draw_command(self)} pictures to {self.out}")


@dataclass(frozen=True)
class Booth:
    """Personalise Stable Diffusion to one identity (DreamBooth, PortraitBooth, ID-Booth), and draw it."""

    what: tyro.conf.OmitSubcommandPrefixes[
        Annotated[BoothLearn, tyro.conf.subcommand("learn")] | Annotated[BoothDraw, tyro.conf.subcommand("draw")]
    ]

    def run(self) -> None:
        self.what.run()


def learn_command(options: BoothLearn) -> None:
    """What `headlab booth learn` does.

    Raises:
        HeadlabError: no photos or no face in one, no whole pipeline, embeddings of another network.
    """
    from ..diffusion.identity import load_embedder
    from ..diffusion.training import train
    from ..diffusion.upstream.booth_data import IdentityPhotos, face_squares, read_identity
    from ..diffusion.upstream.booth_generation import load_booth_pipeline, prior_pictures
    from ..diffusion.upstream.booth_training import BoothConfig, BoothTask, published_booth_training
    from ..diffusion.upstream.iresnet import load_arcface
    from ..geometry.landmarks import open_detector
    from ..heads.assets import find_asset
    from .train import _Printer

    identity = options.method != "dreambooth"
    pipeline = load_booth_pipeline(options.pipeline)
    embedder: Any = None
    if identity:
        embedder = load_embedder() if options.arcface is None else load_arcface(options.arcface)
    with open_detector(options.landmarks, find_asset("face_landmarker")) as opened:
        detector = opened if identity else None
        photos = read_identity(options.photos, options.size, detector)
        if options.arcface is None:
            photos = replace(photos, embeddings=None)  # those that lie ready are ArcFace's
        if options.prior is not None:
            others = read_identity(options.prior, options.size, detector, options.prior_pictures, lenient=True)
            others = others if options.arcface is not None else replace(others, embeddings=None)
        else:
            drawn = prior_pictures(
                pipeline, options.prior_pictures, steps=options.prior_steps, seed=options.seed, size=options.size
            )
            others = IdentityPhotos(drawn, face_squares(drawn / 2 + 0.5, detector) if detector is not None else None)
    training = replace(
        published_booth_training(),
        steps=options.steps,
        batch=options.batch,
        rate=options.rate,
        precision=options.precision,
        seed=options.seed,
        cpu=options.cpu,
    )
    config = BoothConfig(method=options.method, rank=options.rank, training=training)
    train(BoothTask(pipeline, photos, others, config, embedder), training, options.out, config, _Printer(training))


def draw_command(options: BoothDraw) -> int:
    """What `headlab booth draw` does; returns how many pictures.

    Raises:
        HeadlabError: no whole pipeline, a LoRA of another one, an output folder in the way.
    """
    from ..diffusion.upstream.booth_generation import generate, load_booth_pipeline
    from ..diffusion.upstream.booth_prompts import PromptConfig, complex_prompts
    from ..geometry.files import write_json, write_png
    from ..heads.output_folder import output_folder

    pipeline = load_booth_pipeline(options.pipeline, options.lora, options.device)
    how = PromptConfig(gender=options.gender, ages=options.ages, seed=options.seed)
    prompts = list(options.prompt) or complex_prompts(options.count, how)
    made = generate(
        pipeline, prompts, steps=options.steps, guidance=options.guidance, size=options.size, seed=options.seed
    )
    with output_folder(options.out, options.overwrite) as folder:
        for i, picture in enumerate(made):
            write_png(folder / f"{i:03d}.png", picture)
        write_json(folder / "prompts.json", {f"{i:03d}.png": text for i, text in enumerate(prompts)})
    return len(prompts)
