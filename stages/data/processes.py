"""Work on many images in several processes."""

import os
from collections.abc import Callable
from typing import Any

from joblib import Parallel

WORTH_PROCESSES = 100
"""Jobs from which a second process pays for its start."""


def count(jobs: int) -> int:
    """Return how many processes so many jobs are worth: 2 or 1."""
    return 2 if jobs >= WORTH_PROCESSES and (os.cpu_count() or 1) > 1 else 1


def run(jobs: list, processes: int, done: Callable[[Any], None]) -> None:
    """Run jobs in so many processes, in any order.

    Args:
        jobs: of joblib.delayed.
        processes: how many.
        done: called with each result, in this process.

    Raises:
        RuntimeError: a process dies. Whatever a job raises.
    """
    results = Parallel(processes, backend="loky", return_as="generator_unordered", inner_max_num_threads=1)(jobs)
    try:
        for result in results:
            done(result)
    except BaseException as error:
        results.throw(error)  # kills the processes; close() would do so with a warning
        raise
