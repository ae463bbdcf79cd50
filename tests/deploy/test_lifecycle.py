"""helm's own install, upgrade, rollback, test and uninstall, against a pretended API server."""

import helm_python as helm
import pytest
from rig.api_server import running_api_server
from rig.chart import CHART, NAMESPACE, RELEASE, objects, value_set

GPU, DEFAULT = value_set("gpu"), value_set("default")
KEPT = {"PersistentVolumeClaim/demo-sightline-models"} | {
    f"PersistentVolumeClaim/demo-sightline-{run}" for run in GPU["trainers"]
}


@pytest.fixture
def server():
    with running_api_server() as started:
        yield started


@pytest.fixture
def config(server):
    with helm.Config(
        kubeconfig_content=server.kubeconfig(), namespace=NAMESPACE, storage_driver="memory"
    ) as opened:
        yield opened


def found(server, kind, name):
    return next(
        document
        for key, document in server.store.objects.items()
        if (key.resource.kind, key.name) == (kind, name)
    )


def names(values):
    return {
        f"{d['kind']}/{d['metadata']['name']}"
        for d in objects(values)
        if not d["metadata"].get("annotations", {}).get("helm.sh/hook")
    }


@pytest.mark.parametrize(
    "values", [DEFAULT, GPU, value_set("single")], ids=["default", "gpu", "single"]
)
def test_an_install_makes_every_object_and_an_uninstall_leaves_only_volumes(server, config, values):
    config.install(str(CHART), RELEASE, values, wait="watcher", timeout=30)
    assert server.store.names() == names(values)
    config.uninstall(RELEASE)
    left = {n for n in server.store.names() if not n.startswith("PersistentVolumeClaim/")}
    assert left == set()
    assert server.store.names() <= KEPT | {"PersistentVolumeClaim/scores-csr"}


def test_an_upgrade_replaces_and_a_rollback_brings_back(server, config):
    config.install(str(CHART), RELEASE, GPU)
    before = server.store.names()
    config.upgrade(str(CHART), RELEASE, DEFAULT)
    after = server.store.names() - KEPT
    assert after == names(DEFAULT)
    assert found(server, "Deployment", "demo-sightline-similarity")["spec"]["replicas"] == 2
    config.rollback(RELEASE, version=1)
    assert server.store.names() == before
    model = found(server, "Deployment", "demo-sightline-perplexity")
    [serving] = model["spec"]["template"]["spec"]["containers"]
    assert {"name": "SIGHTLINE_PERPLEXITY", "value": "hf:llava-hf/llava-1.5-7b-hf"} in serving[
        "env"
    ]


def test_a_changed_run_is_a_new_job_because_a_job_cannot_change(server, config):
    def jobs():
        return {name for name in server.store.names() if name.startswith("Job/")}

    values = DEFAULT | {"trainers": {"csr": {"method": "csr"}}}
    config.install(str(CHART), RELEASE, values)
    [first] = jobs()
    config.upgrade(str(CHART), RELEASE, values | {"networkPolicy": {"enabled": False}})
    assert jobs() == {first}
    changed = {"trainers": {"csr": {"method": "csr", "config": {"seed": 1}}}}
    config.upgrade(str(CHART), RELEASE, values | changed)
    [second] = jobs()
    assert second != first


def test_the_router_may_be_switched_off_and_on(server, config):
    together = DEFAULT | {"layout": "together"}
    config.install(str(CHART), RELEASE, together)
    config.upgrade(str(CHART), RELEASE, together | {"router": {"enabled": False}})
    selector = found(server, "Service", "demo-sightline")["spec"]["selector"]
    assert selector["app.kubernetes.io/component"] == "reward"
    config.upgrade(str(CHART), RELEASE, together)
    selector = found(server, "Service", "demo-sightline")["spec"]["selector"]
    assert selector["app.kubernetes.io/component"] == "router"


def test_a_server_refuses_what_it_does_not_know_and_nothing_is_left(server, config):
    broken = DEFAULT | {"reward": {"podSecurityContext": {"runAsRoot": False}}}
    with pytest.raises(helm.HelmError, match="runAsRoot"):
        config.install(str(CHART), RELEASE, broken, rollback_on_failure=True, timeout=20)
    assert server.store.names() == set()


def test_helm_test_runs_the_smoke_pod(server, config):
    config.install(str(CHART), RELEASE, DEFAULT)
    config.test(RELEASE)
    assert "Pod/demo-sightline-smoke" in server.store.names()
