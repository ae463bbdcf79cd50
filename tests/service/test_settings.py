import pytest
from pydantic import ValidationError

from sightline_service.flags import SettingsError, parse_settings
from sightline_service.settings import Settings


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in Settings.model_fields:
        monkeypatch.delenv(f"SIGHTLINE_{name.upper()}", raising=False)


def test_without_arguments_the_world_is_served_on_this_machine_only():
    settings = parse_settings([])
    assert (settings.host, settings.similarity, settings.detector) == (
        "127.0.0.1",
        "world",
        "world",
    )
    assert not settings.key_ring().asks


def test_flags_win_over_the_environment_and_that_over_defaults(monkeypatch):
    monkeypatch.setenv("SIGHTLINE_PORT", "9000")
    monkeypatch.setenv("SIGHTLINE_MAX_WAIT_MS", "2.5")
    settings = parse_settings(["--port", "9001"])
    assert (settings.port, settings.max_wait_s) == (9001, 0.0025)


def test_every_field_is_a_flag_with_its_default_in_the_help(capsys):
    with pytest.raises(SystemExit):
        parse_settings(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for name, field in Settings.model_fields.items():
        assert f"--{name.replace('_', '-')}" in shown
        assert field.description
    assert "[127.0.0.1]" in shown


def test_keys_are_split_at_commas_and_never_shown(monkeypatch):
    monkeypatch.setenv("SIGHTLINE_API_KEYS", "alpha, beta,")
    settings = parse_settings([])
    ring = settings.key_ring()
    assert ring.holder(b"alpha") != ring.holder(b"beta") is not None
    assert ring.holder(b"alpha, beta") is None
    assert "alpha" not in repr(settings)


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["--max-batch-items", "0"], "--max-batch-items (SIGHTLINE_MAX_BATCH_ITEMS)"),
        (["--max-wait-ms", "soon"], "got 'soon'"),
        (["--request-timeout-s", "nan"], "--request-timeout-s"),
        (["--dtype", "int8"], "--dtype"),
        (["--similarity", "none", "--detector", "none", "--perplexity", "none"], "at least one"),
        (["--similarity", "none", "--profile", "x.json"], "profile is 'x.json'"),
        (["--tls-cert-file", "cert.pem"], "tls_key_file belong together"),
        (["--max-inflight-bytes", "10", "--max-body-bytes", "20"], "max_inflight_bytes is 10"),
    ],
)
def test_a_wrong_value_is_named_with_its_flag(argv, named):
    with pytest.raises(SettingsError) as caught:
        parse_settings(argv)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_settings_are_frozen_and_know_their_fields():
    with pytest.raises(ValidationError):
        Settings().port = 1
    with pytest.raises(ValidationError):
        Settings(colour="red")
