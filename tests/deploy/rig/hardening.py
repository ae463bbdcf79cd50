"""What every pod of the chart promises, and what an API server checks in code. Knows YAML."""

import re
from collections.abc import Iterator

from rig.chart import Document, containers, pod_templates

QUANTITY = re.compile(r"^\d+(\.\d+)?(m|[kMGTPE]i?)?$")
LABEL = re.compile(r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$")
NAME = re.compile(r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
PORT_NAME = re.compile(r"^(?=.*[a-z])[a-z0-9]([a-z0-9]|-(?!-))*$")


def faults(documents: list[Document]) -> Iterator[str]:
    """What breaks a promise, or what the server would refuse beyond the schemas."""
    for document in documents:
        where = f"{document['kind']}/{document['metadata']['name']}"
        yield from (f"{where}: {fault}" for fault in _metadata(document))
    for where, pod in pod_templates(documents):
        yield from (f"{where}: {fault}" for fault in _pod(pod))
        for container in containers(pod):
            yield from (f"{where}/{container['name']}: {f}" for f in _container(container))
        yield from (f"{where}: {fault}" for fault in _stopping(pod))
    for document in documents:
        if document["kind"] == "Deployment":
            yield from _serving(document)


def _metadata(document: Document) -> Iterator[str]:
    name = document["metadata"]["name"]
    if not NAME.match(name) or len(name) > 63:
        yield f"{name!r} is no name"
    for key, value in document["metadata"].get("labels", {}).items():
        if not LABEL.match(value) or len(value) > 63:
            yield f"label {key} is {value!r}"


def _pod(pod: Document) -> Iterator[str]:
    spec = pod["spec"]
    context = spec.get("securityContext", {})
    if not (context.get("runAsNonRoot") and context.get("runAsUser", 0) > 0):
        yield "it may run as root"
    if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "it has no seccomp profile"
    if spec.get("automountServiceAccountToken") is not False:
        yield "it is given a token for the API server"
    if spec.get("enableServiceLinks") is not False:
        yield "a Service named sightline would set SIGHTLINE_PORT in it"
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(key):
            yield f"it shares {key} with its node"


def _container(container: Document) -> Iterator[str]:
    context = container.get("securityContext", {})
    if context.get("privileged") or context.get("allowPrivilegeEscalation") is not False:
        yield "it may gain privileges"
    if not context.get("readOnlyRootFilesystem"):
        yield "its root is writable"
    if context.get("capabilities", {}).get("drop") != ["ALL"]:
        yield "it keeps capabilities"
    resources = container.get("resources", {})
    if "memory" not in resources.get("limits", {}) or "cpu" not in resources.get("requests", {}):
        yield "it has no memory limit, or requests no CPU"
    for part in ("requests", "limits"):
        for name, amount in resources.get(part, {}).items():
            if not QUANTITY.match(str(amount)):
                yield f"{part}.{name} is {amount!r}"
    image = container["image"]
    tag = image.rsplit("/", 1)[-1].partition(":")[2]
    if "@sha256:" not in image and tag in ("", "latest"):
        yield f"image {image} may change under it"
    for port in container.get("ports", ()):
        if not PORT_NAME.match(port.get("name", "")) or len(port["name"]) > 15:
            yield f"port name {port.get('name')!r}"


def _stopping(pod: Document) -> Iterator[str]:
    """A pod must not be killed before its preStop hook and its drain are over."""
    grace = pod["spec"].get("terminationGracePeriodSeconds", 30)
    for container in containers(pod):
        command = container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command")
        environment = {e["name"]: e.get("value") for e in container.get("env", ())}
        if not command or "SIGHTLINE_HOST" not in environment:
            continue
        needed = float(command[-1]) + float(environment.get("SIGHTLINE_DRAIN_TIMEOUT_S") or 30)
        if grace <= needed:
            yield f"it is killed after {grace} s, and needs {needed:g} s to drain"


def _serving(document: Document) -> Iterator[str]:
    where = f"Deployment/{document['metadata']['name']}"
    for container in document["spec"]["template"]["spec"]["containers"]:
        for probe in ("readinessProbe", "livenessProbe"):
            if probe not in container:
                yield f"{where}/{container['name']}: no {probe}"
        if "preStop" not in container.get("lifecycle", {}):
            yield f"{where}/{container['name']}: stops before routers know"
