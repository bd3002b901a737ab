"""Networks that read a head off a photo: DECA and EMOCA with their authors' weights, and the losses to train such."""
