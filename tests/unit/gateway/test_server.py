import signal
import ssl
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from gateway.server import ListenError, address, check_exposure, listen, loopback_of, tls
from tests.fixtures.mqtt import write_certificate

_SERVE = """
import sys
from pathlib import Path
from fastapi import FastAPI
from gateway.server import address, listen, run, tls
app = FastAPI()
app.get("/healthz")(lambda: "ok")
listener = listen("127.0.0.1", 0)
served_with = tls(*map(Path, sys.argv[1:])) if sys.argv[1:] else None
run(app, listener, lambda: print(address(listener, served_with), flush=True), served_with)
print("after", flush=True)
"""


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::"])  # noqa: S104 - what is refused
def test_others_are_listened_to_only_when_they_are_asked_who_they_are_and_nobody_listens_in(host: str) -> None:
    check_exposure("127.0.0.1", authenticated=False, encrypted=False)
    check_exposure("::1", authenticated=False, encrypted=False)
    refused = []
    for authenticated, encrypted in ((False, False), (False, True), (True, False)):
        with pytest.raises(ListenError) as told:
            check_exposure(host, authenticated=authenticated, encrypted=encrypted)
        refused.append(str(told.value))
    assert [("--require-key" in text, "--tls-certificate" in text) for text in refused] == [
        (True, False),
        (True, False),
        (False, True),
    ]
    check_exposure(host, authenticated=True, encrypted=True)


def test_a_name_is_no_address_to_listen_on() -> None:
    with pytest.raises(ListenError, match=r"--host ward\.example is not an address"):
        listen("ward.example", 0)


def test_hl7_stays_on_loopback_whatever_else_is_listened_on() -> None:
    assert [loopback_of(host) for host in ("0.0.0.0", "::", "127.0.0.2")] == ["127.0.0.1", "::1", "127.0.0.2"]  # noqa: S104


def test_half_of_a_certificate_or_none_at_all_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ListenError, match="go together"):
        tls(tmp_path / "certificate.pem", None)
    with pytest.raises(ListenError, match="are not a certificate and its key"):
        tls(tmp_path / "certificate.pem", tmp_path / "key.pem")
    assert tls(None, None) is None


def test_a_taken_port_is_one_clear_line() -> None:
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(
            ListenError, match=rf"^cannot listen on 127\.0\.0\.1:{port}: Address already in use; choose"
        ):
            listen("127.0.0.1", port)


def test_the_address_is_a_url() -> None:
    with listen("localhost", 0) as listener:
        assert address(listener) == f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_and_its_caller_goes_on_to_clean_up(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", _SERVE], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        with urllib.request.urlopen(f"{url}/healthz", timeout=10) as answer:  # noqa: S310 - an http address of ours
            assert answer.read() == b'"ok"'
        process.send_signal(number)
        rest = process.stdout.read()

    assert (rest, process.returncode) == ("after\n", 0)


def test_with_a_certificate_it_is_https_alone_that_is_answered(tmp_path: Path) -> None:
    files = [tmp_path / "certificate.pem", tmp_path / "key.pem"]
    write_certificate(*files)
    with subprocess.Popen([sys.executable, "-c", _SERVE, *files], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        trusting = ssl.create_default_context(cafile=files[0])
        with urllib.request.urlopen(f"{url}/healthz", timeout=10, context=trusting) as answer:  # noqa: S310 - as above
            assert answer.read() == b'"ok"'
        with pytest.raises(OSError, match="certificate verify failed"):
            urllib.request.urlopen(f"{url}/healthz", timeout=10)  # noqa: S310 - as above
        with pytest.raises(OSError, match=r"reset|closed|disconnected"):
            urllib.request.urlopen(f"{url}/healthz".replace("https", "http"), timeout=10)  # noqa: S310 - as above
        process.send_signal(signal.SIGTERM)

    assert url.startswith("https://")
