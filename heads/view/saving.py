"""Saving an edited head: GLB, npz."""

from dataclasses import replace
from pathlib import Path

from ..export import write_glb
from ..head_fit import HeadFit
from .editor import Editor
from .lighting import edited_light
from .opened import OpenedHead


def edited_fit(head: OpenedHead, editor: Editor, frame: int) -> HeadFit:
    """The head as it is now, as a fit of one photo."""
    code = editor.edit.code
    code = code.with_(light=edited_light(code.light, editor.edit.light))
    source = head.fit.sources[frame] if frame < len(head.fit.sources) else head.name
    return replace(
        head.fit,
        codes=code.map(lambda value: value[None]),
        cameras=(head.fit.cameras[frame],),
        sources=(source,),
        report={**head.fit.report, "edited": True},
    )


def save_head(path: Path, head: OpenedHead, editor: Editor, frame: int) -> None:
    """Write what is shown: .glb (52 morph targets, joints, texture; opens with the expression) or .npz.

    Raises:
        HeadlabError: the file cannot be written.
    """
    if path.suffix.lower() == ".npz":
        edited_fit(head, editor, frame).save(path)
    else:
        write_glb(path, editor.model, editor.edit.code, head.fit.albedo, neutral=False)
