"""How a batch is put to the service: cut, checked, images supplied. Knows flows, does no I/O."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from uuid import uuid4

import httpx

from sightline import bodies
from sightline.answers import MisfitError, Part, check, error_codes, join
from sightline.config import ClientConfig
from sightline.delivery import Call, Delivery, Flow, Letter
from sightline.errors import DeadlineError, InvalidRequestError, ItemError, ReplyError, StatusError
from sightline.images import SentImages
from sightline.parcels import Item, Parcel, cut, parcels
from sightline.trace_context import trace_headers
from sightline_proto import Endpoint, ErrorCode, ServiceInfo
from sightline_proto.endpoints import Rep, Req

_SUPPLY_ROUNDS = 2  # upload, then inline: neither is a retry, what is asked differs


@dataclass(slots=True)
class _Supply:
    """Images that a service did not have: first uploaded, then, if that did not help, inlined."""

    uploaded: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    inlined: set[str] = field(default_factory=set[str])


class Exchange:
    """The protocol as both clients speak it. Safe for threads.

    An image travels as bytes the first time that this client sends it to a URL, and as
    `sha256:<hex>` from then on. Where the service does not have it (any more, or on this replica),
    it is uploaded and only the items that missed it are asked about again; where even that does
    not help, the bytes are sent, and to that URL from then on.

    Args:
        config: the client's settings.
        delivery: brings requests to the service; built from `config` where it is left out.
    """

    def __init__(self, config: ClientConfig, delivery: Delivery | None = None) -> None:
        self._config = config
        self._delivery = delivery or Delivery(config)
        self._sent = SentImages()

    def ask(self, endpoint: Endpoint[Req, Rep], request: Req) -> list[Flow[Part[Rep]]]:
        """Returns one flow per part into which the batch must be cut; they may run side by side.

        `join` makes one reply of what they return. A part's deadline counts from its flow's start.
        """
        request_id, trace = uuid4().hex, trace_headers()
        runs = list(cut(parcels(request.items)))
        names = [request_id] if len(runs) == 1 else [f"{request_id}-{n}" for n in range(len(runs))]
        return [
            self._ask_part(endpoint, request, run, name, trace, strict=False)
            for run, name in zip(runs, names, strict=True)
        ]

    def ask_one(self, endpoint: Endpoint[Req, Rep], request: Req) -> Flow[Part[Rep]]:
        """Asks about a single item.

        Raises:
            ItemError: it could not be scored.
        """
        run, trace = parcels(request.items), trace_headers()
        return self._ask_part(endpoint, request, run, uuid4().hex, trace, strict=True)

    def join(self, parts: Sequence[Part[Rep]]) -> Rep:
        """Makes one reply of what the flows of `ask` returned.

        Raises:
            ReplyError: they were scored by different models.
        """
        try:
            return join(parts)
        except MisfitError as error:
            raise ReplyError(str(error)) from error

    def info(self) -> Flow[ServiceInfo]:
        """Asks what the service serves and how much it takes."""
        call = self._delivery.begin(uuid4().hex)
        response = yield from self._delivery.deliver(call, Letter("GET", "/v1/info"))
        return self._delivery.read(call, ServiceInfo, response)

    def ready(self) -> Flow[bool]:
        """Asks each URL once; true where at least one is ready to score."""
        call = self._delivery.begin(uuid4().hex)
        for call.url in self._config.base_urls:
            try:
                outcome = yield self._delivery.request(call, Letter("GET", "/readyz"))
            except DeadlineError:
                break
            if isinstance(outcome, httpx.Response) and outcome.is_success:
                return True
        return False

    def _ask_part(
        self,
        endpoint: Endpoint[Req, Rep],
        request: Req,
        run: tuple[Parcel, ...],
        request_id: str,
        trace: Mapping[str, str],
        *,
        strict: bool,
    ) -> Flow[Part[Rep]]:
        call = self._delivery.begin(request_id, {**_hints(endpoint.name, run), **trace})
        supply = _Supply()
        parts = yield from self._score(call, endpoint, request, run, supply)
        for attempt in range(self._config.retries + _SUPPLY_ROUNDS):
            codes = error_codes(parts)
            lost = [p for p in run if _can_supply(p, codes.get(p.place), supply)]
            busy = yield from self._wait_for_busy(call, codes, attempt)
            places = busy | {parcel.place for parcel in lost}
            if not places:
                break
            yield from self._supply(call, lost, supply)
            again = tuple(parcel for parcel in run if parcel.place in places)
            parts += yield from self._score(call, endpoint, request, again, supply)
        try:
            reply = join(parts)
        except MisfitError as error:
            raise self._delivery.misfit(call, str(error)) from error
        failure = next((item.error for item in reply.items if item.error is not None), None)
        if strict and failure is not None:
            known = replace(
                call.circumstances(), status=200, code=failure.code, param=failure.param
            )
            raise ItemError(failure.message, known)
        return Part(tuple(parcel.place for parcel in run), reply)

    def _score(
        self,
        call: Call,
        endpoint: Endpoint[Req, Rep],
        request: Req,
        run: tuple[Parcel, ...],
        supply: _Supply,
    ) -> Flow[list[Part[Rep]]]:
        def body(url: str) -> bytes:
            items = self._addressed(url, run, supply)
            return bodies.encode(request.model_copy(update={"items": items}), self._config.wire)

        letter = Letter(
            "POST", f"/v1{endpoint.path}", body, bodies.CONTENT_TYPES[self._config.wire]
        )
        try:
            response = yield from self._delivery.deliver(call, letter, at=call.url or None)
        except StatusError as error:
            if error.status != 413 or len(run) == 1:
                raise
            middle = len(run) // 2
            first = yield from self._score(call, endpoint, request, run[:middle], supply)
            second = yield from self._score(call, endpoint, request, run[middle:], supply)
            return first + second
        reply = self._delivery.read(call, endpoint.reply, response)
        try:
            check([parcel.item for parcel in run], reply)
        except MisfitError as error:
            raise self._delivery.misfit(call, str(error)) from error
        part = Part(tuple(parcel.place for parcel in run), reply)
        self._learn(call.url, run, error_codes([part]))
        return [part]

    def _addressed(self, url: str, run: tuple[Parcel, ...], supply: _Supply) -> tuple[Item, ...]:
        items: list[Item] = []
        present: set[str] = set()
        for parcel in run:
            sha256 = parcel.sha256
            known = sha256 in present or (sha256 != "" and self._sent.knows(url, sha256))
            by_reference = known and sha256 not in supply.inlined
            items.append(parcel.by_reference() if by_reference else parcel.inline())
            present.update({sha256} - {""})
        return tuple(items)

    def _learn(self, url: str, run: tuple[Parcel, ...], codes: dict[int, str]) -> None:
        for parcel in run:
            code = codes.get(parcel.place)
            if parcel.sha256 and code is None:
                self._sent.add(url, parcel.sha256)
            elif parcel.sha256 and code == ErrorCode.IMAGE_NOT_FOUND:
                self._sent.forget(url, parcel.sha256)

    def _supply(self, call: Call, lost: Sequence[Parcel], supply: _Supply) -> Flow[None]:
        for parcel in {parcel.sha256: parcel for parcel in lost}.values():
            if (call.url, parcel.sha256) in supply.uploaded:
                self._sent.distrust(call.url)
                supply.inlined.add(parcel.sha256)
                continue
            supply.uploaded.add((call.url, parcel.sha256))
            letter = Letter(
                "PUT", f"/v1/images/{parcel.sha256}", _always(parcel.data), bodies.OCTETS
            )
            try:
                yield from self._delivery.deliver(call, letter, at=call.url)
            except InvalidRequestError:
                supply.inlined.add(parcel.sha256)  # this service stores no images, or not this one
            else:
                self._sent.add(call.url, parcel.sha256)

    def _wait_for_busy(self, call: Call, codes: dict[int, str], attempt: int) -> Flow[set[int]]:
        delays = {
            place: delay
            for place, code in codes.items()
            if attempt < self._config.retries
            and (delay := self._delivery.backoff(attempt, code)) is not None
        }
        if delays:
            try:
                yield self._delivery.pause(call, max(delays.values()))
            except DeadlineError:
                return set()  # the neighbours are scored: these items keep their errors
        return set(delays)


def _hints(endpoint: str, run: tuple[Parcel, ...]) -> dict[str, str]:
    """Lets a router bring all letters of a question to the replica that has its first image."""
    images = (parcel.sha256 or (p.sha256 if (p := parcel.item.image) else None) for parcel in run)
    first = next((sha256 for sha256 in images if sha256), None)
    hints = {"X-Sightline-Endpoint": endpoint}
    return hints if first is None else hints | {"X-Sightline-Image": first}


def _can_supply(parcel: Parcel, code: str | None, supply: _Supply) -> bool:
    missing = code == ErrorCode.IMAGE_NOT_FOUND and parcel.sha256 != ""
    return missing and parcel.sha256 not in supply.inlined


def _always(data: bytes) -> Callable[[str], bytes]:
    return lambda _: data
