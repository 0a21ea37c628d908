"""Wires that resist: what an array computes when the current's way costs voltage.

Rows are driven at their left end, columns are held at ground at their lower end; between two neighbouring devices, and
between the outermost device and the row's driver or the column's ground, lies one segment of wire.  Such a network of
resistors is linear in the rows' voltages, so wires turn the conductances into other, smaller effective ones, exactly.
"""

import torch
from torch import Tensor

__all__ = ["through_wires"]

_SIEMENS_OF_US = 1e-6


def through_wires(conductance: Tensor, wire_ohm: float) -> Tensor:
    """Effective conductances: current of each column = effective @ voltages of the rows.

    conductance: (..., columns, rows) in microsiemens; column 0 is next to the drivers, the last row next to ground.
    Returns the same shape and unit.

    With K the wire of one column as a chain (grounded at its lower end) and D the conductances of column j, all times
    the segment's resistance, the column alone answers its rows' voltages V with
        c' V, c = K (K + D)^-1 d,    and loads its rows with    S = D - D (K + D)^-1 D.
    Along the rows the voltages obey V[j+1] - 2 V[j] + V[j-1] = S[j] V[j], which is eliminated from the far end:
        P[j] = (I - P[j+1] + I + S[j])^-1,   V[j] = P[j] V[j-1],   V[0] the drivers' voltages,
    with I for the P beyond the last column, where no current flows.
    An array of fewer columns than rows is turned round: such a network passes the same current from a column to a row
    as from that row to the column (reciprocity).
    Exact up to rounding, in about longer side * shorter side^3 operations: 256 x 256 pairs take some 2 s on one core.
    Derived from Kirchhoff's current law at the 2 * columns * rows nodes.
    """
    if wire_ohm == 0:
        return conductance
    d = conductance.double().reshape(-1, *conductance.shape[-2:]) * (wire_ohm * _SIEMENS_OF_US)
    effective = _eliminate(d) if d.shape[1] >= d.shape[2] else _turn(_eliminate(_turn(d)))
    effective = effective / (wire_ohm * _SIEMENS_OF_US)
    return effective.reshape(conductance.shape).to(conductance.dtype)


def _eliminate(d: Tensor) -> Tensor:
    """through_wires for (arrays, columns, rows), in units of the wire's conductance."""
    arrays, columns, rows = d.shape
    twice = 2 * torch.eye(rows, dtype=d.dtype, device=d.device)
    logarithm, peak = _chain_factors(d)
    later = d.new_zeros(arrays, 0, rows)  # how the columns so far depend on the voltages at the current one
    passed = (twice / 2).expand(arrays, rows, rows)  # P of the column to the right: no current flows beyond the last
    for column in reversed(range(columns)):
        own = d[:, column]
        inverse = _chain_inverse(logarithm[:, column], peak[:, column])
        shared = own[:, :, None] * inverse * own[:, None, :]  # D (K + D)^-1 D
        system = twice - passed + torch.diag_embed(own) - shared
        passed = torch.cholesky_inverse(torch.linalg.cholesky(system))
        current = own - shared.sum(1)  # c, as K = (K + D) - D
        later = torch.cat([current[:, None], later], 1) @ passed
    return later


def _turn(d: Tensor) -> Tensor:
    """Columns as rows, with drivers where ground was: the far corner stays the far corner."""
    return d.transpose(1, 2).flip(1, 2)


def _chain_factors(d: Tensor) -> tuple[Tensor, Tensor]:
    """What the inverse of K + D is made of, for every column: sums of ln delta above each row, and its diagonal.

    K + D has the diagonal a = (1, 2, ..., 2) + d and -1 beside it.  Eliminating from the top and from the bottom,
        delta[i] = a[i] - 1 / delta[i-1],   gamma[i] = a[i] - 1 / gamma[i+1]     (both 1 or more),
        inverse[i, i] = 1 / (delta[i] + gamma[i] - a[i]),   inverse[i, j] = inverse[j, j] / (delta[i] ... delta[j-1]).
    Source: Meurant 1992, SIAM J. Matrix Anal. Appl. 13(3), on inverses of tridiagonal matrices.
    """
    diagonal = d + 2
    diagonal[..., 0] -= 1
    delta, gamma = diagonal.clone(), diagonal.clone()
    rows = d.shape[-1]
    for row in range(1, rows):
        delta[..., row] -= 1 / delta[..., row - 1]
        gamma[..., rows - 1 - row] -= 1 / gamma[..., rows - row]
    logarithm = delta.log().cumsum(-1)
    above = torch.cat([torch.zeros_like(logarithm[..., :1]), logarithm[..., :-1]], -1)
    return above, 1 / (delta + gamma - diagonal)


def _chain_inverse(above: Tensor, diagonal: Tensor) -> Tensor:
    """(K + D)^-1, (arrays, rows, rows), of one column."""
    upper = diagonal[:, None, :] * (above[:, :, None] - above[:, None, :]).clamp(max=0).exp()
    return upper.triu() + upper.triu(1).transpose(1, 2)
