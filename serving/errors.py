"""The one error of serving."""


class ServingError(Exception):
    """A server cannot be started or kept; the message says what was expected, what came and what to do.

    Attributes:
        log: lines of Triton's log that explain it; empty if it never ran.
    """

    def __init__(self, message: str, log: str = ""):
        super().__init__(message)
        self.log = log
