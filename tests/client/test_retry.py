from datetime import UTC, datetime

import httpx
import pytest

from sightline.retry import FIRST_DELAY_S, LONGEST_DELAY_S, retry_delay
from sightline_proto import ERROR_KINDS

NOON = datetime(2025, 1, 1, 12, 0, 0, tzinfo=UTC)


def delay(attempt, failure, headers=None, *, code=None, draw=1.0):
    return retry_delay(attempt, failure, headers, code=code, draw=lambda: draw, now=lambda: NOON)


@pytest.mark.parametrize(
    ("attempt", "failure", "headers", "code", "expected"),
    [
        (0, 408, {}, None, 0.25),
        (0, 429, {}, None, 0.25),
        (1, 429, {}, None, 0.5),
        (2, 502, {}, None, 1.0),
        (3, 503, {}, None, 2.0),
        (4, 504, {}, None, 4.0),
        (5, 503, {}, None, 8.0),
        (6, 503, {}, None, 8.0),
        (10_000, 503, {}, None, 8.0),
        (0, 429, {"Retry-After": "3"}, "overloaded", 3.25),
        (0, 429, {"Retry-After": "0.5"}, "overloaded", 0.75),
        (0, 503, {"Retry-After": "Wed, 01 Jan 2025 12:00:10 GMT"}, "draining", 10.25),
        (0, 503, {"Retry-After": "Wed, 01 Jan 2025 12:00:10"}, "draining", 10.25),
        (0, 503, {"Retry-After": "Wed, 01 Jan 2025 11:00:00 GMT"}, None, 0.25),
        (0, 503, {"Retry-After": "-7"}, None, 0.25),
        (0, 503, {"Retry-After": "inf"}, None, 0.25),
        (0, 503, {"Retry-After": "nan"}, None, 0.25),
        (0, 503, {"Retry-After": "soon"}, None, 0.25),
        (0, 400, {}, None, None),
        (0, 401, {}, None, None),
        (0, 404, {}, None, None),
        (0, 404, {"Retry-After": "1"}, "profile_not_found", None),
        (0, 413, {}, None, None),
        (0, 422, {}, "invalid_field", None),
        (0, 500, {}, None, None),
        (0, 500, {}, "internal_error", None),
        (0, 503, {}, "model_not_served", None),
        (0, 504, {}, "deadline_exceeded", None),
        (0, 307, {}, None, None),
        (0, 503, {}, "a_code_of_a_later_version", 0.25),
        (0, 200, {}, "out_of_memory", 0.25),
        (0, 200, {}, "image_invalid", None),
        (0, httpx.ConnectError("refused"), None, None, 0.25),
        (0, httpx.ConnectTimeout("slow"), None, None, 0.25),
        (0, httpx.ReadError("reset"), None, None, 0.25),
        (0, httpx.RemoteProtocolError("cut short"), None, None, 0.25),
        (0, httpx.UnsupportedProtocol("ftp"), None, None, None),
        (0, ValueError("a bug"), None, None, None),
    ],
)
def test_the_table_of_delays(attempt, failure, headers, code, expected):
    assert delay(attempt, failure, headers, code=code) == expected


def test_the_jitter_is_drawn_from_zero_to_the_full_delay():
    assert delay(3, 503, draw=0.0) == 0.0
    assert delay(3, 503, draw=0.25) == FIRST_DELAY_S * 8 / 4
    assert delay(99, 503, draw=0.5) == LONGEST_DELAY_S / 2


def test_headers_of_httpx_are_read_whatever_their_case():
    assert delay(0, 429, httpx.Headers({"retry-after": "2"}), draw=0.0) == 2.0


@pytest.mark.parametrize("code", ERROR_KINDS)
def test_the_contract_decides_for_every_code_that_it_knows(code):
    kind = ERROR_KINDS[code]
    assert (delay(0, kind.status, code=code.value) is not None) == kind.retryable
