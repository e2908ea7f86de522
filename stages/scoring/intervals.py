"""Scores -> their 95 % intervals, by a bootstrap over groups of images.

Images of one group are copies or neighbours of one another, hence not independent: whole groups are drawn with
replacement (cluster bootstrap: Field & Welsh 2007, doi:10.1111/j.1467-9868.2007.00593.x), and the interval
lies between percentiles of the scores (Efron & Tibshirani 1993, An Introduction to the Bootstrap, section 13.3). It
tells how far the score may move with other test images of the same kind; not with another training, scanner or
hospital. A group is a patient where patients are known, else a picture with its copies, or a run of slices.
"""

from collections.abc import Callable, Iterator

import numpy as np

PERCENTILES = (2.5, 97.5)
AT_ONCE = 200
"""Resamples held in memory: with 10,000 images, 16 MB an array."""
DIGITS, ROUNDING = 9, 1e-9
"""Sums of votes are exact to so many digits."""
NAME = "intervals"
"""Key under which a dict of scores holds their intervals."""


def intervals(measure: Callable[[np.ndarray], dict], labels: np.ndarray, groups: np.ndarray, count: int,
              seed: int) -> dict:
    """Return the 95 % interval of every score.

    Args:
        measure: of weights float [b, n] to nested dicts of scores [b].
        labels: int [n].
        groups: int [n], equal for images that belong together.
        count: number of resamples, at least 1.
        seed: decides them.

    Returns:
        the same nested dicts with (low, high) in place of the arrays. Resamples in which a score is NaN do not count
        for it; None when all are.
    """
    parts = [measure(weights) for weights in resamples(labels, groups, count, seed)]
    return _merged(parts)


def of_shares(scores: dict, found: dict, groups: dict[str, int]) -> dict:
    """Return intervals with those mended that say too much: of nothing but hits, or of none, no resample differs.

    A share of 0 or 1 gets the exact interval of as many trials as groups (Clopper & Pearson 1934,
    doi:10.1093/biomet/26.4.404): none of 3 patients missed is 0 to 0.71, not 0 to 0. What else does not move gets None.

    Args:
        scores: by name. found: their intervals. groups: behind each of the scores that is a share, how many.
    """
    return {name: own if own is None or own[1] - own[0] > ROUNDING
            else exact(scores[name], groups[name]) if name in groups else None
            for name, own in found.items()}


def exact(share: float, count: int) -> tuple[float, float] | None:
    """Return the exact 95 % interval of a share of 0 or 1 in so many trials; None for another share."""
    share = round(share, DIGITS)
    if share not in (0, 1):
        return None
    width = 1 - (1 - PERCENTILES[1] / 100) ** (1 / count)
    return (0.0, width) if share == 0 else (1 - width, 1.0)


def _merged(parts: list):
    if isinstance(parts[0], dict):
        return {key: _merged([part[key] for part in parts]) for key in parts[0]}
    values = np.concatenate(parts)
    values = values[~np.isnan(values)]
    return tuple(float(one) for one in np.percentile(values, PERCENTILES)) if len(values) else None


def resamples(labels: np.ndarray, groups: np.ndarray, count: int, seed: int) -> Iterator[np.ndarray]:
    """Draw as many groups as there are, with replacement, `count` times.

    A draw that loses a class is repeated: without one its recall and areas would have no value.

    Args:
        labels: int [n].
        groups: int [n].
        count: number of resamples.
        seed: decides them.

    Yields:
        weights float [b, n], how often each image was drawn; b is at most AT_ONCE.
    """
    rng = np.random.default_rng(seed)
    members = np.unique(groups, return_inverse=True)[1]
    total = members.max() + 1
    of_class = (labels[:, None] == np.unique(labels)).astype(float)
    while count > 0:
        drawn = rng.multinomial(total, np.full(total, 1 / total), size=min(count, AT_ONCE))[:, members].astype(float)
        drawn = drawn[(drawn @ of_class > 0).all(axis=1)]
        count -= len(drawn)
        if len(drawn):
            yield drawn


def shown(scores: dict, name: str, *path: str) -> str:
    """Return a score as text with its interval, `0.900 (0.856-0.939)`; without the interval when there is none.

    Args:
        scores: holds the score under `name`, and may hold its interval under NAME.
        name: for example "accuracy".
        path: keys of the nested dicts that hold it, for example "tumour".
    """
    values, ranges = scores, scores.get(NAME, {})
    for step in path:
        values, ranges = values[step], ranges.get(step, {})
    return text(values[name], ranges.get(name))


def text(value: float | None, interval: tuple[float, float] | None) -> str:
    """Return a value as text with 3 digits, with its interval if any; a dash for None."""
    if value is None:
        return "-"
    return f"{value:.3f}" + (f" ({interval[0]:.3f}-{interval[1]:.3f})" if interval else "")
