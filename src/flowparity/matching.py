# SPDX-License-Identifier: Apache-2.0
"""Optimal assignment of expected to actual things (S-CMP-3), exactly and without dependencies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

T = TypeVar("T", bound=Hashable)


def assign(costs: Sequence[Sequence[int]]) -> list[int]:
    """For each row of a matrix with at least as many columns as rows, its column in an assignment of least total cost.

    The Hungarian method with potentials and shortest augmenting paths: O(rows² × columns).
    """
    rows = len(costs)
    columns = len(costs[0]) if rows else 0
    if columns < rows:
        raise ValueError(f"{rows} rows need as many columns, not {columns}")
    row_price = [0] * (rows + 1)
    column_price = [0] * (columns + 1)
    owner = [0] * (columns + 1)  # row of each column, both counted from 1; column 0 holds the row being placed
    for row in range(1, rows + 1):
        owner[0] = row
        column = 0
        slack: list[float] = [float("inf")] * (columns + 1)
        came_from = [0] * (columns + 1)
        done = [False] * (columns + 1)
        while owner[column]:
            done[column] = True
            current = owner[column]
            line = costs[current - 1]
            price = row_price[current]
            delta, nearest = float("inf"), 0
            for j in range(1, columns + 1):
                if done[j]:
                    continue
                reduced = line[j - 1] - price - column_price[j]
                if reduced < slack[j]:
                    slack[j] = reduced
                    came_from[j] = column
                if slack[j] < delta:
                    delta, nearest = slack[j], j
            step = int(delta)
            for j in range(columns + 1):
                if done[j]:
                    row_price[owner[j]] += step
                    column_price[j] -= step
                else:
                    slack[j] -= step
            column = nearest
        while column:
            before = came_from[column]
            owner[column] = owner[before]
            column = before
    found = [0] * rows
    for column in range(1, columns + 1):
        if owner[column]:
            found[owner[column] - 1] = column - 1
    return found


def pair(expected: Sequence[T], actual: Sequence[T], cost: Callable[[T, T], int], *, metric: bool) -> tuple[list[tuple[int, int]], list[int], list[int]]:
    """Pairs so many as can be, at the least total cost: (pairs of indices, unpaired expected, unpaired actual).

    With `metric` the cost is a distance, so that equal things can be paired first without harm to the optimum (by the triangle inequality).
    """
    pairs: list[tuple[int, int]] = []
    left, right = list(range(len(expected))), list(range(len(actual)))
    if metric:
        places: defaultdict[T, list[int]] = defaultdict(list)
        for j in reversed(right):
            places[actual[j]].append(j)
        rest = []
        for i in left:
            same = places[expected[i]]
            if same:
                pairs.append((i, same.pop()))
            else:
                rest.append(i)
        taken = {j for _, j in pairs}
        left, right = rest, [j for j in right if j not in taken]
    if len(left) == len(right):  # the usual case, where times agree within tolerance: a pairing that costs nothing is optimal
        in_order = list(zip(sorted(left, key=lambda i: repr(expected[i])), sorted(right, key=lambda j: repr(actual[j])), strict=True))
        if all(cost(expected[i], actual[j]) == 0 for i, j in in_order):
            return pairs + in_order, [], []
    if left and right:
        if len(left) <= len(right):
            chosen = assign([[cost(expected[i], actual[j]) for j in right] for i in left])
            new = [(i, right[column]) for i, column in zip(left, chosen, strict=True)]
        else:
            chosen = assign([[cost(expected[i], actual[j]) for i in left] for j in right])
            new = [(left[column], j) for j, column in zip(right, chosen, strict=True)]
        pairs += new
        paired_left, paired_right = {i for i, _ in new}, {j for _, j in new}
        left, right = [i for i in left if i not in paired_left], [j for j in right if j not in paired_right]
    return pairs, left, right
