"""Checkpoints of PyTorch Lightning without Lightning: the tensors of their state dict, read when they are asked for.

`callbacks` in such a file is keyed by a class object, and hyper-parameters lie beside the weights; all but tensors
become inert stand-ins (`geometry.regress.torch_archive`). Names outside an exact list refuse the file.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from ...geometry.errors import HeadlabError
from ...geometry.regress.torch_archive import LIGHTNING_GLOBALS, Inert, StoredTensor, TorchArchive
from ...geometry.safe_pickle import Allowed

#: What DiffAE's runs put beside their weights besides `LIGHTNING_GLOBALS`.
_CALLBACKS = {
    "base": ("Callback",),
    "gpu_stats_monitor": ("GPUStatsMonitor",),
    "lr_monitor": ("LearningRateMonitor",),
    "model_checkpoint": ("ModelCheckpoint",),
    "progress": ("ProgressBar", "ProgressBarBase"),
    "timer": ("Timer",),
}
DIFFAE_GLOBALS: Allowed = {
    **LIGHTNING_GLOBALS,
    **{(f"pytorch_lightning.callbacks.{file}", name): Inert for file, names in _CALLBACKS.items() for name in names},
    ("experiment", "LitModel"): Inert,
    ("experiment_classifier", "ClsModel"): Inert,
}


class LightningState:
    """Names and shapes of an open checkpoint's tensors, and the tensors of a section when they are asked for."""

    def __init__(self, path: Path, archive: TorchArchive):
        content = archive.value
        state = content.get("state_dict") if isinstance(content, dict) else None
        if state is None and isinstance(content, dict) and all(isinstance(x, StoredTensor) for x in content.values()):
            state = content  # a bare state dict
        if not isinstance(state, dict):
            raise HeadlabError(f"{path} has no state_dict; give the checkpoint that training wrote (last.ckpt)")
        self.path, self._archive = path, archive
        self._stored = {str(name): value for name, value in state.items() if isinstance(value, StoredTensor)}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of everything."""
        return {name: tuple(value.args[2]) for name, value in self._stored.items()}

    def sections(self) -> set[str]:
        """First parts of the names: model, ema_model, classifier, conds_mean, ..."""
        return {name.split(".")[0] for name in self._stored}

    def tensor(self, name: str) -> Tensor:
        """One of them.

        Raises:
            HeadlabError: it is not there, or damaged.
        """
        if name not in self._stored:
            raise HeadlabError(f"{self.path} lacks {name}; give the checkpoint that has it")
        return self._archive.tensor(self._stored[name])

    def section(self, prefix: str) -> dict[str, Tensor]:
        """Tensors whose names begin so, without it."""
        return {name.removeprefix(prefix): self.tensor(name) for name in self._stored if name.startswith(prefix)}


@contextmanager
def open_lightning(path: Path) -> Iterator[LightningState]:
    """An open checkpoint.

    Raises:
        UnsafePickleError: it names what has no place in it.
        HeadlabError: missing, damaged, or another kind of file.
    """
    path = Path(path)
    with TorchArchive(path, DIFFAE_GLOBALS) as archive:
        yield LightningState(path, archive)
