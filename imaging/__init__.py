"""Reads images safely into canonical PNG or JPEG bytes. Imports core only, and no TensorFlow."""

from imaging.decode import canonical, digest, find, read, thumbnail
from imaging.errors import CODES, ImageError
from imaging.readers import SUFFIXES

__all__ = ["CODES", "SUFFIXES", "ImageError", "canonical", "digest", "find", "read", "thumbnail"]
