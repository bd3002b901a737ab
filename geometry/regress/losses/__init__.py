"""Losses of DECA (Feng et al. 2021) and EMOCA (Danecek et al. 2022), as pure functions. One concept per file.

They return raw values; the weights that DECA trains with are in `weights.py`. Landmarks are in any unit, DECA's are
-1..1 over the crop. Where upstream has a slip, the default here is what was meant, and a keyword gives upstream's
number where old and new results are to be compared; each docstring says which.
"""
