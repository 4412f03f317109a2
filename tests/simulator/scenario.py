"""What one seed decides: who there is, how they are connected, what they write, what goes wrong, how hard."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Literal

from pgpeer.protocol import limits

FaultKind = Literal["cut", "stall", "crash", "partition", "slow_disk"]
FAULTS: tuple[FaultKind, ...] = ("cut", "stall", "crash", "partition", "slow_disk")

CROWD_EVERY = 150
"""One seed in so many has hundreds of peers."""


@dataclass(frozen=True)
class Sizes:
    """The numbers of the protocol that decide how soon a limit is met; the ratios are the real ones."""

    window: int
    frame: int
    split: int
    whole_vector: int

    @contextmanager
    def in_force(self) -> Iterator[None]:
        changed = {
            "MAX_FRAME_BYTES": self.frame,
            "MIN_SPLIT_BYTES": self.split,
            "WHOLE_VECTOR_ENTRIES": self.whole_vector,
            "CREDIT_WINDOW_BYTES": self.window,
            "LARGE_MESSAGE_BYTES": self.window // 2,
            "GRANT_STEP_BYTES": self.window // 16,
            "OUTBOX_BYTES": self.window // 4,
        }
        before = {name: getattr(limits, name) for name in changed}
        for name, value in changed.items():
            setattr(limits, name, value)
        try:
            yield
        finally:
            for name, value in before.items():
                setattr(limits, name, value)


@dataclass(frozen=True)
class Write:
    when: float
    peer: int
    section_sizes: tuple[int, ...]
    is_random: bool


@dataclass(frozen=True)
class Fault:
    when: float
    kind: FaultKind
    seconds: float


@dataclass(frozen=True)
class Scenario:
    """Everything that is decided before the first moment.

    Attributes:
        edges: which peers may link, as pairs of numbers.
        skews: how far each peer's wall clock is off, in milliseconds.
        latency, bytes_per_second: ranges of what a link can do.
        faults_end: after this moment nothing goes wrong any more, in seconds.
    """

    seed: int
    peers: int
    edges: tuple[tuple[int, int], ...]
    sizes: Sizes
    skews: tuple[int, ...]
    latency: tuple[float, float]
    bytes_per_second: tuple[float, float]
    disk_seconds: tuple[float, float]
    writes: tuple[Write, ...]
    faults: tuple[Fault, ...]
    faults_end: float

    @property
    def bytes_written(self) -> int:
        return sum(400 + sum(write.section_sizes) for write in self.writes)


def scenario_of(seed: int) -> Scenario:
    random = Random(f"scenario {seed}")
    is_crowd = seed % CROWD_EVERY == CROWD_EVERY - 1
    peers = random.randint(100, 250) if is_crowd else random.choice([2, 2, 2, 3, 3, 4, 5, 8])
    sizes = _sizes(random)
    faults_end = random.uniform(3.0, 12.0) if is_crowd else random.uniform(4.0, 30.0)
    return Scenario(
        seed=seed,
        peers=peers,
        edges=_edges(random, peers),
        sizes=sizes,
        skews=tuple(random.randint(-120_000, 120_000) for _ in range(peers)),
        latency=(0.001, random.choice([0.005, 0.05, 0.3])),
        bytes_per_second=(random.choice([10e3, 50e3]), random.choice([100e3, 1e6])),
        disk_seconds=(0.0005, random.choice([0.002, 0.02, 0.2])),
        writes=_writes(random, peers, sizes, faults_end, is_crowd),
        faults=_faults(random, peers, faults_end, is_crowd),
        faults_end=faults_end,
    )


def _sizes(random: Random) -> Sizes:
    whole_vector = random.choice([0, 0, 2, limits.WHOLE_VECTOR_ENTRIES])
    if random.random() < 0.1:
        return Sizes(limits.CREDIT_WINDOW_BYTES, limits.MAX_FRAME_BYTES, limits.MIN_SPLIT_BYTES, whole_vector)
    window = random.choice([8, 16, 64]) * 1024
    return Sizes(
        window, random.choice([window // 16, window // 8, 3000]), random.choice([32, 128]), whole_vector
    )


def _edges(random: Random, peers: int) -> tuple[tuple[int, int], ...]:
    """A random tree, so that everybody is reached through somebody, and a few ways more."""
    shape = random.choice(["line", "star", "tree"])
    edges: set[tuple[int, int]] = set()
    for number in range(1, peers):
        before = {"line": number - 1, "star": 0, "tree": random.randrange(number)}[shape]
        if peers > 50 and shape == "star":
            before = random.randrange(min(number, 10))
        edges.add((before, number))
    for _ in range(random.choice([0, 1, peers // 2, peers])):
        one, other = sorted(random.sample(range(peers), 2))
        edges.add((one, other))
    return tuple(sorted(edges))


def _writes(random: Random, peers: int, sizes: Sizes, end: float, is_crowd: bool) -> tuple[Write, ...]:
    writers = random.sample(range(peers), min(peers, random.choice([1, 2, 3, 6])))
    count = random.randint(4, 10) if is_crowd else random.randint(2, 20)
    unit = min(sizes.window, 64 * 1024)
    made = []
    for _ in range(count):
        kind = random.random()
        if kind < 0.6 or is_crowd:
            section_sizes = [random.randint(0, 300) for _ in range(random.choice([0, 1, 1, 2]))]
        elif kind < 0.85:
            section_sizes = [random.randint(0, unit // 4) for _ in range(random.randint(1, 6))]
        else:
            section_sizes = [random.randint(unit // 4, 2 * unit) for _ in range(random.randint(1, 3))]
        made.append(
            Write(
                random.uniform(0.0, end), random.choice(writers), tuple(section_sizes), random.random() < 0.5
            )
        )
    return tuple(sorted(made, key=lambda write: write.when))


def _faults(random: Random, peers: int, end: float, is_crowd: bool) -> tuple[Fault, ...]:
    """Each seed has its own mixture: some faults hide others when all happen all the time."""
    kinds = [kind for kind in FAULTS if random.random() < 0.5]
    made = []
    for kind in kinds:
        often = random.choice([1, 3, 8]) * (4 if is_crowd and kind != "partition" else 1)
        for _ in range(random.randint(1, often)):
            long = random.random() < 0.3
            made.append(Fault(random.uniform(0.0, end), kind, random.uniform(0.1, 25.0 if long else 3.0)))
    return tuple(sorted(made, key=lambda fault: fault.when))
