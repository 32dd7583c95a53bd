"""What runs where: the roles of every bundle, the same for each way to start them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from afdplan.deploy.words import Word, variables
from afdplan.errors import InvalidInputError

__all__ = ["Check", "Deployment", "Role", "evenly", "nodes_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """One kind of process of one bundle, on one node or several.

    Attributes
    ----------
    name
        ``attention``, ``ffn``, or ``server`` for a system with one command for both.
    workers, devices
        Workers, and devices of each.
    workers_per_node
        Workers of a full node.
    command
        Program and arguments, on every node.
    first, others
        What is added to them on node 0, and on all other nodes.
    prepare
        Command that node 0 runs before.
    join
        Command that the other nodes run instead; none runs `command` there too.
    environment
        Variables to set.
    http
        Port that answers requests, on node 0; None if the role serves none.
    health
        Path that answers once it serves.
    listens
        Port that a role without HTTP opens on node 0; None if it opens none of its own.
    ports
        All ports that node 0 listens on.
    is_independent
        Whether every node is for itself: `http` is then a port of each.
    """

    name: str
    workers: int
    devices: int
    workers_per_node: int
    command: tuple[Word, ...]
    first: tuple[Word, ...] = ()
    others: tuple[Word, ...] = ()
    prepare: tuple[Word, ...] = ()
    join: tuple[Word, ...] = ()
    environment: Mapping[str, Word] = field(default_factory=dict)
    http: int | None = None
    health: str = "/health"
    listens: int | None = None
    ports: tuple[int, ...] = ()
    is_independent: bool = False

    @property
    def nodes(self) -> int:
        """Nodes that its workers fill."""
        return -(-self.workers // self.workers_per_node)

    @property
    def words(self) -> tuple[Word, ...]:
        """Everything that stands on its command lines or in its environment."""
        lines = (self.command, self.first, self.others, self.prepare, self.join)
        return (*(word for line in lines for word in line), *self.environment.values())

    @property
    def hosts(self) -> tuple[str, ...]:
        """Names of the addresses that it must know, such as ``FFN_HOST``."""
        return tuple(sorted(name for name in variables(self.words) if name.endswith("_HOST")))

    @property
    def asks(self) -> tuple[str, ...]:
        """Names of the variables that whoever starts it must set himself."""
        known = {"node", "start", "local", *self.hosts}
        return tuple(sorted(variables(self.words) - known))

    @property
    def shares(self) -> tuple[tuple[int, int], ...]:
        """First worker and number of workers of every node."""
        per = self.workers_per_node
        return tuple((k * per, min(per, self.workers - k * per)) for k in range(self.nodes))


def nodes_of(workers: int, devices: int, node_devices: int) -> int:
    """Return how many workers fit on a node.

    Raises
    ------
    InvalidInputError
        If not one does.
    """
    per_node = node_devices // devices
    if per_node == 0:
        raise InvalidInputError(
            f"a worker of {devices} devices does not fit on a node of {node_devices}"
        )
    return min(per_node, workers)


def evenly(workers: int, most: int) -> int:
    """Return how many workers a node takes if none takes more than needed: pods are all alike.

    Examples
    --------
    >>> evenly(9, 8), evenly(28, 8), evenly(16, 8)
    (5, 7, 8)
    """
    return -(-workers // -(-workers // most))


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What to look at first, once it runs.

    Attributes
    ----------
    where
        Log or address.
    shows
        What must stand there, with its number.
    otherwise
        What is wrong if it does not.
    """

    where: str
    shows: str
    otherwise: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What starts a plan on one version of one system.

    Attributes
    ----------
    title
        What it is, in a few words.
    bundles
        Roles of every bundle; those that start first stand first.
    settings
        By role: the coupled settings, as numbers.
    start
        How to start it, as lines of a list.
    assumed
        What was assumed, one sentence each.
    checks
        What to look at once it runs, the first thing first.
    forms
        Ways in which it can be started; empty for all.
    """

    title: str
    bundles: tuple[tuple[Role, ...], ...]
    settings: Mapping[str, Mapping[str, Any]]
    start: tuple[str, ...]
    assumed: tuple[str, ...]
    checks: tuple[Check, ...] = ()
    forms: tuple[str, ...] = ()
