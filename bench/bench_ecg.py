"""Beats against MIT-BIH's reference, with and without noise, what a lead takes to keep, and patients one core bears.

    python -m bench ecg [--record /data/mitdb/100] [--seconds 20] [--patients 50]

Detection is scored by wfdb's own comparison within 150 ms. The load is simulated patients of two leads at 250 Hz,
chunks of a second as a topic would bring them, as fast as one process takes them, in ``seconds`` at most.
"""

import argparse
import os
import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import numpy as np

from lakehouse.ecg.beat_class import judged
from lakehouse.ecg.beats import Search, beats, search, stretches
from lakehouse.ecg.chunk import WaveformChunk, packed, unpacked
from lakehouse.ecg.message import decode, encode
from lakehouse.ecg.quality import Quality
from lakehouse.ecg.wfdb_reader import chunks
from streaming.simulator.ecg import LEADS, Ecg

START = datetime(2026, 3, 1, tzinfo=UTC)
WITHIN_SECONDS = 0.15
BEATS = frozenset("NLRBAaJSVrFejnE/fQ?")
"""Symbols of annotations that are beats; others are rhythms, noise and comments."""

RATE = 250.0
_HOUR = 3600
_RECORDED_SECONDS = 60
_NOISY_CHUNKS = 60


def detection(record: Path) -> None:
    """Print sensitivity and positive predictive value of each lead, and premature beats against their labels."""
    import wfdb
    from wfdb.processing import compare_annotations

    notes = wfdb.rdann(str(record), "atr")
    labels = {int(at): label for at, label in zip(notes.sample, notes.symbol, strict=True) if label in BEATS}
    annotated = np.array(sorted(labels))
    for signal, parts in groupby(chunks(record, "mit-bih/record", "holter", START), attrgetter("signal")):
        lead = list(parts)
        began = time.perf_counter()
        told = list(judged(beats(lead)))
        took = time.perf_counter() - began
        at = np.array([round((one.beat.at - START).total_seconds() * lead[0].rate) for one in told])
        compared = compare_annotations(annotated, at, round(WITHIN_SECONDS * lead[0].rate))
        print(
            f"lead {signal}: {len(labels)} beats, sensitivity {compared.sensitivity:.2%}, "
            f"PPV {compared.positive_predictivity:.2%}, {took:.1f} s"
        )
        nearest = annotated[np.abs(annotated[:, None] - at).argmin(axis=0)]
        pairs = Counter((labels[int(near)], one.premature) for near, one in zip(nearest, told, strict=True))
        judgements = ", ".join(f"{label} {said}: {n}" for (label, said), n in sorted(pairs.items(), key=str))
        print("  label, judged premature:", judgements)


def in_noise(record: Path) -> None:
    """Print what white noise on the first ten minutes of lead II costs, and how much of it is told as noise."""
    import wfdb
    from wfdb.processing import compare_annotations

    lead = [one for one in chunks(record, "mit-bih/record", "holter", START) if one.signal == "131330"][:_NOISY_CHUNKS]
    notes = wfdb.rdann(str(record), "atr", sampto=sum(len(one.samples) for one in lead))
    reference = np.array([at for at, label in zip(notes.sample, notes.symbol, strict=True) if label in BEATS])
    for millivolts in (0.2, 0.3, 0.5, 0.7, 1.0):
        draw = np.random.default_rng(1)
        noisy = [
            replace(
                one, samples=one.samples + np.round(draw.normal(0, one.gain * millivolts, len(one.samples))).astype(int)
            )
            for one in lead
        ]
        told = list(stretches(noisy))
        at = [round((beat.at - START).total_seconds() * lead[0].rate) for one in told for beat in one.beats]
        compared = compare_annotations(reference, np.array(at), round(WITHIN_SECONDS * lead[0].rate))
        called = sum(one.quality is Quality.NOISE for one in told)
        print(
            f"noise of {millivolts} mV: sensitivity {compared.sensitivity:.1%}, "
            f"PPV {compared.positive_predictivity:.1%}, {called} of {len(told)} stretches called noise"
        )


def space(name: str, lead: list[WaveformChunk], seconds: int) -> None:
    """Print what an hour of a lead takes, in chunks of ``seconds``, and that it comes out as it went in."""
    samples = np.concatenate([chunk.samples for chunk in lead])
    size = round(seconds * lead[0].rate)
    kept = 0
    for begin in range(0, len(samples), size):
        part = samples[begin : begin + size]
        content = packed(part)
        if not np.array_equal(unpacked(content, len(part)), part):
            raise SystemExit("the codec loses samples")
        kept += len(content)
    hours = len(samples) / lead[0].rate / _HOUR
    bits = 8 * kept / len(samples)
    print(f"{name}, chunks of {seconds} s: {kept / hours / 1000:.0f} kB an hour and lead, {bits:.2f} bits a sample")


def load(patients: int, seconds: float) -> None:
    """Print how many patients one core bears: messages of a second in, beats out."""
    per_patient = [_recorded(number) for number in range(patients)]
    states: dict[tuple[int, str], Search | None] = {}
    found = sent = 0
    began, used = time.perf_counter(), time.process_time()
    while time.perf_counter() - began < seconds and sent < _RECORDED_SECONDS:
        for number, messages in enumerate(per_patient):
            for content in messages[sent]:
                chunk = decode(content)
                states[number, chunk.signal], new = search(states.get((number, chunk.signal)), chunk)
                found += sum(len(stretch.beats) for stretch in new)
        sent += 1
    used = time.process_time() - used
    core = used / sent
    print(
        f"{patients} patients, {len(LEADS)} leads at {RATE:g} Hz: {sent} s in {used:.1f} s of CPU, {found} beats, "
        f"{core:.0%} of a core; one core bears {patients / core:.0f} patients"
    )


def _recorded(number: int) -> list[list[bytes]]:
    patient = Ecg(f"mrn/{number}", f"monitor/{number}", START, RATE, seed=number)
    return [
        [
            encode(chunk, f"{number}/{second}/{chunk.signal}", "simulator")
            for chunk in patient.read(1.0, 60 + number % 60)
        ]
        for second in range(_RECORDED_SECONDS)
    ]


def main() -> None:
    """Print all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = os.environ.get("WARD_SHARED_DATA")
    parser.add_argument("--record", type=Path, default=Path(shared) / "wfdb/100" if shared else None)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--patients", type=int, default=50)
    options = parser.parse_args()
    if options.record:
        detection(options.record)
        in_noise(options.record)
        lead = [one for one in chunks(options.record, "mit-bih/record", "holter", START) if one.signal == "131330"]
        for seconds in (1, 10, 60):
            space("record, lead II", lead, seconds)
    else:
        print("no record: name one by --record, or a folder of data sets by WARD_SHARED_DATA")
    patient = Ecg("mrn/1", "monitor/1", START, RATE, seed=1)
    space("simulated, 250 Hz", [patient.read(600.0, 75)[0]], 10)
    load(options.patients, options.seconds)


if __name__ == "__main__":
    main()
