"""Tumours moved: out of a slice, into another, and places that are replaced in the same way with no tumour in it.

Classes of public sets come from different scanners, so networks learn to tell scanners apart. Slices that differ in the
tumour alone, and share scanner and patient, leave them nothing else to learn (background-swapped and counterfactual
images: Xiao et al. 2020, arXiv:2006.09994; Kaushik et al. 2020, arXiv:1909.12434). In `sham` images another place is
replaced, and the label stays, so that traces of the replacing tell nothing either.

What fills a place is copied from where the same slice, as it is or mirrored, is most like the surroundings and even
within, as in exemplar-based filling (Criminisi et al. 2004, doi:10.1109/TIP.2004.833105); all places are compared at
once by Fourier transforms. Seams vanish by the membrane of Perez et al. 2003, doi:10.1145/882262.882269: gradients of
what is copied, values of the slice along the rim.

Images are uint8 [h, w] of any size. Lengths that go with the anatomy are in parts of the side, see unit(). Knows
nothing of TensorFlow, so that processes which only do this start quickly.
"""

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage, signal, sparse
from scipy.sparse import linalg

from imaging import volume

FILLED, PASTED, SHAM = "filled", "pasted", "sham"
KINDS = (FILLED, PASTED, SHAM)
"""What is made: a tumour replaced; a tumour of another slice put in; another place replaced."""
WIDER_OUT, LEAST_OUT = 1.5, 18
"""Of a tumour's box, the ellipse that is replaced: so many times as wide and high, since boxes are tight, tumours reach
into corners and have a halo; and at least so many units."""
WIDER_IN, LEAST_IN = 1.25, 14
"""The same of what is cut out to be put in elsewhere."""
RING = 5
"""Units around a place that must continue into what fills it."""
FORGIVEN = 0.7
"""Share of a difference in mean brightness that is not counted: the membrane takes it away."""
CORE = 0.75
"""Of a place, so much in length is never copied: what lies further out is tumour no more, or hardly."""
UNLIKE = 2.0
"""What differs from a place's surroundings and within itself by more, as a share of the head's variance, does not fill
it: of 80 slices of the figshare set 8 did, and nearly all of these looked absurd."""
DARKEST, SHARE_OF_BRIGHT, FILLED_LINES = 12, 0.08, 0.02
"""The head: pixels above DARKEST and SHARE_OF_BRIGHT of the 99th percentile, in rows and columns with so much of it."""
IN_HEAD = 0.96
"""Share of a place that must be head."""
SCALES, TURN, CONTRAST = (0.8, 1.25), 40, (0.4, 2.5)
"""What is put in: its size against that of the head, degrees it is turned by either way, limits of the contrast that
it is given to match."""
SHAM_SIZES = (0.11, 0.27)
"""Diameters of a place in a slice without a tumour, as shares of the image's sides."""
TRIES, SHAM_TRIES = 12, 40
"""Places that are tried, for a tumour and for a sham."""
SEAM = 3
"""Pixels around a tumour that must be there for it to be turned and scaled."""


class Place(NamedTuple):
    """An upright ellipse: its centre from the left and from above, and its diameters, in pixels."""

    x: float
    y: float
    width: float
    height: float


class Tumour(NamedTuple):
    """A slice with a tumour: its file, canonical PNG or JPEG (see `imaging`); the box as in boxes.Boxes; the label."""

    path: Path
    box: tuple[float, ...]
    label: str


class Task(NamedTuple):
    """What to make: one of KINDS; of which file; the box of its tumour, None if it has none; the tumours to try, one
    after another, to put in; and what seeds the random numbers, integers of 0 and above."""

    kind: str
    path: Path
    box: tuple[float, ...] | None
    tumours: tuple[Tumour, ...]
    seed: tuple[int, ...]


def carry_out(number: int, task: Task) -> tuple[int, bytes, str]:
    """Make an image of another one.

    Args:
        number: names the task.

    Returns:
        the number; the image as PNG, b"" where there is no place for it or the image has colours; the label of the
        tumour that was put in, else "".
    """
    image, random = grey(task.path), np.random.default_rng(task.seed)
    made, label = None, ""
    if image is not None and task.kind == PASTED:
        made, label = first_that_fits(image, task.tumours, random)
    elif image is not None:
        tumour = place_of(task.box, image.shape) if task.box else None
        made = move_out(image, tumour) if task.kind == FILLED and tumour else sham(image, tumour, random)
    return number, b"" if made is None else volume.png(Image.fromarray(made)), label


def first_that_fits(image: np.ndarray, tumours: tuple[Tumour, ...],
                    random: np.random.Generator) -> tuple[np.ndarray | None, str]:
    """Put in the first of several tumours that there is a place for; return the image and the tumour's label."""
    for one in tumours:
        donor = grey(one.path)
        if donor is not None:
            made = paste(image, donor, place_of(one.box, donor.shape), random)
            if made is not None:
                return made, one.label
    return None, ""


def grey(path: Path) -> np.ndarray | None:
    """Decode a canonical image: uint8 [h, w], None for one in colour."""
    with Image.open(io.BytesIO(path.read_bytes()), formats=("PNG", "JPEG")) as image:
        pixels = np.asarray(image)
    if pixels.ndim == 2:
        return pixels
    return pixels[..., 0] if (pixels == pixels[..., :1]).all() else None


def unit(shape: tuple[int, ...]) -> float:
    """Return the length that is a pixel of an image of 224 x 224, in pixels."""
    return (shape[0] * shape[1]) ** 0.5 / 224


def place_of(box: tuple[float, ...], shape: tuple[int, ...]) -> Place:
    """Return a box as it is written in boxes.Boxes as a place in an image [h, w]."""
    x, y, width, height = box
    return Place(x * shape[1], y * shape[0], width * shape[1], height * shape[0])


def widened(place: Place, factor: float, least: float) -> Place:
    """Return a place so many times as wide and high, at least `least` pixels either way."""
    return place._replace(width=max(place.width * factor, least), height=max(place.height * factor, least))


def ellipse(shape: tuple[int, ...], place: Place) -> np.ndarray:
    """Return which pixels of an image [h, w] lie in a place: bool [h, w]."""
    rows, columns = ((np.arange(side) + 0.5) for side in shape)
    return np.hypot((columns - place.x) / (place.width / 2), ((rows - place.y) / (place.height / 2))[:, None]) < 1


def fits(shape: tuple[int, ...], place: Place, margin: float = 1) -> bool:
    """Return whether a place lies in an image [h, w], with a margin in pixels."""
    return all(half + margin <= centre <= side - half - margin for centre, half, side in
               ((place.x, place.width / 2, shape[1]), (place.y, place.height / 2, shape[0])))


def around(mask: np.ndarray, margin: int) -> tuple[slice, slice]:
    """Return the rows and columns of what is true in a mask [h, w], with a margin in pixels as far as it goes on.

    Something must be true in it.
    """
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    return tuple(slice(max(line[0] - margin, 0), line[-1] + margin + 1)  # type: ignore[return-value]  # two
                 for line in (rows, columns))


def head(image: np.ndarray) -> np.ndarray:
    """Return which pixels are bright enough for the head, bool [h, w]."""
    return image > max(DARKEST, SHARE_OF_BRIGHT * np.percentile(image, 99))


def head_window(image: np.ndarray) -> tuple[slice, slice]:
    """Return the rows and columns of the head; all where there is none."""
    bright = head(image)
    rows, columns = bright.mean(axis=1) > FILLED_LINES, bright.mean(axis=0) > FILLED_LINES
    filled = rows[:, None] & columns
    return around(filled, 0) if filled.any() else around(np.ones_like(filled), 0)


def outside(image: np.ndarray) -> np.ndarray:
    """Return which pixels lie outside of the head's rows and columns, bool [h, w]."""
    result = np.ones(image.shape, bool)
    result[head_window(image)] = False
    return result


def move_out(image: np.ndarray, tumour: Place) -> np.ndarray | None:
    """Return a slice as it may look without its tumour, see fill().

    Args:
        image: uint8 [h, w]. tumour: its place, as its box says.
    """
    return fill(image, widened(tumour, WIDER_OUT, LEAST_OUT * unit(image.shape)), outside(image))


def sham(image: np.ndarray, tumour: Place | None, random: np.random.Generator) -> np.ndarray | None:
    """Replace a random place of the head that shows no tumour as fill() does, as large as if it were one.

    Args:
        image: uint8 [h, w]. tumour: its place, as its box says, which stays as it is; None for none.
        random: draws the place.
    """
    taken, is_head = np.zeros(image.shape, bool), head(image)
    if tumour:
        replaced = widened(tumour, WIDER_OUT, LEAST_OUT * unit(image.shape))
        taken = ellipse(image.shape, replaced)
    window = head_window(image)
    for _ in range(SHAM_TRIES):
        y, x = (random.uniform(line.start, line.stop) for line in window)
        width, height = ((replaced.width, replaced.height) if tumour else
                         random.uniform(*SHAM_SIZES, 2) * (image.shape[1], image.shape[0]))
        inside = ellipse(image.shape, Place(x, y, width, height))
        if not (inside & taken).any() and inside.any() and is_head[inside].mean() >= IN_HEAD:
            filled = fill(image, Place(x, y, width, height), outside(image) | taken)
            if filled is not None:
                return filled
    return None


def fill(image: np.ndarray, place: Place, forbidden: np.ndarray) -> np.ndarray | None:
    """Fill a place with what the slice shows elsewhere.

    Args:
        image: uint8 [h, w]. place: in it.
        forbidden: bool [h, w], what must not be copied; CORE of the place itself never is.

    Returns:
        uint8 [h, w], equal to image outside of the place; None where this reaches the image's rim, or nothing can be
        copied.
    """
    if not fits(image.shape, place):
        return None
    inside, ring = ellipse(image.shape, place), max(2, round(RING * unit(image.shape)))
    if not inside.any():
        return None
    window = around(inside, ring)
    mask = inside[window]
    core = ellipse(image.shape, place._replace(width=place.width * CORE, height=place.height * CORE))
    around_it = ndimage.binary_dilation(mask, iterations=ring) & ~mask
    found = best_match(image, window, mask, around_it, forbidden | core)
    return None if found is None else blended(image, window, mask, found)


def best_match(image: np.ndarray, window: tuple[slice, slice], mask: np.ndarray, ring: np.ndarray,
               forbidden: np.ndarray) -> np.ndarray | None:
    """Look for the part of a slice, as it is or mirrored, that continues the surroundings of a place best.

    What lies within it should be even: on ground that has few alternatives a nose would fill a brain.

    Args:
        image: uint8 [h, w].
        window: rows and columns of the place and its ring.
        mask, ring: bool [a, b], which pixels of the window are the place, and which are compared.
        forbidden: bool [h, w], of which nothing is copied.

    Returns:
        float64 [a, b], None where everything is forbidden or too unlike.
    """
    wanted, found = image[window].astype(float), None
    least = UNLIKE * image[head(image)].var() if head(image).any() else np.inf
    for step in (1, -1):
        source = image[:, ::step].astype(float)
        unlike = difference(source, wanted, ring) + variance(source, mask)
        unlike[compared(forbidden[:, ::step].astype(float), mask.astype(float)) > 0.5] = np.inf
        top, left = np.unravel_index(unlike.argmin(), unlike.shape)
        if unlike[top, left] < least:
            least, found = unlike[top, left], source[top : top + len(ring), left : left + ring.shape[1]]
    return found


def difference(source: np.ndarray, wanted: np.ndarray, ring: np.ndarray) -> np.ndarray:
    """Return how much every part of a slice differs from the wanted one, in grey values squared.

    Args:
        source: float64 [h, w]. wanted: float64 [a, b]. ring: bool [a, b], where they are compared.

    Returns:
        float64 [h - a + 1, w - b + 1]: the mean square of the difference, less FORGIVEN of its mean's square.
    """
    weights = ring / ring.sum()
    mean = compared(source, weights) - (weights * wanted).sum()
    square = compared(source**2, weights) - 2 * compared(source, weights * wanted) + (weights * wanted**2).sum()
    return square - FORGIVEN * mean**2


def variance(source: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the variance within a mask [a, b] for every part of a slice [h, w]: float64 [h - a + 1, w - b + 1]."""
    weights = mask / mask.sum()
    return compared(source**2, weights) - compared(source, weights) ** 2


def compared(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the weighted sums of every part of values [h, w] that is as large as weights [a, b]."""
    return signal.correlate(values, weights, mode="valid", method="fft")


def blended(image: np.ndarray, window: tuple[slice, slice], mask: np.ndarray, source: np.ndarray) -> np.ndarray:
    """Return a slice in which the gradients of another picture fill a region.

    Args:
        image: uint8 [h, w].
        window: rows and columns of the region, [a, b] pixels. mask: bool [a, b], the region, which no side of it has.
        source: float64 [a, b], what is put there.
    """
    own, result = image[window].astype(float), image.copy()
    filled = np.clip(source + membrane(own - source, mask), 0, 255)
    result[window] = np.where(mask, np.rint(filled), own)
    return result


def membrane(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Span a smooth surface over a region from the values around it: each pixel is the mean of its four neighbours.

    Args:
        values: float64 [h, w]; those in the region do not count.
        mask: bool [h, w], the region; nothing of it lies on the rim.

    Returns:
        float64 [h, w], 0 outside of the region.
    """
    here = np.argwhere(mask)
    numbers = np.full(mask.shape, -1)
    numbers[mask] = np.arange(len(here))
    matrix, known = 4 * sparse.eye_array(len(here), format="csr"), np.zeros(len(here))
    for step in ((0, 1), (1, 0), (0, -1), (-1, 0)):
        there = tuple((here + step).T)
        free = numbers[there] >= 0
        matrix -= sparse.coo_array((np.ones(free.sum()), (np.flatnonzero(free), numbers[there][free])), matrix.shape)
        known += np.where(free, 0, values[there])
    result = np.zeros(mask.shape)
    result[mask] = linalg.spsolve(matrix.tocsc(), known, permc_spec="MMD_AT_PLUS_A")  # it is symmetric
    return result


def paste(image: np.ndarray, donor: np.ndarray, tumour: Place, random: np.random.Generator) -> np.ndarray | None:
    """Put the tumour of another slice where it may lie in this one: about as far along the head, and within it.

    Args:
        image: uint8 [h, w]. donor: uint8 [k, l], the slice with the tumour. tumour: its place there, as its box says.
        random: draws size, turn, mirroring and place.

    Returns:
        uint8 [h, w], equal to image outside of the tumour; None where no place was found.
    """
    if not head(image).any() or not head(donor).any():
        return None
    is_mirrored = random.random() < 0.5
    cut = cut_out(donor, tumour, is_mirrored, relative_size(image, donor) * random.uniform(*SCALES),
                  random.uniform(-TURN, TURN))
    if cut is None:
        return None
    patch, mask = cut
    window = spot(image, mask, along_head(donor, tumour, is_mirrored), random)
    return None if window is None else blended(image, window, mask, matched(patch, donor, image))


def relative_size(image: np.ndarray, donor: np.ndarray) -> float:
    """Return how many times as large the head of an image is as that of another one, in length."""
    here, there = (np.prod([line.stop - line.start for line in head_window(one)]) for one in (image, donor))
    return float(here / there) ** 0.5


def cut_out(donor: np.ndarray, tumour: Place, is_mirrored: bool, scale: float,
            degrees: float) -> tuple[np.ndarray, np.ndarray] | None:
    """Cut a tumour out, mirror, turn and scale it.

    Args:
        donor: uint8 [k, l]. tumour: its place there, as its box says.
        is_mirrored, scale, degrees: what is done to it, in this order; degrees are against the clock.

    Returns:
        the pixels float64 [a, b] and which are the tumour, bool [a, b], none of these at the rim; None where the tumour
        lies at the donor's rim or vanishes.
    """
    place = widened(tumour, WIDER_IN, LEAST_IN * unit(donor.shape))
    if not fits(donor.shape, place, SEAM):
        return None
    inside = ellipse(donor.shape, place)
    window = around(inside, SEAM)
    patch, mask = (changed(one[window], is_mirrored, scale, degrees) for one in (donor, np.uint8(inside) * 255))
    is_tumour = np.pad((mask > 127)[1:-1, 1:-1], 1)
    if not is_tumour.any():
        return None
    kept = around(is_tumour, 1)
    return patch[kept].astype(float), is_tumour[kept]


def changed(pixels: np.ndarray, is_mirrored: bool, scale: float, degrees: float) -> np.ndarray:
    """Mirror pixels uint8 [a, b], turn them against the clock and scale them, at least to 3 x 3."""
    image = Image.fromarray(pixels[:, ::-1] if is_mirrored else pixels)
    turned = image.rotate(degrees, Image.Resampling.BILINEAR, expand=True)
    size = (max(3, round(turned.width * scale)), max(3, round(turned.height * scale)))
    return np.asarray(turned.resize(size, Image.Resampling.BILINEAR))


def along_head(donor: np.ndarray, tumour: Place, is_mirrored: bool) -> tuple[float, float]:
    """Return how far from above and from the left a tumour lies in the head, as shares of its height and width."""
    rows, columns = head_window(donor)
    down, right = ((centre - line.start) / (line.stop - line.start)
                   for centre, line in ((tumour.y, rows), (tumour.x, columns)))
    return down, 1 - right if is_mirrored else right


def spot(image: np.ndarray, mask: np.ndarray, wanted: tuple[float, float],
         random: np.random.Generator) -> tuple[slice, slice] | None:
    """Look for a place in the head, first near the wanted one, then farther and farther from it.

    Args:
        image: uint8 [h, w]. mask: bool [a, b], what is to lie there. wanted: see along_head(). random: draws places.

    Returns:
        rows and columns of the mask in the image, None where IN_HEAD of it is never head.
    """
    is_head, lines = head(image), head_window(image)
    for attempt in range(TRIES):
        reach = 0.04 + 0.03 * attempt
        top, left = (round(line.start + (share + random.uniform(-reach, reach)) * (line.stop - line.start) - side / 2)
                     for line, share, side in zip(lines, wanted, mask.shape, strict=True))
        window = slice(top, top + mask.shape[0]), slice(left, left + mask.shape[1])
        is_within = min(top, left) >= 0 and all(line.stop <= side for line, side in
                                                zip(window, image.shape, strict=True))
        if is_within and is_head[window][mask].mean() >= IN_HEAD:
            return window
    return None


def matched(patch: np.ndarray, donor: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Give pixels of one slice the grey levels of another: the median and, within limits, the spread of the head's.

    Args:
        patch: float64 [a, b], of donor. donor: uint8 [k, l]. image: uint8 [h, w], whose levels are taken.
    """
    (low, middle, high), (least, mean, most) = (np.percentile(one[head(one)], (5, 50, 95)) for one in (donor, image))
    return (patch - middle) * np.clip((most - least) / max(high - low, 1), *CONTRAST) + mean
