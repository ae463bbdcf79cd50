from collections.abc import Iterator

import pytest

from sightline_proto import ERROR_KINDS, ErrorCode
from sightline_service import errors, images
from sightline_service.envelope import ERROR_CODES, code_of, detail_of, item_error, request_error
from sightline_service.models.protocols import OutOfDeviceMemoryError, TextRefusedError

ABSTRACT = {errors.ServiceError, errors.RequestError, errors.ItemError}
EXAMPLES = {
    errors.MalformedBodyError: ("not JSON",),
    errors.UnsupportedMediaTypeError: ("Content-Type", "text/plain", "JSON"),
    errors.ProfileNotFoundError: ("mine", ("a", "b")),
    errors.NoDefaultProfileError: ("default", ()),
    errors.PayloadTooLargeError: (1000,),
    errors.InvalidFieldError: ("weight is 2: give 0 to 1", "weight"),
    errors.HashMismatchError: ("aa", "bb"),
    errors.OverloadedError: ("max_queue_items", 3),
    errors.ModelNotServedError: ("detector",),
    errors.NotReadyError: ("loading",),
    errors.DeadlineExceededError: (1.5,),
    errors.WorkerDiedError: ("detector",),
    errors.BatcherClosedError: ("detector",),
    errors.ImageNotFoundError: ("ab" * 32,),
    errors.ImageUrlRefusedError: ("host 'inside' is not listed",),
    errors.ImageFetchError: ("its host answered 404",),
    errors.ImageRequiredError: ("hf:llava",),
    errors.ImageNotTakenError: ("hf:gpt2",),
    errors.ResultCountError: (3, 2),
    errors.NonFiniteScoreError: ("hf:clip",),
}


def descendants(parent: type) -> Iterator[type]:
    for child in parent.__subclasses__():
        yield child
        yield from descendants(child)


CONCRETE = sorted(
    {each for each in descendants(errors.ServiceError)} - ABSTRACT, key=lambda each: each.__name__
)


@pytest.mark.parametrize("error", CONCRETE, ids=lambda error: error.__name__)
def test_every_error_has_a_code_and_a_sentence(error):
    example = error(*EXAMPLES.get(error, ()))
    detail = detail_of(example)
    assert detail is not None
    assert ErrorCode(detail.code) in ERROR_KINDS
    assert "{" not in detail.message
    for value in EXAMPLES.get(error, ()):
        if isinstance(value, str) and value != "default" and value != example.param:
            assert value in detail.message


@pytest.mark.parametrize("error", CONCRETE, ids=lambda error: error.__name__)
def test_what_may_be_tried_again_says_when(error):
    example = error(*EXAMPLES.get(error, ()))
    status, headers, body = request_error(example)
    assert ("retry-after" in headers) == ERROR_KINDS[ErrorCode(body.error.code)].retryable
    assert status == ERROR_KINDS[ErrorCode(body.error.code)].status


def test_the_errors_of_images_and_models_have_codes():
    for refused in descendants(images.ImageRefusedError):
        assert code_of(refused("x")) is refused.code
    assert code_of(TextRefusedError("x")) is ErrorCode.TEXT_INVALID
    assert code_of(OutOfDeviceMemoryError("x")) is ErrorCode.OUT_OF_MEMORY


def test_the_table_holds_no_abstract_error():
    assert not ABSTRACT & set(ERROR_CODES)


def test_an_item_error_names_the_item_and_the_field():
    assert item_error(errors.ImageNotFoundError("ab"), 3).param == "items[3].image"
    assert item_error(TextRefusedError("too long"), 3).param == "items[3]"


def test_a_bug_is_logged_and_not_described(caplog):
    detail = item_error(KeyError("secret caption"), 2)
    status, _, body = request_error(KeyError("secret caption"))
    assert (detail.code, body.error.code, status) == ("internal_error", "internal_error", 500)
    assert "secret" not in detail.message + body.error.message
    assert [record.exc_info[0] for record in caplog.records] == [KeyError, KeyError]
