import pickle
import re

import pytest

from sightline import errors
from sightline.errors import (
    AuthenticationError,
    Circumstances,
    InvalidRequestError,
    ItemError,
    OverloadedError,
    ServiceError,
    SightlineError,
    UnavailableError,
    status_error,
)


def classes(root: type[Exception]) -> set[type[Exception]]:
    return {root}.union(*(classes(child) for child in root.__subclasses__()))


def test_the_tree_at_the_top_of_the_module_is_the_tree():
    drawn = set(re.findall(r"^[│├└─ ]*(\w+Error)\b", errors.__doc__ or "", re.MULTILINE))
    assert drawn == {
        each.__name__ for each in classes(SightlineError) if each.__module__ == errors.__name__
    }


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, AuthenticationError),
        (403, AuthenticationError),
        (429, OverloadedError),
        (500, UnavailableError),
        (504, UnavailableError),
        (404, InvalidRequestError),
        (307, InvalidRequestError),
    ],
)
def test_each_status_has_its_class(status, kind):
    assert type(status_error("no", Circumstances(status=status))) is kind


def test_an_error_carries_what_is_known_and_says_it():
    known = Circumstances(404, "image_not_found", "items[0].image", "id-1", 3, "http://a")
    error = ItemError("no such image", known)
    assert (error.status, error.code, error.param) == (404, "image_not_found", "items[0].image")
    assert (error.request_id, error.attempts, error.url) == ("id-1", 3, "http://a")
    assert str(error) == (
        "no such image [status 404, code image_not_found, param items[0].image, "
        "request id id-1, attempts 3, url http://a]"
    )
    assert str(ServiceError("plain")) == "plain"


def test_an_error_crosses_processes():
    error = pickle.loads(pickle.dumps(ItemError("m", Circumstances(code="c", attempts=2))))  # noqa: S301 - our own bytes
    assert (str(error), error.code, error.attempts) == ("m [code c, attempts 2]", "c", 2)
