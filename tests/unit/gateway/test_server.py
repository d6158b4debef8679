import signal
import subprocess
import sys
import urllib.request

import pytest

from gateway.server import ListenError, address, listen

_SERVE = """
from fastapi import FastAPI
from gateway.server import address, listen, run
app = FastAPI()
app.get("/healthz")(lambda: "ok")
listener = listen("127.0.0.1", 0)
run(app, listener, lambda: print(address(listener), flush=True))
print("after", flush=True)
"""


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "ward.example"])  # noqa: S104 - what is refused
def test_only_a_loopback_address_is_listened_on(host: str) -> None:
    with pytest.raises(ListenError):
        listen(host, 0)


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
