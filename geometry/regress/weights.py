"""`load_network`, where it was before fields needed it, too: ../network_weights.py."""

from ..network_weights import load_network as load_network
