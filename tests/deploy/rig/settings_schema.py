"""The service's settings as the chart's schema lists them. Knows pydantic's JSON schema.

`python tests/deploy/rig/settings_schema.py` writes them into charts/sightline/values.schema.json.
"""

import json
from pathlib import Path
from typing import Any

from sightline_service.settings import Settings

SCHEMA = Path(__file__).parents[3] / "charts/sightline/values.schema.json"
OWNED = frozenset(
    {
        "host",
        "port",
        "similarity",
        "detector",
        "perplexity",
        "profile",
        "profiles_dir",
        "tls_cert_file",
        "tls_key_file",
        "token_scorer",
        "weights_lock",
        "api_keys",
        "api_key_file",
    }
)
"""Settings that the chart gives itself, or leaves to the Ingress (TLS)."""
_LEFT_OUT = frozenset({"default", "title", "format"})


def settings_schema() -> dict[str, Any]:
    """JSON schema of `reward.settings`."""
    fields = Settings.model_json_schema()["properties"]
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {n: _field(f) for n, f in sorted(fields.items()) if n not in OWNED},
    }


def _field(field: dict[str, Any]) -> dict[str, Any]:
    described = {k: v for k, v in field.items() if k == "description"}
    kinds = [kind for kind in field.get("anyOf", [field]) if kind.get("type") != "null"]
    kept = {k: v for k, v in kinds[0].items() if k not in _LEFT_OUT}
    return kept | described


def chart_schema() -> dict[str, Any]:
    """The schema of the chart's values."""
    return json.loads(SCHEMA.read_text())


if __name__ == "__main__":
    schema = chart_schema()
    schema["$defs"]["settings"] = settings_schema()
    SCHEMA.write_text(json.dumps(schema, indent=2) + "\n")
