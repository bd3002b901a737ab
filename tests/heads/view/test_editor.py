"""Editing: undo brings back, moves of one slider are one step, buttons keep the person."""

import torch
from riggable import random_code, riggable_head

from headlab.heads.view.editor import Editor


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def make(seed: int = 1) -> tuple[Editor, Clock]:
    model, clock = riggable_head(), Clock()
    return Editor(model, random_code(model, seed), generator=torch.Generator().manual_seed(5), clock=clock), clock


def test_undo_and_redo_walk_the_same_way():
    editor, clock = make()
    seen = [editor.edit]
    for name in ("jawOpen", "beta.1", "light.turn"):
        clock.now += 10
        editor.set(name, 0.4)
        seen.append(editor.edit)
    editor.neutral()
    seen.append(editor.edit)
    for past in reversed(seen[:-1]):
        assert editor.undo() and editor.edit is past
    assert not editor.undo()
    for future in seen[1:]:
        assert editor.redo() and editor.edit is future
    assert not editor.redo()
    editor.undo()
    editor.random_expression()
    assert not editor.redo()  # another way was taken


def test_a_drag_is_one_step_and_the_history_is_bounded():
    editor, clock = make()
    before = editor.edit
    for i in range(50):
        clock.now += 0.02
        editor.set("jawOpen", i / 50)
    assert editor.undo() and editor.edit is before
    for i in range(1000):
        clock.now += 5
        editor.set("jawOpen", i % 7 / 7)
    assert sum(1 for _ in iter(editor.undo, False)) == 200


def test_buttons_keep_the_person_or_the_expression():
    editor, _ = make()
    code = editor.edit.code
    editor.neutral()
    assert torch.equal(editor.edit.code.shape, code.shape) and not editor.edit.code.expression.any()
    assert not editor.edit.code.jaw.any() and torch.equal(editor.edit.code.rotation, code.rotation)
    editor.random_expression()
    assert torch.equal(editor.edit.code.shape, code.shape) and editor.edit.code.expression.any()
    expression = editor.edit.code.expression
    editor.random_person()
    assert torch.equal(editor.edit.code.expression, expression)
    assert not torch.equal(editor.edit.code.shape, code.shape)
    editor.as_fitted()
    assert torch.equal(editor.edit.code.shape, code.shape) and torch.equal(editor.edit.code.expression, code.expression)


def test_another_frame_keeps_an_edited_person_and_its_light():
    editor, clock = make()
    model = editor.model
    second = random_code(model, 9).with_(shape=editor.fitted.shape)
    editor.show(second)
    assert editor.edit.code is second and not editor.undo()
    clock.now += 5
    editor.set("beta.0", 1.5)
    editor.set("light.turn", 40.0)
    third = random_code(model, 10).with_(shape=editor.fitted.shape)
    editor.show(third)
    assert editor.value("beta.0") == 1.5 and abs(editor.value("light.turn") - 40) < 1e-4
    assert torch.equal(editor.edit.code.expression, third.expression)


def test_posed_vertices_are_the_models():
    editor, _ = make()
    editor.set("mouthSmileLeft", 0.8)
    torch.testing.assert_close(editor.posed().vertices, editor.model.vertices(editor.edit.code))
