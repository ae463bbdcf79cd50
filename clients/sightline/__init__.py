"""The client library and the command line. Knows HTTP; knows no torch."""

from sightline.async_client import AsyncRewardClient
from sightline.client import RewardClient
from sightline.config import ClientConfig
from sightline.errors import (
    AuthenticationError,
    ConfigurationError,
    DeadlineError,
    ImageError,
    InvalidRequestError,
    ItemError,
    OverloadedError,
    ReplyError,
    ServiceError,
    SightlineError,
    StatusError,
    UnavailableError,
    UnreachableError,
)
from sightline.images import ImageLike, to_image
from sightline_proto import Image

__all__ = [
    "AsyncRewardClient",
    "AuthenticationError",
    "ClientConfig",
    "ConfigurationError",
    "DeadlineError",
    "Image",
    "ImageError",
    "ImageLike",
    "InvalidRequestError",
    "ItemError",
    "OverloadedError",
    "ReplyError",
    "RewardClient",
    "ServiceError",
    "SightlineError",
    "StatusError",
    "UnavailableError",
    "UnreachableError",
    "to_image",
]
