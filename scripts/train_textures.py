"""`headlab train textures`: regional pyramid bases of textures."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

SYNTHETIC = "synthetic:"


@dataclass(frozen=True)
class TrainTextures:
    """Build a pyramid of regional texture bases: fitted to a small texture, it draws a large one, with normals."""

    textures: Annotated[str, tyro.conf.Positional]
    """Folder of square pictures in the head model's texture layout (NAME.png, and NAME_normal.png for all or for none);
    or synthetic:COUNT for so many synthetic ones."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder of the pyramid."""
    model: str = "default"
    """Head model whose layout it is."""
    sizes: tuple[int, ...] = (512, 1024, 2048)
    """Of the levels, pixels; the smallest is what is fitted to."""
    variance: float = 0.99
    """Share of the variance that a region's components explain at the lowest level."""
    limit: int = 40
    """Most components of a region."""

    def run(self) -> None:
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("starting", total=None)
            pyramid = train_textures(self, lambda stage: bar.update(task, description=stage))
        numbers = sum(pyramid.components)
        print(f"{self.out}: {numbers} numbers draw textures of {', '.join(map(str, pyramid.sizes))} pixels")


def train_textures(options: TrainTextures, progress=lambda stage: None) -> Any:
    """What `headlab train textures` does; returns the `TexturePyramid`.

    Raises:
        HeadlabError: no textures, sizes that do not go together, or a model without texture coordinates.
    """
    from ..datasets.synthetic.textures import synthetic_textures
    from ..datasets.texture_folder import open_textures
    from ..geometry.errors import HeadlabError
    from ..geometry.texture.pyramid import build_pyramid
    from ..heads.models import load_model

    if not options.sizes or min(options.sizes) < 16 or not 0 < options.variance <= 1 or options.limit < 1:
        raise HeadlabError("--sizes are from 16 pixels on, --variance is above 0 and at most 1, --limit at least 1")
    model, high = load_model(options.model), max(options.sizes)
    if model.uvs is None:
        raise HeadlabError(f"{model.name} has no texture coordinates; choose another --model")
    if options.textures.startswith(SYNTHETIC):
        number = options.textures.removeprefix(SYNTHETIC)
        if not number.isdigit() or int(number) < 2:
            raise HeadlabError(f"{options.textures} is no number of textures; give synthetic:24, say")
        count = int(number)
        samples = synthetic_textures(model, high, count)
    else:
        found = open_textures(Path(options.textures))
        count, samples = len(found), found.samples(high)
    how = {"variance": options.variance, "limit": options.limit, "progress": progress}
    return build_pyramid(model, samples, count, options.out, options.sizes, **how)
