"""A real Prometheus with our settings and rules, and a real gateway that wants a key. No broker is needed."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway import keys
from lakehouse import progress
from lakehouse.caller import Scope
from lakehouse.datadir import DataDir
from tests.fixtures.prometheus import program
from wardhouse.broker import free_port

DOCKER = Path(__file__).resolve().parents[2] / "docker"
WITHIN_S = 60.0
"""It takes some five seconds; the rest is for a machine on which other tests start whole stacks."""


@contextmanager
def running(command: list[str], folder: Path, **environment: str) -> Iterator[None]:
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=log, stderr=log)
        try:
            yield
        finally:
            process.terminate()
            process.wait(20)


def until(look: Callable[[], Any], log: Path) -> Any:
    deadline = time.monotonic() + WITHIN_S
    while True:
        try:
            if found := look():
                return found
        except httpx.TransportError:
            pass  # it does not serve yet
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.1)


def test_a_prometheus_with_our_settings_reads_a_gateway_that_wants_a_key_and_tells_what_is_wrong(
    data: DataDir, tmp_path: Path
) -> None:
    prometheus = program("prometheus")
    if prometheus is None:
        pytest.skip("no Prometheus on this machine (Debian package prometheus)")
    now = datetime.now(UTC)
    _, token = keys.create(keys.file_of(data), "prometheus", frozenset({Scope.ALERT}), now, None, None)
    (tmp_path / "key").write_text(token)
    progress.append(data.progress("alert_router"), {"at": (now - timedelta(hours=1)).isoformat(), "lag": 0})
    progress.append(data.progress(progress.LEDGER), {"at": now.isoformat(), "faults": {"lost": 2}})
    serving, watching = free_port(), free_port()
    settings = (DOCKER / "prometheus" / "prometheus.yml").read_text()
    for ours, here in (
        ("/run/secrets/metrics_key", str(tmp_path / "key")),
        ("127.0.0.1:8000", f"127.0.0.1:{serving}"),
        ("_interval: 15s", "_interval: 1s"),
    ):
        assert ours in settings
        settings = settings.replace(ours, here)
    (tmp_path / "prometheus.yml").write_text(settings)
    (tmp_path / "rules").mkdir()
    for rules in (DOCKER / "prometheus" / "rules").glob("*.yml"):
        (tmp_path / "rules" / rules.name).write_text(re.sub(r" interval: \d+.", " interval: 1s", rules.read_text()))
    ward = [
        str(Path(sys.executable).with_name("ward")),
        "gateway",
        "--port",
        str(serving),
        "--data-dir",
        str(data.root),
    ]
    watch = [
        prometheus,
        f"--config.file={tmp_path / 'prometheus.yml'}",
        f"--storage.tsdb.path={tmp_path / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{watching}",
    ]
    with (
        running(ward, tmp_path, KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1"),
        running(watch, tmp_path),
    ):

        def api(path: str, **params: str) -> Any:
            answer = httpx.get(f"http://127.0.0.1:{watching}/api/v1/{path}", params=params)
            return answer.json()["data"] if answer.status_code == 200 else {"result": [], "alerts": [], "groups": []}

        def of(query: str) -> dict[str, float]:
            found = api("query", query=query)["result"]
            return {one["metric"].get("flow", ""): float(one["value"][1]) for one in found}

        log = tmp_path / "log"
        until(lambda: of('up{job="gateway"}') == {"": 1.0}, log)
        silent = until(lambda: of("time() - ward_flow_at_seconds"), log)
        firing = until(
            lambda: {
                alert["labels"]["alertname"]
                for alert in api("alerts")["alerts"]
                if alert["labels"]["alertname"] == "WardLedgerBroken" and alert["state"] == "firing"
            },
            log,
        )
        groups = until(
            lambda: (
                (found := api("rules")["groups"])
                and all(rule["health"] == "ok" for group in found for rule in group["rules"])
                and found
            ),
            log,
        )

    assert silent["alert_router"] == pytest.approx(3600, abs=120)
    assert firing == {"WardLedgerBroken"}
    assert sum(len(group["rules"]) for group in groups) > 50
