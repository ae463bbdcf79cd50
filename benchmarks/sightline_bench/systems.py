"""The servers under test and how each is started. Knows commands and ports; measures nothing."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sightline_bench.environments import python_of
from sightline_bench.process import ServerProcess, free_port
from sightline_bench.weights import ModelFolders

PEERS = Path(__file__).parents[1] / "peers"
WITHOUT_NETWORK = {
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "DO_NOT_TRACK": "1",
    "INFINITY_ANONYMOUS_USAGE_STATS": "0",
}


@dataclass(frozen=True, slots=True)
class Replicas:
    """One server, or several behind one name."""

    processes: tuple[ServerProcess, ...]

    @property
    def ports(self) -> tuple[int, ...]:
        """Where they listen."""
        return tuple(process.port for process in self.processes)

    def wait_until_ready(self) -> None:
        """Blocks until all answer."""
        for process in self.processes:
            process.wait_until_ready()

    def halt(self) -> None:
        """Takes all off the cores."""
        for process in self.processes:
            process.halt()

    def go_on(self) -> None:
        """Lets all run again."""
        for process in self.processes:
            process.go_on()

    def stop(self) -> None:
        """Ends all."""
        for process in self.processes:
            process.stop()


class Starter:
    """Starts servers for one model.

    Args:
        model: the weights.
        perplexity: the reference of Sightline's perplexity model.
        build: the folder of the peers' environments.
        logs: the folder for what servers print.
    """

    def __init__(self, model: ModelFolders, perplexity: str, *, build: Path, logs: Path) -> None:
        self._model = model
        self._perplexity = perplexity
        self._build = build
        self._logs = logs

    def start(self, name: str) -> Replicas:
        """Starts a server by its name in `plan`."""
        if name == "sightline":
            return Replicas((self._sightline(name),))
        if name == "sightline-uncached":
            return Replicas((self._sightline(name, more=("--embedding-cache-bytes", "0")),))
        if name == "sightline-small-caches":
            small = ("--embedding-cache-bytes", str(16 << 20), "--image-store-bytes", str(16 << 20))
            return Replicas((self._sightline(name, more=small),))
        if name == "sightline-core-0":
            return Replicas((self._sightline(name, cores=(0,)),))
        if name == "sightline-cores":
            return Replicas(tuple(self._sightline(f"{name}-{n}", cores=(n,)) for n in (0, 1)))
        return Replicas((self._peer(name),))

    def _sightline(
        self, name: str, *, cores: Sequence[int] = (), more: Sequence[str] = ()
    ) -> ServerProcess:
        port = free_port()
        command = [
            *(sys.executable, "-m", "sightline_service", "--port", str(port)),
            *("--similarity", f"open_clip:local-dir:{self._model.open_clip}"),
            *("--detector", "none"),
            *("--perplexity", "none" if cores or more else self._perplexity),
            *("--profile", "none", "--log-level", "warning"),
            *(("--torch-threads", "1") if cores else ()),
            *more,
        ]
        return self._process(name, command, port, "/readyz", cores=cores)

    def _peer(self, name: str) -> ServerProcess:
        port = free_port()
        if name == "null":
            command = [sys.executable, "-m", "sightline_bench.null_server", str(port)]
            return self._process(name, command, port, None)
        if name == "infinity":
            program = python_of(self._build, name).with_name("infinity_emb")
            command = [
                *(str(program), "v2", "--model-id", str(self._model.transformers)),
                *("--engine", "torch", "--device", "cpu", "--dtype", "float32"),
                *("--batch-size", "32", "--no-bettertransformer"),
                *("--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"),
            ]
            return self._process(name, command, port, "/health")
        script = PEERS / f"{name}_server.py"
        python = str(python_of(self._build, "litserve"))
        command = [python, str(script), str(self._model.open_clip), str(port)]
        return self._process(name, command, port, None if name == "fastapi" else "/health")

    def _process(
        self,
        name: str,
        command: Sequence[str],
        port: int,
        ready_path: str | None,
        cores: Sequence[int] = (),
    ) -> ServerProcess:
        return ServerProcess(
            command,
            port=port,
            ready_path=ready_path,
            log=self._logs / f"{name}.log",
            environment=WITHOUT_NETWORK,
            cores=cores,
        )
