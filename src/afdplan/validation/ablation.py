"""What do other batch sizes and workloads do to the paper's rule?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from afdplan.model.latency import LatencyModel
from afdplan.theory.recommend import recommend_ratio
from afdplan.validation.baseline import geometric_lengths
from afdplan.validation.laboratory import Observation
from afdplan.validation.regret import RatioCase, recommended

__all__ = ["TABLE", "Ablation", "AblationCase", "ablation_cases", "ablations"]

TABLE = (
    # batch size, mean prompt, mean output, published r*
    (256, 100, 500, 9.30),
    (128, 100, 500, 7.08),
    (512, 100, 500, 10.31),
    (256, 100, 100, 2.17),
    (256, 500, 500, 17.25),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ablation:
    """Another batch size or workload: the rule beside theory and simulation.

    Attributes
    ----------
    batch_size, mean_prompt, mean_decode
        Of this row.
    rule
        r* of the paper's rule, steady state.
    pipelined
        Best integer of the pipelined theory.
    simulated
        Best integer among those simulated.
    regret_of_rule, regret_of_pipelined
        Shares of the best simulated throughput given up.
    """

    batch_size: int
    mean_prompt: int
    mean_decode: int
    rule: float
    pipelined: int
    simulated: int
    regret_of_rule: float
    regret_of_pipelined: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AblationCase:
    """One row of `TABLE` before it is simulated.

    Attributes
    ----------
    case
        The question.
    pipelined, rule
        Best integers of the pipelined theory and of the paper's rule.
    workers
        Numbers of attention workers to simulate.
    """

    case: RatioCase
    pipelined: int
    rule: int
    workers: tuple[int, ...]


def ablation_cases(latency: LatencyModel) -> list[AblationCase]:
    """Return the rows of `TABLE`, each with the numbers of workers to simulate."""
    rows = []
    for batch_size, prompt, decode, _ in TABLE:
        case = RatioCase(
            name="ablation",
            law=geometric_lengths(prompt, decode),
            latency=latency,
            batch_size=batch_size,
        )
        picks = recommended(case)
        pipelined, rule = picks["exact"][0], picks["paper's rule"][0]
        around = {pipelined - 2, pipelined - 1, pipelined, pipelined + 1, rule}
        workers = tuple(sorted(a for a in around if a >= 1))
        rows.append(AblationCase(case=case, pipelined=pipelined, rule=rule, workers=workers))
    return rows


def ablations(
    latency: LatencyModel,
    rows: Sequence[AblationCase],
    observed: Sequence[Observation],
) -> list[Ablation]:
    """Return what was observed of `rows`, whose observations stand one after the other."""
    ablations = []
    at = 0
    for (batch_size, prompt, decode, _), row in zip(TABLE, rows, strict=True):
        workers = row.workers
        values = {
            a: seen.throughput_per_instance.value
            for a, seen in zip(workers, observed[at : at + len(workers)], strict=True)
        }
        at += len(workers)
        top = max(values.values())
        ablations.append(
            Ablation(
                batch_size=batch_size,
                mean_prompt=prompt,
                mean_decode=decode,
                rule=recommend_ratio(
                    row.case.law,
                    latency,
                    batch_size=batch_size,
                    overlap="ideal",
                    method="mean-field",
                ).optimal_ratio,
                pipelined=row.pipelined,
                simulated=max(values, key=lambda a: values[a]),
                regret_of_rule=1 - values[row.rule] / top,
                regret_of_pipelined=1 - values[row.pipelined] / top,
            )
        )
    return ablations
