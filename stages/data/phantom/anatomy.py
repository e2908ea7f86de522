"""The healthy head: skull, face, brain and vessels, painted on a canvas."""

import numpy as np

from stages.data.phantom.canvas import Canvas
from stages.data.phantom.geometry import double, ellipsoid, smooth_max, smooth_min

BRAIN = np.array([66.0, 84.0, 64.0], np.float32)
"""Half axes of the inside of the skull's vault, mm."""
SELLA = np.array([0.0, 14.0, -27.0], np.float32)
"""The pituitary gland's place on the skull base, mm."""


def skull_base(x, y) -> np.ndarray:
    """Return the height z (mm) of the cavity's floor: front, middle (with the sella's saddle) and rear fossa."""
    middle = -41 + 15 * np.exp(-((x / 15) ** 2))
    front = -25 + 5 * np.tanh((np.abs(x) - 15) / 6) + 0.22 * (y - 40)
    rear = 0.5 + 0.5 * np.tanh((y + 8) / 9)
    ahead = 0.5 + 0.5 * np.tanh((y - 33) / 5)
    return -66 + rear * (middle + 66) + ahead * (front - middle)


def inner_skull(x, y, z) -> np.ndarray:
    """Return about the signed distance (mm) to the inside of the skull, negative inside."""
    vault = ellipsoid(x, y, z, (0, 0, 0), BRAIN)
    low = ellipsoid(x, y, z, (0, 0, 0), BRAIN * np.float32([1, 1, 1.18]))
    return smooth_max(np.where(z > 0, vault, low), 0.75 * (skull_base(x, y) - z), 4)


def skin_surface(x, y, z, thickness: float) -> np.ndarray:
    """Return about the signed distance (mm) to the skin, which lies `thickness` mm around the vault's inside."""
    outer = ellipsoid(x, y, z, (0, 0, 0), BRAIN + np.float32(thickness))
    face = ellipsoid(x, y, z, (0, 46, -62), (52, 50, 66))
    nose = ellipsoid(x, y, z, (0, 98, -52), (11, 17, 18))
    neck = np.maximum(np.sqrt((x / 54) ** 2 + ((y + 18) / 55) ** 2) * 54 - 54, z + 45)
    return smooth_min(smooth_min(outer, smooth_min(face, nose, 10), 9), neck, 16)


def paint_head(canvas: Canvas, bone: float) -> None:
    """Paint what lies outside the brain: skin, fat, muscle, a skull `bone` mm thick, the face with its air spaces."""
    skin = canvas.skin
    canvas.paint(skin, "muscle")
    canvas.paint(skin + 2 + 0.5 * canvas.noise(24), "fat")
    deep = 7 + 4 * canvas.noise(12, 3)
    low = np.clip((-18 - canvas.z) / 14, 0, 1)
    canvas.paint(np.maximum(skin + deep, 4 - 8 * low), "muscle", soft=2)
    strands = np.abs(canvas.noise(14, 4) + 0.5 * canvas.noise(40, 2)) * 4 + 0.2 - 0.8 * canvas.noise(12, 3)
    canvas.paint(np.maximum(np.maximum(skin + 9, strands), 2 - 4 * low), "fat", soft=4)
    _paint_face(canvas)
    roof = np.clip((-8 - canvas.z) / 8, 0, 1) * np.clip((canvas.y - 15) / 10, 0, 1)  # the orbits' is paper-thin
    shell = np.maximum(canvas.inside - bone * (1 - 0.5 * low - 0.4 * roof) + low * canvas.noise(24, 1), skin + 3)
    canvas.paint(shell, "bone")
    diploe = np.abs(canvas.inside - bone * 0.6) - bone * (0.12 + 0.12 * canvas.noise(24) + 0.3 * low)
    canvas.paint(diploe, "marrow", soft=1.5)


def _paint_face(canvas: Canvas) -> None:
    """Paint orbits, eyes, air spaces, the spine and the ears' bone."""
    for side in (-1, 1):
        canvas.blob((30 * side, 56, -36), (17, 26, 16), "fat", 2)
        canvas.blob((31 * side, 72, -35), (13.5, 13.5, 13.5), "muscle")
        canvas.blob((31 * side, 72, -35), (11.8, 11.8, 11.8), "csf")
        canvas.tube((29 * side, 60, -35), (10 * side, 26, -30), 2.2, 2.2, "white")
        canvas.tube((42 * side, 62, -35), (24 * side, 32, -34), 2, 2.5, "muscle")
        canvas.tube((19 * side, 64, -35), (16 * side, 32, -34), 2, 2.5, "muscle")
        canvas.blob((25 * side, 56, -66), (15, 17, 15), "air", rough=1.5)
        canvas.blob((43 * side, -14, -46), (19, 13, 11), "bone", 2, rough=4)
        canvas.blob((51 * side, -24, -55), (8, 10, 10), "air", 2, rough=3)
        canvas.blob((55 * side, 36, -30), (6, 15, 20), "muscle", 2)
    canvas.blob((0, 58, -48), (14, 29, 19), "mucosa", rough=1)
    canvas.blob((0, 58, -48), (12, 27, 17), "air", rough=2)
    for side, height in ((-1, -42), (1, -43), (-1, -54), (1, -55)):
        canvas.tube((4.5 * side, 36, height + 2), (5 * side, 76, height - 1), 3.5, 2.5, "mucosa")
    canvas.tube((0, 84, -86), (0, 40, -76), 1.5, 3, "air")
    canvas.blob((0, 26, -41), (13, 11, 9), "air", rough=1.2)
    canvas.blob((0, 86, -18), (15, 4, 10), "air", rough=1.5)
    canvas.blob((0, 48, -88), (24, 33, 17), "muscle", 2)
    canvas.tube((0, 8, -62), (0, 2, -130), 7, 6, "air", 2)
    canvas.tube((0, -12, -72), (0, -14, -150), 10, 12, "marrow", 2)
    for level in range(-78, -150, -14):
        canvas.blob((0, -12, level), (12, 9, 2.2), "bone", 2)
    canvas.tube((0, -32, -62), (0, -38, -150), 9, 8, "csf", 2)


def folds(canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    """Return the distance (mm) of each pixel from the nearest sulcus, on a pattern drawn over the brain's surface.

    The zero lines of band-limited noise wander like gyri; the noise is a function of the direction from the middle
    alone, so sulci run inwards from the surface. Dividing by the noise's envelope keeps the folds evenly wide.
    """
    x, y, z = (np.ascontiguousarray(p[::2, ::2]) for p in (canvas.x, canvas.y, canvas.z))
    level = np.sqrt((x / BRAIN[0]) ** 2 + (y / BRAIN[1]) ** 2 + (z / BRAIN[2]) ** 2) + np.float32(1e-3)
    bend = [p / level + np.float32(2.2) * canvas.noise(20, i % 2)[::2, ::2] for i, p in enumerate((x, y, z))]
    waves, length = 12, rng.uniform(19, 25)
    k = rng.normal(size=(waves, 3))
    k *= 2 * np.pi / length * rng.uniform(0.75, 1.25, (waves, 1)) / np.linalg.norm(k, axis=1, keepdims=True)
    k, phase = np.float32(k)[:, :, None, None], np.float32(rng.uniform(0, 2 * np.pi, waves))[:, None, None]
    angle = k[:, 0] * bend[0] + k[:, 1] * bend[1] + k[:, 2] * bend[2] + phase
    wave, quarter = np.cos(angle).sum(0), np.sin(angle).sum(0)
    sulcus = wave / np.sqrt(wave * wave + quarter * quarter + 1) * np.minimum(level, 1)
    return np.abs(double(sulcus, canvas.x.shape)) * np.float32(length / 6.3)


def paint_brain(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint CSF, the folded cortex, white matter, and the deep structures of the cerebrum."""
    x, y, z = canvas.x, canvas.y, canvas.z
    gap, sulcus_width, sulcus_depth = rng.uniform(1.0, 2.4), rng.uniform(0.2, 1.0), rng.uniform(13, 22)
    canvas.paint(canvas.inside, "dura")
    canvas.paint(canvas.inside + 1, "csf")
    depth = -canvas.inside - np.float32(gap)
    roof = -27 + 15 * np.exp(-((x / 26) ** 2)) - 0.12 * (y + 50)  # the tentorium, between cerebrum and cerebellum
    behind = np.clip((-12 - y) / 8, 0, 1)
    depth = np.minimum(depth, 0.8 * (z - roof) * behind + 60 * (1 - behind))
    callosum = np.sqrt(((y + 8) / 42) ** 2 + ((z - 4) / 27) ** 2) * 30 - 30
    falx = np.abs(x + canvas.noise(12, 3) * 0.7) + np.clip(-callosum, 0, None)
    sylvian = np.abs(z + 10 - 0.3 * (y - 10) + 4 * canvas.noise(12)) + np.clip(34 - np.abs(x), 0, None) * 0.8 \
        + np.clip(np.abs(y - 8) - 30, 0, None) * 0.5
    pial = folds(canvas, rng) + np.clip(depth - sulcus_depth - 4 * canvas.noise(12), 0, None) * 0.6
    pial = np.minimum(np.minimum(pial - sulcus_width, depth), np.minimum(falx - 1.0, sylvian - 1.4))
    canvas.pial = pial
    canvas.paint(-pial, "grey", soft=0.6)
    canvas.paint(2.6 - pial + 0.4 * canvas.noise(40, 2), "white", soft=1.0)
    canvas.paint(np.maximum(np.abs(x) - 0.5, np.maximum(-callosum + 4, canvas.inside)), "dura", soft=0.5)
    _paint_deep(canvas, rng)


def _paint_deep(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint the basal ganglia, the ventricles, the brain stem and the cerebellum."""
    width = rng.uniform(0.65, 1.5)
    for side in (-1, 1):
        canvas.blob((24 * side, 4, 0), (6, 19, 10), "deep grey", 2)
        canvas.blob((11 * side, -17, 2), (9, 14, 10), "deep grey", 2)
        canvas.tube((14 * side, 26, 6), (18 * side, -12, 20), 6, 3, "deep grey", 2)
        path = [(13, 36, 4), (5, 12, 12), (8, -14, 19), (20, -38, 10)]
        radii = np.array([4.5, 4, 4.5, 6]) * width
        for i, shift in ((i, shift) for i in range(3) for shift in (0, 1)):  # twice, the second further out: a wing
            a, b = ((side * (p[0] + 5 * shift), p[1], p[2] + 2.5 * shift) for p in path[i : i + 2])
            canvas.tube(a, b, radii[i] * (1 - 0.35 * shift), radii[i + 1] * (1 - 0.2 * shift), "csf", 1.5)
        canvas.tube((20 * side, -38, 10), (18 * side, -60, 4), radii[3] * 0.9, 1.5 * width, "csf", 1.5)
        canvas.tube((22 * side, -36, 4), (31 * side, -6, -24), 3 * width, 1.5 * width, "csf", 1.5)
        canvas.tube((17 * side, -36, 11), (9 * side, -14, 17), 2, 1.5, "gland", 1.5)
    canvas.blob((0, -6, 0), (1.8 * width, 15, 11), "csf", 1.5)
    _paint_rear(canvas, rng)
    canvas.blob((0, 8, -21), (12, 10, 6), "csf", 2)
    canvas.tube((-7, 4, -17), (7, 4, -17), 2, 2, "white")


def _paint_rear(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint the cerebellum with its leaves, the brain stem and the fourth ventricle."""
    for side in (-1, 1):
        centre, radii = np.float32((25 * side, -47, -43)), np.float32((31, 35, 27))
        window = canvas.window(centre - radii - 3, centre + radii + 3)
        if window is None:
            continue
        near = ellipsoid(canvas.x[window], canvas.y[window], canvas.z[window], centre, radii)
        roof = canvas.z[window] + 28 - 15 * np.exp(-((canvas.x[window] / 26) ** 2)) + 0.12 * (canvas.y[window] + 50)
        near = smooth_max(smooth_max(near, canvas.inside[window] + 2, 3), 0.8 * roof + 1, 2)
        canvas.paint(near, "grey", window)
        leaf = np.sin(near * 1.25 + 1.5 * canvas.noise(20)[window] + 0.35 * canvas.z[window])
        canvas.paint(np.maximum(near + 2, (0.72 - leaf) * 1.2), "csf", window, soft=2)
        canvas.paint(near + 8 + 2.5 * canvas.noise(24, 1)[window], "white", window, soft=3)
    canvas.blob((0, -49, -38), (10, 25, 22), "grey", 2, rough=1.5)
    canvas.blob((0, -33, -42), (8, 5, 11), "csf", 1.5)
    canvas.tube((0, -16, -14), (0, -14, -32), 12, 13, "white", 2)
    canvas.blob((0, -11, -35), (16, 12, 13), "white", 2)
    canvas.tube((0, -18, -44), (0, -32, -68), 9, 6.5, "white", 2)
    canvas.tube((0, -32, -68), (0, -38, -150), 6, 6, "white", 2)
    canvas.tube((0, -27, -12), (0, -31, -24), 1.3, 1.3, "csf")


def paint_vessels(canvas: Canvas) -> None:
    """Paint the large vessels and the normal pituitary gland, which take up contrast agent in every class."""
    window = canvas.window(np.float32((-6, -90, -30)), np.float32((6, 40, 70)))
    if window:  # the sagittal sinus follows the vault in the midline
        x, y, z = (p[window] for p in (canvas.x, canvas.y, canvas.z))
        sinus = np.sqrt(x * x + (canvas.inside[window] + 1) ** 2) - 3.3
        canvas.paint(np.maximum(sinus, np.maximum(y - 40, -30 - z)), "blood", window)
    for side in (-1, 1):
        canvas.tube((0, -80, -22), (48 * side, -50, -29), 2.8, 2.6, "blood")
        canvas.tube((12 * side, 22, -28), (12 * side, 4, -27), 4.5, 4.5, "gland")
        canvas.tube((12 * side, 6, -20), (40 * side, 8, -14), 1.7, 1.3, "blood")
        canvas.tube((2 * side, 18, -14), (2 * side, 36, -2), 1.3, 1.1, "blood")
    canvas.tube((0, 2, -24), (0, -2, -50), 1.8, 1.8, "blood")
    canvas.tube((0, -36, 4), (0, -52, 2), 2.2, 2.2, "blood")
    canvas.blob(SELLA, (6, 5, 3.5), "gland")
    canvas.tube(SELLA, (0, 9, -17), 1.2, 1.0, "gland")
    # cortical veins: bright where they run in sulci
    crossing = np.maximum(1.6 - canvas.noise(48, 7), np.maximum(np.abs(canvas.pial + 0.8) - 0.9, canvas.inside + 1))
    canvas.paint(crossing, "blood", soft=0.5)
