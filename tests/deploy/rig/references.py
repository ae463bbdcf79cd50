"""What one object of a manifest says of another, and no schema sees. Knows YAML; no cluster."""

import re
from collections.abc import Callable, Iterator, Mapping

from rig.chart import NAMESPACE, Document, containers, pod_templates

SERVICE_NAME = re.compile(rf"\b([a-z0-9-]+)\.{NAMESPACE}\.svc\.cluster\.local:(\d+)")
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


class References:
    """Looks names up among the objects of one manifest, and those that the user brings.

    Args:
        documents: the objects.
        brought: objects that are not part of the chart, as "Secret/name".
    """

    def __init__(self, documents: list[Document], brought: frozenset[str]) -> None:
        self.documents = documents
        self.brought = brought
        self.by_name = {(d["kind"], d["metadata"]["name"]): d for d in documents}
        self.pods = dict(pod_templates(documents))

    def faults(self) -> Iterator[str]:
        """Every reference that leads nowhere."""
        if len(self.by_name) < len(self.documents):
            yield "two objects share kind and name"
        for where, pod in self.pods.items():
            for check in (self._volumes, self._accounts, self._environment, self._probes):
                yield from (f"{where}: {fault}" for fault in check(pod))
        checks: Mapping[str, Callable[[Document], Iterator[str]]] = {
            "Deployment": self._own_selector,
            "Service": self._service,
            "Ingress": self._ingress,
            "HTTPRoute": self._route,
            "HorizontalPodAutoscaler": self._scaled,
            "ScaledObject": self._scaled,
            "PodDisruptionBudget": self._selector_of_pods,
            "NetworkPolicy": self._network_policy,
            "ServiceMonitor": self._monitor,
        }
        for document in self.documents:
            where = f"{document['kind']}/{document['metadata']['name']}"
            check = checks.get(document["kind"])
            faults = check(document) if check else ()
            yield from (f"{where}: {fault}" for fault in faults)
            yield from (f"{where}: {fault}" for fault in self._urls(document))

    def _missing(self, kind: str, name: str) -> Iterator[str]:
        if (kind, name) not in self.by_name and f"{kind}/{name}" not in self.brought:
            yield f"there is no {kind} {name}"

    def _volumes(self, pod: Document) -> Iterator[str]:
        volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes", ())}
        mounted: set[str] = set()
        for container in containers(pod):
            for mount in container.get("volumeMounts", ()):
                mounted.add(mount["name"])
                if mount["name"] not in volumes:
                    yield f"mount {mount['name']} has no volume"
                elif "subPath" in mount:
                    yield from self._entry(volumes[mount["name"]], mount["subPath"])
        yield from (f"volume {name} is not mounted" for name in volumes.keys() - mounted)
        sources = {
            "configMap": ("ConfigMap", "name"),
            "secret": ("Secret", "secretName"),
            "persistentVolumeClaim": ("PersistentVolumeClaim", "claimName"),
        }
        for volume in volumes.values():
            for source, (kind, key) in sources.items():
                if source in volume:
                    yield from self._missing(kind, volume[source][key])

    def _entry(self, volume: Document, entry: str) -> Iterator[str]:
        source = self.by_name.get(("ConfigMap", volume.get("configMap", {}).get("name")))
        if source is not None and entry not in source["data"]:
            yield f"ConfigMap {source['metadata']['name']} has no entry {entry}"

    def _accounts(self, pod: Document) -> Iterator[str]:
        account = pod["spec"].get("serviceAccountName", "default")
        if account != "default":
            yield from self._missing("ServiceAccount", account)
        for secret in pod["spec"].get("imagePullSecrets", ()):
            yield from self._missing("Secret", secret["name"])

    def _environment(self, pod: Document) -> Iterator[str]:
        for container in containers(pod):
            names = [variable["name"] for variable in container.get("env", ())]
            twice = {name for name in names if names.count(name) > 1}
            if twice:
                yield f"{sorted(twice)} is set twice"
            for variable in container.get("env", ()):
                source = variable.get("valueFrom", {})
                for kind, key in (("Secret", "secretKeyRef"), ("ConfigMap", "configMapKeyRef")):
                    if key in source:
                        yield from self._missing(kind, source[key]["name"])
            words = [*container.get("command", ()), *container.get("args", ())]
            for used in set(re.findall(r"\$\((\w+)\)", " ".join(words))) - set(names):
                yield f"$({used}) is not in the environment"

    def _probes(self, pod: Document) -> Iterator[str]:
        for container in containers(pod):
            ports = {p.get("name") for p in container.get("ports", ())}
            for probe in PROBES:
                asked = container.get(probe, {}).get("httpGet", {}).get("port")
                if asked is not None and asked not in ports:
                    yield f"{probe} asks port {asked}, the container has {sorted(ports)}"

    def _own_selector(self, document: Document) -> Iterator[str]:
        template = document["spec"]["template"]
        selector = document["spec"]["selector"]
        if not matches(selector, template["metadata"]["labels"]):
            yield "its selector does not match its own pods"
        for spread in template["spec"].get("topologySpreadConstraints", ()):
            if not matches(spread["labelSelector"], template["metadata"]["labels"]):
                yield "a spread constraint counts other pods"

    def _selected(self, selector: Document) -> list[Document]:
        return [
            pod for pod in self.pods.values() if matches(selector, pod["metadata"].get("labels"))
        ]

    def _service(self, document: Document) -> Iterator[str]:
        pods = self._selected({"matchLabels": document["spec"]["selector"]})
        if not pods:
            yield "its selector matches no pod"
        for port in document["spec"]["ports"]:
            for pod in pods:
                if port["targetPort"] not in port_names(pod):
                    yield f"targetPort {port['targetPort']} is no port of its pods"

    def _selector_of_pods(self, document: Document) -> Iterator[str]:
        if not self._selected(document["spec"]["selector"]):
            yield "its selector matches no pod"

    def _network_policy(self, document: Document) -> Iterator[str]:
        pods = self._selected(document["spec"]["podSelector"])
        if not pods:
            yield "its selector matches no pod"
        for rule in document["spec"].get("ingress", ()):
            for port in rule.get("ports", ()):
                if not all(port["port"] in port_names(pod) for pod in pods):
                    yield f"port {port['port']} is no port of its pods"

    def _monitor(self, document: Document) -> Iterator[str]:
        services = [
            service
            for service in self.documents
            if service["kind"] == "Service"
            and matches(document["spec"]["selector"], service["metadata"]["labels"])
        ]
        if not services:
            yield "its selector matches no Service"
        for endpoint in document["spec"]["endpoints"]:
            for service in services:
                if endpoint["port"] not in {port["name"] for port in service["spec"]["ports"]}:
                    yield f"{service['metadata']['name']} has no port {endpoint['port']}"

    def _scaled(self, document: Document) -> Iterator[str]:
        target = document["spec"]["scaleTargetRef"]
        yield from self._missing(target.get("kind", "Deployment"), target["name"])
        deployment = self.by_name.get(("Deployment", target["name"]))
        if deployment is not None and "replicas" in deployment["spec"]:
            yield "an autoscaler and the chart both set replicas"

    def _backend(self, name: str, port: str | int) -> Iterator[str]:
        yield from self._missing("Service", name)
        service = self.by_name.get(("Service", name))
        ports = service["spec"]["ports"] if service else []
        if service and port not in {p["name"] for p in ports} | {p["port"] for p in ports}:
            yield f"Service {name} has no port {port}"

    def _ingress(self, document: Document) -> Iterator[str]:
        for rule in document["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                service = path["backend"]["service"]
                yield from self._backend(service["name"], next(iter(service["port"].values())))

    def _route(self, document: Document) -> Iterator[str]:
        for rule in document["spec"]["rules"]:
            for backend in rule["backendRefs"]:
                yield from self._backend(backend["name"], backend["port"])

    def _urls(self, document: Document) -> Iterator[str]:
        """Addresses in environment variables, arguments and configuration files."""
        for name, port in SERVICE_NAME.findall("\n".join(texts(document))):
            yield from self._backend(name, int(port))


def texts(value: object) -> Iterator[str]:
    """Every text within an object."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)


def port_names(pod: Document) -> set[str | int]:
    """Names and numbers of a pod's ports."""
    ports = [port for container in containers(pod) for port in container.get("ports", ())]
    return {port["name"] for port in ports} | {port["containerPort"] for port in ports}


def matches(selector: Document, labels: Mapping[str, str] | None) -> bool:
    """Whether a label selector chooses what has these labels."""
    labels = labels or {}
    wanted = selector.get("matchLabels", {}).items()
    chosen = (
        labels.get(expression["key"]) in expression["values"]
        for expression in selector.get("matchExpressions", ())
        if expression["operator"] == "In"
    )
    return wanted <= labels.items() and all(chosen)
