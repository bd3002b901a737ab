"""`headlab train diffusionrig`: DiffusionRig's two stages as published, on a store of photos and physical buffers."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from ..diffusion.training_config import TrainingConfig


@dataclass(frozen=True)
class TrainDiffusionRig:
    """Train DiffusionRig: stage 1 on many people, stage 2 on one person's album."""

    store: Annotated[Path, tyro.conf.Positional]
    """LMDB of photos and buffers, the authors' (create_data.py) or ours. Or a folder of photos of one person: they are
    fitted with one identity (the authors' --use_meanshape) and kept with their buffers in OUT/store."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder of the run: checkpoints, log and weights/model.pt, which the authors' code reads, too."""
    stage: Literal[1, 2] = 1
    """2 keeps the encoder's parameters."""
    start: Path | None = None
    """Checkpoint to start from (model.pt); needed for stage 2."""
    anyone: bool = False
    """Of a folder of photos: do not check that they show one person."""
    encoder: Literal["resnet18", "resnet50"] = "resnet18"
    """Of a fresh network."""
    size: int = 256
    """Of a fresh network's pictures: 64, 128 or 256 pixels."""
    channels: int = 128
    """Of a fresh network's first level."""
    p2: bool = True
    """Weigh the loss by 1 / (1 + SNR), as the authors' commands do."""
    steps: int | None = None
    """Published: 50000 in stage 1, 5000 in stage 2."""
    batch: int | None = None
    """Photos at once on each device. Published: 32 on each of 8, and 4."""
    rate: float | None = None
    """Learning rate. Published: 1e-4 and 1e-5."""
    minutes: float | None = None
    """End earlier."""
    save_every: int | None = None
    """Steps between checkpoints (5000)."""
    precision: Literal["no", "bf16", "fp16"] = "no"
    """Mixed precision."""
    seed: int = 0
    """Of everything that is drawn."""
    cpu: bool = False
    """Use the CPU even where there is a GPU."""

    def run(self) -> None:
        from ..diffusion.training import train
        from ..diffusion.upstream.diffusionrig_data import RigDatabase
        from ..diffusion.upstream.diffusionrig_training import DiffusionRigTask
        from .train import _Printer

        network, config = self.network(), self.config()
        data = RigDatabase(self.database(network.config.unet.size))
        train(DiffusionRigTask(network, data, self.stage, p2=self.p2), config, self.out, self, _Printer(config))
        samples = config.steps * config.batch * config.accumulate
        print(
            f"{config.steps:,} steps, {samples:,} samples, {samples / data.count:.2f} epochs of {data.count:,} photos"
        )
        print(f"wrote {self.out / 'weights/model.pt'}")

    def database(self, size: int) -> Path:
        """The store, made of an album of photos where one was given (once: a run that goes on finds it).

        Raises:
            HeadlabError: fewer than two photos show a face, or they show two people.
        """
        if not self.store.is_dir() or (self.store / "data.mdb").exists():
            return self.store
        made = self.out / "store"
        if (made / "data.mdb").exists():
            return made
        from ..datasets.lmdb_store import close_reader
        from ..diffusion.identity import load_embedder, load_shape_reader
        from ..diffusion.upstream.diffusionrig_data import write_rig_database
        from ..geometry.landmarks import open_detector
        from ..heads.album import read_album
        from ..heads.assets import find_asset
        from ..heads.fit import FitConfig
        from ..heads.transfer_diffusionrig import rig_record
        from ..heads.transfer_source import Workshop

        with open_detector("auto", find_asset("face_landmarker")) as detector:
            workshop = Workshop("default", detector, FitConfig(), 512, lambda stage: print(stage, flush=True))
            album = read_album([self.store], workshop, load_shape_reader(), load_embedder(), anyone=self.anyone)
        aside = self.out / "store.unfinished"
        shutil.rmtree(aside, ignore_errors=True)
        self.out.mkdir(parents=True, exist_ok=True)
        count = write_rig_database(aside, (rig_record(workshop.model, head, size) for head in album.heads))
        close_reader(aside)
        aside.rename(made)
        print(f"{count} photos with their buffers are in {made}")
        return made

    def config(self) -> TrainingConfig:
        """The published settings of the stage with what was changed."""
        from ..diffusion.upstream.diffusionrig_training import published_training

        names = ("steps", "batch", "rate", "minutes", "save_every")
        changed: dict[str, Any] = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return replace(
            published_training(self.stage), precision=self.precision, seed=self.seed, cpu=self.cpu, **changed
        )

    def network(self) -> Any:
        """The network to train: a checkpoint's, or a fresh one of the published layout.

        Raises:
            HeadlabError: stage 2 without a checkpoint, or a size without a published layout.
        """
        import torch

        from ..diffusion.upstream.diffusionrig import DiffusionRig, DiffusionRigConfig, load_diffusionrig
        from ..diffusion.upstream.unet import UNetConfig
        from ..geometry.errors import HeadlabError

        if self.start is not None:
            return load_diffusionrig(self.start)
        if self.stage == 2:
            raise HeadlabError("stage 2 starts from a network of stage 1; say --start model.pt")
        levels = {64: (1, 2, 3, 4), 128: (1, 1, 2, 3, 4), 256: (1, 1, 2, 2, 4, 4)}
        if self.size not in levels:
            raise HeadlabError(f"DiffusionRig has no layout of {self.size} pixels; choose 64, 128 or 256")
        sizes = UNetConfig(self.size, channels=self.channels, multipliers=levels[self.size], time=4 * self.channels)
        torch.manual_seed(self.seed)
        return DiffusionRig(DiffusionRigConfig(sizes, self.encoder))
