"""`headlab generate`: words to pictures with depth (LDM3D), as pictures, point clouds and meshes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro


@dataclass(frozen=True)
class Generate:
    """Draw pictures with depth from words, with an LDM3D pipeline (or one that was fine-tuned on RGB-D)."""

    prompt: Annotated[tuple[str, ...], tyro.conf.Positional]
    """What to draw; one picture for each."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder for 0.png, 0_depth.png, 0_cloud.ply, 0_mesh.ply, ...; made if need be."""
    pipeline: Path
    """Folder of the pipeline in diffusers' layout (Intel/ldm3d-4c, say). Nothing is downloaded."""
    negative: str = ""
    """What shall not be seen."""
    steps: int = 50
    """Of sampling."""
    guidance: float = 5.0
    """Above 1 it stresses the words."""
    size: tuple[int, int] | None = None
    """Height and width, pixels; the model's own where not given."""
    near: float = 0.4
    """Distance of the nearest depth, metres: the model tells none."""
    far: float = 2.0
    """Distance of the farthest, metres."""
    depth: Literal["inverse", "linear"] = "inverse"
    """What the depth picture says: LDM3D's is inverse depth; a model tuned on headlab's pairs tells it linearly."""
    angle: float = 40.0
    """Of view, degrees across."""
    device: str = "cpu"
    """Where to run: cpu, cuda, ..."""
    seed: int = 0
    """Of the noise."""
    overwrite: bool = False
    """Write into a folder that already holds files."""

    def run(self) -> None:
        from ..heads.output_folder import check_output

        check_output(self.out, self.overwrite)
        for name in generate_command(self):
            print(f"wrote {self.out / name}")


def generate_command(options: Generate) -> list[str]:
    """What `headlab generate` does; returns the names of the files.

    Raises:
        HeadlabError: no prompt, no whole pipeline, distances that are no range, an output folder in the way.
    """
    from ..diffusion.upstream.ldm3d import load_text_to_depth
    from ..geometry.errors import HeadlabError
    from ..geometry.files import write_json, write_png
    from ..heads.export.depth_ply import write_depth_ply
    from ..heads.output_folder import output_folder

    if not options.prompt:
        raise HeadlabError("nothing to draw; say what, in quotes")
    model = load_text_to_depth(options.pipeline, options.device)
    made = model.generate(
        list(options.prompt),
        options.negative,
        steps=options.steps,
        guidance=options.guidance,
        seed=options.seed,
        size=options.size,
    )
    names: list[str] = []
    metres: Any = None if made.depth is None else made.metres(options.near, options.far, options.depth)
    camera = made.camera(options.angle)
    with output_folder(options.out, options.overwrite) as folder:
        for i, colour in enumerate(made.colour):
            names.append(f"{i}.png")
            write_png(folder / names[-1], colour)
            if made.depth is None:
                continue
            write_png(folder / f"{i}_depth.png", made.depth[i][None])
            write_depth_ply(folder / f"{i}_mesh.ply", colour, metres[i], camera)
            write_depth_ply(folder / f"{i}_cloud.ply", colour, metres[i], camera, points_only=True)
            names += [f"{i}_depth.png", f"{i}_mesh.ply", f"{i}_cloud.ply"]
        write_json(
            folder / "report.json", {"prompts": options.prompt, "pipeline": options.pipeline, "seed": options.seed}
        )
    return names
