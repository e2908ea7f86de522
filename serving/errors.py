"""The errors of serving."""


class ServingError(Exception):
    """A server cannot be started or kept; the message says what was expected, what came and what to do.

    Attributes:
        log: lines of Triton's log that explain it; empty if it never ran.
    """

    def __init__(self, message: str, log: str = ""):
        super().__init__(message)
        self.log = log


class Rejected(ServingError):
    """A repository itself is at fault, so that another start would not help: incomplete, altered, or wrong answers."""
