"""The one error of this package, so that every caller can tell a user's bad file from a fault of the program."""

CODES = (
    "empty_file",
    "file_too_large",
    "unsupported_format",
    "corrupt_image",
    "image_too_small",
    "image_too_large",
    "multiple_frames",
    "no_such_slice",
    "wrong_modality",
)
"""Every value that ImageError.code can have."""


class ImageError(ValueError):
    """A file that cannot be used as an image; the message says what is wrong and what to do.

    Attributes: `code`, one of CODES, stable for programs. The message contains no file name and no metadata.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)  # both, so that the error can be pickled and cross processes
        self.code, self.message = code, message

    def __str__(self) -> str:
        return self.message


def corrupt(reason: str) -> ImageError:
    """Return the error for a file of a known format that cannot be decoded; `reason` is a clause."""
    return ImageError(
        "corrupt_image",
        f"This file cannot be decoded: {reason}. Copy or export it again, preferably as PNG.",
    )
