"""The objects of a pretended cluster: kept, checked, watched. Knows schemas; knows no HTTP.

There are no controllers: what needs one (a Deployment that becomes available, a claim that is
bound, a Pod or Job that ends well) has its final status at once.
"""

import copy
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from rig import schemas
from rig.chart import Document
from rig.references import matches

VERSION = "1.33"
IMMUTABLE = {"Deployment": ("selector",), "Job": ("template", "completions", "completionMode")}


class Resource(NamedTuple):
    """A kind of object as the API names it."""

    group_version: str
    plural: str
    kind: str
    namespaced: bool = True


RESOURCES = (
    Resource("v1", "namespaces", "Namespace", namespaced=False),
    Resource("v1", "services", "Service"),
    Resource("v1", "configmaps", "ConfigMap"),
    Resource("v1", "secrets", "Secret"),
    Resource("v1", "pods", "Pod"),
    Resource("v1", "persistentvolumeclaims", "PersistentVolumeClaim"),
    Resource("v1", "serviceaccounts", "ServiceAccount"),
    Resource("apps/v1", "deployments", "Deployment"),
    Resource("apps/v1", "replicasets", "ReplicaSet"),
    Resource("batch/v1", "jobs", "Job"),
    Resource("policy/v1", "poddisruptionbudgets", "PodDisruptionBudget"),
    Resource("autoscaling/v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler"),
    Resource("networking.k8s.io/v1", "ingresses", "Ingress"),
    Resource("networking.k8s.io/v1", "networkpolicies", "NetworkPolicy"),
    Resource("gateway.networking.k8s.io/v1", "httproutes", "HTTPRoute"),
    Resource("monitoring.coreos.com/v1", "servicemonitors", "ServiceMonitor"),
    Resource("monitoring.coreos.com/v1", "prometheusrules", "PrometheusRule"),
    Resource("keda.sh/v1alpha1", "scaledobjects", "ScaledObject"),
)


class Key(NamedTuple):
    """Where an object is."""

    resource: Resource
    namespace: str
    name: str


@dataclass
class ApiError(Exception):
    """What the server answers in place of an object."""

    code: int
    reason: str
    message: str


@dataclass(frozen=True)
class Event:
    """One change, by its resource version."""

    version: int
    kind: str
    key: Key
    object: Document


def status_of(document: Document) -> Document:
    """The status that controllers would arrive at."""
    generation = document["metadata"]["generation"]
    replicas = document.get("spec", {}).get("replicas", 1)
    return {
        "Deployment": {
            "observedGeneration": generation,
            "replicas": replicas,
            "updatedReplicas": replicas,
            "readyReplicas": replicas,
            "availableReplicas": replicas,
            "conditions": [
                {"type": "Available", "status": "True"},
                {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"},
            ],
        },
        "PersistentVolumeClaim": {"phase": "Bound"},
        "Pod": {
            "phase": "Succeeded",
            "conditions": [{"type": "Ready", "status": "False", "reason": "PodCompleted"}],
        },
        "Job": {"succeeded": 1, "conditions": [{"type": "Complete", "status": "True"}]},
    }.get(document["kind"], {})


class Store:
    """Objects by key, and every change of them in order. Safe for threads."""

    def __init__(self) -> None:
        self.objects: dict[Key, Document] = {}
        self.events: list[Event] = []
        self.changed = threading.Condition()
        self.version = 1

    def names(self) -> set[str]:
        """Everything there is, as "Kind/name", namespaces left out."""
        with self.changed:
            return {
                f"{key.resource.kind}/{key.name}"
                for key in self.objects
                if key.resource.kind != "Namespace"
            }

    def create(self, key: Key, document: Document, *, dry_run: bool = False) -> Document:
        """Adds an object.

        Raises:
            ApiError: it is there, its namespace is not, or it is not valid.
        """
        if key in self.objects:
            raise ApiError(409, "AlreadyExists", f'{key.resource.plural} "{key.name}" exists')
        namespace = Key(RESOURCES[0], "", key.namespace)
        if key.namespace and namespace not in self.objects:
            raise ApiError(404, "NotFound", f'namespaces "{key.namespace}" not found')
        check(document, None)
        return document if dry_run else self._put("ADDED", key, document)

    def replace(self, key: Key, document: Document, *, dry_run: bool = False) -> Document:
        """Changes an object.

        Raises:
            ApiError: it is not valid, or a field changes that may not.
        """
        check(document, self.objects[key])
        return document if dry_run else self._put("MODIFIED", key, document)

    def delete(self, key: Key) -> None:
        """Removes an object."""
        self._put("DELETED", key, copy.deepcopy(self.objects[key]))

    def select(self, resource: Resource, namespace: str, labels: Document) -> list[Document]:
        """All objects of a kind that have the labels."""
        return [
            found
            for key, found in sorted(self.objects.items())
            if key.resource == resource
            and namespace in ("", key.namespace)
            and matches(labels, found["metadata"].get("labels"))
        ]

    def since(self, version: int, patience_s: float) -> Iterator[Event]:
        """Yields changes after `version` as they happen, until none comes for a while."""
        seen = 0
        while True:
            with self.changed:
                fresh = [event for event in self.events[seen:] if event.version > version]
                if not fresh and not self.changed.wait(patience_s):
                    return
                seen = len(self.events) if fresh else seen
            yield from fresh

    def _put(self, event: str, key: Key, document: Document) -> Document:
        with self.changed:
            self.version += 1
            before = self.objects.get(key)
            metadata = document.setdefault("metadata", {})
            metadata["resourceVersion"] = str(self.version)
            metadata.setdefault("uid", str(uuid.uuid4()))
            metadata.setdefault("creationTimestamp", time.strftime("%Y-%m-%dT%H:%M:%SZ"))
            metadata["generation"] = before["metadata"]["generation"] + 1 if before else 1
            if key.namespace:
                metadata["namespace"] = key.namespace
            if status := status_of(document):
                document["status"] = status
            if event == "DELETED":
                del self.objects[key]
            else:
                self.objects[key] = document
            self.events.append(Event(self.version, event, key, copy.deepcopy(document)))
            self.changed.notify_all()
        return document


def check(document: Document, before: Document | None) -> None:
    """Refuses what a server would.

    Raises:
        ApiError: it breaks its schema, or a field changes that may not.
    """
    bare = {key: value for key, value in document.items() if key != "status"}
    bare = bare | {"metadata": {k: v for k, v in bare["metadata"].items() if k != "managedFields"}}
    where = f'{document["kind"]} "{document["metadata"]["name"]}" is invalid'
    for fault in schemas.faults([bare], VERSION):
        raise ApiError(422, "Invalid", f"{where}: {fault}")
    for field in IMMUTABLE.get(document["kind"], ()) if before else ():
        if before and before["spec"].get(field) != document["spec"].get(field):
            raise ApiError(422, "Invalid", f"{where}: spec.{field}: field is immutable")
    if document["kind"] == "Deployment":
        labels = document["spec"]["template"]["metadata"]["labels"]
        if not matches(document["spec"]["selector"], labels):
            raise ApiError(422, "Invalid", f"{where}: `selector` does not match `labels`")
