"""Alert rules and dashboards, held against what the components expose and what the pages say of them."""

import json
import re
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi.testclient import TestClient

from alerting import engine, notifier
from alerting.latencies import Latencies
from alerting.pack import load
from gateway import edge, mqtt
from gateway.app import create_app
from gateway.metrics import Metrics
from gateway.refused import Refusals
from gateway.spool import Spool
from gateway.upstream import target
from lakehouse import progress
from lakehouse.datadir import DataDir
from lakehouse.ledger import Check, Fault, Ledger
from lakehouse.pipeline import ALERT_LIMITS, ALERT_NOTIFY, ALERT_ROUTER, FLOWS
from streaming.query import progress_record
from tests.fixtures.prometheus import program
from wardhouse.commands.verify import keep

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "docker" / "prometheus"
DASHBOARDS = sorted((ROOT / "docker" / "grafana" / "dashboards").glob("*.json"))
RUNBOOK = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
PAGE = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
OF_PROMETHEUS = {"up", "ALERTS"}
_NAME = re.compile(r"(?<![\w:\"])(?:ward[_:][\w:]+|up|ALERTS)\b(?!\()")


def rules() -> Iterator[dict[str, Any]]:
    for path in sorted((PROMETHEUS / "rules").glob("*.yml")):
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            yield from group["rules"]


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


def recorded() -> set[str]:
    return {rule["record"] for rule in rules() if "record" in rule}


def queries() -> Iterator[str]:
    yield from (rule["expr"] for rule in rules())
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]:
            yield from (target["expr"] for target in panel.get("targets", ()))


def write_progress(data: DataDir) -> None:
    """A line of each component, made as it makes its own."""
    batch = {"batchId": 1, "numInputRows": 5, "processedRowsPerSecond": 1.0, "sources": [], "durationMs": {}}
    observed = {"observedMetrics": {"batch": {"oldest_received_at": 1, "newest_received_at": 2}}}
    for flow in FLOWS:
        if flow.application == "lakehouse":
            progress.append(data.progress(flow.name), progress_record({**batch, **observed}, NOON))
    at = {"at": NOON.isoformat(), "lag": 0, "rate": 1.0}
    progress.append(data.progress(ALERT_LIMITS.name), {**at, "records": 1})
    told = Latencies()
    told.told([{"message_received_at": 0}], 10)
    counted = {**vars(engine.Counts()), "open": 1, "latency": told.as_dict()}
    progress.append(data.progress(ALERT_ROUTER.name), {**at, **counted})
    delivered = {**vars(notifier.Counts()), "waiting": {"mail": 1}}
    progress.append(data.progress(ALERT_NOTIFY.name), {**at, **delivered})
    progress.append(data.progress(progress.PARSED), {"at": NOON.isoformat(), "parsed": {"observation": 1}})
    keep(Ledger((Check("bronze", Fault.LOST, 0, ""),), {}), data)


@pytest.fixture(scope="module")
def exposed(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names of all samples that a gateway and an edge may show."""
    data = DataDir(tmp_path_factory.mktemp("ward"))
    write_progress(data)
    spool = Spool(data.root / "spool-of-gateway", 1024)
    app = create_app(data, bootstrap_servers="127.0.0.1:1", clock=lambda: NOON, answer_within_s=0.2, spool=spool)
    with TestClient(app, base_url="http://127.0.0.1"):
        metrics: Metrics = app.state.services.metrics
        metrics.messages.labels("unavailable")
        metrics.audit.messages.labels("unavailable")
        metrics.refused.labels("401")
        metrics.answered.labels("200")
        app.state.services.cache.lag = 0
        mqtt.Bridge(mqtt.source("127.0.0.1", 1, ("monitors/#",), "ward"), metrics)
        found = [*metrics.registry.collect()]
    key_file = data.root / "key"
    key_file.write_text("x")
    away = edge.create_app(
        data,
        target("http://127.0.0.1:1", key_file, None),
        spool=Spool(data.root / "spool-of-edge", 1024),
        pack=load("adult"),
        clock=lambda: NOON,
        refusals=Refusals(data.root / "refused"),
        tell=lambda _: None,
        say=lambda _: None,
    )
    with TestClient(away, base_url="http://127.0.0.1"):
        of_edge: edge.EdgeMetrics = away.state.services.metrics
        for counter in (of_edge.messages, of_edge.forwarded):
            counter.labels("acknowledged")
        of_edge.refused.labels("401")
        of_edge.answered.labels("200")
        found += of_edge.registry.collect()
    return {sample.name for metric in found for sample in metric.samples if not sample.name.endswith("_created")}


@pytest.fixture(scope="module")
def promtool() -> str:
    found = program("promtool")
    if found is None:
        pytest.skip("no promtool on this machine (Debian package prometheus)")
    return found


def run(*command: object) -> str:
    ran = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout + ran.stderr


def test_prometheus_takes_its_settings_and_rules(promtool: str) -> None:
    said = run(promtool, "check", "config", "--syntax-only", PROMETHEUS / "prometheus.yml")

    assert "SUCCESS" in said


def test_the_rules_fire_when_they_should_and_not_before(promtool: str) -> None:
    run(promtool, "test", "rules", ROOT / "tests" / "prometheus" / "rules.yml")


def test_a_rule_that_does_not_fire_as_expected_is_found_out(promtool: str, tmp_path: Path) -> None:
    wrong = tmp_path / "rules.yml"
    tests = yaml.safe_load((ROOT / "tests" / "prometheus" / "rules.yml").read_text(encoding="utf-8"))
    disk = next(test for test in tests["tests"] if "the disk fills" in test["name"])
    disk["input_series"] = [one for one in disk["input_series"] if "free_bytes" not in one["series"]]
    files = [str(path) for path in sorted((PROMETHEUS / "rules").glob("*.yml"))]
    wrong.write_text(yaml.safe_dump({**tests, "rule_files": files, "tests": [disk]}), encoding="utf-8")

    with pytest.raises(AssertionError, match="WardDiskFilling"):
        run(promtool, "test", "rules", wrong)


def test_rules_and_panels_ask_for_nothing_that_no_component_shows(exposed: set[str]) -> None:
    asked = {name for query in queries() for name in _NAME.findall(query)}

    assert len(asked) > 30
    assert asked - exposed - recorded() - OF_PROMETHEUS == set()


def test_every_recorded_figure_is_asked_for() -> None:
    assert recorded() - {name for query in queries() for name in _NAME.findall(query)} == set()


def test_every_alert_has_an_entry_in_the_runbook_and_every_entry_an_alert() -> None:
    entries = set(re.findall(r"^### (Ward\w+)$", RUNBOOK, flags=re.MULTILINE))

    assert entries == {rule["alert"] for rule in alerts()}
    assert [rule["alert"] for rule in alerts()] == list(dict.fromkeys(rule["alert"] for rule in alerts()))
    for rule in alerts():
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in ("page", "ticket")


def test_the_page_has_every_metric_and_none_that_is_not_there(exposed: set[str]) -> None:
    families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in exposed}
    written = set(re.findall(r"^\| `(ward_\w+)`", PAGE, flags=re.MULTILINE))

    assert written - families == set()
    assert {name for name in families if not name.startswith("ward_flow_")} - written == set()


def test_the_page_says_the_objectives_that_the_rules_compute() -> None:
    budgets = {
        rule["labels"]["slo"]: float(rule["expr"].removeprefix("vector(").removesuffix(")"))
        for rule in rules()
        if rule.get("record") == "ward:slo_budget"
    }
    written = re.findall(r"^\| `(\w+)` \|.*\| ([\d.]+) % \|$", PAGE, flags=re.MULTILINE)

    assert {slo: round(1 - float(share) / 100, 6) for slo, share in written} == budgets


def test_a_dashboard_has_panels_of_known_kinds_side_by_side() -> None:
    for path in DASHBOARDS:
        board = json.loads(path.read_text(encoding="utf-8"))
        places = [panel["gridPos"] for panel in board["panels"]]
        cells = [(x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])]

        assert {panel["type"] for panel in board["panels"]} == {"row", "stat", "timeseries"}
        assert len(cells) == len(set(cells))
        assert max(x for x, _ in cells) == 23
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
        uids = {panel["datasource"]["uid"] for panel in board["panels"] if "datasource" in panel}
        sources = ROOT / "docker" / "grafana" / "provisioning" / "datasources" / "prometheus.yaml"
        assert uids == {one["uid"] for one in yaml.safe_load(sources.read_text(encoding="utf-8"))["datasources"]}
