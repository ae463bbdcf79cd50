"""Starts the service: settings, models, app, server. Knows the parts; joins them."""

import logging
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sightline_service import logs
from sightline_service.app import create_app
from sightline_service.flags import SettingsError, parse_settings
from sightline_service.loading import ModelLoader
from sightline_service.models.openmp import shorten_spinning
from sightline_service.models.reference import ModelLoadError
from sightline_service.profiles import ProfileError
from sightline_service.server import DrainingServer, ListenError, listen, url_of
from sightline_service.settings import Settings

if TYPE_CHECKING:
    from sightline_service.otlp import OtlpExporter

log = logging.getLogger("sightline_service")

WRONG_USE = 2
"""Exit status where the settings, a model or a profile are at fault."""


def main(argv: Sequence[str] | None = None) -> int:
    """Serves until stopped; returns the exit status: 0, or 2 for wrong settings or models."""
    shorten_spinning()
    try:
        settings = parse_settings(argv)
        logs.configure(settings.log_format, settings.log_level)
        return _serve(settings, ModelLoader(settings))
    except (SettingsError, ModelLoadError, ProfileError, ListenError) as error:
        sys.stderr.write(f"sightline serve: {error}\n")
        return WRONG_USE


def _serve(settings: Settings, loader: ModelLoader) -> int:
    export = _exporter(settings)
    app = create_app(settings, loader, export=export)
    listener = listen(settings.host, settings.port)
    url = url_of(listener, scheme="https" if settings.tls_cert_file else "http")
    models = ", ".join(f"{role} {getattr(settings, role)}" for role in loader.roles)
    log.info("serving %s on %s (playground %s/ui, reference %s/docs)", models, url, url, url)
    DrainingServer(app, settings).run(sockets=[listener])
    if export is not None:
        export.close()
    failure = app.state.service.failure
    if failure is None:
        return 0
    sys.stderr.write(f"sightline serve: {failure}\n")
    return WRONG_USE


def _exporter(settings: Settings) -> "OtlpExporter | None":
    """Imported only where it is asked for: the SDK is an extra, and takes its time."""
    if settings.otlp_endpoint is None:
        return None
    try:
        from sightline_service.otlp import OtlpExporter
    except ImportError:
        raise SettingsError(
            "--otlp-endpoint needs OpenTelemetry: pip install 'sightline[service,otel]'"
        ) from None
    return OtlpExporter(settings.otlp_endpoint)


if __name__ == "__main__":
    sys.exit(main())
