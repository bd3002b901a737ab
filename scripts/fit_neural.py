"""`headlab fit SCAN --method nphm`: a scan, a cloud of points or a depth map -> a neural head laid on it."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..geometry.landmarks.open_detector import DetectorName
    from ..geometry.sdf.scan_points import Scan
    from .fit import Fit

#: Vertices per axis of the grid behind head.ply and neutral.ply.
RESOLUTION = 256

_DEPTH_SUFFIXES = (".png", ".tif", ".tiff")


def fit_neural(options: "Fit", progress: Callable[[str], None]) -> dict[str, Any]:
    """Fit, and write head.npz, head.ply, neutral.ply, overlay.png and report.json.

    Raises:
        HeadlabError: no scan or several, one that cannot be read, no head in it, no fields, a folder in the way.
    """
    from ..geometry.errors import HeadlabError
    from ..heads.output_folder import check_output, output_folder

    start = time.perf_counter()
    if len(options.photos) != 1:
        raise HeadlabError(f"--method nphm takes one scan at a time, not {len(options.photos)}; fit them one by one")
    check_output(options.out, options.overwrite)
    source = options.photos[0]
    progress("reading the scan")
    scan = _read(source, options.focal)

    from ..geometry.sdf.fit_scan import ScanFitConfig, fit_neural_head
    from ..heads.neural_head import NeuralHead, named_fields

    name = "default" if options.fields is None else str(options.fields.resolve())
    fields = named_fields(name)
    progress("looking for the face")
    whole = scan.unbroken()
    marks = _landmarks(whole, options.landmarks)
    fit = fit_neural_head(fields, scan, ScanFitConfig(), landmarks=marks, progress=progress)
    fitted = time.perf_counter() - start
    head = NeuralHead.of(name, fields, fit, source.name)
    progress("extracting the mesh")
    with output_folder(options.out, options.overwrite) as folder:
        report = _write(head, fields, whole, folder)
        report |= {"seconds": {"fit": round(fitted, 3), "total": round(time.perf_counter() - start, 3)}}
        from ..geometry.files import write_json

        write_json(folder / "report.json", report)
    return report


def summary(options: "Fit", report: dict[str, Any]) -> str:
    """What the command says in the end."""
    unit = report["unit"]
    said = f"taken for {unit}" if unit else f"of unknown unit: 1 of it is {1000 * report['metres_per_unit']:.3g} mm"
    return (
        f"{options.out}: {options.photos[0].name}, {said}, fitted with NPHM fields ({report['model']}): "
        f"{report['distance_mm']:.2f} mm from the scan on average, {100 * report['within_1.5mm']:.0f} % of it within "
        f"1.5 mm, {report['seconds']['total']:.1f} s"
    )


def _read(path: Path, focal: float | None) -> "Scan":
    from ..datasets.scan_file import SCAN_SUFFIXES, read_scan
    from ..geometry.errors import HeadlabError

    if path.suffix.lower() in _DEPTH_SUFFIXES:
        from ..datasets.depth_map import read_depth
        from ..geometry.camera import Camera
        from ..geometry.sdf.scan_points import depth_scan

        if focal is None:
            raise HeadlabError(f"{path} is a depth map, whose camera must be known; give its --focal length in pixels")
        depth = read_depth(path)
        height, width = depth.shape
        return depth_scan(depth, Camera.frontal(focal, (height, width)))
    if path.suffix.lower() not in SCAN_SUFFIXES:
        raise HeadlabError(
            f"{path} is no scan; --method nphm takes {', '.join(SCAN_SUFFIXES)}, or a 16-bit depth .png with --focal"
        )
    return read_scan(path)


def _landmarks(scan: "Scan", which: "DetectorName") -> Any:
    """The 68 points of a mesh on which MediaPipe sees a face; None for clouds, and where it sees none."""
    import torch

    from ..geometry.errors import HeadlabError
    from ..geometry.fitting.scan_landmarks import scan_landmarks
    from ..geometry.landmarks import open_detector
    from ..heads.assets import find_asset

    if scan.faces is None or len(scan.faces) < 500:
        return None
    with open_detector(which, find_asset("face_landmarker")) as detector:
        try:
            points = torch.from_numpy(scan.points).float()
            return scan_landmarks(points, torch.from_numpy(scan.faces).long(), detector).double().numpy()
        except HeadlabError:
            return None  # found by shape instead; the report says so (aligned_by)


def _write(head: Any, fields: Any, scan: "Scan", folder: Path) -> dict[str, Any]:
    import torch

    from ..geometry.files import write_png
    from ..geometry.raster import closest_point
    from ..geometry.sdf.scan_points import nearest_colors
    from ..heads.export.surface import write_surface
    from ..heads.neural_head import CANONICAL
    from ..viewers.surface_pictures import distance_colors, side_by_side

    head.save(folder / "head.npz")
    neutral = head.mesh(fields, RESOLUTION, CANONICAL)
    write_surface(folder / "neutral.ply", neutral.vertices, neutral.faces, neutral.normals)
    posed = head.mesh(fields, RESOLUTION)
    placed = posed.vertices * head.scan_per_metre
    colors = None if scan.colors is None else torch.from_numpy(nearest_colors(scan, placed.double().numpy()))
    write_surface(folder / "head.ply", placed, posed.faces, posed.normals, colors)

    upright = [(head.scale * head.rotation @ placed.T).T / head.scale, posed.faces]
    panels = []
    if scan.faces is not None and len(scan.faces):
        of_scan = torch.from_numpy(scan.points).float() @ head.rotation.T
        faces = torch.from_numpy(scan.faces).long()
        apart = closest_point(placed.double(), posed.faces, torch.from_numpy(scan.points).double())[0].float()
        paint = distance_colors(apart * 1000 / head.scan_per_metre, 4.0)
        given = None if scan.colors is None else torch.from_numpy(scan.colors).float()
        panels = [((of_scan, faces), given), ((of_scan, faces), paint)]
    panels.insert(min(1, len(panels)), ((upright[0], upright[1]), colors))
    write_png(folder / "overlay.png", side_by_side(panels))
    return {"model": head.fields, "source": head.sources[0], **head.report}
