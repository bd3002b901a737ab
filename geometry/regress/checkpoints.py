"""Reading the authors' checkpoints: DECA's deca_model.tar and EMOCA's Lightning .ckpt.

Both come back as plain sections of tensors: "E_flame", "E_detail", "D_detail", and for EMOCA "E_expression" and
whatever else was asked for.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import HeadlabError, MissingAssetError
from ..safe_pickle import UnsafePickleError, load_torch
from .codes import PARTS, ExpressionOutputs
from .torch_archive import StoredTensor, TorchArchive

DECA_PAGE = "https://deca.is.tue.mpg.de"
EMOCA_PAGE = "https://emoca.is.tue.mpg.de"

Sections = dict[str, dict[str, Tensor]]

#: Prefix of everything EMOCA keeps of its networks.
_PREFIX = "deca."


def read_deca_checkpoint(path: Path) -> Sections:
    """Sections of deca_model.tar (a torch file, whatever its name says), or of a training checkpoint of DECA.

    Raises:
        MissingAssetError: the file is not there.
        UnsafePickleError: it names something else than tensors.
        HeadlabError: it is damaged or something else.
    """
    if not path.is_file():
        raise MissingAssetError(_missing(path, "DECA's weights", "deca_model.tar", DECA_PAGE))
    data = load_torch(path)
    needed = ("E_flame", "E_detail", "D_detail")
    sections = [key for key in needed if isinstance(data, Mapping) and isinstance(data.get(key), Mapping)]
    if len(sections) < len(needed):
        lacking = ", ".join(key for key in needed if key not in sections)
        held = ", ".join(map(str, list(data)[:6])) if isinstance(data, Mapping) else type(data).__name__
        raise HeadlabError(
            f"{path} is not DECA's deca_model.tar: {lacking} expected, {held} found; get it at {DECA_PAGE}"
        )
    return {key: dict(data[key]) for key in sections}


def find_emoca_checkpoint(path: Path) -> Path:
    """The checkpoint EMOCA itself would load: lowest number at the end of the name under <model>/detail/checkpoints.

    Args:
        path: a .ckpt file, or the folder of a model.

    Raises:
        MissingAssetError: there is none.
    """
    if path.is_file():
        return path
    found = [p for folder in ("detail/checkpoints", "checkpoints", ".") for p in sorted((path / folder).glob("*.ckpt"))]
    if not found:
        raise MissingAssetError(_missing(path, "an EMOCA model", "detail/checkpoints/*.ckpt", EMOCA_PAGE))

    def number(name: str) -> float:
        digits = re.search(r"(\d+(?:\.\d+)?)$", name)
        return float(digits[1]) if digits else float("inf")

    best = [p for p in found if p.parent == found[0].parent]
    return min(best, key=lambda p: (number(p.stem), p.name))


def read_emoca_checkpoint(
    path: Path, sections: Sequence[str] = ("E_flame", "E_expression", "E_detail", "D_detail")
) -> Sections:
    """Sections of an EMOCA Lightning checkpoint, by the part of the name after "deca.".

    Tensors straight under "deca." (`uv_face_eye_mask`, `fixed_uv_dis`) are in the section "".

    Raises:
        MissingAssetError: the file is not there.
        UnsafePickleError: it names what has no place in such a checkpoint.
        HeadlabError: it is damaged or something else.
    """
    if not path.is_file():
        raise MissingAssetError(_missing(path, "EMOCA's weights", "a .ckpt file", EMOCA_PAGE))
    try:
        return _split(path, load_torch(path), lambda value: value, sections)
    except UnsafePickleError:
        # Hyper-parameters or callbacks beside the weights: names in the allow-list pass, all others are refused.
        with TorchArchive(path) as archive:
            return _split(path, archive.value, archive.tensor, sections)


def read_expression_outputs(checkpoint: Path, rows: int, config: Path | None = None) -> ExpressionOutputs:
    """Which of the four EMOCA configurations a checkpoint is.

    Args:
        checkpoint: where cfg.yaml is looked for: beside it and in the two folders above.
        rows: outputs of its expression encoder, 50, 53 or 56.
        config: the cfg.yaml, if it lies elsewhere.

    Raises:
        HeadlabError: the number fits no configuration, or 53 outputs and no configuration that says which.
    """
    fitting = [kind for kind in ExpressionOutputs if kind.outputs == rows]
    if not fitting:
        raise HeadlabError(f"{checkpoint} has an expression encoder of {rows} outputs; EMOCA has 50, 53 or 56")
    folders = (checkpoint.parent, *checkpoint.parents[1:3])
    files = [config] if config else [p for p in (folder / "cfg.yaml" for folder in folders) if p.is_file()]
    if len(fitting) > 1 and not files:
        raise HeadlabError(
            f"{checkpoint} predicts {rows - PARTS['expression']} pose values, jaw or global rotation; "
            "keep its cfg.yaml beside it, which tells"
        )
    if files:
        flags = _flags(files[0])
        said = ExpressionOutputs((flags.get("exp_deca_jaw_pose", False), flags.get("exp_deca_global_pose", False)))
        if said not in fitting:
            raise HeadlabError(
                f"{files[0]} says {said.name} ({said.outputs} outputs), but {checkpoint.name} has {rows}; "
                "they belong to different models"
            )
        return said
    return fitting[0]


def _flags(path: Path) -> dict[str, bool]:
    """The two switches of cfg.yaml, from its section "detail" if it has one. The file is not read as YAML."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise HeadlabError(f"{path} cannot be read ({error}); give EMOCA's cfg.yaml") from error
    found: dict[str, dict[str, bool]] = {}
    section = ""
    for line in lines:
        top = re.match(r"(\w+):\s*(?:#.*)?$", line)
        section = top[1] if top else section
        flag = re.match(r"\s*(exp_deca_(?:jaw|global)_pose):\s*(true|false)\s*(?:#.*)?$", line, re.IGNORECASE)
        if flag:
            found.setdefault(section, {})[flag[1]] = flag[2].lower() == "true"
    return found.get("detail") or found.get("coarse") or found.get("model") or found.get("") or {}


def _split(path: Path, data: Any, read: Any, sections: Sequence[str]) -> Sections:
    state = data.get("state_dict") if isinstance(data, Mapping) else None
    if not isinstance(state, Mapping):
        raise HeadlabError(f"{path} is no EMOCA checkpoint: it has no state_dict; get it at {EMOCA_PAGE}")
    result: Sections = {section: {} for section in sections}
    for key, value in state.items():
        if not isinstance(key, str) or not key.startswith(_PREFIX) or not isinstance(value, Tensor | StoredTensor):
            continue
        section, dot, name = key.removeprefix(_PREFIX).partition(".")
        section, name = (section, name) if dot else ("", section)
        if section in result:
            result[section][name] = read(value)
    empty = [section for section in sections if section and not result[section]]
    if empty:
        lacking = ", ".join(f"{_PREFIX}{section}.*" for section in empty)
        raise HeadlabError(f"{path} is no EMOCA checkpoint of the kind printed in its repository: {lacking} missing")
    return result


def _missing(path: Path, what: str, name: str, page: str) -> str:
    return f"{path} is not there: expected {what} ({name}), non-commercial licence; get it at {page}"
