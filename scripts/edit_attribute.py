"""`headlab edit-attribute`: more or less of an attribute or expression in a photo, by Diffusion Autoencoders."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro


@dataclass(frozen=True)
class EditAttribute:
    """Change what a person shows (Smiling, Young, Contempt, ...) with a Diffusion Autoencoder and its classifier."""

    photo: Annotated[Path, tyro.conf.Positional]
    """Photo to edit."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder for edited.png, strip.png and report.json; made if need be."""
    attribute: tuple[str, ...]
    """What to add: names that the classifier knows."""
    amount: tuple[float, ...] = (0.3,)
    """How much of it: one for all, or one each; below 0 takes away."""
    autoencoder: Path | None = None
    """DiffAE's last.ckpt; the added one where not given."""
    classifier: Path | None = None
    """Its classifier: the authors' last.ckpt, or classifier.safetensors of `headlab train classifier`; the added one
    where not given."""
    latents: Path | None = None
    """latent.pkl, where the classifier's file has no statistics of codes."""
    aligned: bool = False
    """The photo is FFHQ's crop already: take its middle square as it is."""
    invert_steps: int = 250
    """Steps to find the photo's noise (an exact stride of 1000: 20, 50, 100, 250)."""
    decode_steps: int = 100
    """Steps to draw the edited picture."""
    face: int = 0
    """Which face of the photo: 0 the largest."""
    landmarks: Literal["auto", "solutions", "tasks"] = "auto"
    """Which MediaPipe finds the landmarks."""
    overwrite: bool = False
    """Write into a folder that already holds files."""

    def run(self) -> None:
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        from ..heads.output_folder import check_output

        check_output(self.out, self.overwrite)
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("starting", total=None)
            report = edit_attribute_command(self, lambda stage: bar.update(task, description=stage))
        for name, was in report["probability"]["before"].items():
            print(f"{name}: {was:.2f} before, {report['probability']['after'][name]:.2f} after")
        print(f"open {self.out / 'strip.png'}")


def edit_attribute_command(options: EditAttribute, progress=lambda stage: None) -> dict[str, Any]:
    """What `headlab edit-attribute` does; returns the report.

    Raises:
        HeadlabError: unreadable input, no face, an unusable checkpoint, an unknown attribute.
    """
    import time

    import torch

    from ..datasets.photo import read_photo
    from ..diffusion.upstream.classifier import load_classifier
    from ..diffusion.upstream.diffae_edit import DiffAEEditor
    from ..diffusion.upstream.diffae_files import load_diffae, load_latents
    from ..geometry.errors import HeadlabError
    from ..geometry.files import write_json, write_png
    from ..heads.assets import asset_path
    from ..heads.edit_attribute import AttributeEditConfig, diffae_path, edit_crop
    from ..heads.output_folder import output_folder

    if not options.attribute:
        raise HeadlabError("no attribute given; say --attribute Smiling, say")
    if len(options.amount) not in (1, len(options.attribute)):
        raise HeadlabError(
            f"{len(options.attribute)} attributes take one amount, or one each, not {len(options.amount)}"
        )
    amounts = options.amount * (len(options.attribute) if len(options.amount) == 1 else 1)
    start = time.perf_counter()
    progress("reading the autoencoder")
    path = diffae_path(options.autoencoder)
    loaded = load_diffae(path)
    statistics = loaded.statistics if options.latents is None else load_latents(options.latents)[0]
    classifier = load_classifier(options.classifier or asset_path("diffae_classifier"), statistics)
    for name in options.attribute:
        classifier.index(name)  # before the long work
    loaded.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    frame = read_photo(options.photo)
    crop, back = _crop(options, frame, loaded.network.config.size, progress)
    config = AttributeEditConfig(options.invert_steps, options.decode_steps)
    edited = edit_crop(
        DiffAEEditor(loaded.network),
        classifier,
        crop,
        dict(zip(options.attribute, amounts, strict=True)),
        config,
        progress,
    )
    report = {
        "photo": str(options.photo),
        "autoencoder": str(path),
        "amounts": dict(zip(options.attribute, amounts, strict=True)),
        "probability": {"before": edited.was, "after": edited.now},
        "reconstruction_error": float((edited.reconstructed - edited.before).abs().mean()),
        "seconds": round(time.perf_counter() - start, 2),
    }
    with output_folder(options.out, options.overwrite) as folder:
        write_png(folder / "edited.png", back(edited.after))
        write_png(folder / "strip.png", torch.cat([edited.before, edited.reconstructed, edited.after], 2))
        write_json(folder / "report.json", report)
    return report


def _crop(options: EditAttribute, frame, size: int, progress):
    """The face as the network sees it, and the way back into the photo."""
    from ..geometry.camera import Camera
    from ..geometry.landmarks import open_detector
    from ..heads.assets import find_asset
    from ..heads.crop_view import CropView
    from ..heads.ffhq_view import ffhq_square, put_back
    from ..heads.fit import detect_face

    image = frame.image
    if options.aligned:
        from torch.nn.functional import interpolate

        side = min(image.shape[-2:])
        top, left = ((n - side) // 2 for n in image.shape[-2:])
        square = image[:, top : top + side, left : left + side]

        def resized(picture, to: int):
            if picture.shape[-1] == to:
                return picture
            smaller = picture.shape[-1] > to
            made = interpolate(picture[None], (to, to), mode="bicubic", antialias=smaller, align_corners=False)
            return made[0].clamp(0, 1)

        return resized(square, size), lambda crop: resized(crop, side)
    progress("looking for the face")
    with open_detector(options.landmarks, find_asset("face_landmarker")) as detector:
        points = detect_face(frame, detector, options.face)[0].points
    height, width = image.shape[-2:]
    # Pixels alone matter here, so any camera serves.
    view = CropView.of_square(ffhq_square(points), Camera.frontal(float(max(height, width)), (height, width)), size)
    return view.cut(image).clamp(0, 1), lambda crop: put_back(image, crop, view)
