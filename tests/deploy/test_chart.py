"""The chart, rendered: it holds together, says what it should, and refuses what cannot work."""

import re

import pytest
from rig import chart, inspection, schemas
from rig.chart import VALUE_SETS, containers, named, objects, pod_templates, value_set
from rig.references import matches

KEYS = {"auth": {"existingSecret": "sightline-keys"}}


@pytest.fixture(params=VALUE_SETS)
def values(request):
    return value_set(request.param)


def environment(container):
    return {e["name"]: e.get("value", e.get("valueFrom")) for e in container["env"]}


def reward(found, name):
    [container] = named(found, "Deployment", name)["spec"]["template"]["spec"]["containers"]
    return container


@pytest.mark.parametrize("name", VALUE_SETS)
def test_a_set_of_values_passes_every_check(name):
    assert list(inspection.faults(value_set(name), inspection.BROUGHT[name])) == []


@pytest.mark.parametrize(
    "values",
    [
        {"router": {"enabled": False}},
        {"layout": "together"},
        {"layout": "together", "router": {"enabled": False}},
        {"models": {"similarity": {"enabled": False}, "detector": {"enabled": False}}},
        {"modelCache": {"baked": True}, "models": {"detector": {"reference": "hf:a/b"}}},
        {"hub": {"online": True, "endpoint": "https://hub"}, "tokenScorer": "detector"},
        {"profiles": {"existingConfigMap": "mine", "default": "a"}, "tokenScorer": "detector"},
        {"reward": {"settings": {"metrics_open": False, "image_hosts": ["a.example", "b"]}}},
    ],
    ids=str,
)
def test_other_combinations_hold_together_too(values):
    shared = {
        "ingress": {"enabled": True, "hosts": ["a"]},
        "httpRoute": {"enabled": True, "parentRefs": [{"name": "g"}]},
        "metrics": {"serviceMonitor": {"enabled": True}},
    }
    brought = frozenset({"Secret/sightline-keys", "ConfigMap/mine"})
    assert list(inspection.faults(KEYS | shared | values, brought)) == []


def test_without_the_router_ingress_and_route_lead_each_path_to_its_model():
    bare = {"router": {"enabled": False}, "ingress": {"enabled": True, "hosts": ["a"]}}
    ingress = named(objects(KEYS | bare), "Ingress", "demo-sightline")
    [rule] = ingress["spec"]["rules"]
    leads = {p["path"]: p["backend"]["service"]["name"] for p in rule["http"]["paths"]}
    assert leads["/token_reward"] == leads["/v1/token_reward"] == "demo-sightline-similarity"
    assert leads["/v1/ground"] == "demo-sightline-detector"
    assert leads["/perplexity"] == "demo-sightline-perplexity"
    assert leads["/"] == "demo-sightline-similarity"


def test_the_detector_scores_words_where_it_is_told_to():
    found = objects(KEYS | {"tokenScorer": "detector", "profiles": {"files": {"a": "{}"}}})
    detector = environment(reward(found, "demo-sightline-detector"))
    assert detector["SIGHTLINE_TOKEN_SCORER"] == "detector"
    assert detector["SIGHTLINE_PROFILES_DIR"] == "/etc/sightline/profiles"
    others = environment(reward(found, "demo-sightline-similarity"))
    assert {"SIGHTLINE_TOKEN_SCORER", "SIGHTLINE_PROFILES_DIR"}.isdisjoint(others)
    conf = named(found, "ConfigMap", "demo-sightline-router")["data"]["nginx.conf"]
    assert re.search(r"location = /v1/token_reward \{\s+proxy_pass http://detector;", conf)
    assert re.search(r"location = /v1/sentence_reward \{\s+proxy_pass http://similarity;", conf)


def test_the_router_waits_longer_than_the_slowest_model_may_take():
    slow = {"models": {"perplexity": {"settings": {"request_timeout_s": 300}}}}
    conf = named(objects(KEYS | slow), "ConfigMap", "demo-sightline-router")["data"]["nginx.conf"]
    assert "proxy_read_timeout 305s;" in conf


def test_lists_reach_the_service_with_commas():
    hosts = {"reward": {"settings": {"image_hosts": ["a.example", "b.example"]}}}
    served = environment(reward(objects(KEYS | hosts), "demo-sightline-similarity"))
    assert served["SIGHTLINE_IMAGE_HOSTS"] == "a.example,b.example"


def test_the_chart_is_checked_against_three_versions_from_the_oldest_it_takes():
    oldest = chart.yaml.safe_load((chart.CHART / "Chart.yaml").read_text())["kubeVersion"]
    assert oldest == f">={schemas.VERSIONS[0]}.0-0"
    assert len(schemas.VERSIONS) == 3


def test_each_model_has_a_deployment_that_serves_it_alone():
    found = objects(KEYS)
    for role in ("similarity", "detector", "perplexity"):
        served = environment(reward(found, f"demo-sightline-{role}"))
        models = {
            r: served[f"SIGHTLINE_{r.upper()}"] for r in ("similarity", "detector", "perplexity")
        }
        assert models == {"similarity": "none", "detector": "none", "perplexity": "none"} | {
            role: "world"
        }


def test_together_one_deployment_serves_every_enabled_model():
    found = objects(KEYS | {"layout": "together", "models": {"detector": {"enabled": False}}})
    served = environment(reward(found, "demo-sightline-reward"))
    assert served["SIGHTLINE_SIMILARITY"] == served["SIGHTLINE_PERPLEXITY"] == "world"
    assert served["SIGHTLINE_DETECTOR"] == "none"


def test_a_model_overrides_what_all_share():
    found = objects(value_set("gpu"))
    similarity = reward(found, "demo-sightline-similarity")
    assert similarity["resources"]["limits"]["nvidia.com/mig-1g.10gb"] == 1
    assert similarity["resources"]["requests"]["memory"] == "16Gi"
    perplexity = named(found, "Deployment", "demo-sightline-perplexity")
    assert perplexity["spec"]["template"]["spec"]["nodeSelector"] == {"gpu": "a100"}
    assert perplexity["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 5 + 90 + 10
    assert (
        environment(reward(found, "demo-sightline-detector")).get("SIGHTLINE_REQUEST_TIMEOUT_S")
        is None
    )


def test_whole_numbers_reach_the_service_without_an_exponent():
    settings = {"reward": {"settings": {"max_body_bytes": 67108864, "max_wait_ms": 2.5}}}
    served = environment(reward(objects(KEYS | settings), "demo-sightline-detector"))
    assert served["SIGHTLINE_MAX_BODY_BYTES"] == "67108864"
    assert served["SIGHTLINE_MAX_WAIT_MS"] == "2.5"


def test_keys_come_from_a_file_of_the_secret_and_clients_get_one_of_them():
    found = objects(value_set("gpu"))
    served = reward(found, "demo-sightline-similarity")
    assert environment(served)["SIGHTLINE_API_KEY_FILE"] == "/etc/sightline/keys/api-keys"
    for document in found:
        if document["kind"] in ("Job", "Pod"):
            [(_, pod)] = pod_templates([document])
            [client] = pod["spec"]["containers"]
            wanted = {"secretKeyRef": {"name": "sightline-keys", "key": "client-key"}}
            assert environment(client)["REWARD_API_KEY"] == wanted


def test_weights_come_from_the_volume_locked_and_without_a_network():
    found = objects(value_set("gpu"))
    pod = named(found, "Deployment", "demo-sightline-detector")["spec"]["template"]["spec"]
    [weights] = pod["initContainers"]
    assert weights["args"] == [
        "fetch",
        "--folder",
        "/models",
        "hf:IDEA-Research/grounding-dino-base",
    ]
    served = environment(pod["containers"][0])
    assert served["SIGHTLINE_WEIGHTS_LOCK"] == "/models/weights.lock.json"
    assert served["HF_HOME"] == "/models"
    assert served["HF_HUB_OFFLINE"] == "1"
    [mount] = [m for m in pod["containers"][0]["volumeMounts"] if m["name"] == "models"]
    assert mount["readOnly"] is True


def test_a_run_on_several_nodes_is_an_indexed_job_whose_first_pod_is_the_meeting_point():
    found = objects(value_set("gpu"))
    [job] = [d for d in found if d["kind"] == "Job" and "fisao" in d["metadata"]["name"]]
    assert (job["spec"]["completionMode"], job["spec"]["completions"]) == ("Indexed", 2)
    pod = job["spec"]["template"]["spec"]
    name, subdomain = job["metadata"]["name"], pod["subdomain"]
    [trainer] = pod["containers"]
    assert f"--master-addr={name}-0.{subdomain}.ml.svc.cluster.local" in trainer["command"]
    assert named(found, "Service", subdomain)["spec"]["clusterIP"] == "None"
    assert environment(trainer)["REWARD_URL"] == "http://demo-sightline.ml.svc.cluster.local:8000"


def test_a_changed_run_is_another_job_and_an_unchanged_one_is_not():
    def job(**run):
        values = KEYS | {"trainers": {"csr": {"method": "csr", **run}}}
        [found] = [d for d in objects(values) if d["kind"] == "Job"]
        return found["metadata"]["name"]

    assert job() == job()
    assert job() != job(config={"seed": 1})
    assert job() != job(image={"tag": "0.2.0"})


def test_names_fit_where_the_release_is_long():
    values = value_set("gpu")
    manifest = chart.render(values, name="a-release-with-quite-a-long-name-in-front-of-it")
    for document in chart.documents(manifest):
        longest = document["metadata"]["name"] + ("-99" if document["kind"] == "Job" else "")
        assert len(longest) <= 63


@pytest.mark.parametrize(
    ("component", "reached_by", "refused"),
    [
        ("similarity", ["router"], ["trainer", "test", "stranger"]),
        ("router", ["trainer", "test"], ["similarity", "stranger"]),
    ],
)
def test_only_trainers_and_the_router_reach_the_service(component, reached_by, refused):
    found = objects(KEYS)
    labels = {"app.kubernetes.io/name": "sightline", "app.kubernetes.io/instance": "demo"}
    mine = labels | {"app.kubernetes.io/component": component}
    [policy] = [
        d for d in found if d["kind"] == "NetworkPolicy" and matches(d["spec"]["podSelector"], mine)
    ]

    def admitted(caller):
        theirs = labels | {"app.kubernetes.io/component": caller}
        peers = [peer for rule in policy["spec"]["ingress"] for peer in rule["from"]]
        return any(
            "namespaceSelector" not in peer and matches(peer["podSelector"], theirs)
            for peer in peers
        )

    assert all(admitted(caller) for caller in reached_by)
    assert not any(admitted(caller) for caller in refused)


def test_no_pod_of_another_release_is_selected():
    for document in objects(value_set("gpu")):
        spec = document["spec"] if isinstance(document.get("spec"), dict) else {}
        selector = spec.get("selector") or spec.get("podSelector") or {}
        chosen = selector.get("matchLabels", selector)
        if document["kind"] in ("Service", "Deployment", "PodDisruptionBudget", "NetworkPolicy"):
            assert chosen["app.kubernetes.io/instance"] == "demo"


def test_every_container_of_ours_runs_the_command_line_that_exists(values):
    for where, pod in pod_templates(objects(values)):
        for container in containers(pod):
            assert container["command"][0] in ("sightline", "torchrun", "nginx", "python"), where


def test_the_notes_say_where_the_service_is():
    said = chart.notes(value_set("default"))
    assert "REWARD_URL=http://demo-sightline.ml.svc.cluster.local:8000" in said
    assert "get secret sightline-keys" in said
    assert "WARNING" not in said
    assert "auth is off" in chart.notes({"auth": {"enabled": False}})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "auth.existingSecret is empty"),
        (KEYS | {"models": {"similarity": {"reference": "hf:a/b"}}}, "enable modelCache"),
        (KEYS | {"layout": "together", "models": {"detector": {"replicaCount": 3}}}, "share"),
        (KEYS | {"reward": {"autoscaling": {"enabled": True}, "keda": {"enabled": True}}}, "fight"),
        (KEYS | {"router": {"enabled": False}, "trainers": {"a": {"method": "csr"}}}, "one URL"),
        (KEYS | {"profiles": {"default": "mine"}}, "there are no profiles"),
        (
            KEYS
            | {"models": {r: {"enabled": False} for r in ("similarity", "detector", "perplexity")}},
            "at least one",
        ),
        (KEYS | {"replicaCount": 3}, "replicaCount"),
        (KEYS | {"reward": {"settings": {"max_wait": 3}}}, "max_wait"),
        (KEYS | {"reward": {"settings": {"similarity": "world"}}}, "similarity"),
        (KEYS | {"models": {"similarity": {"reference": "clip"}}}, "reference"),
        (KEYS | {"trainers": {"ppo": {"method": "ppo"}}}, "method"),
        (KEYS | {"image": {"tagg": "1"}}, "tagg"),
        (KEYS | {"service": {"port": 80000}}, "port"),
        (KEYS | {"reward": {"resources": {"limits": {"memory": "2GB"}}}}, "memory"),
        (KEYS | {"trainers": {"a-name-too-long": {"method": "csr"}}}, "a-name-too-long"),
    ],
)
def test_what_cannot_work_is_refused_by_name(values, said):
    with pytest.raises(chart.ChartError, match=said):
        chart.render(values)
