"""Error codes and what follows from them."""

import re

import pytest

from sightline_proto import ERROR_KINDS, ErrorBody, ErrorCode, error_detail

STATUSES = {400, 401, 404, 405, 413, 422, 429, 500, 503, 504}


def test_every_code_has_a_kind_and_every_kind_a_code():
    assert set(ERROR_KINDS) == set(ErrorCode)


@pytest.mark.parametrize("code", ErrorCode)
def test_statuses_and_types_are_those_of_the_contract(code):
    kind = ERROR_KINDS[code]
    assert kind.status in STATUSES
    assert kind.type in {
        "invalid_request_error",
        "authentication_error",
        "not_found_error",
        "overloaded_error",
        "server_error",
    }
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", code.value)


def test_every_status_of_the_contract_is_used():
    assert {kind.status for kind in ERROR_KINDS.values()} == STATUSES


def test_a_retry_helps_only_where_the_service_was_busy():
    for kind in ERROR_KINDS.values():
        assert kind.retryable == (kind.type == "overloaded_error")
        assert not kind.retryable or kind.status in {429, 503}


def test_the_detail_carries_the_codes_type():
    detail = error_detail(ErrorCode.IMAGE_NOT_FOUND, "unknown hash", param="items[0].image")
    assert ErrorBody(error=detail).model_dump(mode="json") == {
        "error": {
            "message": "unknown hash",
            "type": "not_found_error",
            "param": "items[0].image",
            "code": "image_not_found",
        }
    }
