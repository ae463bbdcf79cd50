"""One contender's window of one case, and all windows in turn. Knows processes; judges nothing."""

import json
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from sightline_bench.client import Order, Taken
from sightline_bench.limit import LimitOrder, LimitProcess
from sightline_bench.load import LOADS
from sightline_bench.plan import Case, Contender, Pace
from sightline_bench.summary import Window, of_limit, of_taken
from sightline_bench.systems import Replicas

_FORWARDS = "sightline_batch_size_sum"
_HITS = 'sightline_cache_hits_total{cache="embeddings"}'
_MISSES = 'sightline_cache_misses_total{cache="embeddings"}'
_UNITS_APART = 1_000_000
_START_S = 1.0
_PER_PROCESS = 64
"""Connections that one process of the generator holds."""


@dataclass(slots=True)
class Arena:
    """What measures: the running servers and the limit, all halted but the one in its window."""

    servers: Mapping[str, Replicas]
    limit: LimitProcess
    pictures: Path
    windows: int = 0

    def next_start(self) -> int:
        """Returns the number of a unit that no window has asked for."""
        self.windows += 1
        return self.windows * _UNITS_APART


Record = Callable[[Case, Contender, Window], None]


def measure(case: Case, arena: Arena, pace: Pace, record: Record) -> None:
    """Runs all contenders of a case in turn, `repeats` times, each time from another one on."""
    rates: dict[str, float] = {}
    for repeat in range(pace.repeats):
        turn = repeat % len(case.contenders)
        for contender in (*case.contenders[turn:], *case.contenders[:turn]):
            window = _window(case, contender, arena, pace, rates)
            rates.setdefault(contender.name, window.rate)
            record(case, contender, window)


def _window(
    case: Case, contender: Contender, arena: Arena, pace: Pace, rates: dict[str, float]
) -> Window:
    if contender.server == "limit":
        return _limit_window(case, contender, arena, pace)
    server = arena.servers[contender.server]
    with _running(server):
        rate = 0.0
        if contender.load_factor:
            closed = replace(contender, name="sightline", load=None, load_factor=0.0)
            if closed.name not in rates:
                rates[closed.name] = _server_window(case, closed, arena, pace, 0.0).rate
            rate = contender.load_factor * rates[closed.name] / LOADS[case.load].n_texts
        return _server_window(case, contender, arena, pace, rate)


def _limit_window(case: Case, contender: Contender, arena: Arena, pace: Pace) -> Window:
    load = contender.load or case.load
    order = LimitOrder(contender.dialect, load, arena.next_start(), pace.seconds)
    with _running(arena.limit):
        taken = arena.limit.run(order)
    return of_limit(taken.units, taken.seconds, texts=LOADS[load].n_texts)


def _server_window(
    case: Case, contender: Contender, arena: Arena, pace: Pace, rate: float
) -> Window:
    server = arena.servers[contender.server]
    load = contender.load or case.load
    is_ours = contender.server.startswith("sightline")
    before = _counted(server) if is_ours else Counter[str]()
    begin = time.monotonic() + _START_S + pace.warm_up_s
    used = [process.usage() for process in server.processes]
    orders = _orders(case, contender, arena, begin=begin, end=begin + pace.seconds, rate=rate)
    taken = generate(orders)
    elapsed = time.monotonic() - (begin - _START_S - pace.warm_up_s)
    after = [process.usage() for process in server.processes]
    cpu = sum(b.cpu_s - a.cpu_s for a, b in zip(used, after, strict=True)) / elapsed
    memory = sum(each.memory_bytes for each in after)
    counted = _counted(server) if is_ours else Counter[str]()
    counted.subtract(before)
    looked_up = counted[_HITS] + counted[_MISSES]
    window = of_taken(
        taken,
        texts=LOADS[load].n_texts,
        forwards=counted[_FORWARDS],
        hit_rate=counted[_HITS] / looked_up if looked_up else None,
    )
    return window.with_usage(cores=cpu, memory_bytes=memory)


def _orders(
    case: Case, contender: Contender, arena: Arena, *, begin: float, end: float, rate: float
) -> list[Order]:
    """Splits the connections over as many processes as they need."""
    processes = 1 if rate else -(-case.connections // _PER_PROCESS)
    return [
        Order(
            ports=arena.servers[contender.server].ports,
            dialect=contender.dialect,
            load=contender.load or case.load,
            pictures=str(arena.pictures),
            connections=case.connections // processes,
            start=arena.next_start(),
            begin=begin,
            end=end,
            rate=rate,
            in_step=contender.in_step,
        )
        for _ in range(processes)
    ]


def generate(orders: Sequence[Order]) -> list[Taken]:
    """Carries the orders out, each in a process of its own, and returns what each has seen."""
    command = [sys.executable, "-m", "sightline_bench.client"]
    clients = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in orders
    ]
    for client, order in zip(clients, orders, strict=True):
        assert client.stdin is not None
        client.stdin.write(json.dumps(asdict(order)))
        client.stdin.close()
    taken: list[Taken] = []
    for client in clients:
        assert client.stdout is not None
        taken.append(Taken(**json.loads(client.stdout.read())))
        client.wait()
    return taken


@contextmanager
def _running(what: Replicas | LimitProcess) -> Generator[None]:
    what.go_on()
    try:
        yield
    finally:
        what.halt()


def _counted(server: Replicas) -> Counter[str]:
    """Returns what Sightline's metrics have counted, over all replicas and labels but the cache."""
    total: Counter[str] = Counter()
    for port in server.ports:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as reply:
            for line in reply.read().decode().splitlines():
                name, _, value = line.rpartition(" ")
                if name.startswith(_FORWARDS):
                    total[_FORWARDS] += int(float(value))
                elif name in (_HITS, _MISSES):
                    total[name] += int(float(value))
    return total
