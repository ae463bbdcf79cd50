"""The chart, rendered as `helm install` would. Knows helm and YAML; knows no cluster."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import helm_python as helm
import yaml

ROOT = Path(__file__).parents[3]
CHART = ROOT / "charts/sightline"
VALUE_SETS = ("default", "gpu", "single")
RELEASE, NAMESPACE = "demo", "ml"
NEWEST = "v1.33.0"

Document = dict[str, Any]


class ChartError(Exception):
    """Helm refuses the chart or the values."""


class _Strict(yaml.SafeLoader):
    """YAML in which a key may be given once."""


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key) for key, _ in node.value]
    twice = {key for key in keys if keys.count(key) > 1}
    if twice:
        raise yaml.constructor.ConstructorError(
            None, None, f"given twice: {sorted(twice)}", node.start_mark
        )
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def value_set(name: str, chart: Path = CHART) -> Document:
    """One of the sets of values that come with the chart."""
    return yaml.safe_load((chart / f"ci/{name}-values.yaml").read_text())


def lint(values: Mapping[str, Any], chart: Path = CHART) -> list[str]:
    """What `helm lint --strict` finds."""
    found = helm.lint(str(chart), dict(values), strict=True, kube_version=NEWEST)
    notes = [note["error"] for note in found["messages"] if note["severity"] > 1]
    return [*map(str, found["errors"]), *notes]


def render(values: Mapping[str, Any], chart: Path = CHART, *, name: str = RELEASE) -> str:
    """The manifest, with the hooks of `helm test` at its end.

    Raises:
        ChartError: the values do not fit, a template fails or gives no YAML.
    """
    try:
        with helm.Config(namespace=NAMESPACE, storage_driver="memory") as config:
            release = config.install(str(chart), name, dict(values), dry_run="client")
        with helm.Chart.load(str(chart)) as loaded:
            texts = loaded.render(dict(values), name=name, namespace=NAMESPACE)
    except helm.HelmError as error:
        raise ChartError(getattr(error, "detail", None) or str(error)) from error
    hooks = [text for path, text in texts.items() if "/templates/tests/" in path]
    return "\n---\n".join([release["manifest"], *hooks])


def notes(values: Mapping[str, Any]) -> str:
    """What `helm install` says at its end."""
    with helm.Config(namespace=NAMESPACE, storage_driver="memory") as config:
        return config.install(str(CHART), RELEASE, dict(values), dry_run="client")["notes"]


def documents(manifest: str) -> list[Document]:
    """The objects of a manifest.

    Raises:
        yaml.YAMLError: it is no YAML, or a key is given twice.
    """
    return [document for document in yaml.load_all(manifest, Loader=_Strict) if document]


def objects(values: Mapping[str, Any], chart: Path = CHART) -> list[Document]:
    """Renders and parses."""
    return documents(render(values, chart))


def named(found: list[Document], kind: str, name: str) -> Document:
    """The one object of this kind and name."""
    [document] = [d for d in found if d["kind"] == kind and d["metadata"]["name"] == name]
    return document


def pod_templates(found: list[Document]) -> Iterator[tuple[str, Document]]:
    """Every pod that the objects make, with the name of what makes it."""
    for document in found:
        where = f"{document['kind']}/{document['metadata']['name']}"
        if document["kind"] in ("Deployment", "Job"):
            yield where, document["spec"]["template"]
        elif document["kind"] == "Pod":
            yield where, document


def containers(pod: Document) -> list[Document]:
    """Init containers and containers of a pod."""
    return [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]
