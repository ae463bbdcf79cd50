"""Mistakes planted in a copy of the chart, one at a time: each is caught by the check named."""

import shutil

import pytest
from rig import chart, inspection

D, S, R, T = (
    "templates/reward-deployment.yaml",
    "templates/reward-service.yaml",
    "templates/router.yaml",
    "templates/_trainer.tpl",
)
MISTAKES = {
    # what a server refuses or drops
    "an unknown field": (D, "revisionHistoryLimit:", "revisionHistoryLimits:", "schema"),
    "a number where a text belongs": (
        "templates/_pod.tpl",
        '  value: "8000"',
        "  value: 8000",
        "schema",
    ),
    "a removed version of an interface": (
        "templates/autoscaling.yaml",
        "autoscaling/v2",
        "autoscaling/v2beta2",
        "schema",
    ),
    "no selector": (D, "  selector:\n    matchLabels:", "  selectors:\n    matchLabels:", "schema"),
    "broken indentation": (S, "  ports:\n", " ports:\n", "lint"),
    "a template that fails": (S, ".Values.router.enabled", ".Values.routers.enabled", "lint"),
    "a field given twice": (S, "port: 8000", "port: 8000\n      port: 8001", "render"),
    # what leads nowhere
    "a probe of a port that is not there": ("values.yaml", "port: http", "port: web", "lint"),
    "a Service of a port that is not there": (
        S,
        "targetPort: http",
        "targetPort: web",
        "reference",
    ),
    "a Service of pods that are not there": (
        "templates/service.yaml",
        '"router" "reward"',
        '"routers" "reward"',
        "reference",
    ),
    "a selector that misses its own pods": (
        D,
        'include "sightline.podLabels" (list $ $name)',
        'include "sightline.podLabels" (list $ "reward")',
        "reference",
    ),
    "a ConfigMap of another name": (
        R,
        'name: {{ include "sightline.fullname" . }}-router\n{{- end }}',
        'name: {{ include "sightline.fullname" . }}-nginx\n{{- end }}',
        "reference",
    ),
    "an entry of another name": (R, "  nginx.conf: |", "  default.conf: |", "reference"),
    "a mount without a volume": (
        "templates/_pod.tpl",
        "- name: keys\n  mountPath",
        "- name: secrets\n  mountPath",
        "reference",
    ),
    "a router that asks Services of another name": (
        "files/nginx.conf.tpl",
        'include "sightline.componentService" (list $ $name) }}.',
        'include "sightline.fullname" $ }}-{{ $name }}.',
        "reference",
    ),
    "a router that asks another port": (
        "files/nginx.conf.tpl",
        ".Values.clusterDomain }}:8000",
        ".Values.clusterDomain }}:8080",
        "reference",
    ),
    "an autoscaler of a Deployment that is not there": (
        "templates/autoscaling.yaml",
        'name: {{ include "sightline.fullname" $ }}-{{ $name }}\n  minReplicas',
        "name: {{ $name }}\n  minReplicas",
        "reference",
    ),
    "an autoscaler against the chart": (D, "or $component.autoscaling.enabled", "or", "reference"),
    "a policy for a port that is not there": (
        "templates/network-policies.yaml",
        "- port: http",
        "- port: https",
        "reference",
    ),
    "an Ingress to a Service that is not there": (
        "templates/ingress.yaml",
        'name: {{ include "sightline.backend" (list $ $component) }}\n',
        "name: reward\n",
        "reference",
    ),
    "a monitor of Services that are not there": (
        "templates/monitoring.yaml",
        "    matchLabels:\n",
        "    matchLabels:\n      tier: backend\n",
        "reference",
    ),
    "an argument from nowhere": (T, "- name: NODE_RANK", "- name: RANK_OF_NODE", "reference"),
    # what breaks a promise
    "root": ("values.yaml", "runAsUser: 10001", "runAsUser: 0", "promise"),
    "a writable root": (
        "values.yaml",
        "readOnlyRootFilesystem: true",
        "readOnlyRootFilesystem: false",
        "promise",
    ),
    "a token for the API server": (
        "templates/_pod.tpl",
        "automountServiceAccountToken: false",
        "automountServiceAccountToken: true",
        "promise",
    ),
    "service links, which would set SIGHTLINE_PORT": (
        "templates/_pod.tpl",
        "enableServiceLinks: false\n",
        "",
        "promise",
    ),
    "a floating image": ("values.yaml", "tag: 1.28-alpine", "tag: latest", "promise"),
    "no readiness": (R, "readinessProbe:", "startupProbe:", "promise"),
    "no memory limit": (
        "values.yaml",
        "    limits:\n      memory: 512Mi",
        "    limits: {}",
        "promise",
    ),
    "a kill before the drain is over": (D, "| default 30)) 10", "| default 3)) 1", "promise"),
}


def caught(path):
    for name in chart.VALUE_SETS:
        values = chart.value_set(name)
        for fault in inspection.faults(values, inspection.BROUGHT[name], path):
            return fault
    return None


def test_the_copy_itself_is_sound(tmp_path):
    copy = shutil.copytree(chart.CHART, tmp_path / "sightline")
    assert caught(copy) is None


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_planted_mistake_is_caught(tmp_path, mistake):
    file, before, after, check = MISTAKES[mistake]
    copy = shutil.copytree(chart.CHART, tmp_path / "sightline")
    text = (copy / file).read_text()
    assert before in text, "the mistake has no place to be planted any more"
    (copy / file).write_text(text.replace(before, after))
    fault = caught(copy)
    assert fault is not None
    assert fault.startswith(check), fault
