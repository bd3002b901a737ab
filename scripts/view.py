"""`headlab view`: look at heads, move them, compare them: in a window, in a browser, or as figures in files."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    from ..viewers.session import Session


@dataclass(frozen=True)
class View:
    """Show fitted heads, tracks, meshes and point clouds in a window, in a browser (--web), or draw figures (-o)."""

    paths: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of `headlab fit` or `headlab track`, head.npz, meshes, point clouds, NAME_depth.png. The first head is
    shown, a second one gives it its expression, a mesh (an NPHM surface, say) and points lie over it."""
    web: bool = False
    """Serve the viewer to a browser instead of opening a window; works over SSH."""
    port: int = 8080
    """Of --web."""
    host: str = "127.0.0.1"
    """Who may connect with --web: 127.0.0.1 only this machine (and ssh -L), 0.0.0.0 everyone who reaches it."""
    photo: Path | None = None
    """The photo of the first head, where it is not found."""
    save_to: Path = Path()
    """Folder where the window's save buttons write."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Draw a figure into this .png (.mp4 or .gif: a turntable, or the track as it plays), and open nothing."""
    figure: Literal["turntable", "sheet", "compare", "errors", "strip", "identities"] = "turntable"
    """Of -o: five sides of the first; a portrait of each; columns side by side; the first one's distance to the second,
    in colours; photos above, heads below; people between two to four people."""

    def run(self) -> None:
        view(self)


def view(options: View) -> None:
    """What `headlab view` does.

    Raises:
        HeadlabError: nothing to show, a file of another kind, no display, a port in use, a package that is missing.
    """
    from ..geometry.errors import HeadlabError

    # Before the slow imports: what is plainly wrong shall be said at once.
    if not options.paths:
        raise HeadlabError("nothing to show; name a folder that `headlab fit` wrote, a mesh or a point cloud")
    if not 0 <= options.port <= 65535:
        raise HeadlabError(f"there is no port {options.port}; ports go from 0 (any that is free) to 65535")
    if options.out is not None:
        _draw(options, options.out)
    elif options.web:
        from ..viewers.web_port import check_port

        check_port(options.host, options.port)
        session, title = _session(options)
        from ..viewers.web import show_web

        show_web(session, title, host=options.host, port=options.port)
    else:
        from ..viewers.display_probe import DisplayProbe

        # Asked in a process of its own, while this one imports torch and reads the head.
        with DisplayProbe() as probe:
            session, title = _session(options)
            graphics = probe.graphics()
        from ..viewers.window import show_window

        show_window(session, title, graphics)


def _draw(options: View, out: Path) -> None:
    from ..heads.view.opened import open_any
    from ..viewers.offscreen import draw

    draw(options.figure, [open_any(path) for path in options.paths], out)
    print(out)


def _session(options: View) -> "tuple[Session, str]":
    """What is to be shown, and the title over it."""
    import sys

    from ..heads.view.opened import open_any
    from ..viewers.session import Session

    opened = [open_any(path) for path in options.paths]
    session = Session(opened, photo=options.photo, folder=options.save_to)
    if session.message:
        print(f"headlab: {session.message}", file=sys.stderr)
    return session, f"headlab: {', '.join(item.name for item in opened)}"
