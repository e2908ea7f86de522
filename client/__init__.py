"""The only part of the project that speaks to Triton: one call from image bytes to a prediction, or one clear error."""

from client.answer import Answer, Prediction, review_threshold
from client.classifier import Classifier, Explanation
from client.dynamic_batching import BatchingClassifier
from client.errors import (
    BadImage,
    ClientError,
    DeadlineExceeded,
    ServerBroken,
    ServerBusy,
    ServerError,
    ServerUnavailable,
    UnknownModel,
    UnknownRelease,
)

__all__ = [
    "Answer",
    "BadImage",
    "Classifier",
    "ClientError",
    "DeadlineExceeded",
    "Explanation",
    "BatchingClassifier",
    "Prediction",
    "ServerBroken",
    "ServerBusy",
    "ServerError",
    "ServerUnavailable",
    "UnknownModel",
    "UnknownRelease",
    "review_threshold",
]
