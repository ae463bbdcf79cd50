"""A pod of the manifest as a container under podman, held as its security context says.

Knows podman and the manifest; knows no Service. All containers of one test share one network
of their own, which is no other's: there, every name of a Service is the loopback address.
"""

import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rig.chart import NAMESPACE, Document, named
from rig.images import run

OWNER = 10001


@dataclass(frozen=True)
class Container:
    """One that has been started."""

    name: str

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Runs a command in it."""
        words = ["podman", "exec", self.name, *command]
        return subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)

    def healthy(self) -> bool:
        """What the image's own HEALTHCHECK says."""
        words = ["podman", "healthcheck", "run", self.name]
        return subprocess.run(words, capture_output=True, check=False).returncode == 0

    def wait_healthy(self, path: str, timeout_s: float = 300) -> None:
        """Waits until a path of its port 8000 answers.

        Raises:
            TimeoutError: it does not; with the log.
        """
        ask = f"import urllib.request as u; u.urlopen('http://127.0.0.1:8000{path}', timeout=5)"
        deadline = time.monotonic() + timeout_s
        while self.execute("python", "-c", ask).returncode:
            if time.monotonic() > deadline:
                raise TimeoutError(self.log())
            time.sleep(0.5)

    def stop(self, grace_s: int) -> int:
        """Sends the image's stop signal; returns how the process ended."""
        run(["podman", "stop", f"--time={grace_s}", self.name])
        return self.join()

    def join(self) -> int:
        """Waits for its end; returns how the process ended."""
        return int(run(["podman", "wait", self.name]))

    def log(self) -> str:
        """What its process said."""
        words = ["podman", "logs", self.name]
        return subprocess.run(words, text=True, check=False, stdout=-1, stderr=-2).stdout


@dataclass
class Node:
    """Runs pods of a manifest as containers.

    Attributes:
        folder: where their volumes are kept.
        documents: the manifest.
        secrets: what the user of the chart brings.
        options: further options of every container.
    """

    folder: Path
    documents: list[Document]
    secrets: Mapping[str, Mapping[str, str]]
    options: list[str] = field(default_factory=list[str])
    started: list[Container] = field(default_factory=list[Container])

    def start(self, pod: Document, image: str, options: list[str] | None = None) -> Container:
        """Starts the one container of a pod."""
        [container] = pod["spec"]["containers"]
        made = Container(f"sightline-{container['name']}-{uuid.uuid4().hex[:8]}")
        command = [*container["command"], *container.get("args", ())]
        run(
            ["podman", "run", "--detach", f"--name={made.name}", *self._network()]
            + [*hardening(pod), *self._environment(container), *self._mounts(pod, made.name)]
            + [*self.options, *(options or ()), f"--entrypoint={command[0]}", image, *command[1:]]
        )
        self.started.append(made)
        return made

    def close(self) -> None:
        """Removes every container."""
        for container in reversed(self.started):
            run(["podman", "rm", "--force", "--time=5", container.name])

    def _network(self) -> Iterator[str]:
        hosts = self.folder / "hosts"
        names = [d["metadata"]["name"] for d in self.documents if d["kind"] == "Service"]
        lines = ["localhost", *(f"{name}.{NAMESPACE}.svc.cluster.local" for name in names)]
        hosts.write_text("".join(f"127.0.0.1 {name}\n" for name in lines))
        yield from ("--no-hosts", f"--volume={hosts}:/etc/hosts:ro")
        shared = f"container:{self.started[0].name}" if self.started else "none"
        yield f"--network={shared}"

    def _environment(self, container: Document) -> Iterator[str]:
        for variable in container.get("env", ()):
            key = variable.get("valueFrom", {}).get("secretKeyRef")
            value = self.secrets[key["name"]][key["key"]] if key else variable["value"]
            yield f"--env={variable['name']}={value}"

    def _mounts(self, pod: Document, name: str) -> Iterator[str]:
        volumes = {v["name"]: v for v in pod["spec"]["volumes"]}
        [container] = pod["spec"]["containers"]
        for mount in container["volumeMounts"]:
            volume, path = volumes[mount["name"]], mount["mountPath"]
            if path == "/dev/shm":
                yield f"--shm-size={amount(volume['emptyDir']['sizeLimit'])}"
            elif "emptyDir" in volume:
                yield f"--tmpfs={path}:rw,mode=1777,size={amount(volume['emptyDir']['sizeLimit'])}"
            else:
                access = "ro" if mount.get("readOnly") else "rw"
                yield f"--volume={self._volume(volume, name)}:{path}:{access}"

    def _volume(self, volume: Document, pod: str) -> Path:
        if "persistentVolumeClaim" in volume:
            folder = self.folder / volume["persistentVolumeClaim"]["claimName"]
            folder.mkdir(exist_ok=True)
            shutil.chown(folder, OWNER, OWNER)
            return folder
        folder = self.folder / pod / volume["name"]
        folder.mkdir(parents=True)
        if "secret" in volume:
            entries = self.secrets[volume["secret"]["secretName"]]
            texts = {item["path"]: entries[item["key"]] for item in volume["secret"]["items"]}
        else:
            texts = named(self.documents, "ConfigMap", volume["configMap"]["name"])["data"]
        for path, text in texts.items():
            (folder / path).write_text(text)
        return folder


def hardening(pod: Document) -> Iterator[str]:
    """What the manifest says of a pod's rights and limits, as options of podman."""
    [container] = pod["spec"]["containers"]
    context = pod["spec"]["securityContext"] | container["securityContext"]
    yield f"--user={context['runAsUser']}:{context['runAsGroup']}"
    yield f"--memory={amount(container['resources']['limits']['memory'])}"
    if context["readOnlyRootFilesystem"]:
        yield from ("--read-only", "--read-only-tmpfs=false")
    if not context["allowPrivilegeEscalation"]:
        yield "--security-opt=no-new-privileges"
    yield from (f"--cap-drop={name.lower()}" for name in context["capabilities"]["drop"])


def amount(quantity: str) -> str:
    """A quantity of memory in podman's words."""
    return quantity.removesuffix("i").lower()


@contextmanager
def running_node(
    folder: Path, documents: list[Document], secrets: Mapping[str, Mapping[str, str]]
) -> Iterator[Node]:
    """A node whose containers end with the block."""
    node = Node(folder, documents, secrets)
    try:
        yield node
    finally:
        node.close()
