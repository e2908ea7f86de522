"""A slice with a tumour and the tumour's box -> the same slice as it may have looked without it.

For research on whether networks look at the tumour: the two slices share patient, scanner and everything else. The
result is made up, so it shows what a network answers to, not anatomy. Where the head is symmetric, the tumour is
replaced by the mirrored other side, without a seam; elsewhere by a smooth surface with the texture around it.
"""

from collections.abc import Sequence

import numpy as np

from stages.common.command import StageError

WIDER = 1.3
"""The ellipse that is replaced is the one in the box times this: boxes are tight, and tumours reach into corners."""
RING = 1.4
"""What surrounds the tumour reaches to so many times that ellipse."""
SHIFT = 0.06
"""The other side may lie off its mirror place by so much of the image's side: heads are tilted, and not even."""
UNLIKE = 0.7
"""Beyond this share of the ring's variance unexplained, the other side is taken for another part of the head."""
DARKEST, SHARE_OF_BRIGHT, FILLED = 12.0, 0.08, 0.02
"""The head: pixels above DARKEST and above SHARE_OF_BRIGHT of the 99th percentile, in columns with FILLED of such."""
STEPS, ENOUGH = 500, 0.01
"""Of conjugate gradients: at most so many, until no equation is off by more grey values than this."""


def without_tumour(image: np.ndarray, box: Sequence[float]) -> np.ndarray:
    """Fill a tumour's place so that the slice looks free of it.

    Args:
        image: uint8 [h, w].
        box: x and y of the tumour's centre, width and height, as shares of the slice's width and height; for a mirrored
            slice x must be mirrored as well.

    Returns:
        uint8 [h, w], equal to image outside of an ellipse WIDER than the one in the box.

    Raises:
        StageError: the image is not grey uint8, or the box does not lie in it.
    """
    check(image, box)
    values, radius = image.astype(np.float64), elliptic_radius(image.shape, box)
    inside = radius < 1
    ring = (radius >= 1) & (radius < RING)
    source = other_side(values, inside, ring)
    if source is None:
        source = texture(values, inside, ring)
    # Gradients of the source, values of the image at the rim (Perez et al. 2003, doi:10.1145/882262.882269).
    filled = source + membrane(values - source, inside)
    return np.rint(np.clip(filled, 0, 255)).astype(np.uint8)


def check(image: np.ndarray, box: Sequence[float]) -> None:
    """Raise StageError where without_tumour() cannot work."""
    if image.dtype != np.uint8 or image.ndim != 2:
        raise StageError(f"Expected a grey image, uint8 [h, w]. Received: {image.dtype} {list(image.shape)}. Convert "
                         "it to one channel of 8 bits.")
    x, y, width, height = box
    if not (0 < width < 1 and 0 < height < 1 and width / 2 <= x <= 1 - width / 2 and height / 2 <= y <= 1 - height / 2):
        raise StageError(f"Expected a box inside the image as x, y, width and height, shares of its sides. Received: "
                         f"{list(box)}. Correct it.")


def elliptic_radius(shape: tuple[int, ...], box: Sequence[float]) -> np.ndarray:
    """Return how far out pixels lie: 0 at the box's centre, 1 on the ellipse to replace; float64 [h, w]."""
    x, y, width, height = box
    rows, columns = ((np.arange(side) + 0.5) / side for side in shape)
    return np.hypot((columns - x) / (width * WIDER / 2), ((rows - y) / (height * WIDER / 2))[:, None])


def head_columns(values: np.ndarray) -> tuple[int, int]:
    """Return the first and the last column of the head; all columns where nothing is bright."""
    bright = values > max(DARKEST, SHARE_OF_BRIGHT * np.percentile(values, 99))
    columns = np.flatnonzero(bright.mean(axis=0) > FILLED)
    return (columns[0], columns[-1]) if len(columns) else (0, values.shape[1] - 1)


def other_side(values: np.ndarray, inside: np.ndarray, ring: np.ndarray) -> np.ndarray | None:
    """Mirror the slice about the head's midline and shift it to where it continues the tumour's surroundings best.

    Args:
        values: float64 [h, w].
        inside, ring: bool [h, w], the tumour's place and what surrounds it.

    Returns:
        float64 [h, w], or None where the tumour reaches over the midline or nothing there is like the surroundings, as
        in sagittal slices.
    """
    first, last = head_columns(values)
    most, around, place = round(SHIFT * max(values.shape)), np.nonzero(ring), np.nonzero(inside)
    even, found = smooth(values), None  # noise is not to be continued
    wanted = even[around]
    best = UNLIKE * wanted.var()
    for right, down in np.ndindex(2 * most + 1, 2 * most + 1):
        shift = first + last + right - most, down - most
        unexplained = (wanted - even[mirrored(around, *shift, values.shape)]).var()
        if unexplained < best and not inside[mirrored(place, *shift, values.shape)].any():
            best, found = unexplained, shift
    return None if found is None else values[mirrored(np.indices(values.shape), *found, values.shape)]


def mirrored(places, columns: int, down: int, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return where places (rows, columns) lie on the other side: columns are the sum of both, rows shifted down."""
    rows, others = places
    return np.clip(rows + down, 0, shape[0] - 1), np.clip(columns - others, 0, shape[1] - 1)


def texture(values: np.ndarray, inside: np.ndarray, ring: np.ndarray) -> np.ndarray:
    """Return noise like the fine detail of the ring, in the tumour's place; float64 [h, w], mean about 0.

    Args:
        values: float64 [h, w].
        inside, ring: bool [h, w]. The same arguments give the same noise.
    """
    detail = (values - smooth(values))[ring]
    drawn = np.random.default_rng(0).choice(detail, values.shape)
    drawn = smooth(drawn)
    spread = np.median(np.abs(detail)) / max(np.median(np.abs(drawn)), 1e-6)  # edges would count too much in a variance
    return np.where(inside, drawn * spread, 0.0)


def smooth(values: np.ndarray) -> np.ndarray:
    """Average each pixel of [h, w] with its neighbours, weights 1 2 1 along both axes."""
    for axis in (0, 1):
        padded = np.pad(values, [(1, 1) if one == axis else (0, 0) for one in (0, 1)], mode="edge")
        before, here, after = (np.take(padded, np.arange(values.shape[axis]) + shift, axis) for shift in (0, 1, 2))
        values = (before + 2 * here + after) / 4
    return values


def membrane(values: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Span a smooth surface over a region from the values around it: Laplace's equation, by conjugate gradients.

    Args:
        values: float64 [h, w]; those of the region do not count.
        inside: bool [h, w], the region.

    Returns:
        float64 [h, w]: equal to values outside of the region, each pixel of which is the mean of its four neighbours.
    """
    inside, surface = np.pad(inside, 1), np.pad(np.where(inside, 0.0, values), 1, mode="edge")
    solution, rest = np.zeros_like(surface), np.where(inside, -laplacian(surface), 0.0)
    way, length = rest, (rest**2).sum()
    for _ in range(STEPS):
        if np.abs(rest).max() < ENOUGH:
            break
        change = np.where(inside, laplacian(way), 0.0)
        step = length / (way * change).sum()
        solution, rest = solution + step * way, rest - step * change
        length, before = (rest**2).sum(), length
        way = rest + length / before * way
    return (surface + solution)[1:-1, 1:-1]


def laplacian(values: np.ndarray) -> np.ndarray:
    """Return four times each pixel less its four neighbours, [h, w]; the image's rim is not meant to be used."""
    return 4 * values - sum(np.roll(values, shift, axis) for axis in (0, 1) for shift in (1, -1))
