"""What do many simulations give, played on all cores and remembered in a file?"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from afdplan.errors import AfdplanError, InsufficientDataError, InvalidInputError, reason
from afdplan.lengths.law import IndependentLengths
from afdplan.model.estimate import Estimate
from afdplan.processes import Crew
from afdplan.simulation.scenario import Scenario
from afdplan.version import __version__

__all__ = ["Laboratory", "Observation", "fingerprint", "observe"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What validation keeps of one simulation.

    Attributes
    ----------
    cycle_time, throughput_per_instance, attention_idle_fraction, ffn_idle_fraction
        As the simulation gives them, with intervals.
    step_time_p99
        99th percentile of the step time.
    steps, replications
        How long was played.
    mean_token_load
        KV tokens of one slot on average [tokens].
    """

    cycle_time: Estimate
    throughput_per_instance: Estimate
    attention_idle_fraction: Estimate
    ffn_idle_fraction: Estimate
    step_time_p99: Estimate
    steps: int
    replications: int
    mean_token_load: float


def observe(scenario: Scenario) -> Observation:
    """Return what a simulation of `scenario` shows."""
    from afdplan.simulation.run import simulate

    try:
        result = simulate(scenario)
    except InsufficientDataError as error:
        # One replication of a fixed number was asked for, or the precision was out of reach: the
        # intervals say how sure the answer is.
        if error.estimate is None:
            raise
        result = error.estimate
    slots = scenario.bundle.batch_size * scenario.microbatches
    return Observation(
        cycle_time=result.cycle_time,
        throughput_per_instance=result.throughput_per_instance,
        attention_idle_fraction=result.attention_idle_fraction,
        ffn_idle_fraction=result.ffn_idle_fraction,
        step_time_p99=result.step_time.p99,
        steps=result.steps,
        replications=result.replications,
        mean_token_load=result.kv_tokens_per_worker.mean.value / slots,
    )


def fingerprint(scenario: Scenario) -> str:
    """Return a short text that two scenarios share only if they are the same.

    Part of it is the version of afdplan: another version simulates anew.
    """
    lengths = scenario.lengths
    digest = hashlib.blake2b(digest_size=16)
    digest.update(__version__.encode())
    if isinstance(lengths, IndependentLengths):
        for law in (lengths.prompt, lengths.decode):
            digest.update(str(law.lowest).encode())
            digest.update(law.probabilities.tobytes())
    else:
        digest.update(type(lengths).__name__.encode())
        digest.update(lengths.prompt_tokens.tobytes())
        digest.update(lengths.decode_tokens.tobytes())
    for part in fields(scenario):
        if part.name != "lengths":
            digest.update(f"{part.name}={getattr(scenario, part.name)!r};".encode())
    return digest.hexdigest()


class Laboratory:
    """Plays scenarios, each at most once.

    Parameters
    ----------
    jobs
        Processes to play on; 1 plays here.
    memory
        File of finished simulations, one JSON object per line, read first and appended to; None
        remembers only in this object.
    progress
        Called with (finished, wanted) simulations of the present batch.

    Raises
    ------
    InvalidInputError
        If the file holds something else.
    """

    def __init__(
        self,
        *,
        jobs: int = 1,
        memory: str | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.jobs = jobs
        self.memory = memory
        self.progress = progress
        self.played = 0
        self._known: dict[str, Observation] = _read(memory) if memory else {}
        self._crew = Crew(observe, jobs)

    def __enter__(self) -> Laboratory:
        return self

    def __exit__(self, *_: object) -> None:
        self._crew.close()

    def observe(self, scenarios: Sequence[Scenario]) -> list[Observation]:
        """Return one observation per scenario, in their order."""
        keys = [fingerprint(scenario) for scenario in scenarios]
        wanted = {
            key: scenario
            for key, scenario in zip(keys, scenarios, strict=True)
            if key not in self._known
        }
        done = 0
        if self.progress is not None:
            self.progress(done, len(wanted))
        for key, observation in self._play(wanted):
            self._known[key] = observation
            self.played += 1
            if self.memory is not None:
                _append(self.memory, key, observation)
            done += 1
            if self.progress is not None:
                self.progress(done, len(wanted))
        return [self._known[key] for key in keys]

    def _play(self, wanted: Mapping[str, Scenario]) -> Iterator[tuple[str, Observation]]:
        if self.jobs == 1 or len(wanted) <= 1:
            for key, scenario in wanted.items():
                yield key, observe(scenario)
            return
        try:
            for scenario in sorted(wanted.values(), key=_cost, reverse=True):
                self._crew.submit(scenario)
            while self._crew.in_flight:
                for done in self._crew.collect():
                    if done.result is None:
                        raise AfdplanError(
                            f"one of {self.jobs} processes died (killed, or out of memory): ask "
                            "for fewer --jobs; with --resume, what is finished is kept"
                        )
                    yield fingerprint(done.task), done.result
        finally:
            if self._crew.in_flight:  # not to the end
                self._crew.close()


def _cost(scenario: Scenario) -> float:
    """Return about how long a scenario takes, in arbitrary units."""
    law, latency = scenario.law, scenario.latency
    rounds = latency.layers * law.mean_decode_tokens / latency.tokens_per_step
    return scenario.target_completions * (rounds / scenario.bundle.batch_size + 1)


def _read(name: str) -> dict[str, Observation]:
    path = Path(name)
    known = {}
    try:
        if not path.exists():
            return {}
        lines = path.read_text(encoding="utf-8").splitlines()
        for line in lines[:-1] if lines and not _is_whole(lines[-1]) else lines:
            entry = json.loads(line)
            values = entry["observation"]
            parts: dict[str, Any] = {
                name: Estimate(**value) if isinstance(value, dict) else value
                for name, value in values.items()
            }
            known[str(entry["scenario"])] = Observation(**parts)
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError):
        raise InvalidInputError(
            f"--resume {name} must be a file that an earlier `afdplan validate --resume` wrote: "
            "give another name"
        ) from None
    return known


def _is_whole(line: str) -> bool:
    """Say whether a line was written to its end: an interrupted run may leave half of one."""
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _append(name: str, key: str, observation: Observation) -> None:
    line = json.dumps({"scenario": key, "observation": asdict(observation)})
    path = Path(name)
    try:
        if path.exists():
            text = path.read_bytes()
            if text and not text.endswith(b"\n"):
                path.write_bytes(text[: text.rfind(b"\n") + 1])
        with path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    except (OSError, ValueError) as error:
        raise InvalidInputError(
            f"--resume {name} cannot be written: {reason(error)}; give another name"
        ) from None
