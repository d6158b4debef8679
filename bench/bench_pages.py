"""How long the dashboard's pages take to render at a thousand patients: first, and when they renew themselves.

Writes a ward of ``--patients`` with two hours of minutes, two scores each and an alert for every fifth of them, and
renders each page by Streamlit's test runner: ``python -m bench pages``. It has neither browser nor network in it.
"""

import argparse
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

from lakehouse.datadir import DataDir
from lakehouse.scores import PARTS
from lakehouse.tables import (
    ALERT,
    ALERT_EVENT,
    EARLY_WARNING_SCORE,
    OBSERVATION,
    OBSERVATION_QUARANTINE,
    VITAL_SIGN_MINUTE,
)
from tests.fixtures.delta import append

FIRST_S, AGAIN_S = 2.0, 0.5
CODES = ("8867-4", "59408-5", "9279-1", "8480-6", "8462-4", "8310-5")
PAGES = ("ward", "patient", "alerts", "trends", "burden", "quality", "research")


def write(data: DataDir, now: datetime, patients: int) -> None:
    """The tables."""
    statistics = dict.fromkeys(("min", "mean", "max", "first", "last"), 80.0)
    minutes = [now - timedelta(minutes=number) for number in range(1, 121)]
    names = [f"ward/{number}" for number in range(patients)]
    for code in CODES:
        same = {"code": code, "unit": "/min", "count": 60, **statistics}
        append(data, VITAL_SIGN_MINUTE, *({"patient_id": n, "minute": at, **same} for n in names for at in minutes))
    came = {"observed_at": now, "received_at": now, "topic": "vitals", "source": "ward", "version": b"1"}
    places = [
        {"patient_id": name, "location_unit": f"U{number % 4}", "location_bed": str(number)}
        for number, name in enumerate(names)
    ]
    seen = [{"observation_id": str(n).encode(), "device_id": str(n), **one, **came} for n, one in enumerate(places)]
    append(data, OBSERVATION, *seen)
    totals = dict.fromkeys(("total", "total_min", "total_max"), 5)
    scored = {"score": "news2", **totals, "risk": "medium", "parts": dict.fromkeys(PARTS, 0)}
    for hours in (2, 0.5):
        at = now - timedelta(hours=hours)
        append(data, EARLY_WARNING_SCORE, *({"patient_id": name, "observed_at": at, **scored} for name in names))
    append(data, OBSERVATION_QUARANTINE, {**seen[0], "failed_constraints": ["unknown_unit"]})
    rule = {"rule_id": "heart-rate-high", "title": "Heart rate high", "pack": "adult@2", "priority": "medium"}
    state = {"state": "active", "sequence": 0, "category": "physiological", **rule}
    alerts = [{"alert_id": one["patient_id"], **one, **state} for one in places[::5]]
    append(data, ALERT_EVENT, *({**one, "observed_at": now, "emitted_at": now} for one in alerts))
    told = {"opened_at": now, "active_at": now, "changed_at": now, "escalations": 0}
    append(data, ALERT, *({**one, **told} for one in alerts))


def _script(name: str, root: str, now: "datetime") -> None:
    from importlib import import_module
    from pathlib import Path

    from alerting.bands import arms
    from dashboard.access import LOCAL
    from dashboard.app import rules
    from dashboard.clock import zone
    from dashboard.live import Gateway
    from lakehouse.datadir import DataDir

    data = DataDir(Path(root))
    given: dict[str, tuple[Any, ...]] = {
        "ward": (data, Gateway("http://127.0.0.1:1"), arms(rules())),
        "alerts": (data, None),
        **dict.fromkeys(("patient", "trends", "burden"), (data, rules())),
    }
    visitor = () if name in ("quality", "research") else (LOCAL,)
    import_module(f"dashboard.views.{name}").page(*given.get(name, (data,)), lambda: now, zone("UTC"), *visitor)


def measured(name: str, data: DataDir, now: datetime) -> tuple[float, float]:
    """Seconds of the first run of a page, and the median of five more."""
    from streamlit.testing.v1 import AppTest

    arguments = {"name": name, "root": str(data.root), "now": now}
    app = AppTest.from_function(_script, default_timeout=120, kwargs=arguments)
    took = []
    for _ in range(6):
        begun = time.monotonic()
        app.run()
        took.append(time.monotonic() - begun)
    if app.exception:
        raise RuntimeError(f"{name}: {app.exception[0].value}")
    return took[0], median(took[1:])


def main() -> int:
    """Print the figures beside the goals; 1 where one is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, default=1000)
    options = parser.parse_args()
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        data = DataDir(Path(folder))
        write(data, now, options.patients)
        # What is imported once a process is no page's own.
        measured("research", data, now)
        for name in PAGES:
            first, again = measured(name, data, now)
            missed += first > FIRST_S or again > AGAIN_S
            print(f"{name:<10} first {first:6.2f} s (goal {FIRST_S:g})   again {again:6.2f} s (goal {AGAIN_S:g})")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
