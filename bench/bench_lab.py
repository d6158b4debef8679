"""The what-if lab: how long a thousand patient-days take, and what the default pack saves beside plain thresholds.

    python -m bench lab [--patients 1000] [--days 1] [--cadence 60] [--stream-hours 6]

The first figure has one message of six signals a minute and patient, as gold has. The second is the simulator's stream
of one a second, with labelled episodes, and with and without the harmless transients that real monitors alarm for.
"""

import argparse
import json
import os
import time
from datetime import UTC, datetime
from typing import Any

from alerting.lab import fewer, plain, summary
from alerting.pack import load
from streaming.simulator.regenerate import Run
from streaming.simulator.simulation import Options
from wardhouse.lab import Truth, run

START = datetime(2026, 1, 1, tzinfo=UTC)
ANSWER_S = 60.0


def history(patients: int, cadence: float, hours: float, transients: float) -> Truth:
    """A run of the simulator, without Kafka."""
    options = Options(START, patients, cadence, episodes_per_hour=0.5, transients_per_hour=transients)
    return Truth(Run(options, duration=hours * 3600))


def speed(patients: int, days: float, cadence: float) -> dict[str, Any]:
    """The default pack over many patients, in a process for each core."""
    began = time.monotonic()
    done = run(history(patients, cadence, days * 24, 0), load("adult"), acknowledged_after_s=ANSWER_S)
    took = time.monotonic() - began
    return {
        "patient_days": round(summary(done).bed_days, 1),
        "evaluations": done.evaluations,
        "seconds": round(took, 1),
        "evaluations_per_s": round(done.evaluations / took),
    }


def saving(hours: float, transients: float) -> dict[str, Any]:
    """The default pack beside plain thresholds on a stream of one message a second."""
    past, adult = history(30, 1.0, hours, transients), load("adult")
    new, old = (run(past, pack, acknowledged_after_s=ANSWER_S) for pack in (adult, plain(adult)))
    named = {"adult": summary(new), "plain": summary(old)}
    figures = {
        name: {
            "alerts_per_bed_day": one.alerts_per_bed_day,
            "notifications_per_bed_day": one.notifications_per_bed_day,
            "sensitivity": one.sensitivity,
            "told_of": one.told_of,
            "ppv": one.ppv,
            "delay_s_p50": one.delay_s_p50,
        }
        for name, one in named.items()
    }
    return {"transients_per_hour": transients, **figures, "fewer_notifications": fewer(new, old)}


def main() -> None:
    """Run all and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=1000)
    parser.add_argument("--days", type=float, default=1)
    parser.add_argument("--cadence", type=float, default=60)
    parser.add_argument("--stream-hours", type=float, default=6)
    options = parser.parse_args()
    figures = {
        "speed": speed(options.patients, options.days, options.cadence),
        "saving": [saving(options.stream_hours, transients) for transients in (6.0, 0.0)],
        "load_average": os.getloadavg()[0],
    }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
