"""Deployments and Services of a manifest, run on this machine. Knows pods; knows no model.

Stands for: controllers (rolling updates), endpoints, kube-proxy (a TCP relay on each Service's
address), DNS. Does not stand for: scheduling, limits, volumes' classes, network policies.
"""

import asyncio
import itertools
import random
import re
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from rig.chart import NAMESPACE, Document, named
from rig.pods import Pod, Surroundings
from rig.references import matches

_NAME = re.compile(rf"\b([a-z0-9-]+(?:\.[a-z0-9-]+)?)\.{NAMESPACE}\.svc\.cluster\.local")
_RESOLVED = re.compile(
    rf"server ([a-z0-9-]+)\.{NAMESPACE}\.svc\.cluster\.local:(\d+) resolve ([^;]*);"
)
_RESOLVER = re.compile(r"^\s*resolver .*;$", re.MULTILINE)
NOWHERE = "127.255.255.253"
TICK_S = 0.1
CRASH_LOOP = 5


@dataclass(eq=False)
class _Deployment:
    """Keeps as many pods of the newest template as are wanted, and lets the others go."""

    name: str
    document: Document = field(default_factory=dict)
    pods: dict[Pod, str] = field(default_factory=dict[Pod, str])

    def reconcile(self, cluster: "Cluster") -> None:
        spec = self.document["spec"]
        wanted, rolling = spec["replicas"], spec["strategy"]["rollingUpdate"]
        newest = sha256(repr(spec["template"]).encode()).hexdigest()[:8]
        self.pods = {pod: version for pod, version in self.pods.items() if not pod.gone}
        alive = {pod: version for pod, version in self.pods.items() if not pod.going}
        current = [pod for pod, version in alive.items() if version == newest]
        if len(current) < wanted and len(alive) < wanted + rolling["maxSurge"]:
            pod = cluster.make_pod(f"{self.name}-{newest}", spec["template"])
            self.pods[pod.start()] = newest
            return
        spare = [pod for pod, version in alive.items() if version != newest]
        spare.sort(key=lambda pod: pod.ready)
        serving = sum(pod.ready for pod in alive)
        for pod in spare or current[wanted:]:
            if not pod.ready or serving > wanted - rolling["maxUnavailable"]:
                pod.delete()
                return


class Cluster:
    """Runs what is applied to it.

    Args:
        folder: an empty folder for the pods' files.
        secrets: what the user of the chart brings.
    """

    def __init__(self, folder: Path, secrets: Mapping[str, Mapping[str, str]]) -> None:
        self.documents: list[Document] = []
        self.around = Surroundings(folder, self._config_map, secrets, self._resolve)
        self._block = random.randrange(16, 240)
        self._numbers = itertools.count(1)
        self._deployments: dict[str, _Deployment] = {}
        self._addresses: dict[str, str] = {}
        self._ends = threading.Event()
        self._controller = threading.Thread(target=self._control, name="controller")
        self._relay = _Relay()

    def apply(self, documents: list[Document]) -> None:
        """Makes `documents` what is wanted from now on."""
        self.documents = documents
        for document in documents:
            name = document["metadata"]["name"]
            if document["kind"] == "Service" and document["spec"].get("clusterIP") != "None":
                self._serve(document)
            if document["kind"] == "Deployment":
                self._deployments.setdefault(name, _Deployment(name)).document = document
        if not self._controller.is_alive():
            self._controller.start()

    def url(self, service: str) -> str:
        """Where a Service answers."""
        [port] = named(self.documents, "Service", service)["spec"]["ports"]
        return f"http://{self._addresses[service]}:{port['port']}"

    def pods(self, deployment: str) -> list[Pod]:
        """A Deployment's pods, those that go left out."""
        return [pod for pod in self._deployments[deployment].pods if not pod.going]

    def settled(self) -> bool:
        """Whether every Deployment has exactly the ready pods that it wants."""
        for deployment in self._deployments.values():
            template = deployment.document["spec"]["template"]
            pods = list(deployment.pods)
            current = [pod for pod in pods if pod.ready and pod.template == template]
            if len(pods) != len(current) or len(pods) != deployment.document["spec"]["replicas"]:
                return False
        return True

    def wait(self, timeout_s: float = 900) -> None:
        """Waits until all is settled.

        Raises:
            TimeoutError: it takes too long, or pods end again and again; with their logs.
        """
        deadline = time.monotonic() + timeout_s
        restarts = sum(pod.restarts for pod in self._all_pods())
        while not self.settled():
            looping = sum(pod.restarts for pod in self._all_pods()) > restarts + CRASH_LOOP
            if time.monotonic() > deadline or looping:
                raise TimeoutError(self.report())
            time.sleep(TICK_S)

    def run(self, document: Document, *, index: int = 0) -> Pod:
        """Starts a pod that ends by itself: a `helm test`, or one pod of a Job."""
        template = document if document["kind"] == "Pod" else document["spec"]["template"]
        name = f"{document['metadata']['name']}-{index}"
        annotations = {"batch.kubernetes.io/job-completion-index": str(index)}
        pod = self.make_pod(name, template, once=True, annotations=annotations)
        return pod.start()

    def make_pod(
        self,
        prefix: str,
        template: Document,
        *,
        once: bool = False,
        annotations: Mapping[str, str] | None = None,
    ) -> Pod:
        """A pod with an address of its own, not started."""
        number = next(self._numbers)
        address = f"127.{self._block}.1.{number}"
        name = prefix if once else f"{prefix}-{number}"
        self._addresses.setdefault(name, address)
        return Pod(name, address, template, self.around, once, annotations or {})

    def report(self) -> str:
        """The state and the last lines of every pod."""
        return "\n".join(
            f"{pod.name}: ready {pod.ready}, going {pod.going}, ended {pod.exit_codes}\n"
            + (pod.log.read_text()[-1500:] if pod.log.exists() else "")
            for pod in self._all_pods()
        )

    def close(self) -> None:
        """Ends everything."""
        self._ends.set()
        if self._controller.is_alive():
            self._controller.join()
        pods = self._all_pods()
        for pod in pods:
            pod.container = {**pod.container, "lifecycle": {}}
            pod.delete()
        for pod in pods:
            pod.join()
        self._relay.close()

    def endpoints(self, service: str) -> list[tuple[str, int]]:
        """Addresses and ports of the ready pods behind a Service."""
        document = named(self.documents, "Service", service)
        [port] = document["spec"]["ports"]
        return [
            (pod.address, pod.port(port["targetPort"]))
            for pod in self._all_pods()
            if pod.ready and matches({"matchLabels": document["spec"]["selector"]}, pod.labels)
        ]

    def _all_pods(self) -> list[Pod]:
        return [pod for deployment in self._deployments.values() for pod in list(deployment.pods)]

    def _serve(self, document: Document) -> None:
        name = document["metadata"]["name"]
        if name in self._addresses:
            return
        self._addresses[name] = f"127.{self._block}.2.{next(self._numbers)}"
        [port] = document["spec"]["ports"]
        self._relay.serve(self._addresses[name], port["port"], lambda: self.endpoints(name))

    def _config_map(self, name: str) -> Mapping[str, str]:
        return named(self.documents, "ConfigMap", name)["data"]

    def _resolve(self, text: str) -> str:
        """Replaces names, and what nginx would resolve itself while it runs."""

        def servers(found: re.Match[str]) -> str:
            ready = self.endpoints(found[1]) or [(NOWHERE, 1)]
            return " ".join(f"server {host}:{port} {found[3]};" for host, port in ready)

        def address(found: re.Match[str]) -> str:
            return self._addresses.get(found[1].split(".")[0], found[0])

        return _NAME.sub(address, _RESOLVED.sub(servers, _RESOLVER.sub("", text)))

    def _control(self) -> None:
        while not self._ends.wait(TICK_S):
            for deployment in self._deployments.values():
                deployment.reconcile(self)
                for pod in list(deployment.pods):
                    if pod.container["command"][0] == "nginx" and pod.ready and pod.refresh():
                        pod.signal(signal.SIGHUP)


class _Relay:
    """Passes TCP connections on to endpoints, as kube-proxy does."""

    def __init__(self) -> None:
        self._servers: list[asyncio.Server] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relay")
        self._thread.start()

    def serve(self, host: str, port: int, endpoints: Callable[[], list[tuple[str, int]]]) -> None:
        """Passes on what comes to an address, each connection to one of the endpoints of then."""

        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            ready = endpoints()
            if not ready:
                writer.close()
                return
            try:
                there = await asyncio.open_connection(*random.choice(ready))
            except OSError:
                writer.close()
                return
            await asyncio.gather(_pump(reader, there[1]), _pump(there[0], writer))

        start = asyncio.start_server(relay, host, port)
        self._servers.append(asyncio.run_coroutine_threadsafe(start, self._loop).result(10))

    def close(self) -> None:
        """Cuts every connection."""

        async def cancel() -> None:
            for server in self._servers:
                server.close()
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(cancel(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


@contextmanager
def running_cluster(secrets: Mapping[str, Mapping[str, str]]) -> Iterator[Cluster]:
    """A cluster that ends with the block."""
    with tempfile.TemporaryDirectory(prefix="sightline-") as folder:
        Path(folder).chmod(0o755)  # nginx' workers are nobody where its master is root
        cluster = Cluster(Path(folder), secrets)
        try:
            yield cluster
        finally:
            cluster.close()
