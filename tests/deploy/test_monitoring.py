"""Rules and dashboard: promtool takes them, and each metric and label is one that is exported."""

import asyncio
import base64
import io
import json
import re
import subprocess
from itertools import combinations
from pathlib import Path

import httpx
import PIL.Image
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from rig import dashboards
from rig.chart import CHART, named, objects, value_set

from sightline_service.app import create_app
from sightline_service.loading import ModelLoader
from sightline_service.settings import Settings

RULES = CHART / "files/rules.yaml"
RULE_TESTS = Path(__file__).with_name("rules_test.yaml")
DASHBOARD = json.loads((CHART / "files/dashboard.json").read_text())


def promtool(*arguments):
    return subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)


async def scraped():
    """/metrics of a service that has answered every endpoint once, and refused once."""
    picture = io.BytesIO()
    PIL.Image.new("RGB", (16, 16)).save(picture, "PNG")
    image = base64.b64encode(picture.getvalue()).decode()
    settings = Settings(similarity="fake", detector="fake", perplexity="fake", profile="none")
    app = create_app(settings, ModelLoader(settings))
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://service") as client,
    ):
        for _ in range(600):
            if (await client.get("/readyz")).status_code == 200:
                break
            await asyncio.sleep(0.05)
        for endpoint in ("token_reward", "sentence_reward", "perplexity"):
            body = {"items": [{"image": image, "texts": ["A dog."]}]}
            assert (await client.post(f"/{endpoint}", json=body)).status_code == 200
        body = {"items": [{"image": image, "phrases": ["dog"]}]}
        assert (await client.post("/ground", json=body)).status_code == 200
        app.state.service.metrics.observe_rejection("max_queue_items")
        return (await client.get("/metrics")).text


@pytest.fixture(scope="module")
def exported():
    """Labels by metric, as a replica exports them."""
    labels = {"up": set(), "sightline_gpu_memory_bytes": {"state"}}  # which needs a GPU to be read
    for family in text_string_to_metric_families(asyncio.run(scraped())):
        for sample in family.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)
    return labels


def test_promtool_takes_the_rules_and_every_alert_fires_when_it_must_and_only_then():
    checked = promtool("check", "rules", str(RULES))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    tested = promtool("test", "rules", str(RULE_TESTS))
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_each_alert_is_tested_both_ways_and_each_recording_once():
    rules = [
        rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
    ]
    tests = yaml.safe_load(RULE_TESTS.read_text())["tests"]
    alerts = [case for test in tests for case in test["alert_rule_test"]]
    fired = {case["alertname"] for case in alerts if case["exp_alerts"]}
    quiet = {case["alertname"] for case in alerts if not case["exp_alerts"]}
    assert {rule["alert"] for rule in rules if "alert" in rule} == fired == quiet
    computed = " ".join(case["expr"] for test in tests for case in test.get("promql_expr_test", ()))
    assert all(rule["record"] in computed for rule in rules if "record" in rule)


def test_the_release_gets_the_very_rules_that_are_tested():
    rule = named(objects(value_set("gpu")), "PrometheusRule", "demo-sightline")
    assert rule["spec"] == yaml.safe_load(RULES.read_text())


def test_rules_use_what_is_exported(exported):
    rules = yaml.safe_load(RULES.read_text())
    recorded = {
        rule["record"]: dashboards.Expression("", rule["expr"]).grouping() - {"le"}
        for group in rules["groups"]
        for rule in group["rules"]
        if "record" in rule
    }
    for expression in dashboards.rule_expressions(rules):
        assert list(expression.faults(exported | recorded)) == []


def test_a_metric_or_label_that_nothing_exports_is_noticed(exported):
    for text, said in (
        ("rate(sightline_request_total[5m])", "nothing exports sightline_request_total"),
        ('sightline_model_ready{role="a"}', "no label ['role']"),
        ("sum by (replica) (sightline_queue_items{})", "sums by ['replica']"),
    ):
        [fault] = dashboards.Expression("here", text).faults(exported)
        assert said in fault


def test_the_dashboard_shows_what_is_exported(exported):
    for expression in dashboards.expressions(DASHBOARD):
        assert list(expression.selectors())
        assert list(expression.faults(exported)) == []


def test_every_exported_metric_of_ours_is_on_the_dashboard(exported):
    shown = " ".join(expression.text for expression in dashboards.expressions(DASHBOARD))
    ours = {re.sub(r"_(bucket|sum|count|created)$", "", m) for m in exported if "sightline" in m}
    assert {metric for metric in ours if metric not in shown} == set()


def test_promtool_takes_every_query_of_the_dashboard(tmp_path):
    rules = [
        {"record": f"panel:query:{number}", "expr": expression.plain()}
        for number, expression in enumerate(dashboards.expressions(DASHBOARD))
    ]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    checked = promtool("check", "rules", "--lint=none", str(file))
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_dashboard_is_laid_out_and_names_no_data_source():
    shown = list(dashboards.panels(DASHBOARD))
    identifiers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(identifiers) == len(set(identifiers))
    for one, other in combinations(DASHBOARD["panels"], 2):
        assert not dashboards.cells(one) & dashboards.cells(other), (one["title"], other["title"])
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    for panel in shown:
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
        assert panel["description"]
        assert panel["datasource"]["uid"] == "${datasource}"
    for expression in dashboards.expressions(DASHBOARD):
        assert expression.variables() <= variables


def test_what_autoscalers_ask_for_is_recorded_or_exported(exported):
    scaled = named(objects(value_set("gpu")), "ScaledObject", "demo-sightline-detector")
    [trigger] = scaled["spec"]["triggers"]
    query = dashboards.Expression("keda", trigger["metadata"]["query"])
    assert list(query.faults(exported)) == []
    assert 'component="detector"' in query.text
