import re
from pathlib import Path

import pytest

from sightline_proto import ENDPOINTS
from sightline_service.app import create_app
from sightline_service.openapi import render
from sightline_service.served import Models
from sightline_service.settings import Settings

COMMITTED = Path(__file__).parents[2] / "proto" / "openapi.json"


@pytest.fixture(scope="module")
def document() -> dict:
    return create_app(Settings(), Models()).openapi()


def test_the_committed_document_is_current():
    assert COMMITTED.read_text("utf-8") == render(), "run: python -m sightline_service.openapi"


def test_every_scoring_path_documents_three_body_formats_and_its_errors(document):
    for endpoint in ENDPOINTS:
        for path in (endpoint.path, f"/v1{endpoint.path}"):
            operation = document["paths"][path]["post"]
            assert set(operation["requestBody"]["content"]) == {
                "application/json",
                "multipart/form-data",
                "application/x-protobuf",
            }
            assert {"200", "400", "401", "413", "422", "429", "503", "504"} <= set(
                operation["responses"]
            )


def test_an_upload_documents_its_name_and_its_errors(document):
    path = document["paths"]["/v1/images/{sha256}"]
    assert {"201", "401", "413", "422", "429", "503", "504"} == set(path["put"]["responses"])
    assert {"200", "401", "404", "422"} == set(path["head"]["responses"])
    for operation in path.values():
        [parameter] = operation["parameters"]
        assert parameter["name"] == "sha256"
        assert re.fullmatch(parameter["schema"]["pattern"], 64 * "f")
        assert not re.fullmatch(parameter["schema"]["pattern"], 64 * "F")


def test_every_example_is_a_valid_request(document):
    for endpoint in ENDPOINTS:
        content = document["paths"][endpoint.path]["post"]["requestBody"]["content"]
        endpoint.request.model_validate(content["application/json"]["example"])


def test_every_reference_is_defined(document):
    def references(node: object):
        if isinstance(node, dict):
            if isinstance(node.get("$ref"), str):
                yield node["$ref"].removeprefix("#/components/schemas/")
            for value in node.values():
                yield from references(value)
        elif isinstance(node, list):
            for value in node:
                yield from references(value)

    assert set(references(document)) <= set(document["components"]["schemas"])


def test_operations_have_distinct_ids(document):
    ids = [
        operation["operationId"]
        for path in document["paths"].values()
        for operation in path.values()
    ]
    assert len(ids) == len(set(ids))
