"""What of the ablation is drawn: a sheet of edits, and drift against the error of the expression."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

_READERS = {"training": "the training's reader", "unseen": "a reader unseen in training"}


def slug(name: str) -> str:
    """A row's file name, without suffix."""
    return name.replace("+ ", "plus-").replace(", ψ", " psi").replace(" ", "-")


def sheet(folder: Path, path: Path, arms: Sequence[str], seed: int, edits: Sequence[int], side: int = 96) -> None:
    """A JPEG of some edits: a row for each; columns: the photo, the true edit, the base's, and what the arms made."""
    from PIL import Image, ImageDraw

    names = ["copy of the photo", "true edit", "base", *(f"{arm} {seed}" for arm in arms)]
    titles = ["photo", "true edit", "base", *(arm.removesuffix(", ψ held") for arm in arms)]
    page = Image.new("RGB", (side * len(names), side * len(edits) + 16), "white")
    pen = ImageDraw.Draw(page)
    for column, (name, title) in enumerate(zip(names, titles, strict=True)):
        pen.text((side * column + 4, 2), title, "black")
        pictures = load_file(folder / f"{slug(name)}.safetensors")["pictures"]
        for row, index in enumerate(edits):
            picture = Image.fromarray(pictures[index].movedim(0, -1).numpy())
            page.paste(picture.resize((side, side), Image.Resampling.BICUBIC), (side * column, side * row + 16))
    page.save(path, quality=88)


def plot(result: dict[str, Any], path: Path, arms: Sequence[str]) -> None:
    """A PNG: every arm's seeds; the way from the base's edit to the photo by fading; edits by the person's own maps."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    table, seeds = result["table"], result["by_seed"]
    fade = [name for name in ("base", "base, 25% photo", "base, 50% photo", "copy of the photo") if name in table]
    page, axes = plt.subplots(1, len(_READERS), figsize=(10, 4.2), sharey=True, layout="constrained")
    for axis, (reader, title) in zip(axes, _READERS.items(), strict=True):
        psi, drift = "psi_error" if reader == "training" else "psi_error_unseen", f"drift_{reader}"
        points = [(table[name][psi][0], table[name][drift][0]) for name in fade]
        axis.plot(
            *zip(*points, strict=True), "o--", color="grey", markersize=4, label="the base's edit faded into the photo"
        )
        for name, mark in (("true edit", "*"), ("base, the person's own maps", "P")):
            if name in table:
                label = name.removeprefix("base, ")
                axis.plot(table[name][psi][0], table[name][drift][0], mark, color="black", markersize=9, label=label)
        for arm in arms:
            axis.plot(seeds[arm][psi], seeds[arm][drift], "o", markersize=6, label=arm)
        axis.set(title=f"read by {title}", xlabel="error of ψ", ylim=(-0.05, None))
        axis.grid(alpha=0.3)
        axis.locator_params(axis="x", nbins=6)
    axes[0].set_ylabel("drift of β from the photo, mm")
    axes[-1].legend(fontsize=8)
    page.savefig(path, dpi=110)
    plt.close(page)
