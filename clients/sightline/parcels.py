"""Items on their way: which image bytes they need, and how a batch is cut. Pure: knows no HTTP."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sightline_proto import (
    GroundItem,
    Image,
    PerplexityItem,
    SentenceRewardItem,
    TokenRewardItem,
    limits,
    sha256_of,
)

Item = TokenRewardItem | SentenceRewardItem | GroundItem | PerplexityItem

BODY_BYTES = 12 * 1024 * 1024
"""Bytes of images and texts in one request; base64 makes a third more of the images."""

_REFERENCE_BYTES = 128
_OFFSET_BYTES = 16


@dataclass(frozen=True, slots=True)
class Parcel:
    """One item, its place in the caller's batch, and its image where the bytes are at hand.

    `sha256` is empty where there is no image, or only the caller's own reference to one.
    """

    place: int
    item: Item
    data: bytes = b""
    sha256: str = ""

    def inline(self) -> Item:
        """Returns the item carrying its image's bytes."""
        return self.item.model_copy(update={"image": Image(self.data)}) if self.data else self.item

    def by_reference(self) -> Item:
        """Returns the item naming its image by hash."""
        return self.item.model_copy(update={"image": Image(f"sha256:{self.sha256}")})


def parcels(items: Sequence[Item]) -> tuple[Parcel, ...]:
    """Prepares a batch for sending: reads each image's bytes and hash."""
    return tuple(_parcel(place, item) for place, item in enumerate(items))


def _parcel(place: int, item: Item) -> Parcel:
    if item.image is None or item.image.sha256 is not None:
        return Parcel(place, item)
    try:
        data = item.image.decode()
    except ValueError:
        return Parcel(place, item)  # the service answers what is wrong with it, for this item alone
    return Parcel(place, item, data, sha256_of(data))


def cut(batch: Sequence[Parcel]) -> Iterator[tuple[Parcel, ...]]:
    """Cuts a batch, in order, into runs of at most limits.ITEMS items and BODY_BYTES bytes.

    An item larger than BODY_BYTES goes alone; an image is counted once per run.
    """
    run: list[Parcel] = []
    images: set[str] = set()
    weight = 0
    for parcel in batch:
        size = _size(parcel, images)
        if run and (len(run) == limits.ITEMS or weight + size > BODY_BYTES):
            yield tuple(run)
            run, images, weight = [], set(), 0
            size = _size(parcel, images)
        run.append(parcel)
        images.add(parcel.sha256)
        weight += size
    if run:
        yield tuple(run)


def _size(parcel: Parcel, images: set[str]) -> int:
    item = parcel.item
    image = _REFERENCE_BYTES if parcel.sha256 in images else len(parcel.data)
    texts = (item.phrases or (item.text or "",)) if isinstance(item, GroundItem) else item.texts
    size = image + sum(len(text.encode("utf-8", "replace")) for text in texts)
    if isinstance(item, TokenRewardItem):
        size += sum(_OFFSET_BYTES * len(offsets) for offsets in item.token_offsets or ())
    return size
