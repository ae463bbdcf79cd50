"""An API server that helm takes for one: discovery, writes, watches. Knows HTTP; no controllers.

Not pretended: defaults, merging of lists, admission, permissions, Secrets as protobuf (helm's own
releases are kept in memory instead).
"""

import copy
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

import yaml
from rig.chart import NAMESPACE, Document
from rig.store import RESOURCES, VERSION, ApiError, Key, Resource, Store

GROUP_VERSIONS = sorted({resource.group_version for resource in RESOURCES})
PATH = re.compile(
    r"^/(?:api/(?P<core>v1)|apis/(?P<group>[^/]+/[^/]+))"
    r"(?:/namespaces/(?P<namespace>[^/]+)(?=/))?"
    r"(?:/(?P<plural>[a-z]+))?(?:/(?P<name>[^/]+))?(?:/(?P<part>[a-z]+))?$"
)
WATCH_S = 1.0


def merged(old: object, new: object) -> object:
    """A merge patch (RFC 7396)."""
    if not isinstance(new, dict):
        return copy.deepcopy(new)
    result = copy.deepcopy(old) if isinstance(old, dict) else {}
    for key, value in new.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def api_path(group_version: str) -> str:
    """Where a group's objects are."""
    return f"api/{group_version}" if group_version == "v1" else f"apis/{group_version}"


def groups() -> list[Document]:
    """What /apis lists."""
    found = [gv for gv in GROUP_VERSIONS if gv != "v1"]
    return [
        {
            "name": gv.split("/")[0],
            "versions": [{"groupVersion": gv, "version": gv.split("/")[1]}],
            "preferredVersion": {"groupVersion": gv, "version": gv.split("/")[1]},
        }
        for gv in found
    ]


def resource_list(group_version: str) -> Document:
    """What a group's path lists."""
    verbs = ["create", "delete", "get", "list", "patch", "update", "watch"]
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version,
        "resources": [
            {
                "name": r.plural,
                "singularName": r.kind.lower(),
                "namespaced": r.namespaced,
                "kind": r.kind,
                "verbs": verbs,
            }
            for r in RESOURCES
            if r.group_version == group_version
        ],
    }


def openapi(group_version: str) -> Document:
    """As much of OpenAPI as tells a client that fields are checked and dry runs understood."""
    group, _, version = group_version.rpartition("/")
    paths, kinds = {}, {}
    for resource in RESOURCES:
        if resource.group_version != group_version:
            continue
        named = {"group": group, "version": version, "kind": resource.kind}
        kinds[f"{group or 'core'}.{version}.{resource.kind}"] = {
            "type": "object",
            "x-kubernetes-group-version-kind": [named],
        }
        scope = "/namespaces/{namespace}/" if resource.namespaced else "/"
        paths[f"/{api_path(group_version)}{scope}{resource.plural}/{{name}}"] = {
            "patch": {
                "x-kubernetes-group-version-kind": named,
                "parameters": [
                    {"name": name, "in": "query"} for name in ("fieldValidation", "dryRun")
                ],
            }
        }
    info = {"title": "pretended", "version": VERSION}
    return {
        "openapi": "3.0.0",
        "info": info,
        "paths": paths,
        "components": {"schemas": kinds},
    }


class ApiServer(ThreadingHTTPServer):
    """Serves one store on a free port of this machine."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.store = Store()
        for name in ("default", NAMESPACE):
            document = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            self.store.create(Key(RESOURCES[0], "", name), document)

    def kubeconfig(self) -> str:
        """What a client is configured with."""
        context = {"cluster": "rig", "user": "rig", "namespace": NAMESPACE}
        server = {"server": f"http://127.0.0.1:{self.server_port}"}
        return json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "rig",
                "clusters": [{"name": "rig", "cluster": server}],
                "users": [{"name": "rig", "user": {}}],
                "contexts": [{"name": "rig", "context": context}],
            }
        )


@contextmanager
def running_api_server() -> Iterator[ApiServer]:
    """Serves while the block runs."""
    server = ApiServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: ApiServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def _any(self) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            self._route(url.path, dict(parse_qsl(url.query)), body)
        except ApiError as error:
            status = {
                "kind": "Status",
                "apiVersion": "v1",
                "status": "Failure",
                "reason": error.reason,
                "message": error.message,
                "code": error.code,
            }
            self._answer(status, error.code)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _any  # noqa: N815 - http.server's names

    def _answer(self, document: Document, code: int = 200) -> None:
        body = json.dumps(document).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _route(self, path: str, query: dict[str, str], body: bytes) -> None:
        if (found := self._discovery(path)) is not None:
            self._answer(found)
            return
        match = PATH.match(path)
        if match is None:
            raise ApiError(404, "NotFound", "the server could not find the requested resource")
        group_version = match["core"] or match["group"]
        if match["plural"] is None:
            self._answer(resource_list(group_version))
            return
        resource = self._resource(group_version, match["plural"])
        namespace = match["namespace"] or ""
        if match["name"] is None and self.command == "GET":
            self._list(resource, namespace, query)
            return
        if body.startswith(b"k8s\0"):
            raise ApiError(415, "UnsupportedMediaType", "protobuf is not pretended")
        document = (yaml.safe_load(body) if body else None) or {}
        name = match["name"] or document["metadata"]["name"]
        self._object(Key(resource, namespace, name), document, match["part"], "dryRun" in query)

    def _discovery(self, path: str) -> Document | None:
        minor = VERSION.split(".")[1]
        documents = {f"/{api_path(gv)}": gv for gv in GROUP_VERSIONS}
        specifications = {f"/openapi/v3/{api_path(gv)}": gv for gv in GROUP_VERSIONS}
        if path in specifications:
            return openapi(specifications[path])
        if path == "/openapi/v3":
            return {"paths": {p[1:]: {"serverRelativeURL": f"/openapi/v3{p}"} for p in documents}}
        return {
            "/version": {"major": "1", "minor": minor, "gitVersion": f"v{VERSION}.0"},
            "/api": {"kind": "APIVersions", "versions": ["v1"]},
            "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups()},
        }.get(path)

    def _resource(self, group_version: str, plural: str) -> Resource:
        for resource in RESOURCES:
            if (resource.group_version, resource.plural) == (group_version, plural):
                return resource
        raise ApiError(404, "NotFound", f"there is no {plural} in {group_version}")

    def _object(self, key: Key, document: Document, part: str | None, dry_run: bool) -> None:
        store = self.server.store
        found = store.objects.get(key)
        applied = "apply-patch" in self.headers.get("Content-Type", "")
        if found is None and (self.command in ("GET", "DELETE", "PUT") or part):
            raise ApiError(404, "NotFound", f'{key.resource.plural} "{key.name}" not found')
        document = {"apiVersion": key.resource.group_version, "kind": key.resource.kind} | document
        if part == "log":
            self._answer({"log": "of a pretended pod"})
        elif self.command == "GET":
            self._answer(found or {})
        elif self.command == "DELETE":
            store.delete(key)
            self._answer({"kind": "Status", "apiVersion": "v1", "status": "Success"})
        elif self.command == "POST" or (found is None and applied):
            self._answer(store.create(key, document, dry_run=dry_run), 201)
        elif found is None:
            raise ApiError(404, "NotFound", f'{key.resource.plural} "{key.name}" not found')
        else:
            whole = self.command == "PUT"
            changed = document if whole else merged(found, document)
            self._answer(store.replace(key, changed, dry_run=dry_run))

    def _list(self, resource: Resource, namespace: str, query: dict[str, str]) -> None:
        wanted = dict(
            part.split("=", 1)
            for part in query.get("labelSelector", "").replace("==", "=").split(",")
            if "=" in part
        )
        fields = dict(
            part.split("=", 1) for part in query.get("fieldSelector", "").split(",") if "=" in part
        )
        items = [
            item
            for item in self.server.store.select(resource, namespace, {"matchLabels": wanted})
            if fields.get("metadata.name") in (None, item["metadata"]["name"])
        ]
        if query.get("watch") in ("1", "true"):
            self._watch(resource, namespace, query, fields.get("metadata.name"), items)
            return
        self._answer(
            {
                "kind": f"{resource.kind}List",
                "apiVersion": resource.group_version,
                "metadata": {"resourceVersion": str(self.server.store.version)},
                "items": items,
            }
        )

    def _watch(
        self,
        resource: Resource,
        namespace: str,
        query: dict[str, str],
        name: str | None,
        items: list[Document],
    ) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        version = int(query.get("resourceVersion") or 0)
        if query.get("sendInitialEvents") == "true":
            version = self.server.store.version
            for item in items:
                self._event("ADDED", item)
            metadata = {
                "resourceVersion": str(version),
                "annotations": {"k8s.io/initial-events-end": "true"},
            }
            self._event("BOOKMARK", {"kind": resource.kind, "metadata": metadata})
        for event in self.server.store.since(version, WATCH_S):
            same = event.key.resource == resource and event.key.namespace == namespace
            if same and name in (None, event.key.name):
                self._event(event.kind, event.object)

    def _event(self, kind: str, document: Document) -> None:
        self.wfile.write(json.dumps({"type": kind, "object": document}).encode() + b"\n")
        self.wfile.flush()
