"""What this machine's processor computes in hardware: training and serving choose their numeric precision by it."""

from pathlib import Path

FACTS = Path("/proc/cpuinfo")
BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16"})
INT8 = frozenset({"avx2"})
"""Of all that speed int8 up the oldest: weights of 7 bits (stages/triton/quantization.py) keep its 16-bit sums in
range."""


def has(instructions: frozenset[str], facts: Path = FACTS) -> bool:
    """Return whether the processor has any of some instructions.

    Args:
        instructions: BFLOAT16 or INT8.
        facts: lists the processor's abilities, on Linux; without it the answer is no.
    """
    return facts.is_file() and not instructions.isdisjoint(facts.read_text().split())
