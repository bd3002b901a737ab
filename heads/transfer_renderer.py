"""Which renderer makes a transfer's pictures, and the diffusion one as `transfer` takes it."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from ..diffusion.bundle import DEFAULT, LatentDiffusion, load_default_diffusion, load_latent_diffusion
from ..geometry.code import HeadCode
from ..geometry.errors import HeadlabError
from ..geometry.models.head_model import HeadModel
from .edit_photo import EditedPhoto, EditPhotoConfig, crop_view, edit_photo
from .transfer import PhotoHead, Renderer, Source

#: Photo pixels per pixel of the networks up to which their picture is taken for the better one. On sharper photos the
#: mesh's is: the networks' edits come out too weak there (scripts/bench/results/edit.json).
ZOOM, PERSONAL_ZOOM = 1.0, 1.75
#: What `headlab personalize` adds to a model's folder.
PERSONAL = "personal.json"


@dataclass(frozen=True)
class Choice:
    """The renderer that was taken."""

    renderer: Literal["mesh", "diffusion"]
    why: str  #: in words, for the report


@dataclass(frozen=True, eq=False)
class Editor:
    """A diffusion model, loaded when it is first used, and what is known about it before."""

    name: str
    size: int  #: side of its pictures, pixels
    load: Callable[[], LatentDiffusion]
    personal: dict[str, Any] | None = None  #: what `personalize` wrote, if it made the model

    @classmethod
    def of(cls, diffusion: LatentDiffusion, name: str, personal: dict[str, Any] | None = None) -> "Editor":
        """Of a model that is loaded."""
        return cls(name, diffusion.config.denoiser.size, lambda: diffusion, personal)

    @cached_property
    def diffusion(self) -> LatentDiffusion:
        return self.load()


def load_editor(path: Path | None) -> Editor:
    """The diffusion model in a folder, or the one that comes with headlab.

    Raises:
        HeadlabError: nothing there, damaged, or of another architecture.
    """
    folder = DEFAULT if path is None else path
    try:
        size = int(json.loads((folder / "config.json").read_text("utf-8"))["denoiser"]["size"])
    except (OSError, ValueError, LookupError, TypeError):
        return Editor.of(load_latent_diffusion(folder), folder.name)  # says what is wrong
    about = folder / PERSONAL
    try:
        personal = json.loads(about.read_text("utf-8")) if about.is_file() else None
    except (OSError, ValueError) as error:
        raise HeadlabError(f"{about} cannot be read ({error}); personalize anew") from error
    if path is None:
        return Editor("default", size, load_default_diffusion)
    return Editor(path.name, size, lambda: load_latent_diffusion(path), personal)


def choose_renderer(model: HeadModel, head: PhotoHead, editor: Editor) -> Choice:
    """The renderer whose result is expected to be better.

    The networks draw a face with few pixels. Where the photo has many more, the mesh's warp of the photo keeps the
    person better than what they draw, unless they have learned that person.
    """
    view = crop_view(model, head, editor.size)
    limit = PERSONAL_ZOOM if editor.personal is not None else ZOOM
    side, size = float(view.square.side), editor.size
    kind = "personalised" if editor.personal is not None else "general"
    if view.zoom <= limit:
        return Choice(
            "diffusion",
            f"the face's crop is {side:.0f} pixels wide, within {limit:g} times the {size} of the {kind} model",
        )
    return Choice(
        "mesh", f"the face's crop is {side:.0f} pixels wide, over {limit:g} times the {size} of the {kind} model"
    )


def diffusion_renderer(
    model: HeadModel,
    head: PhotoHead,
    editor: Editor,
    config: EditPhotoConfig,
    made: list[EditedPhoto],
    progress: Callable[[str], None] = lambda stage: None,
) -> Renderer:
    """A renderer for `transfer`; everything it makes is appended to `made`."""

    def render(source: Source, code: HeadCode):
        def told(done: int, steps: int) -> None:
            progress(f"{source.name}: step {done} of {steps}")

        made.append(edit_photo(model, editor.diffusion, head, code, source, config, told))
        return made[-1].image

    return render
