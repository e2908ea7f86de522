"""What the application raises when it does not answer a request; webapp/errors.py makes the answer of it."""

RETRY_SECONDS = 5
TRY_AGAIN = "Try again in a few seconds."


class Refused(Exception):
    """A request that cannot be answered.

    Attributes:
        status: HTTP status, 400-599. code: name of the fault, stable for programs. message: text for people.
        retry_seconds: when to try again, for 429 and 503.
    """

    def __init__(self, status: int, code: str, message: str, retry_seconds: int = RETRY_SECONDS) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.retry_seconds = status, code, message, retry_seconds
