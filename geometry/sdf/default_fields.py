"""The fields that come with headlab: trained on heads of the default model (default_weights/README.md)."""

from functools import cache
from pathlib import Path

from .field_files import load_fields
from .head_fields import HeadFields

WEIGHTS = Path(__file__).with_name("default_weights") / "default_fields.safetensors"


@cache
def load_default_fields() -> HeadFields:
    """Identity and expression fields of default heads. Read once."""
    return load_fields(WEIGHTS)
