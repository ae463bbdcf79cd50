"""Manifests against the schemas of Kubernetes' own versions. Knows kubernetes-validate's files."""

import re
from collections.abc import Iterator
from functools import cache
from importlib import resources

import kubernetes_validate
from jsonschema import Draft202012Validator
from kubernetes_validate import utils
from referencing import Registry, Resource
from rig.chart import Document

VERSIONS = ("1.29", "1.33", "1.37")
CUSTOM = frozenset({"ServiceMonitor", "PrometheusRule", "ScaledObject", "HTTPRoute"})
"""Kinds that operators bring, whose schemas are not Kubernetes' own."""


def faults(documents: list[Document], version: str) -> Iterator[str]:
    """What a server of `version` would refuse, or silently drop."""
    for document in documents:
        if document["kind"] in CUSTOM:
            continue
        where = f"{document['kind']}/{document['metadata']['name']}"
        validator = _validator(version, document["kind"], document["apiVersion"])
        if validator is None:
            yield f"{where}: {version} has no {document['apiVersion']}"
            continue
        for error in validator.iter_errors(document):
            yield f"{where}: {error.json_path}: {error.message}"


@cache
def _folder(version: str) -> str:
    root = resources.files(kubernetes_validate) / "kubernetes-json-schema"
    [found] = [f.name for f in root.iterdir() if re.match(rf"v{version}\..*-local-strict$", f.name)]
    return f"kubernetes-json-schema/{found}"


@cache
def _definitions(version: str) -> Registry:
    contents = utils.schema_contents(f"{_folder(version)}/_definitions.json", version)
    return Resource.from_contents(contents) @ Registry()


@cache
def _validator(version: str, kind: str, api_version: str) -> Draft202012Validator | None:
    group = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", api_version)
    try:
        path = f"{_folder(version)}/{kind.lower()}-{group}.json"
        schema = utils.schema_contents(path, version)
    except FileNotFoundError:
        return None
    registry = Resource.from_contents(schema) @ _definitions(version)
    return Draft202012Validator(schema, registry=registry)
