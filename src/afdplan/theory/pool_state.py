"""What does the compiled play of a bundle without the barrier get, and where does it stand?

Apart from `pool_kernel.py`, so that who never plays loads no compiler.
"""

from __future__ import annotations

from typing import NamedTuple

from afdplan.arrays import FloatArray, IntArray

__all__ = ["Rule", "Stages", "State"]


class Stages(NamedTuple):
    """Times of the stages; see `pool_play.PoolTimes`.

    `back_of_calls` is of shape (2, 0) where the links back are the workers' own; `ffn_cv` holds
    zeros where departures do not scatter.
    """

    attention: FloatArray
    kind_of_layer: IntArray
    overhead: float
    ffn: FloatArray
    ffn_cv: FloatArray
    out: float
    back: float
    out_occupied: float
    shares_link: bool
    back_of_calls: FloatArray
    attention_cv: float
    send_cv: float
    receive_cv: float


class Rule(NamedTuple):
    """Of boarding: calls waited for, longest wait (inf: none), most calls on board."""

    least: int
    wait: float
    most: int


class State(NamedTuple):
    """Where each draw stands (n draws, C calls, A workers), and what has been counted.

    `arrival` (n, C) at the pool; `leave` (n, C) of those that wait for a shared link, else inf;
    `order` (n, C) of all calls, of which the first `in_line` (n,) wait, by when they left, `begins`
    (n, C) on it, `others`, `spare` (C,) for a moment; `layer` (n, C); `queue` (n, C) of all calls,
    a ring that begins at `head` (n,); `attention_free`,
    `send_free`, `receive_free` (n, A); `shared_out`, `shared_back`, `free` (n,). Counted: `done`,
    `last`, `squares` (n, C), `work`, `busy`, `waited`, `departures` (n,), `rounds`, how many there
    are (1,) and where those of a draw end (n,).
    """

    arrival: FloatArray
    leave: FloatArray
    order: IntArray
    in_line: IntArray
    begins: FloatArray
    others: IntArray
    spare: IntArray
    layer: IntArray
    queue: IntArray
    head: IntArray
    attention_free: FloatArray
    send_free: FloatArray
    receive_free: FloatArray
    shared_out: FloatArray
    shared_back: FloatArray
    free: FloatArray
    done: IntArray
    last: FloatArray
    squares: FloatArray
    work: FloatArray
    busy: FloatArray
    waited: FloatArray
    rounds: FloatArray
    departures: IntArray
    counted: IntArray
    ends: IntArray
