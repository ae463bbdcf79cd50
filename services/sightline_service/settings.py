"""Everything that a deployment may choose. Knows the environment; knows no models and no HTTP."""

from pathlib import Path
from typing import Annotated, Literal, Self

from annotated_types import Ge, Gt, Le
from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from sightline_proto import limits
from sightline_service.keys import KeyRing

MIB = 1024 * 1024

Seconds = Annotated[float, Gt(0), Field(allow_inf_nan=False)]
Positive = Annotated[int, Ge(1)]
Bytes = Annotated[int, Ge(0)]


class Settings(BaseSettings):
    """One frozen object per process: defaults, then SIGHTLINE_* variables, then flags."""

    model_config = SettingsConfigDict(
        env_prefix="SIGHTLINE_", frozen=True, extra="forbid", use_attribute_docstrings=True
    )

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for all interfaces."""
    port: Annotated[int, Ge(0), Field(le=65535)] = 8000
    """Port to listen on; 0 takes a free one and logs it."""

    similarity: str = "world"
    """Model of /token_reward and /sentence_reward: world, open_clip:..., hf:..., fake or none; or
    from-policy:POLICY[,ENCODER], the encoder that a policy sees with."""
    detector: str = "world"
    """Model of /ground: world, hf:..., groundingdino:CONFIG,CHECKPOINT, fake or none."""
    perplexity: str = "world"
    """Model of /perplexity: world, hf:..., fake or none."""
    token_scorer: Literal["similarity", "detector"] = "similarity"
    """Which model scores the words of /token_reward; the detector's score is its confidence."""
    profile: str = "auto"
    """Default calibration: a file of 'sightline calibrate', none, or auto (the world's own)."""
    profiles_dir: Path | None = None
    """Folder of further profiles, chosen by name in a request."""
    weights_lock: Path | None = None
    """Lock of 'sightline weights fetch': models whose files differ from it are not served."""
    allow_pickle: bool = False
    """Whether weights may be pickles; torch's restricted reader reads them."""
    device: str = "auto"
    """Where models run: auto, cpu, cuda, cuda:1, mps."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Arithmetic of the models; auto is float32 on CPU."""
    torch_threads: Annotated[int, Ge(0)] = 0
    """Threads of one forward pass on CPU; 0 is one where models are small, else torch's choice."""

    max_batch_items: Positive = 64
    """Items in one forward pass."""
    max_batch_pixels: Positive = 16 * MIB
    """Pixels in one forward pass over images."""
    max_batch_tokens: Positive = 16 * 1024
    """Tokens in one forward pass over texts."""
    max_wait_ms: Annotated[float, Ge(0), Field(allow_inf_nan=False)] = 5.0
    """Longest that a batch waits, on an idle device, for items known to be on their way."""
    prepare_threads: Positive = 4
    """Threads that decode, resize and tokenise."""

    max_concurrent_requests: Positive = 256
    """Requests in progress; more are answered 429."""
    max_queue_items: Positive = 4096
    """Images plus texts in progress; more are answered 429."""
    max_inflight_bytes: Positive = 512 * MIB
    """Body bytes in memory; more are answered 429."""
    max_body_bytes: Positive = 64 * MIB
    """Bytes of one request body."""
    max_image_bytes: Positive = limits.IMAGE_BYTES
    """Bytes of one encoded image."""
    max_image_pixels: Positive = 40_000_000
    """Pixels of one decoded image."""
    image_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """Hosts from which images named by URL are fetched over HTTPS; comma-separated, none else."""
    image_fetch_timeout_s: Seconds = 10.0
    """Longest that fetching one image may take."""
    image_store_bytes: Bytes = 512 * MIB
    """Memory for uploaded images."""
    embedding_cache_bytes: Bytes = 256 * MIB
    """Memory for embeddings of images and texts."""

    request_timeout_s: Seconds = 60.0
    """Longest that a request may take; a caller may ask for less by X-Request-Timeout."""
    drain_timeout_s: Seconds = 30.0
    """Longest that a stopping service finishes what it has accepted."""
    head_timeout_s: Seconds = 15.0
    """Longest that a connection may take to send the head of a request."""
    max_connections: Positive = 4096
    """Connections at a time; more are closed at once."""
    canary_interval_s: Seconds = 30.0
    """How often each model is asked a question whose answer is known."""
    restart_after_s: Seconds = 30.0
    """How long a model may be dead, stalled or failing before /healthz says so."""

    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    """Keys that callers must send; comma-separated. Prefer api_key_file: flags are seen by all."""
    api_key_file: Path | None = None
    """File with one key a line; read anew whenever it changes."""
    caller_share: Annotated[float, Gt(0), Le(1)] = 0.75
    """Share of all places that one key may hold, where there are several keys."""
    tls_cert_file: Path | None = None
    """Certificate chain in PEM: with it the service speaks HTTPS."""
    tls_key_file: Path | None = None
    """Private key of the certificate, in PEM."""
    metrics_open: bool = True
    """Whether /metrics needs no key."""

    otlp_endpoint: str | None = None
    """Where traces go, such as http://collector:4318/v1/traces; needs the extra otel."""
    log_format: Literal["json", "text"] = "text"
    """One JSON object a line, or lines for people."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe messages that are logged."""

    @model_validator(mode="before")
    @classmethod
    def _split_lists(cls, values: dict[str, object]) -> dict[str, object]:
        for name in ("api_keys", "image_hosts"):
            listed = values.get(name)
            if isinstance(listed, str):
                parts = [part.strip() for part in listed.split(",")]
                values = {**values, name: [part for part in parts if part]}
        return values

    @model_validator(mode="after")
    def _combinations(self) -> Self:
        if self.similarity == self.detector == self.perplexity == "none":
            raise ValueError("similarity, detector and perplexity are all none: serve at least one")
        scorer = self.token_scorer
        unserved = getattr(self, scorer) == "none"
        if unserved and self.profile not in ("auto", "none"):
            raise ValueError(
                f"profile is {self.profile!r} while {scorer} is none: a profile calibrates the "
                f"{scorer} model, serve one or leave profile out"
            )
        if unserved and scorer == "detector":
            raise ValueError("token_scorer is detector while detector is none: serve a detector")
        if self.max_inflight_bytes < self.max_body_bytes:
            raise ValueError(
                f"max_inflight_bytes is {self.max_inflight_bytes}, below max_body_bytes "
                f"{self.max_body_bytes}: raise it, or lower max_body_bytes"
            )
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_cert_file and tls_key_file belong together: give both or neither")
        return self

    @property
    def max_wait_s(self) -> float:
        """`max_wait_ms` in seconds."""
        return self.max_wait_ms / 1000

    def key_ring(self) -> KeyRing:
        """The keys of `api_keys` and of `api_key_file`.

        Raises:
            KeyFileError: the file cannot be read, or holds no key.
        """
        fixed = [key.get_secret_value().strip() for key in self.api_keys]
        return KeyRing([key for key in fixed if key], self.api_key_file)
