"""No split cuts a group, and each gets the wanted fraction of every class."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from core import contract
from stages.common.command import StageError
from stages.data import splitting
from stages.data.dataset import Row
from stages.data.spelling import TUMOUR

K = len(contract.CLASSES)


def rows(label: str, origin: str, count: int, groups: int, start: int) -> list[Row]:
    """Return images in so many groups, whose numbers begin at `start`."""
    return [Row("", label, start + index % groups, "", "", origin=origin) for index in range(count)]


@pytest.fixture
def pool() -> list[Row]:
    """A large source of all classes, and a small one of patients with tumours of unknown type and slices without."""
    own = [row for place, label in enumerate(contract.CLASSES) for row in rows(label, "a", 200, 50, 1000 * place)]
    return own + rows(TUMOUR, "b", 40, 20, 9000) + rows(contract.HEALTHY, "b", 40, 20, 9010)


def halves(pool: list[Row], defaults, **changes) -> dict[str, list[Row]]:
    params = replace(defaults.prepare, further_sources=["b"], test_fraction=0.5, validation_fraction=0.5, **changes)
    return splitting.split(pool, np.zeros(len(pool), bool), params)


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


def test_every_label_of_every_origin_is_shared_out(pool, defaults):
    counted = {name: Counter((row.origin, row.label) for row in part) for name, part in halves(pool, defaults).items()}
    assert all(counted["test"]["a", label] == 100 for label in contract.CLASSES)
    assert counted["test"]["b", contract.HEALTHY] + counted["untyped"]["b", TUMOUR] == 40
    assert counted["untyped"]["b", TUMOUR] > 9 and counted["test"]["b", contract.HEALTHY] > 9


@pytest.mark.parametrize("seed", range(4))
def test_what_is_learnt_from_shares_no_group_with_what_is_tested(pool, defaults, seed):
    splits = halves(pool, defaults, seed=seed)
    groups = {name: {row.group for row in part} for name, part in splits.items()}
    tested = groups["test"] | groups["untyped"]
    assert not groups["train"] & groups["validation"] and not (groups["train"] | groups["validation"]) & tested
    assert sum(map(len, splits.values())) == len(pool)


def test_types_are_known_wherever_they_are_asked_for(pool, defaults):
    labels = {name: {row.label for row in part} for name, part in halves(pool, defaults).items()}
    assert labels["untyped"] == {TUMOUR} and TUMOUR in labels["train"]
    assert labels["test"] == labels["validation"] == set(contract.CLASSES)


def test_without_tumours_of_unknown_type_there_is_no_split_of_them(pool, defaults):
    assert set(halves([row for row in pool if row.label != TUMOUR], defaults)) == {"train", "validation", "test"}


def test_origins_count_only_beside_further_sources(pool):
    labels = [contract.CLASSES.index(row.label) for row in pool[:800]]
    assert splitting.strata(pool[:800], by_origin=False).tolist() == labels
    assert len(set(splitting.strata(pool, by_origin=True).tolist())) == K + 2


@pytest.mark.parametrize("wanted, held", [("b", "b"), (["a", "c"], "ac"), (None, ""), ([], "")])
def test_one_source_or_several_are_held_out(wanted, held):
    rows = [Row("", "glioma", index, "", "", origin=origin) for index, origin in enumerate("aabbcd")]
    found = splitting.held_out(rows, np.zeros(6, bool), wanted)
    assert {row.origin for row, inside in zip(rows, found, strict=True) if inside} == set(held)


@pytest.mark.parametrize("wanted", ["e", ["a", "e"], ["a", "b", "c", "d"]])
def test_a_source_that_is_not_there_or_all_of_them_cannot_be_held_out(wanted):
    rows = [Row("", "glioma", index, "", "", origin=origin) for index, origin in enumerate("aabbcd")]
    with pytest.raises(StageError, match="prepare.hold_out_source"):
        splitting.held_out(rows, np.zeros(6, bool), wanted)
