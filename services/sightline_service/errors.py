"""What can go wrong, as data and a sentence. Knows no status, no HTTP: that table is envelope.py.

ServiceError
|-- RequestError                 the whole request is refused
|   |-- MalformedBodyError       the body is no JSON, form or protobuf
|   |-- UnsupportedMediaTypeError
|   |-- UnauthorizedError
|   |-- ProfileNotFoundError
|   |   `-- NoDefaultProfileError
|   |-- PayloadTooLargeError
|   |-- InvalidFieldError        a field or header has a wrong value
|   |-- HashMismatchError        an upload is not what its name says
|   |-- OverloadedError          the door is full
|   |-- ModelNotServedError
|   |-- NotReadyError            models are loading, or cannot score any more
|   |-- DrainingError            the service is stopping
|   |-- DeadlineExceededError
|   |-- WorkerDiedError          the thread that owns the model is gone
|   `-- BatcherClosedError       the model was shut down first
`-- ItemError                    one item fails, its neighbours do not
    |-- ImageNotFoundError
    |-- ImageUrlRefusedError         a URL that this service does not fetch
    |-- ImageFetchError              a URL that cannot be fetched
    |-- ImageRequiredError
    |-- ImageNotTakenError
    |-- ResultCountError         the model answered with too few or too many results
    `-- NonFiniteScoreError      the model answered with NaN or infinity
"""

from dataclasses import dataclass


class ServiceError(Exception):
    """Parent of every error that this service foresees.

    `sentence` is the template of `str(error)`, where `{e}` is the error; `param` is the field at
    fault, `retry_after_s` when to try again, where that may help.
    """

    sentence = "{e.args}"
    param: str | None = None
    retry_after_s: int | None = None

    def __str__(self) -> str:
        """Says to the caller what is wrong and how to mend it."""
        return self.sentence.format(e=self)


class RequestError(ServiceError):
    """The request as a whole is refused."""


class ItemError(ServiceError):
    """One item is refused; the others of its request are scored."""


@dataclass(eq=False)
class MalformedBodyError(RequestError):
    """The bytes of the body cannot be read as what the Content-Type says."""

    sentence = "the body cannot be read: {e.reason}"
    reason: str


@dataclass(eq=False)
class UnsupportedMediaTypeError(RequestError):
    """The body's Content-Type or Content-Encoding is not understood; `mend` says what is."""

    sentence = "{e.header} {e.value!r} is not supported: send {e.mend}"
    header: str
    value: str
    mend: str


class UnauthorizedError(RequestError):
    """No key was sent, or an unknown one."""

    sentence = "send a valid key: 'Authorization: Bearer KEY' or 'X-API-Key: KEY'"


@dataclass(eq=False)
class ProfileNotFoundError(RequestError):
    """No calibration profile has the name."""

    sentence = "profile {e.name!r} is not loaded: name one of {e.known}, or leave profile out"
    param = "profile"
    name: str
    known: tuple[str, ...]


class NoDefaultProfileError(ProfileNotFoundError):
    """Rewards are asked for, no profile is named, and none is applied by default."""

    sentence = (
        "token_offsets ask for rewards and no calibration profile is loaded by default: start the "
        "service with --profile FILE (written by 'sightline calibrate'), name a profile, or leave "
        "token_offsets out to get scores alone"
    )


@dataclass(eq=False)
class PayloadTooLargeError(RequestError):
    """The body holds more bytes than the service takes."""

    sentence = (
        "the body is larger than {e.limit_bytes} bytes: send fewer items, or upload the images "
        "with PUT /v1/images/<sha256> and refer to them by hash"
    )
    limit_bytes: int


@dataclass(eq=False)
class InvalidFieldError(RequestError):
    """A field or header has a wrong value; `problem` names it, the value and the mend."""

    sentence = "{e.problem}"
    problem: str
    param: str | None = None


@dataclass(eq=False)
class HashMismatchError(RequestError):
    """The uploaded bytes hash to another name."""

    sentence = "the body's sha256 is {e.actual}, not {e.expected}: put it under its own hash"
    param = "sha256"
    expected: str
    actual: str


@dataclass(eq=False)
class OverloadedError(RequestError):
    """The service is full; `reason` is the setting whose bound was hit."""

    sentence = "the service is full ({e.reason}): try again in {e.retry_after_s} s"
    reason: str
    retry_after_s: int | None = 1


@dataclass(eq=False)
class ModelNotServedError(RequestError):
    """The endpoint's model is not part of this deployment."""

    sentence = "no {e.role} model is served here: start the service with --{e.role} MODEL"
    role: str


@dataclass(eq=False)
class NotReadyError(RequestError):
    """The service cannot score yet, or no more; `phase` is where it stands."""

    sentence = "the service is not ready ({e.phase}): /readyz says more"
    phase: str
    retry_after_s: int | None = 5


class DrainingError(RequestError):
    """The service is finishing what it has accepted and takes nothing new."""

    sentence = "the service is shutting down and takes no new requests: ask another replica"
    retry_after_s = 5


@dataclass(eq=False)
class DeadlineExceededError(RequestError):
    """The request took longer than it may."""

    sentence = "not done within {e.timeout_s:g} s: send fewer items, or allow more time"
    timeout_s: float


@dataclass(eq=False)
class WorkerDiedError(RequestError):
    """The thread that owns the model ended; the process has to be restarted."""

    sentence = "the worker of the {e.worker} model died: the service must be restarted"
    worker: str
    retry_after_s: int | None = 30


@dataclass(eq=False)
class BatcherClosedError(RequestError):
    """The model was shut down before it could answer."""

    sentence = "the {e.worker} model was shut down before it could answer: ask another replica"
    worker: str
    retry_after_s: int | None = 5


@dataclass(eq=False)
class ImageNotFoundError(ItemError):
    """No image is stored under the hash."""

    sentence = "no image sha256:{e.sha256} is stored: PUT it to /v1/images/{e.sha256}"
    param = "image"
    sha256: str


@dataclass(eq=False)
class ImageUrlRefusedError(ItemError):
    """The image's URL is not one that this service fetches."""

    sentence = "the image's URL is not fetched, {e.why}: send the bytes, or refer by sha256"
    param = "image"
    why: str


@dataclass(eq=False)
class ImageFetchError(ItemError):
    """The image's URL is allowed, and no image came from it."""

    sentence = "the image cannot be fetched, {e.why}: send the bytes, or refer by sha256"
    param = "image"
    why: str


@dataclass(eq=False)
class ImageRequiredError(ItemError):
    """The model scores text about an image, and none was sent."""

    sentence = "{e.model} scores text about an image: send one"
    param = "image"
    model: str


@dataclass(eq=False)
class ImageNotTakenError(ItemError):
    """The model sees no images, and one was sent."""

    sentence = "{e.model} sees no images: leave image out"
    param = "image"
    model: str


@dataclass(eq=False)
class ResultCountError(ItemError):
    """A model broke its contract of one result per item."""

    sentence = "the model gave {e.actual} results for {e.expected} items"
    expected: int
    actual: int


@dataclass(eq=False)
class NonFiniteScoreError(ItemError):
    """A model answered with NaN or infinity, as half precision does where it overflows."""

    sentence = "{e.model} gave a score that is not finite: serve it with --dtype float32"
    model: str
