import pytest

from sightline import RewardClient
from sightline.config import ClientConfig, GivenUrl, read_config
from sightline.errors import ConfigurationError


def read(base_url=None, api_key=None, environment=None, **changed):
    options = {"timeout_s": 60.0, "retries": 4, "max_concurrency": 32, "wire": "json", **changed}
    return read_config(base_url, api_key, **options, environment=environment or {})


def test_urls_and_key_come_from_the_environment():
    config = read(environment={"REWARD_URL": "http://a:1/, https://b ,", "REWARD_API_KEY": "k\n"})
    assert config.base_urls == ("http://a:1", "https://b")
    assert config.api_key == "k"


def test_what_is_given_wins_over_the_environment():
    config = read("http://c/p/", "own", {"REWARD_URL": "http://a", "REWARD_API_KEY": "k"})
    assert config.base_urls == ("http://c/p",)
    assert config.api_key == "own"
    assert read(["http://a", "http://b"]).base_urls == ("http://a", "http://b")


@pytest.mark.parametrize("value", [None, "", " , ", []])
def test_without_a_url_the_error_says_how_to_start_a_service(value):
    with pytest.raises(ConfigurationError, match=r"REWARD_URL.*sightline serve"):
        read(value)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("localhost:8000", r"'localhost:8000'.*http://host:port"),
        ("ftp://a", "no http"),
        ("http://", "no http"),
        ("http://a:notaport", "not a URL"),
        ("http://user:secret@a", "give api_key instead"),
        ("http://a?x=1", "query"),
    ],
)
def test_an_impossible_url_is_named_with_the_mend(url, message):
    with pytest.raises(ConfigurationError, match=message) as caught:
        read(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("base_url", "origin"),
    [("a:1", "base_url"), (GivenUrl("a:1", "--url"), "--url"), (None, "REWARD_URL")],
)
def test_a_message_names_the_url_by_where_it_was_given(base_url, origin):
    with pytest.raises(ConfigurationError, match=f"^{origin} 'a:1' has no http"):
        read(base_url, environment={"REWARD_URL": "a:1"})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("timeout_s", 0),
        ("timeout_s", float("nan")),
        ("timeout_s", float("inf")),
        ("retries", -1),
        ("max_concurrency", 0),
        ("wire", "pickle"),
    ],
)
def test_an_impossible_value_is_named(field, value):
    with pytest.raises(ConfigurationError, match=rf"{field} is {value!r}: give "):
        read("http://a", **{field: value})


def test_a_key_that_no_header_carries_is_refused_without_being_shown():
    with pytest.raises(ConfigurationError, match="api_key holds") as caught:
        read("http://a", "se\ncret")
    assert "cret" not in str(caught.value)


def test_the_key_is_in_no_repr():
    assert "secret" not in repr(ClientConfig(base_urls=("http://a",), api_key="secret"))


def test_the_client_reads_the_environment(monkeypatch):
    monkeypatch.setenv("REWARD_URL", "http://from-the-environment")
    with RewardClient() as client:
        assert client.config.base_urls == ("http://from-the-environment",)
    monkeypatch.delenv("REWARD_URL")
    with pytest.raises(ConfigurationError):
        RewardClient()
