import importlib.util
from pathlib import Path

import httpx
import pytest

SCRIPT = Path(__file__).parents[2] / "requirements" / "audit.py"


@pytest.fixture(scope="module")
def audit():
    spec = importlib.util.spec_from_file_location("audit", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def answering(answer: httpx.Response | Exception) -> httpx.Client:
    def handler(request: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    return httpx.Client(transport=httpx.MockTransport(handler))


def test_a_database_that_knows_of_vulnerabilities_can_be_asked(audit):
    answer = httpx.Response(200, json={"vulnerabilities": [{"id": "PYSEC-2019-133"}]})
    assert audit.obstacle(answering(answer)) is None


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (httpx.ConnectError("no route"), "no route"),
        (httpx.ReadTimeout("too slow"), "too slow"),
        (httpx.Response(404, text="no such page"), "404"),
        (httpx.Response(200, text="<html>a mirror</html>"), "not JSON"),
        (httpx.Response(200, json={"info": {}}), "no hole"),
        (httpx.Response(200, json={"vulnerabilities": []}), "no hole"),
    ],
)
def test_a_mirror_that_cannot_tell_is_never_taken_for_a_clean_bill(audit, answer, why):
    assert why in audit.obstacle(answering(answer))


def test_every_lock_is_audited(audit):
    names = {lock.name for lock in audit.LOCKS}
    assert {"dev.txt", "sdk.txt", "service.txt", "trainers.txt", "eval.txt", "checkov.txt"} <= names
