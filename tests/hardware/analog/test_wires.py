"""Wires: the elimination equals all nodes at once, and what must hold of any network of resistors."""

import numpy as np
import pytest
import torch
from scipy.sparse import coo_array
from scipy.sparse.linalg import spsolve
from torch import Tensor
from torch.testing import assert_close

from spikeport.hardware.analog.wires import through_wires


def nodal(conductance: Tensor, wire_ohm: float) -> Tensor:
    """Effective conductances by Kirchhoff's law at every node, solved at once for a volt at each row in turn."""
    columns, rows = conductance.shape
    row_node = np.arange(rows * columns).reshape(rows, columns)
    column_node = row_node + rows * columns
    edges, held = [], []  # (node, node, siemens); (node, siemens, row of the driver or -1 for ground)
    wire = 1 / wire_ohm
    for i in range(rows):
        held.append((row_node[i, 0], wire, i))
        edges += [(row_node[i, j], row_node[i, j + 1], wire) for j in range(columns - 1)]
        edges += [(row_node[i, j], column_node[i, j], float(conductance[j, i]) * 1e-6) for j in range(columns)]
    for j in range(columns):
        held.append((column_node[rows - 1, j], wire, -1))
        edges += [(column_node[i, j], column_node[i + 1, j], wire) for i in range(rows - 1)]
    size = 2 * rows * columns
    entries = [(a, b, s) for p, q, g in edges for a, b, s in ((p, p, g), (q, q, g), (p, q, -g), (q, p, -g))]
    entries += [(node, node, g) for node, g, _ in held]
    a, b, s = (np.array(part) for part in zip(*entries, strict=True))
    drive = np.zeros((size, rows))
    for node, g, row in held:
        if row >= 0:
            drive[node, row] += g
    voltage = spsolve(coo_array((s, (a.astype(int), b.astype(int))), shape=(size, size)).tocsc(), drive)
    return torch.tensor(voltage[column_node[-1]] * wire * 1e6)


@pytest.mark.parametrize(("columns", "rows"), [(2, 2), (5, 3), (3, 7), (12, 16)])
@pytest.mark.parametrize("wire_ohm", [0.35, 30.0, 3000.0])
def test_elimination_equals_all_nodes_at_once(columns: int, rows: int, wire_ohm: float) -> None:
    conductance = 25 * torch.rand(columns, rows, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    conductance[0, 1] = 0
    assert_close(through_wires(conductance, wire_ohm), nodal(conductance, wire_ohm), rtol=1e-9, atol=1e-12)


def test_one_device_has_two_segments_in_series() -> None:
    assert_close(through_wires(torch.tensor([[20.0]]), 1e4), torch.tensor([[1 / (1 / 20 + 0.02)]]))


def test_wires_without_resistance_change_nothing() -> None:
    conductance = torch.rand(2, 4, 6)
    assert through_wires(conductance, 0.0) is conductance
    assert_close(through_wires(conductance, 1e-6), conductance)


def test_wires_lose_more_the_longer_they_are() -> None:
    effective = through_wires(torch.full((64, 64), 25.0), 0.35)
    assert (effective < 25).all()
    assert (effective[1:].sum(1) < effective[:-1].sum(1)).all(), "columns further from the drivers get less"
    assert (effective[:, 1:] > effective[:, :-1]).all(), "rows nearer to ground lose less"


def test_arrays_are_solved_side_by_side() -> None:
    several = 25 * torch.rand(3, 2, 8, 9)
    alone = torch.stack([through_wires(each, 5.0) for each in several.flatten(0, 1)]).reshape(several.shape)
    assert_close(through_wires(several, 5.0), alone)
