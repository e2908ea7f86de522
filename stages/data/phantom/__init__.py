"""Synthetic brain-MRI slices: the data set that needs no download.

    python -m stages.data.phantom phantoms --images-per-class 10 --size 224 --seed 0

An analytic 3-D head is evaluated on the pixel grid of one slice; no volume is ever built. The head is made of
ellipsoids, as in the Shepp-Logan phantom and its 3-D form (Kak & Slaney, "Principles of Computerized Tomographic
Imaging", IEEE Press 1988, section 3.1), and of tubes, with a folded cortex. Every tissue has a proton density and
relaxation times, so the three contrasts (contrast-enhanced T1, T2, FLAIR) come out of the MR signal equations, as in
BrainWeb (Kwan, Evans & Pike, IEEE Trans. Med. Imaging 18:1085, 1999). A smooth gain field and Rician noise follow.

Distances are in millimetres in head coordinates: x to the patient's left, y to the front, z up; the origin is the
middle of the cerebrum. Planes, contrasts and slice positions are drawn the same way for all classes.

The phantoms teach a network shapes, not medicine: scores reached on them say nothing about patients.
"""

from stages.data.phantom.drawing import Phantom, draw
from stages.data.phantom.tumours import NoPainter
from stages.data.phantom.writing import phantom_seed, png, write_dataset

__all__ = ["NoPainter", "Phantom", "draw", "phantom_seed", "png", "write_dataset"]
