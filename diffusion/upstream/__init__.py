"""The published diffusion models with their authors' parameter names, so that their checkpoints load as they are.

    blocks, unet            residual and attention blocks, and the UNet that DiffusionRig and DiffAE share
    process, process_terms  the published diffusion process: tables, respacing, DDIM, ancestral sampling, inversion
    loading, archives       state dicts into networks without anything left random; Lightning files without Lightning
    recognition             which published checkpoint a file is, and what it lacks
    diffusionrig*           DiffusionRig: network, LMDB of physical buffers, two training stages, editing
    diffae*, latent_net     Diffusion Autoencoders: network, latent DPM, latent statistics, editing, training
    classifier*, labelled   linear classifiers of DiffAE's codes, on one's own labels
    ldm3d, rgbd_training    LDM3D: pipeline with its depth packing repaired, fine-tuning on RGB-D (pipelines: loading)
    booth*, iresnet         DreamBooth, PortraitBooth, ID-Booth: LoRA of Stable Diffusion on one identity

They work on pixels (-1..1) or on Stable Diffusion's latents; headlab's own latent diffusion is in the folder above.
"""
