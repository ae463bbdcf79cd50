"""Messages of /v1/info: what this service serves and how much it takes. Knows no endpoint."""

from sightline_proto.message import Count, Message, Number
from sightline_proto.reply import ModelInfo


class ServiceLimits(Message):
    """Every bound of a running service: requests beyond one are refused, with the bound named."""

    items: Count
    texts: Count
    text_chars: Count
    token_offsets: Count
    body_bytes: Count
    image_bytes: Count
    image_pixels: Count
    max_boxes: Count
    concurrent_requests: Count
    queued_items: Count
    request_timeout_s: Number
    image_store_bytes: Count
    embedding_cache_bytes: Count


class ServedModel(Message):
    """One loaded model: its role, identity and endpoints.

    `role` is `similarity`, `detector` or `perplexity`; `endpoints` holds names (`token_reward`).
    """

    role: str
    model: ModelInfo
    endpoints: tuple[str, ...]


class ServiceInfo(Message):
    """The reply of `GET /v1/info`."""

    version: str
    models: tuple[ServedModel, ...]
    profiles: tuple[str, ...]
    image_formats: tuple[str, ...]
    limits: ServiceLimits
