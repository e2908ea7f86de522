"""Reading images safely, and the facts that all parts of the project share. Imports no other part and no TensorFlow."""

from imaging.decode import canonical, digest, find, read, thumbnail
from imaging.errors import CODES, ImageError
from imaging.readers import SUFFIXES

__all__ = ["CODES", "SUFFIXES", "ImageError", "canonical", "digest", "find", "read", "thumbnail"]
