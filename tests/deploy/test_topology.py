"""The rendered chart as local processes behind its own nginx: routing, faults, upgrades, runs."""

import json
import re
import time

import httpx
import pytest
from rig.chart import named, objects
from rig.cluster import running_cluster
from rig.load import PICTURES, Load, scores
from rig.pods import tools
from rig.release import AUTH, RUN, SECRETS

from sightline import AuthenticationError, RewardClient

URL_SERVICE, SIMILARITY, ROUTER = (
    "demo-sightline",
    "demo-sightline-similarity",
    "demo-sightline-router",
)
SHORT = {"preStopSeconds": 1}
VALUES = {
    "auth": AUTH,
    "reward": {
        "settings": {"torch_threads": 1},
        "replicaCount": 1,
        "startupProbe": {"failureThreshold": 3600},  # a busy machine loads slowly
        **SHORT,
    },
    "models": {"similarity": {"replicaCount": 2}},
    "router": {"replicaCount": 2, **SHORT},
    "trainers": {
        "alone": {"method": "fisao", "config": RUN},
        "pair": {"method": "fisao", "config": RUN, "nodes": 2},
    },
}


@pytest.fixture(scope="module")
def cluster():
    assert tools() == [], "make test-deploy brings them"
    with running_cluster(SECRETS) as started:
        started.apply(objects(VALUES))
        started.wait()
        yield started


@pytest.fixture(scope="module")
def expected(cluster):
    """The right scores, asked for while all is calm."""
    with client(cluster) as calm:
        return [scores(calm, image) for image in PICTURES]


def client(cluster, key="new-key"):
    return RewardClient(cluster.url(URL_SERVICE), api_key=key)


def metric(pod, pattern):
    """The sum of a pod's samples that match."""
    text = httpx.get(f"http://{pod.address}:8000/metrics", trust_env=False).text
    lines = [line for line in text.splitlines() if re.match(pattern, line)]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def test_helm_test_asks_every_endpoint_through_the_one_url(cluster):
    pod = cluster.run(named(cluster.documents, "Pod", "demo-sightline-smoke"))
    pod.join()
    said = pod.log.read_text()
    assert pod.exit_codes == [0], said
    asked = [line.partition(":")[0] for line in said.splitlines()]
    assert asked == ["token_reward", "sentence_reward", "ground", "perplexity"]


def test_each_model_answers_only_what_is_its_own(cluster):
    [detector] = cluster.pods("demo-sightline-detector")
    assert metric(detector, r'sightline_items_total\{endpoint="ground"') > 0
    assert metric(detector, r'sightline_items_total\{endpoint="(?!ground)') == 0


def test_old_and_new_keys_are_taken_and_no_others(cluster):
    for key in ("old-key", "new-key"):
        with client(cluster, key) as asked:
            assert asked.info().models
    with client(cluster, "no-key") as asked, pytest.raises(AuthenticationError):
        asked.sentence_reward(PICTURES[0], "A dog.")


def test_metrics_are_not_shown_to_clients(cluster):
    address = f"{cluster.url(URL_SERVICE)}/metrics"
    assert httpx.get(address, trust_env=False).status_code == 404


def test_an_image_stays_on_one_replica_and_replicas_share_the_images(cluster, expected):
    pods = cluster.pods(SIMILARITY)
    before = [metric(pod, r"sightline_cache_misses_total\{cache=\"embeddings") for pod in pods]
    with client(cluster) as asked:
        for _ in range(3):
            assert [scores(asked, image) for image in PICTURES] == expected
    after = [metric(pod, r"sightline_cache_misses_total\{cache=\"embeddings") for pod in pods]
    assert after == before, "an image was embedded twice"
    assert (
        sum(metric(pod, r'sightline_items_total.*outcome="image_not_found"') for pod in pods) == 0
    )
    answered = [metric(pod, r'sightline_items_total\{.*"ok"\}') for pod in pods]
    assert min(answered) > 0.15 * sum(answered)


def test_a_replica_is_killed_under_load_and_no_request_fails(cluster, expected):
    victim = cluster.pods(SIMILARITY)[0]
    with Load(cluster.url(URL_SERVICE), "new-key", expected).running() as load:
        load.answer_more(50)
        victim.kill()
        load.answer_more(50)
        cluster.wait()
        load.answer_more(50)
    assert victim.exit_codes == [-9]
    assert victim.restarts == 1
    assert (load.tally.failures, load.tally.wrong) == ([], 0)


def test_a_router_is_killed_under_load_and_no_request_fails(cluster, expected):
    victim = cluster.pods(ROUTER)[0]
    with Load(cluster.url(URL_SERVICE), "new-key", expected).running() as load:
        load.answer_more(50)
        victim.kill()
        cluster.wait()
        load.answer_more(50)
    assert victim.restarts == 1
    assert (load.tally.failures, load.tally.wrong) == ([], 0)


def test_a_version_that_cannot_start_replaces_no_replica(cluster, expected):
    old = cluster.pods(SIMILARITY)
    broken = {"similarity": {"replicaCount": 2, "extraArgs": ["--no-such-flag"]}}
    with Load(cluster.url(URL_SERVICE), "new-key", expected).running() as load:
        cluster.apply(objects(VALUES | {"models": broken}))
        with pytest.raises(TimeoutError, match="unrecognized arguments: --no-such-flag"):
            cluster.wait()
        load.answer_more(20)
        assert all(pod.ready for pod in old)
        cluster.apply(objects(VALUES))
        cluster.wait()
    assert cluster.pods(SIMILARITY) == old
    assert (load.tally.failures, load.tally.wrong) == ([], 0)


def test_a_rolling_upgrade_under_load_fails_no_request_and_stops_every_replica_in_peace(
    cluster, expected
):
    old = cluster.pods(SIMILARITY) + cluster.pods(ROUTER)
    changed = {
        "models": {"similarity": {"replicaCount": 2, "settings": {"max_wait_ms": 2}}},
        "router": {"replicaCount": 2, "clientTimeoutSeconds": 20, **SHORT},
    }
    with Load(cluster.url(URL_SERVICE), "new-key", expected).running() as load:
        load.answer_more(50)
        cluster.apply(objects(VALUES | changed))
        began = time.monotonic()
        cluster.wait()
        took_s = time.monotonic() - began
        load.answer_more(50)
    assert (load.tally.failures, load.tally.wrong) == ([], 0)
    assert [pod.exit_codes[-1] for pod in old] == [0] * 4
    assert not set(old) & set(cluster.pods(SIMILARITY) + cluster.pods(ROUTER))
    assert took_s < 900


def trained(cluster, run, nodes):
    """The results of one run, once all its pods have ended well."""
    [job] = [
        d for d in cluster.documents if d["kind"] == "Job" and f"-{run}-" in d["metadata"]["name"]
    ]
    pods = [cluster.run(job, index=index) for index in range(nodes)]
    for pod in pods:
        pod.join(900)
    assert [pod.exit_codes for pod in pods] == [[0]] * nodes, pods[0].log.read_text()[-3000:]
    return cluster.around.folder / f"claims/demo-sightline-{run}/{run}"


def test_a_trainer_finds_the_service_and_learns_from_it(cluster):
    output = trained(cluster, "alone", 1)
    assert (output / "adapter").is_dir()
    assert len((output / "metrics.jsonl").read_text().splitlines()) == 1


def test_the_nodes_of_one_run_find_each_other_and_learn_together(cluster):
    output = trained(cluster, "pair", 2)
    assert (output / "adapter").is_dir()
    assert json.loads((output / "manifest.json").read_text())["processes"] == 2
