"""`headlab train classifier`: attributes or expressions of DiffAE's codes, on one's own labels."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro


@dataclass(frozen=True)
class TrainClassifier:
    """Train a classifier of Diffusion Autoencoder codes, for `headlab edit-attribute`."""

    faces: Annotated[str, tyro.conf.Positional]
    """Labelled faces: affectnet:FOLDER, celeba-hq:FOLDER, classes:FOLDER (a folder per expression), or a CSV file with
    the columns file,label (one of several classes) or file,NAME,NAME,... (1 and 0; many labels)."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder for classifier.safetensors, latent.pkl (codes and their statistics) and report.json."""
    autoencoder: Path | None = None
    """DiffAE's last.ckpt (autoencoder or latent run); the added one (diffae256, then diffae128) where not given."""
    latents: Path | None = None
    """latent.pkl, whose statistics codes are normalised by; the checkpoint's own, or those of these faces, else."""
    loss: Literal["auto", "softmax", "bce"] = "auto"
    """softmax: one class per face; bce: many labels (published). auto: what the labels are."""
    balance: Literal["auto", "none", "sampling", "weights"] = "auto"
    """sampling: every class is drawn equally often; weights: rare classes count more. auto: sampling for one class per
    face, none for many labels (published)."""
    epochs: float | None = None
    """Passes over these faces; 10 where neither this nor --samples is given."""
    samples: int | None = None
    """Faces drawn in all (the published 300000 were 10 epochs of CelebA-HQ, and are 1.04 of AffectNet)."""
    batch: int = 32
    """Codes at once."""
    rate: float = 1e-3
    """Learning rate of Adam."""
    held_out: float = 0.1
    """Share of every class that is kept to measure recalls on."""
    mirror: bool = True
    """Learn from the mirrored faces, too."""
    aligned: bool = False
    """The faces are cut out as FFHQ's already: do not align by landmarks."""
    encode_batch: int = 8
    """Faces encoded at once."""
    seed: int = 0
    """Of the order, and of what is held out."""
    overwrite: bool = False
    """Write into a folder that already holds files."""

    def run(self) -> None:
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        from ..heads.output_folder import check_output

        check_output(self.out, self.overwrite)
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("starting", total=None)
            report = classifier_command(self, lambda stage: bar.update(task, description=stage))
        print(json.dumps(report["recall"], indent=1))
        print(
            f"trained for {report['budget']} on {report['faces']:,} faces; wrote {self.out / 'classifier.safetensors'}"
        )


def classifier_command(options: TrainClassifier, progress=lambda stage: None) -> dict[str, Any]:
    """What `headlab train classifier` does; returns the report.

    Raises:
        HeadlabError: no labels, an unusable checkpoint, a class without a face that shall be balanced.
    """
    import torch

    from ..diffusion.upstream.classifier_training import ClassifierConfig, held_out, recalls, train_classifier
    from ..diffusion.upstream.diffae_files import load_diffae, load_latents, save_latents
    from ..diffusion.upstream.diffae_training import codes_of
    from ..diffusion.upstream.labelled import labelled_faces
    from ..geometry.errors import HeadlabError
    from ..geometry.files import write_json
    from ..heads.edit_attribute import diffae_path
    from ..heads.output_folder import output_folder

    if not 0 <= options.held_out < 1:
        raise HeadlabError(f"--held-out is a share from 0 to 1, not {options.held_out:g}")
    progress("reading the autoencoder")
    loaded = load_diffae(diffae_path(options.autoencoder))
    statistics = loaded.statistics if options.latents is None else load_latents(options.latents)[0]
    progress("reading the labels")
    faces = labelled_faces(options.faces, loaded.network.config.size, aligned=options.aligned)
    loss = ("softmax" if faces.single else "bce") if options.loss == "auto" else options.loss
    balance = ("sampling" if loss == "softmax" else "none") if options.balance == "auto" else options.balance
    config = ClassifierConfig(
        loss, balance, options.epochs, options.samples, options.batch, options.rate, seed=options.seed
    )
    labels = faces.labels
    if loss == "bce" and faces.single:
        labels = torch.nn.functional.one_hot(labels, len(faces.names))
    train, test = held_out(faces.labels, options.held_out, options.seed)
    loaded.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    codes = codes_of(
        loaded.network,
        faces,
        options.encode_batch,
        options.mirror,
        lambda done: progress(f"codes of {done:,} of {faces.count:,} faces"),
    )

    def told(step: int, value: float) -> None:
        if step % 200 == 0:
            progress(f"step {step:,}: loss {value:.4f}")

    classifier, budget = train_classifier(codes[train], labels[train], faces.names, config, statistics, told)
    measured = recalls(classifier, codes[test, 0], labels[test]) if len(test) else {}
    counts = faces.counts()
    report = {
        "faces": faces.count,
        "trained_on": len(train),
        "loss": loss,
        "balance": balance,
        "budget": str(budget),
        "epochs": budget.epochs,
        "samples": budget.samples,
        "steps": budget.steps,
        "faces_of_each_class": counts,
        "recall": measured,
        "mean_recall": sum(v for v in measured.values() if v == v) / max(1, sum(v == v for v in measured.values())),
        "left_out": faces.report.lines(),
    }
    with output_folder(options.out, options.overwrite) as folder:
        classifier.save(folder / "classifier.safetensors", {k: v for k, v in report.items() if k != "left_out"})
        save_latents(folder / "latent.pkl", codes[:, 0])
        write_json(folder / "report.json", report)
    return report
