"""No split cuts a group, and each gets the wanted fraction of every class."""

import numpy as np
import pytest

from core import contract
from stages.data import splitting

K = len(contract.CLASSES)


@pytest.mark.parametrize("seed", range(5))
def test_hold_out_takes_whole_groups_and_the_wanted_fraction(seed):
    random = np.random.default_rng(seed)
    groups = random.integers(0, 150, 1000)
    labels = groups % K
    chosen = splitting.hold_out(labels, groups, 0.2, seed)
    assert not set(groups[chosen]) & set(groups[~chosen])
    for label in range(K):
        assert chosen[labels == label].mean() == pytest.approx(0.2, abs=0.03)


def test_hold_out_is_decided_by_the_seed():
    labels, groups = np.arange(400) % K, np.arange(400)
    first, again, other = (splitting.hold_out(labels, groups, 0.2, seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
