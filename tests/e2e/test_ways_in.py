"""From each way in to the tables and to the page Ward, through the whole stack as ``make up`` starts it."""

import os
import signal
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from lakehouse import reader
from lakehouse.datadir import DataDir
from tests.fixtures.browser import Browser
from tests.fixtures.stack import LONGEST_S, Up, ready, wait_until
from tests.fixtures.vitals import heart_rate, message
from tests.integration.test_ways_in import FHIR, ask, free_port, msa
from wardhouse.component import read_state

SHOWN_S = 120.0
"""The page has a patient two seconds after the first message; the rest is for a machine that is busy."""

_LANDED = "SELECT DISTINCT patient_id, value FROM silver.observation WHERE source <> 'simulator' ORDER BY patient_id"
_PATIENTS = "SELECT patient_id, gender FROM silver.patient WHERE patient_id NOT LIKE 'sim/%'"


def bundle(at: datetime) -> dict[str, Any]:
    """A patient and a temperature of 101.3 degrees Fahrenheit."""
    name = "urn:uuid:5e0c7b7c-0a36-4b6e-9a55-0d6a3f4f7c11"
    patient = {"resourceType": "Patient", "identifier": [{"value": "B-1"}], "gender": "female"}
    temperature = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "8310-5"}]},
        "subject": {"reference": name},
        "effectiveDateTime": at.isoformat(),
        "valueQuantity": {"value": 101.3, "system": "http://unitsofmeasure.org", "code": "[degF]"},
    }
    entries = [
        {"fullUrl": name, "resource": patient, "request": {"method": "POST", "url": "Patient"}},
        {"resource": temperature, "request": {"method": "POST", "url": "Observation"}},
    ]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def oru(at: datetime) -> bytes:
    """A heart rate of 119."""
    segments = (
        rf"MSH|^~\&|MON|ICU|WARD|HOSP|{at:%Y%m%d%H%M%S}+0000||ORU^R01|C-1|P|2.6",
        "PID|||H-1^^^HOSP^MR",
        "PV1|1|I|ICU^^8",
        f"OBR|1||f-1|x|||{at:%Y%m%d%H%M%S}",
        "OBX|1|NM|8867-4^^LN||119|bpm|||||F",
    )
    return "\r".join(segments).encode()


def test_a_bundle_an_hl7_message_and_a_post_reach_silver_and_the_ward(
    up: Up, browser: Browser, data: DataDir, tmp_path: Path
) -> None:
    mllp = free_port()
    process = up("--gateway", "--dashboard", "--patients", "5", "--mllp-port", str(mllp))
    wait_until(ready(data, "simulator"), process)
    gateway, dashboard = read_state(data, "gateway"), read_state(data, "dashboard")
    assert gateway is not None
    assert dashboard is not None
    browser.open(dashboard.address or "")
    browser.wait_for("sim/1-00001", SHOWN_S)

    now = datetime.now(UTC).replace(microsecond=0)
    with httpx.Client(base_url=gateway.address or "", timeout=30) as client:
        posted = message(heart_rate(117), patient_id="mrn/P-1", observed_at=now.isoformat())
        answers = [client.post("/api/iot", json=posted), client.post("/fhir", json=bundle(now), headers=FHIR)]
    with socket.create_connection(("127.0.0.1", mllp), timeout=30) as connection:
        (answer,) = ask(connection, oru(now))
    assert ([one.status_code for one in answers], msa(answer)[1]) == ([202, 200], "AA")

    for patient_id in ("mrn/P-1", "fhir/B-1", "HOSP/H-1"):
        browser.wait_for(patient_id, SHOWN_S)
    browser.screenshot(Path(os.environ.get("WARD_TEST_OUTPUT", tmp_path)) / "ways-in.png")
    wait_until(lambda: len(reader.query(data, _LANDED)) == 3 and len(reader.query(data, _PATIENTS)) == 1, process)
    assert reader.query(data, _LANDED).to_pylist() == [
        {"patient_id": "HOSP/H-1", "value": 119.0},
        {"patient_id": "fhir/B-1", "value": 38.5},
        {"patient_id": "mrn/P-1", "value": 117.0},
    ]
    assert reader.query(data, _PATIENTS).to_pylist() == [{"patient_id": "fhir/B-1", "gender": "female"}]
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=LONGEST_S)
    assert process.returncode == 0, said
