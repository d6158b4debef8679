"""A round of risks beside the ward: what the features of every patient take, and what the model does.

    python -m bench risk [--patients 1000] [--hours 24] [--rounds 5] [--kind trees] [--live 10m]

Gold has a minute of six signals of each patient for so many hours, in a file an hour, as the stream and its joining
leave it. A round asks for all of them, as after a minute in which all were heard of. Medians of the rounds; the first,
which finds nothing in memory, stands by itself. With ``--live`` the whole stack runs for so long instead, a message a
second of each simulated patient, with `ward risk` beside it: what its rounds of all patients took.
"""

import argparse
import os
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

import deltalake  # noqa: TID253 - it writes what the stream would have
import numpy as np
import pyarrow as pa

from bench import bench_live
from lakehouse import progress
from lakehouse.datadir import DataDir
from lakehouse.models import scoring
from lakehouse.models.drift import reference
from lakehouse.models.evaluation import evaluate, out_of_fold
from lakehouse.models.features import COLUMNS
from lakehouse.models.gate import Gate
from lakehouse.models.outcome import DEATH
from lakehouse.models.recipe import LEARNERS, Kind, Recipe
from lakehouse.models.registry import connect
from lakehouse.models.risk import RiskModel, fit
from lakehouse.models.serving import Role, Served
from lakehouse.tables import PATIENT, SCORE_INPUT, VITAL_SIGN_MINUTE
from lakehouse.vocabulary import signal_by_name
from tests.fixtures.delta import arrow
from tests.fixtures.landmarks import QUICK, made_up

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
SIGNALS = ("heart_rate", "respiratory_rate", "spo2", "systolic_bp", "mean_bp", "temperature")
GOAL_S = 5.0


def fill(data: DataDir, patients: int, hours: int) -> None:
    """Write gold: every minute of every patient, hour by hour."""
    random = np.random.default_rng(1)
    ids, codes = [f"mrn/{number:06}" for number in range(patients)], [signal_by_name()[name].code for name in SIGNALS]
    rows = patients * len(codes)
    for table in (SCORE_INPUT, PATIENT):
        deltalake.write_deltalake(str(data.table(table)), arrow(table))
    schema = arrow(VITAL_SIGN_MINUTE).schema
    for hour in range(hours):
        begin = NOW - timedelta(hours=hours - hour)
        mean = random.normal(80, 10, rows * 60)
        columns = {
            "patient_id": np.tile(np.repeat(ids, len(codes)), 60),
            "code": np.tile(codes, patients * 60),
            "minute": np.repeat([begin + timedelta(minutes=minute) for minute in range(60)], rows),
            "unit": np.full(rows * 60, "1"),
            "count": np.full(rows * 60, 60),
            "min": mean - 2,
            "mean": mean,
            "max": mean + 2,
            "first": mean,
            "last": mean + 1,
        }
        deltalake.write_deltalake(str(data.table(VITAL_SIGN_MINUTE)), pa.table(columns).cast(schema), mode="append")


def model(kind: Kind) -> RiskModel:
    """One of the usual size, fitted to what is drawn by chance."""
    random = np.random.default_rng(2)
    x = random.normal(size=(2000, len(COLUMNS)))
    patients = np.array([str(row % 200) for row in range(2000)])
    return fit(x, x[:, 0] + random.normal(size=2000) > 2, patients, Recipe(LEARNERS[kind]), 1)


def live(patients: int, duration: str, kind: Kind) -> None:
    """Print what rounds take beside a running stack."""
    with tempfile.TemporaryDirectory() as folder:
        data = DataDir(Path(folder) / "ward")
        _put_in_service(data, kind)
        bench_live.run(patients, patients, duration, Path(folder), "--risk")
        rounds = [one for one in progress.read(data.progress("risk_score")) if one["rows"] >= patients]
    if not rounds:
        raise SystemExit(f"no round had all {patients} patients: give it more time than {duration}")
    took = [one["duration_ms"] / 1000 for one in rounds]
    print(f"{patients:,} patients beside the whole stack, {os.cpu_count()} cores: {len(took)} rounds of all of them")
    print(f"a round: median {median(took):.2f} s, longest {max(took):.2f} s (goal {GOAL_S:g} s)")


def _put_in_service(data: DataDir, kind: Kind) -> None:
    rows, registry = made_up(), connect(data, None)
    good = replace(evaluate(rows, out_of_fold(rows, QUICK), QUICK), calibration_error=0.0)
    fitted = model(kind)
    then = reference(rows.x, fitted.risks(rows.x), rows.patients)
    registry.promote(registry.register(fitted, good, Recipe(LEARNERS[kind]), then, {}, None).version, Gate())


def main() -> None:
    """Print what a round takes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=1000)
    parser.add_argument("--hours", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kind", type=Kind, choices=list(Kind), default=Kind.TREES)
    parser.add_argument("--live", metavar="DURATION", help="beside the whole stack, for so long")
    options = parser.parse_args()
    if options.live:
        live(options.patients, options.live, options.kind)
        return
    served = Served(1, Role.IN_SERVICE, model(options.kind), DEATH)
    whole, asking, used = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        data = DataDir(Path(folder))
        fill(data, options.patients, options.hours)
        for _ in range(options.rounds + 1):
            began, before = time.perf_counter(), time.process_time()
            rows = scoring.beside_the_ward(data, [served], {1: {}}, NOW)
            whole.append(time.perf_counter() - began)
            used.append(time.process_time() - before)
            if len(rows) != options.patients:
                raise SystemExit(f"{len(rows)} of {options.patients} patients were scored")
            began = time.perf_counter()
            served.model.explained(np.random.default_rng(3).normal(size=(options.patients, len(COLUMNS))))
            asking.append(time.perf_counter() - began)
    print(f"{options.patients:,} patients, {options.hours} hours of {len(SIGNALS)} signals, {os.cpu_count()} cores")
    print(f"a round: {median(whole[1:]):.2f} s, the first {whole[0]:.2f} s (goal {GOAL_S:g} s)")
    print(f"  of it the model and its reasons: {median(asking[1:]):.2f} s; processor time: {median(used[1:]):.2f} s")


if __name__ == "__main__":
    main()
