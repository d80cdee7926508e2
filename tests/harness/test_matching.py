# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowparity.matching import assign, pair

Matrix = list[list[int]]
matrices = st.integers(1, 5).flatmap(
    lambda rows: st.integers(rows, 6).flatmap(
        lambda columns: st.lists(st.lists(st.integers(0, 9), min_size=columns, max_size=columns), min_size=rows, max_size=rows)
    )
)
records = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 2)), max_size=5)


@given(matrices)
def test_assignment_is_optimal(costs: Matrix) -> None:
    found = assign(costs)
    assert len(set(found)) == len(costs)
    best = min(sum(costs[i][j] for i, j in enumerate(columns)) for columns in permutations(range(len(costs[0])), len(costs)))
    assert sum(costs[i][j] for i, j in enumerate(found)) == best


def test_more_rows_than_columns_is_refused() -> None:
    with pytest.raises(ValueError, match="as many columns"):
        assign([[1], [2]])


def differing(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    return sum(x != y for x, y in zip(a, b, strict=True))


@given(records, records, st.booleans())
def test_pairs_cost_the_least(a: list[tuple[int, ...]], b: list[tuple[int, ...]], metric: bool) -> None:
    pairs, left, right = pair(a, b, differing, metric=metric)
    assert len(pairs) == min(len(a), len(b))
    assert sorted([i for i, _ in pairs] + left) == list(range(len(a)))
    assert sorted([j for _, j in pairs] + right) == list(range(len(b)))
    few, many = (a, b) if len(a) <= len(b) else (b, a)
    best = min(sum(differing(few[i], many[j]) for i, j in enumerate(columns)) for columns in permutations(range(len(many)), len(few)))
    assert sum(differing(a[i], b[j]) for i, j in pairs) == best


def close(a: int, b: int) -> int:
    return int(abs(a - b) > 1)


def test_equal_first_is_wrong_where_equality_has_a_tolerance() -> None:
    """0, 1 against 1, 2 pair without a difference only if the equal 1s are not paired first."""
    pairs, _, _ = pair([0, 1], [1, 2], close, metric=False)
    assert sum(close([0, 1][i], [1, 2][j]) for i, j in pairs) == 0


def test_a_thousand_alike_take_no_time() -> None:
    pairs, left, right = pair([(1,)] * 1000, [(1,)] * 1000, differing, metric=True)
    assert len(pairs) == 1000
    assert not left
    assert not right
