"""The files a user may add: whose they are, on what terms, where they come from."""

from dataclasses import dataclass

from ..geometry.models.flame import FLAME_LICENSE
from ..geometry.models.head_model import License
from ..geometry.models.ict import MIT

_BFM = License("Basel Face Model licence, research only", False, "https://github.com/TimoBolkart/BFM_to_FLAME")
_TEXTURE = License("CC BY-NC-SA 4.0", False, "https://flame.is.tue.mpg.de")
_DECA = License("DECA licence, non-commercial research", False, "https://github.com/yfeng95/DECA")
_EMOCA = License("EMOCA licence, non-commercial research", False, "https://emoca.is.tue.mpg.de")
_APACHE = License("Apache-2.0", True, "https://ai.google.dev/edge/mediapipe/solutions/vision/face_landmarker#models")
_ADOBE = License(
    "Adobe Research License, noncommercial research", False, "https://github.com/adobe-research/diffusion-rig"
)
_DIFFAE = License("MIT code; weights from FFHQ, CC BY-NC-SA 4.0", False, "https://github.com/phizaz/diffae")
_LDM3D = License("CreativeML Open RAIL-M", True, "https://huggingface.co/Intel/ldm3d-4c")
_LORA = License(
    "its base model's (Stable Diffusion: CreativeML Open RAIL)", True, "https://github.com/dariant/ID-Booth"
)


@dataclass(frozen=True)
class AssetKind:
    """One file that headlab can use and only its authors may give out."""

    id: str
    title: str
    upstream: str  #: what its authors call the file
    file: str  #: its name in the assets folder
    license: License

    @property
    def missing(self) -> str:
        """What to say where it is needed and not there: what, terms, page, command."""
        use = "commercial use allowed" if self.license.commercial else "no commercial use"
        return (
            f"{self.title} ({self.id}) is not there: get {self.upstream} at {self.license.url} "
            f"({self.license.name}; {use}) and run `headlab assets add {self.upstream.split()[0]}`"
        )


#: What an asset works with, or with best: any one of each group.
COMPANIONS: dict[str, tuple[tuple[str, ...], ...]] = {
    "diffusionrig": (("flame2020", "flame2023"), ("flame_texture",), ("deca",)),
    "diffae_classifier": (("diffae256", "diffae128", "diffae256_latent", "diffae128_latent"),),
    "diffae_latents": (("diffae256", "diffae128"), ("diffae_classifier",)),
    "diffae256": (("diffae_classifier",),),
    "diffae128": (("diffae_classifier",),),
}

KINDS = {
    kind.id: kind
    for kind in (
        AssetKind("flame2020", "FLAME 2020 head model", "generic_model.pkl", "flame2020.pkl", FLAME_LICENSE),
        AssetKind("flame2023", "FLAME 2023 head model", "flame2023.pkl", "flame2023.pkl", FLAME_LICENSE),
        AssetKind(
            "flame_landmarks", "68 landmarks of FLAME", "landmark_embedding.npy", "landmark_embedding.npy", _DECA
        ),
        AssetKind(
            "flame_mediapipe",
            "105 MediaPipe landmarks of FLAME",
            "mediapipe_landmark_embedding.npz",
            "mediapipe_landmark_embedding.npz",
            FLAME_LICENSE,
        ),
        AssetKind("flame_uv", "texture coordinates of FLAME", "head_template.obj", "head_template.obj", _DECA),
        AssetKind("flame_masks", "regions of FLAME", "FLAME_masks.pkl", "FLAME_masks.pkl", FLAME_LICENSE),
        AssetKind("flame_texture", "FLAME texture space", "FLAME_texture.npz", "FLAME_texture.npz", _TEXTURE),
        AssetKind(
            "bfm_albedo",
            "albedo of the Basel Face Model for FLAME",
            "FLAME_albedo_from_BFM.npz",
            "FLAME_albedo_from_BFM.npz",
            _BFM,
        ),
        AssetKind("ict", "ICT-FaceKit head model", "ICT-FaceKit (a clone; the folder FaceXModel)", "ict.npz", MIT),
        AssetKind(
            "face_landmarker", "MediaPipe Face Landmarker", "face_landmarker.task", "face_landmarker.task", _APACHE
        ),
        AssetKind("deca", "DECA networks", "deca_model.tar", "deca_model.tar", _DECA),
        AssetKind("emoca", "EMOCA networks", "EMOCA checkpoint (.ckpt)", "emoca.ckpt", _EMOCA),
        AssetKind("diffusionrig", "DiffusionRig", "modelNNNNNN.pt (FFHQ256)", "diffusionrig.pt", _ADOBE),
        *(
            AssetKind(
                f"diffae{size}{end}",
                f"DiffAE {what}, {size} pixels",
                "last.ckpt " + run,
                f"diffae{size}{end}.ckpt",
                _DIFFAE,
            )
            for size, end, what, run in (
                (128, "", "autoencoder", "of ffhq128_autoenc_130M"),
                (256, "", "autoencoder", "of ffhq256_autoenc"),
                (128, "_latent", "autoencoder and latent DPM", "of ffhq128_autoenc_latent"),
                (256, "_latent", "autoencoder and latent DPM", "of ffhq256_autoenc_latent"),
                (128, "_ddpm", "unconditional DDPM", "of ffhq128_ddpm_130M"),
            )
        ),
        AssetKind(
            "diffae_classifier",
            "classifier of DiffAE's codes",
            "last.ckpt of ffhq256_autoenc_cls",
            "diffae_classifier.ckpt",
            _DIFFAE,
        ),
        AssetKind("diffae_latents", "latent statistics of DiffAE", "latent.pkl", "diffae_latents.pkl", _DIFFAE),
        AssetKind(
            "ldm3d_vae",
            "autoencoder of LDM3D",
            "diffusion_pytorch_model.safetensors of vae/",
            "ldm3d_vae.safetensors",
            _LDM3D,
        ),
        AssetKind(
            "booth_lora", "LoRA of one identity", "pytorch_lora_weights.safetensors", "booth_lora.safetensors", _LORA
        ),
    )
}
