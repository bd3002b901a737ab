"""What a viewer does, without a window: sliders, layers, buttons, tracks, a second head, saving, messages."""

from dataclasses import replace

import numpy as np
import pytest
import roma
import torch
from viewed import head, model

from headlab.geometry.errors import HeadlabError
from headlab.geometry.rgbd.cloud import PointCloud
from headlab.heads.head_fit import HeadFit
from headlab.heads.view.opened import OpenedCloud, OpenedMesh
from headlab.viewers.panel import build_panel
from headlab.viewers.session import Session

SIZE = (120, 100)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def changed(session: Session, action) -> float:
    """Share of pixels that an action changes."""
    before = session.picture(SIZE).astype(int)
    action()
    return float((np.abs(session.picture(SIZE).astype(int) - before).max(-1) > 4).mean())


def test_sliders_layers_and_buttons_change_the_picture():
    session = Session([head()], generator=torch.Generator().manual_seed(0))
    for name, value in (("jawOpen", 1.0), ("beta.0", 3.0), ("pose.nod", 30.0), ("light.brightness", 0.3)):
        assert changed(session, lambda name=name, value=value: session.set(name, value)) > 0.01, name
        assert session.value(name) == pytest.approx(value, abs=1e-4)
    for name in ("texture", "wireframe", "normals", "landmarks", "mesh"):
        assert changed(session, lambda name=name: session.toggle(name, not session.on[name])) > 0.005, name
    session.toggle("mesh", True)
    for name in ("neutral", "random", "person", "undo", "redo", "fitted", "left", "right", "front"):
        assert changed(session, lambda name=name: session.press(name)) > 0.005, name
    assert changed(session, lambda: session.drag(0.2, 0.1)) > 0.05
    assert changed(session, lambda: session.zoom(1.5)) > 0.05
    assert changed(session, lambda: session.set("view.opacity", 0.2)) > 0.05
    session.press("undo")
    for _ in range(3):
        session.press("undo")
    assert session.picture(SIZE, fine=True).shape == (*SIZE, 3)


def test_the_same_clicks_give_the_same_picture():
    def clicked() -> np.ndarray:
        session = Session([head()], generator=torch.Generator().manual_seed(3))
        session.press("random")
        session.press("person")
        return session.picture(SIZE)

    assert np.array_equal(clicked(), clicked())


def test_a_track_plays_by_its_own_times():
    clock = Clock()
    session = Session([head(frames=5)], clock=clock)
    assert session.panel.frames == 5 and not session.tick()
    session.play(True)
    seen = []
    for now in (0.05, 0.11, 0.31, 0.45, 0.51):
        clock.now = now
        session.tick()
        seen.append(session.frame)
    assert seen == [0, 1, 3, 4, 0]  # around and around
    assert session.editor is not None and session.shown.head is not None
    session.seek(3)
    assert torch.equal(session.editor.edit.code.expression, session.shown.head.fit.codes.expression[3])
    session.play(False)
    clock.now = 9
    assert not session.tick()


def test_the_view_follows_the_head_or_not():
    session = Session([head(frames=3)])
    session.toggle("landmarks", False)
    nose = torch.tensor([0.0, 0.0, 0.1])
    places = {}
    for follow in (True, False):
        session.toggle("follow", follow)
        for frame in range(3):
            session.seek(frame)
            posed = session._pose()
            world = roma.rotvec_to_rotmat(posed.rotation) @ nose + posed.translation
            places[follow, frame] = session.camera(SIZE).project(world[None])[0]
    torch.testing.assert_close(places[True, 0], places[True, 2], atol=1e-2, rtol=0)
    assert (places[False, 0] - places[False, 2]).norm() > 1


def test_a_second_head_gives_its_expression_live():
    first, second = head(), head(frames=4, seed=20, name="two")
    session = Session([first])
    assert session.editor is not None and session.panel.frames == 1
    session = Session([first, second])
    assert session.editor is not None and session.panel.frames == 4
    code = session.editor.edit.code
    torch.testing.assert_close(code.expression, second.fit.codes.expression[0])
    assert torch.equal(code.shape, first.fit.codes.shape[0]) and torch.equal(code.rotation, first.fit.codes.rotation[0])
    session.seek(2)
    torch.testing.assert_close(session.editor.edit.code.expression, second.fit.codes.expression[2])
    session.set("view.strength", 0.0)
    torch.testing.assert_close(session.editor.edit.code.expression, first.fit.codes.expression[0])
    session.set("view.strength", 1.0)
    session.toggle("give", False)
    torch.testing.assert_close(session.editor.edit.code.expression, first.fit.codes.expression[0])


def test_a_head_is_dropped_and_what_is_none_is_told(tmp_path, monkeypatch):
    from headlab.heads.view import opened

    monkeypatch.setattr(opened, "load_model", lambda name: model())
    session = Session([head()])
    assert not session.drop(tmp_path / "gone.npz") and "no such file" in session.message
    assert session.shown.second is None and "give" not in session.on
    other = head(seed=8)
    other.fit.save(tmp_path / "head.npz")
    assert session.drop(tmp_path / "head.npz") and session.shown.second is not None and session.on["give"]
    assert session.editor is not None
    torch.testing.assert_close(session.editor.edit.code.expression, other.fit.codes.expression[0])


def test_saving(tmp_path):
    session = Session([head()], folder=tmp_path)
    session.set("jawOpen", 0.9)
    session.set("light.brightness", 0.5)
    assert session.save("picture", size=(64, 64)) == tmp_path / "view.png"
    assert session.save("picture", size=(64, 64)) == tmp_path / "view_2.png"
    assert session.save("picture", size=(64, 64)) == tmp_path / "view_3.png"
    assert session.save("glb") == tmp_path / "edited.glb" and (tmp_path / "edited.glb").read_bytes()[:4] == b"glTF"
    path = session.save("npz")
    assert path is not None and session.message == f"saved {path}"
    fit = HeadFit.load(path)
    assert float(fit.codes.expression[0, 3]) == pytest.approx(0.9)
    assert fit.codes.light is not None and fit.report["edited"] and len(fit.cameras) == 1
    (tmp_path / "file").write_text("")
    session.folder = tmp_path / "file" / "folder"
    assert session.save("npz") is None and "cannot write" in session.message


def test_the_photo_lies_behind_through_the_fitted_camera(tmp_path):
    from headlab.geometry.files import write_png

    opened = head(path=tmp_path / "head.npz")
    session = Session([opened])
    session.toggle("photo", True)
    assert "photo of frame 0 is not found" in session.message
    write_png(tmp_path / "a.png", torch.tensor([0.0, 0.0, 1.0])[:, None, None].expand(3, 96, 80))
    session = Session([opened])
    session.toggle("photo", True)
    picture = session.picture((192, 200))
    assert tuple(picture[5, 30]) == (0, 0, 255) and tuple(picture[5, 5]) == (60, 60, 60)  # 160 of 200 columns
    code, camera = opened.fit.codes[0], opened.fit.cameras[0]
    middle = camera.project(model().vertices(code)).mean(0) * 2 + torch.tensor([20.0, 0.0])
    row, column = round(float(middle[1])), round(float(middle[0]))
    assert tuple(picture[row, column]) != (0, 0, 255)
    session.toggle("mesh", False)
    assert tuple(session.picture((192, 200))[row, column]) == (0, 0, 255)
    session.zoom(4.0)
    session.toggle("mesh", True)
    assert (session.picture((192, 200)) == (0, 0, 255)).all(-1).mean() < 0.7  # the head is nearer now


def test_meshes_and_clouds_alone_and_over_a_head():
    surface = head().surface.moved(model().vertices(head().fit.codes[0]))
    cloud = PointCloud(surface.vertices + torch.tensor([0.0, 0.0, 0.03]), torch.rand(len(surface.vertices), 3))
    for items in ([OpenedMesh("m", surface)], [OpenedCloud("c", cloud)], [OpenedMesh("m", surface), head()]):
        session = Session(items)
        assert (session.picture(SIZE) != (245, 246, 248)).any(-1).mean() > 0.05
        assert changed(session, lambda s=session: s.drag(0.3, 0.0)) > 0.02
    session = Session([head(), OpenedCloud("c", cloud)])
    assert changed(session, lambda: session.toggle("cloud", False)) > 0.01
    assert Session([OpenedMesh("m", surface)]).panel.edits == ()
    with pytest.raises(HeadlabError, match="3 heads were given, 2 can be shown"):
        Session([head(), head(), head()])


def test_a_stored_mesh_is_shown_without_sliders():
    stored = head().surface
    opened = replace(head(), model=None, stored=stored, note="the model is not installed")
    session = Session([opened])
    assert session.message == "the model is not installed" and session.panel.edits == ()
    assert [group.title for group in session.panel.groups] == ["View"] and not session.panel.transfer
    assert (session.picture(SIZE) != (245, 246, 248)).any(-1).mean() > 0.1


def test_search_finds_all_words_anywhere():
    session = Session([head()])
    assert session.panel.found("BLINK left") == {"eyeBlinkLeft"}
    assert "jawOpen" in session.panel.found("jaw") and session.panel.found("no such thing") == frozenset()
    everything = {control.name for group in session.panel.groups for control in group.controls}
    assert session.panel.found("") == everything >= {"beta.3", "light.turn", "view.opacity", "pose.nod"}


def test_the_panel_has_only_what_can_be_done():
    panel = build_panel((), ["cloud"], frames=1, head=False, second=False)
    assert panel.edits == () and [action.name for action in panel.saves] == ["picture"] and not panel.transfer


def test_a_thousand_moves_keep_the_memory():
    """Nothing is kept but the steps to undo."""
    import gc

    session = Session([head()], clock=Clock())
    for i in range(250):
        session.set("jawOpen", i % 10 / 10)
    session.picture((32, 32))
    gc.collect()
    before = len(gc.get_objects())
    for i in range(1000):
        session.set(("jawOpen", "beta.1")[i % 2], i % 10 / 10)
        if i % 100 == 0:
            session.picture((32, 32))
    gc.collect()
    assert len(gc.get_objects()) - before < 2000  # the 200 steps were full before
