"""Conversions of fitted heads: a parametric one keeps its own triangles, a neural one is extracted from its fields."""

from pathlib import Path
from typing import TYPE_CHECKING

from .convert import Conversion

if TYPE_CHECKING:
    from .convert import Convert

PARAMETRIC, NEURAL = "parametric head", "neural head"


def head_kind(path: Path) -> str | None:
    """Which kind of head a head.npz holds; None if it is something else."""
    import json
    import zipfile

    import numpy as np

    if path.suffix.lower() != ".npz" or not path.is_file():
        return None
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            form = json.loads(str(file["meta"]))["format"]
    except (OSError, EOFError, LookupError, ValueError, TypeError, zipfile.BadZipFile):
        return None
    return {"headlab.fit/1": PARAMETRIC, "headlab.neural-head/1": NEURAL}.get(form)


def neural_mesh(options: "Convert") -> str:
    """A mesh of a neural head, extracted at the asked resolution."""
    import time

    from ..heads.export.surface import write_surface
    from ..heads.neural_head import CANONICAL, NeuralHead, named_fields

    out = _out(options)
    resolution = 256 if options.resolution is None else options.resolution
    start = time.perf_counter()
    head = NeuralHead.load(options.source)
    mesh = head.mesh(named_fields(head.fields), resolution, options.expression)
    where = "canonical" if options.expression == CANONICAL else "in the scan's frame"
    write_surface(out, mesh.vertices, mesh.faces, mesh.normals)
    seconds = time.perf_counter() - start
    return f"{out}: {len(mesh.vertices)} vertices, {len(mesh.faces)} triangles, metres, {where}, {seconds:.1f} s"


def parametric_mesh(options: "Convert") -> str:
    """The mesh of a head model's code: in one photo's expression, upright; or neutral."""
    from ..geometry.errors import HeadlabError
    from ..heads.export import write_ply
    from ..heads.head_fit import HeadFit
    from ..heads.models import load_model

    if options.resolution is not None:
        raise HeadlabError("a parametric head has triangles of its own; leave --resolution away")
    out = _out(options, (".ply", ".obj"))
    fit = HeadFit.load(options.source)
    if not -1 <= options.expression < len(fit.sources):
        raise HeadlabError(f"this head has {len(fit.sources)} expressions, not number {options.expression}")
    model = load_model(fit.model)
    code = fit.codes[max(options.expression, 0)]
    code = code.with_(rotation=code.rotation * 0, translation=code.translation * 0)
    if options.expression < 0:
        code = model.neutral().with_(shape=code.shape)
    vertices = model.vertices(code)
    if out.suffix.lower() == ".ply":
        write_ply(out, model, vertices, fit.albedo)
    else:
        from ..geometry.files import write_png
        from ..heads.export import write_obj

        texture = None
        if fit.albedo is not None:
            texture = out.with_suffix(".png").name
            write_png(out.with_suffix(".png"), fit.albedo)
        write_obj(out, model, vertices, texture=texture)
    return f"{out}: {len(vertices)} vertices of {fit.model}, {len(model.faces)} triangles, metres, upright"


def _out(options: "Convert", suffixes: tuple[str, ...] = (".ply", ".obj", ".glb")) -> Path:
    """Where to write; refuses what is in the way before any work."""
    from ..geometry.errors import HeadlabError

    out = options.source.with_suffix(".ply") if options.out is None else options.out
    if out.suffix.lower() not in suffixes:
        raise HeadlabError(f"{out} has no ending of a mesh; name a file that ends in {', '.join(suffixes)}")
    if out.is_dir() or (out.exists() and not options.overwrite):
        raise HeadlabError(f"{out} is there already; add --overwrite or name another file with -o")
    return out


HEAD_CONVERSIONS = (Conversion(NEURAL, "mesh", neural_mesh), Conversion(PARAMETRIC, "mesh", parametric_mesh))
