"""`headlab view`: what is wrong is said in one line, and figures are written."""

import socket
from pathlib import Path

import pytest
from viewed import head

from headlab.geometry.errors import HeadlabError
from headlab.scripts.view import View, view


@pytest.fixture
def fitted(tmp_path, monkeypatch) -> Path:
    from headlab.heads.view import opened

    given = head()
    monkeypatch.setattr(opened, "load_model", lambda name: given.model)
    (tmp_path / "out").mkdir()
    given.fit.save(tmp_path / "out" / "head.npz")
    return tmp_path / "out"


def test_a_figure_is_written_without_a_display(fitted, monkeypatch, capsys):
    monkeypatch.delenv("DISPLAY", raising=False)
    View((fitted,), out=fitted / "sheet.png", figure="sheet").run()
    assert (fitted / "sheet.png").is_file() and capsys.readouterr().out.strip() == str(fitted / "sheet.png")


def test_what_is_wrong_is_said_before_anything_is_opened(fitted, monkeypatch):
    with pytest.raises(HeadlabError, match="nothing to show; name a folder"):
        view(View(()))
    with pytest.raises(HeadlabError, match="there is no port 99999"):
        view(View((fitted,), web=True, port=99999))
    from headlab.viewers import display_probe

    monkeypatch.setattr(display_probe, "find_spec", lambda name: object())
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(HeadlabError, match=r"no display.*--web"):
        view(View((fitted / "whatever",)))
    with pytest.raises(HeadlabError, match="no such file or folder"):
        view(View((fitted / "whatever",), web=True))


def test_a_port_in_use(fitted):
    pytest.importorskip("viser")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(HeadlabError, match="it is in use; name another with --port"):
            view(View((fitted,), web=True, port=int(taken.getsockname()[1])))
