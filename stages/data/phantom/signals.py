"""What a scanner measures of each tissue: proton density and relaxation times -> signal.

The table and the equations are those of BrainWeb (Kwan, Evans & Pike, IEEE Trans. Med. Imaging 18:1085, 1999).
"""

import numpy as np

WEIGHTINGS = ("t1c", "t2", "flair")
WEIGHTING_FRACTIONS = (0.8, 0.1, 0.1)
"""Contrast-enhanced T1 is the workhorse of tumour imaging; the fractions are the same for every class."""

# Proton density (water = 1), T1 and T2 in ms at 1.5 T, and contrast agent in mmol/l a few minutes after injection.
# Normal tissue: the BrainWeb table (https://brainweb.bic.mni.mcgill.ca, tissue_mr_parameters), blood: Stanisz et al.,
# Magn. Reson. Med. 54:507, 2005. Tumours and oedema: inside the ranges of Just & Thelen, Radiology 169:779, 1988.
# Bone and air give next to no signal. The agent's concentrations are chosen, not measured.
TISSUES = {
    "air": (0.005, 800, 50, 0.0),
    "bone": (0.05, 500, 30, 0.0),
    "marrow": (0.55, 380, 60, 0.02),
    "fat": (1.00, 350, 70, 0.0),
    "muscle": (0.90, 900, 47, 0.10),
    "mucosa": (0.90, 1000, 80, 0.35),
    "dura": (0.50, 900, 50, 0.60),
    "csf": (1.00, 2569, 329, 0.0),
    "grey": (0.86, 833, 83, 0.03),
    "deep grey": (0.84, 740, 76, 0.03),
    "white": (0.77, 500, 70, 0.02),
    "blood": (0.85, 1441, 120, 1.00),
    "gland": (0.85, 850, 85, 0.50),
    "glioma": (0.90, 1150, 115, 0.62),
    "necrosis": (0.97, 1900, 220, 0.02),
    "oedema": (0.90, 1150, 125, 0.0),
    "meningioma": (0.88, 1000, 95, 0.75),
    "adenoma": (0.88, 1000, 100, 0.55),
}
RELAXIVITY_1, RELAXIVITY_2 = 4.1e-3, 4.6e-3
"""Gadopentetate in plasma at 1.5 T, per (mmol/l) and ms: Rohrer et al., Invest. Radiol. 40:715, 2005."""


def relax(tissue: str, agent: float) -> tuple[float, float, float]:
    """Return proton density, T1 and T2 (ms) with `agent` times the table's contrast agent: 1/T = 1/T0 + r C."""
    density, t1, t2, concentration = TISSUES[tissue]
    c = agent * concentration
    return density, 1 / (1 / t1 + RELAXIVITY_1 * c), 1 / (1 / t2 + RELAXIVITY_2 * c)


def spin_echo(density, t1, t2, repetition, echo) -> float:
    """Return the spin-echo signal (times in ms): PD (1 - exp(-TR/T1)) exp(-TE/T2)."""
    return density * (1 - np.exp(-repetition / t1)) * np.exp(-echo / t2)


def spoiled_gradient_echo(density, t1, t2, repetition, echo, angle) -> float:
    """Return PD sin(a) (1 - E1) / (1 - E1 cos(a)) exp(-TE/T2), E1 = exp(-TR/T1); times in ms, the flip in degrees.

    Source: Haacke et al., "Magnetic Resonance Imaging", Wiley 1999, section 18.1; T2 stands in for T2*.
    """
    e1, a = np.exp(-repetition / t1), np.radians(angle)
    return density * np.sin(a) * (1 - e1) / (1 - e1 * np.cos(a)) * np.exp(-echo / t2)


def inversion_recovery(density, t1, t2, repetition, echo, inversion) -> float:
    """Return the magnitude signal after inversion: PD |1 - 2 exp(-TI/T1) + exp(-TR/T1)| exp(-TE/T2), times in ms."""
    return density * abs(1 - 2 * np.exp(-inversion / t1) + np.exp(-repetition / t1)) * np.exp(-echo / t2)


def tissue_signals(weighting: str, rng: np.random.Generator) -> dict[str, float]:
    """Return the signal of every tissue under one weighting, with scanner timings drawn from clinical ranges."""
    stretch = rng.uniform(0, 1)
    if weighting == "t1c":
        agent, gradient = rng.uniform(0.8, 1.3), rng.random() < 0.5
        equation = spoiled_gradient_echo if gradient else spin_echo
        timing = (12 + 10 * stretch, 4.0, 25.0) if gradient else (420 + 230 * stretch, 11.0)
        return {name: equation(*relax(name, agent), *timing) for name in TISSUES}
    if weighting == "t2":
        signals = {name: spin_echo(*relax(name, 0), 3500 + 1500 * stretch, 85 + 20 * stretch) for name in TISSUES}
    else:
        repetition, csf_t1 = 8000 + 2000 * stretch, TISSUES["csf"][1]
        null = csf_t1 * np.log(2 / (1 + np.exp(-repetition / csf_t1)))  # the inversion time at which CSF vanishes
        timing = (repetition, 100 + 20 * stretch, null)
        signals = {name: inversion_recovery(*relax(name, 0), *timing) for name in TISSUES}
    return signals | {"blood": 0.02}  # fast blood leaves the slice before the echo: a flow void
