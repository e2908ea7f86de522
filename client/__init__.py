"""The only part of the project that speaks to Triton: one call from image bytes to a prediction, or one clear error."""

from client.classifier import Classifier, Prediction
from client.errors import (
    BadImage,
    ClientError,
    DeadlineExceeded,
    ServerError,
    ServerUnavailable,
    UnknownModel,
)

__all__ = [
    "BadImage",
    "Classifier",
    "ClientError",
    "DeadlineExceeded",
    "Prediction",
    "ServerError",
    "ServerUnavailable",
    "UnknownModel",
]
