"""One pod as a local process, attended as a kubelet does. Knows processes and probes; no Services.

Its address is one of this machine's 127/8, so that its ports are those of the manifest. Of a
container's file system only the mounts are its own: where a text names a mount, it gets the
folder that stands for it.
"""

import os
import re
import shutil
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rig.chart import Document

SHARED_MOUNTS = frozenset({"/dev/shm"})
RESTART_S = 0.5


@dataclass
class Surroundings:
    """What a pod needs of its cluster.

    Attributes:
        folder: where pods keep their files.
        config_maps: entries by name.
        secrets: entries by name.
        resolve: replaces names of Services by addresses.
        speed: seconds that stand for one second of a probe's period.
    """

    folder: Path
    config_maps: Callable[[str], Mapping[str, str]]
    secrets: Mapping[str, Mapping[str, str]]
    resolve: Callable[[str], str]
    speed: float = 0.2


@dataclass(eq=False)
class Pod:
    """One process, started again when it ends or when its liveness probe fails.

    `once` pods, as Jobs and tests make them, end for good.
    """

    name: str
    address: str
    template: Document
    around: Surroundings
    once: bool = False
    annotations: Mapping[str, str] = field(default_factory=dict[str, str])
    ready: bool = False
    going: bool = False
    restarts: int = 0
    process: subprocess.Popen[bytes] | None = None
    exit_codes: list[int] = field(default_factory=list[int])

    def __post_init__(self) -> None:
        self.folder = self.around.folder / self.name
        self.folder.mkdir(parents=True)
        self.container: Document = self.template["spec"]["containers"][0]
        self.labels: Mapping[str, str] = self.template["metadata"]["labels"]
        self.log = self.folder / "log"
        self._paths = self._mount()
        self._thread = threading.Thread(target=self._live, name=self.name)

    @property
    def gone(self) -> bool:
        """Whether it has ended for good."""
        return not self._thread.is_alive()

    def start(self) -> "Pod":
        """Starts the process and attends it."""
        self._thread.start()
        return self

    def port(self, name: str | int) -> int:
        """The number of a port."""
        ports = {p["name"]: p["containerPort"] for p in self.container.get("ports", ())}
        return ports.get(name, name)

    def kill(self) -> None:
        """Ends the process as a node that loses power does; the kubelet starts it again."""
        self.signal(signal.SIGKILL)

    def signal(self, number: int) -> None:
        """Sends a signal to the process and its children."""
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, number)

    def delete(self) -> None:
        """Begins the pod's end: not ready from now on, preStop, SIGTERM, at last SIGKILL."""
        self.going, self.ready = True, False

    def join(self, timeout_s: float = 120) -> None:
        """Waits until it is gone."""
        self._thread.join(timeout_s)

    def refresh(self) -> bool:
        """Writes configuration files again; says whether any has changed."""
        return any([write() for write in self._files])

    def localised(self, text: str) -> str:
        """A text of the manifest, with what stands here for its paths and addresses."""
        mounts = sorted(self._paths, key=len, reverse=True)
        if mounts:
            any_mount = "|".join(re.escape(mount) for mount in mounts)
            text = re.sub(any_mount, lambda found: str(self._paths[found[0]]), text)
        return self.around.resolve(text).replace("0.0.0.0", self.address)

    def _mount(self) -> dict[str, Path]:
        self._files: list[Callable[[], bool]] = []
        volumes = {v["name"]: v for v in self.template["spec"].get("volumes", ())}
        paths: dict[str, Path] = {}
        for mount in self.container.get("volumeMounts", ()):
            if mount["mountPath"] in SHARED_MOUNTS:
                continue
            folder = self._volume(volumes[mount["name"]])
            paths[mount["mountPath"]] = folder / mount.get("subPath", "")
        return paths

    def _volume(self, volume: Document) -> Path:
        claim = volume.get("persistentVolumeClaim", {}).get("claimName")
        if claim:
            folder = self.around.folder / "claims" / claim
            folder.mkdir(parents=True, exist_ok=True)
            return folder
        folder = self.folder / volume["name"]
        folder.mkdir(exist_ok=True)
        if "secret" in volume:
            entries = self.around.secrets[volume["secret"]["secretName"]]
            for item in volume["secret"]["items"]:
                (folder / item["path"]).write_text(entries[item["key"]])
        if "configMap" in volume:
            name = volume["configMap"]["name"]
            for entry in self.around.config_maps(name):
                self._files.append(lambda e=entry: self._write(folder / e, name, e))
        return folder

    def _write(self, path: Path, config_map: str, entry: str) -> bool:
        text = self.localised(self.around.config_maps(config_map)[entry])
        if path.is_file() and path.read_text() == text:
            return False
        path.write_text(text)
        return True

    def _environment(self) -> dict[str, str]:
        variables: dict[str, str] = {}
        for variable in self.container.get("env", ()):
            source: Any = variable.get("valueFrom", {})
            if "secretKeyRef" in source:
                key = source["secretKeyRef"]
                value = self.around.secrets[key["name"]][key["key"]]
            elif "fieldRef" in source:
                value = self.annotations[source["fieldRef"]["fieldPath"].split("'")[1]]
            else:
                value = self.localised(variable["value"])
            variables[variable["name"]] = value
        return variables

    def _live(self) -> None:
        while not self.going:
            self.refresh()
            self._begin()
            self._attend()
            self.exit_codes.append(self._end())
            self.ready = False
            if self.once:
                return
            self.restarts += 1
            if not self.going:
                time.sleep(RESTART_S)

    def _begin(self) -> None:
        environment = self._environment()
        command = [*self.container["command"], *self.container.get("args", ())]
        for name, value in environment.items():
            command = [word.replace(f"$({name})", value) for word in command]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [self.localised(word) for word in command],
                env={"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", **environment},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _attend(self) -> None:
        """Probes until the process ends, fails for too long, or is to go."""
        startup = self.container.get("startupProbe")
        watches = {"startup": _Watch(startup)} if startup else {}
        later = {
            kind: _Watch(self.container[f"{kind}Probe"])
            for kind in ("readiness", "liveness")
            if f"{kind}Probe" in self.container
        }
        while not self.going and self.process and self.process.poll() is None:
            if "startup" in watches and watches["startup"].passed:
                watches = {}
            for kind, watch in (watches or later).items():
                if not watch.due(time.monotonic(), self.around.speed):
                    continue
                watch.note(passed=self._probe(watch.probe))
                if kind == "readiness":
                    self.ready = (watch.passed or (self.ready and not watch.failed)) and (
                        not self.going
                    )
                elif watch.failed:
                    return
            if not later:
                self.ready = True
            time.sleep(0.05)

    def _probe(self, probe: Document) -> bool:
        asked = probe["httpGet"]
        url = f"http://{self.address}:{self.port(asked['port'])}{asked['path']}"
        try:
            with urllib.request.urlopen(url, timeout=probe.get("timeoutSeconds", 1)) as answer:
                return answer.status < 400
        except (urllib.error.URLError, OSError):
            return False

    def _end(self) -> int:
        process = self.process
        assert process is not None
        if process.poll() is None:
            grace = self.template["spec"].get("terminationGracePeriodSeconds", 30)
            self._pre_stop()
            self.signal(signal.SIGTERM)
            try:
                process.wait(grace)
            except subprocess.TimeoutExpired:
                self.signal(signal.SIGKILL)
        return process.wait()

    def _pre_stop(self) -> None:
        hook = self.container.get("lifecycle", {}).get("preStop", {}).get("exec")
        if hook:
            command = [self.localised(word) for word in hook["command"]]
            subprocess.run(command, check=False, timeout=60, stderr=subprocess.DEVNULL)


@dataclass
class _Watch:
    """One probe and how it went lately."""

    probe: Document
    last: float = float("-inf")
    in_a_row: int = 0
    """Successes above zero, failures below."""

    @property
    def passed(self) -> bool:
        return self.in_a_row >= self.probe.get("successThreshold", 1)

    @property
    def failed(self) -> bool:
        return -self.in_a_row >= self.probe.get("failureThreshold", 3)

    def due(self, now: float, speed: float) -> bool:
        return now - self.last >= self.probe.get("periodSeconds", 10) * speed

    def note(self, *, passed: bool) -> None:
        self.last = time.monotonic()
        if passed:
            self.in_a_row = max(self.in_a_row, 0) + 1
        else:
            self.in_a_row = min(self.in_a_row, 0) - 1


def tools() -> list[str]:
    """The programs that the pods run and this machine lacks."""
    return [tool for tool in ("sightline", "torchrun", "nginx") if shutil.which(tool) is None]
