"""Are lengths drawn in compiled code the numbers that NumPy's own streams give?"""

import numpy as np
import pytest

from afdplan.lengths.discrete import parse_law
from afdplan.simulation.alias import AliasTable
from afdplan.simulation.length_streams import LengthStreams
from afdplan.simulation.sources import stream


def looked_up(uniform, table):
    """Walker's method, said plainly."""
    position = uniform * table.columns.size
    column = position.astype(np.int64)
    share, other = table.columns & (2**33 - 1), table.columns >> 33
    is_own = (position - column) * 2.0**32 < share[column]
    return table.lowest + np.where(is_own, column, other[column])


@pytest.mark.parametrize(
    "laws", [("geometric:100", "geometric:500"), ("7", "uniform:3..900000"), ("uniform:1..2", "5")]
)
def test_lengths_are_those_of_the_streams_of_numpy(laws):
    tables = tuple(AliasTable(parse_law(law)) for law in laws)
    causes = "prompt lengths", "decode lengths"
    streams = LengthStreams(tuple(stream(8, 3, cause) for cause in causes), tables)
    own = [stream(8, 3, cause) for cause in causes]
    for count in (1, 5000, 77):  # how long a block is changes nothing
        rows = np.full((count, 3), -1)
        streams.fill(rows)
        for column, (generator, table) in enumerate(zip(own, tables, strict=True)):
            assert rows[:, column].tolist() == looked_up(generator.random(count), table).tolist()
        assert (rows[:, 2] == -1).all()
