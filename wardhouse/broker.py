"""The embedded broker: one real Kafka node (KRaft, broker and controller in one) out of the resolved jars.

It is made for one machine: no replicas, no encryption, a listener on the loopback address. Everything it keeps is
under ``<data dir>/kafka``. KAFKA_BOOTSTRAP_SERVERS points anywhere else instead.
"""

import base64
import contextlib
import errno
import json
import os
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from lakehouse import kafka_access
from lakehouse.datadir import DataDir
from lakehouse.topics import MAX_RECORD_BYTES
from wardhouse.bootstrap import SetupError, find_java
from wardhouse.component import component, find_process, process_start, read_state
from wardhouse.errors import Failure
from wardhouse.settings import DEFAULT_BROKER_PORT, Settings
from wardhouse.topics import administration

LOOPBACK = "127.0.0.1"
START_TIMEOUT_S = 90.0
"""A broker is up in 2-4 s; a full 90 s is for a machine whose cores are all busy, or a log to recover after a kill."""
STOP_TIMEOUT_S = 20.0
_PROBE_BYTES = 1024 * 1024

_JVM = (
    "-Xms256m",
    "-Xmx512m",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    # A broker out of memory is of no use to anyone: it ends, and whoever watches it starts it again.
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
    "-Dlog4j2.configurationFile=log4j2.xml",
)

_LOG4J = """<?xml version="1.0" encoding="UTF-8"?>
<!-- Without log4j's own shutdown hook, the last lines of a stopping broker are written too. -->
<Configuration status="WARN" shutdownHook="disable">
  <Appenders>
    <RollingFile name="file" fileName="../logs/broker.log" filePattern="../logs/broker.log.%i">
      <PatternLayout pattern="%d{ISO8601}{UTC}Z %-5p %c{1}: %m%n"/>
      <SizeBasedTriggeringPolicy size="10 MB"/>
      <DefaultRolloverStrategy max="3"/>
    </RollingFile>
  </Appenders>
  <Loggers>
    <Root level="WARN"><AppenderRef ref="file"/></Root>
    <Logger name="kafka.server.KafkaRaftServer" level="INFO"/>
    <Logger name="org.apache.kafka.storage.internals.log.LogManager" level="INFO"/>
  </Loggers>
</Configuration>
"""

# Paths are relative to the folder that the broker runs in, so that no character of a path needs escaping.
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{loopback}:{controller_port}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{loopback}:{controller_port}
advertised.listeners=PLAINTEXT://{advertised_host}:{port}
log.dirs=log

# One node holds everything there is.
default.replication.factor=1
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1

# Topics are declared; a misspelt name must be an error, not a new topic.
auto.create.topics.enable=false
message.max.bytes={max_record_bytes}

# Few groups and producers: 50 partitions of book-keeping each would be 100 folders for nothing.
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
share.coordinator.state.topic.num.partitions=2
# A consumer that starts alone need not wait for others.
group.initial.rebalance.delay.ms=0

# Two cores serve everything here, and the cleaner's default buffer of 128 MiB is a quarter of the heap.
num.network.threads=2
num.io.threads=4
background.threads=2
log.cleaner.dedupe.buffer.size=16777216

# Retention frees whole segments only: smaller ones let go of the disk sooner. Flushing is the system's, as Kafka
# advises: a record survives the death of every process here, not a power cut within the seconds before it.
log.segment.bytes=134217728

# After a kill the node waits this long for itself: its own session of before has to end. A suspended machine is without
# leaders for a moment when it wakes, and its clients ask again.
broker.session.timeout.ms=9000
"""


class Broker:
    """One embedded broker, as a context manager: running inside the block, stopped after it.

    ``port`` 0 takes a free one. Raises Failure where it cannot start; the text says what to do.
    """

    def __init__(
        self,
        data: DataDir,
        jars: Path,
        *,
        port: int = 0,
        host: str = LOOPBACK,
        advertised_host: str | None = None,
    ) -> None:
        self._data = data
        self._jars = jars
        self._port = port
        self._host = host
        self._advertised_host = advertised_host or (LOOPBACK if host == "0.0.0.0" else host)  # noqa: S104 - compared only
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """What clients take as bootstrap servers."""
        return f"{self._advertised_host}:{self._port}"

    def start(self) -> str:
        """Start, wait until clients are served, and return the address."""
        if (protocol := kafka_access.of_process().protocol) != kafka_access.PROTOCOLS[0]:
            raise Failure(
                f"KAFKA_SECURITY_PROTOCOL is {protocol}, and the embedded broker knows neither TLS nor users:"
                " unset it, or name brokers of your own with KAFKA_BOOTSTRAP_SERVERS"
            )
        java, classpath = _java(), _classpath(self._jars)
        _check_writable(self._data.kafka)
        _check_writable(self._data.logs)
        _stop_leftover(self._pid_file)
        self._port = self._port or free_port()
        _check_port_free(self._host, self._port)
        self._write_settings()
        self._format(java, classpath)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [java, *_JVM, "-cp", classpath, "kafka.Kafka", "server.properties"],
                cwd=self._data.kafka,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        _note_process(self._pid_file, self._process.pid)
        try:
            self._wait_until_served(time.monotonic() + START_TIMEOUT_S)
        except BaseException:
            self.stop()
            raise
        return self.address

    def stop(self) -> None:
        """Stop, letting the broker close its logs; one that takes over 20 s is killed and recovers when it starts."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._pid_file.unlink(missing_ok=True)

    def wait(self, stop: threading.Event) -> None:
        """Block until ``stop`` is set. Raises Failure when the broker ends by itself before."""
        while not stop.wait(0.2):
            self._check_running("ended by itself")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def _log(self) -> Path:
        return self._data.logs / "broker.log"

    @property
    def _pid_file(self) -> Path:
        return self._data.kafka / "process.json"

    def _write_settings(self) -> None:
        properties = _PROPERTIES.format(
            loopback=LOOPBACK,
            # Nobody has the broker's own yet, so the system may name it again.
            controller_port=next(port for port in iter(free_port, 0) if port != self._port),
            host=self._host,
            port=self._port,
            advertised_host=self._advertised_host,
            max_record_bytes=MAX_RECORD_BYTES,
        )
        (self._data.kafka / "server.properties").write_text(properties, encoding="utf-8")
        (self._data.kafka / "log4j2.xml").write_text(_LOG4J, encoding="utf-8")

    def _format(self, java: str, classpath: str) -> None:
        if (self._data.kafka / "log" / "meta.properties").exists():
            return
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        # With a blank between them, an id that begins with "-" (one in 64) would be taken for an option.
        tool = ["kafka.tools.StorageTool", "format", "--ignore-formatted", f"--cluster-id={cluster}"]
        tool += ["--config", "server.properties"]
        done = subprocess.run(
            [java, "-Xmx128m", "-Dlog4j2.configurationFile=log4j2.xml", "-cp", classpath, *tool],
            cwd=self._data.kafka,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        if done.returncode != 0:
            said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
            # What is indented is a stack trace; before it stands what went wrong, and last why.
            reason = [line for line in said if not line.startswith("\t")]
            raise Failure(f"cannot format {self._data.kafka / 'log'}: {reason[-1] if reason else done.returncode}")

    def _wait_until_served(self, deadline: float) -> None:
        host = LOOPBACK if self._host == "0.0.0.0" else self._host  # noqa: S104 - compared only
        while time.monotonic() < deadline:
            self._check_running("did not start")
            with contextlib.suppress(OSError), socket.create_connection((host, self._port), timeout=1):
                break
            time.sleep(0.05)
        # The listener opens before the node has registered with its own controller.
        while time.monotonic() < deadline:
            self._check_running("did not start")
            with contextlib.suppress(Failure), administration(f"{host}:{self._port}", timeout_s=5) as client:
                if client.describe_cluster()["brokers"]:
                    return
            time.sleep(0.05)
        raise Failure(f"the broker did not serve within {START_TIMEOUT_S:g} s: see {self._log}")

    def _check_running(self, what: str) -> None:
        if self._process is not None and (code := self._process.poll()) is not None:
            raise Failure(f"the broker {what} (exit code {code}): {_last_line(self._log)} (see {self._log})")


def serve(
    settings: Settings,
    data: DataDir,
    stop: threading.Event,
    *,
    port: int = DEFAULT_BROKER_PORT,
    host: str = LOOPBACK,
    advertised_host: str | None = None,
    on_ready: Callable[[str], None],
) -> None:
    """Run the broker as the component of this data dir until ``stop`` is set. Raises Failure."""
    broker = Broker(data, settings.jars.resolve(), port=port, host=host, advertised_host=advertised_host)
    # The name is taken before the broker starts: of two starts at once, one is refused before it touches anything.
    with component(data, "broker") as running, broker:
        running.ready(broker.address)
        on_ready(broker.address)
        broker.wait(stop)


def bootstrap_servers(settings: Settings, data: DataDir) -> str:
    """KAFKA_BOOTSTRAP_SERVERS, else the address of this data dir's embedded broker, else the usual one."""
    if settings.kafka_bootstrap_servers:
        return settings.kafka_bootstrap_servers
    running = read_state(data, "broker")
    return running.address if running and running.address else f"{LOOPBACK}:{DEFAULT_BROKER_PORT}"


def _java() -> str:
    try:
        return find_java().path
    except SetupError as error:
        raise Failure(str(error)) from error


def _classpath(jars: Path) -> str:
    if not any((jars / "kafka").glob("kafka_*.jar")):
        raise Failure(f"no Kafka jars in {jars / 'kafka'}: run 'make setup', or name their folder with WARD_JARS")
    return str(jars / "kafka" / "*")


def _check_writable(folder: Path) -> None:
    """Write a little and take it away again: a read-only folder and a full disk are told before anything starts."""
    probe = folder / f".probe.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            probe.write_bytes(bytes(_PROBE_BYTES))
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        mend = "free some space" if error.errno == errno.ENOSPC else "choose another with --data-dir"
        raise Failure(f"cannot write {folder}: {error.strerror}; {mend}") from error


def _check_port_free(host: str, port: int) -> None:
    with socket.socket() as probe:
        # As the broker itself: connections of an earlier one that still linger do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise Failure(
                    f"port {port} of {host} is taken: choose another with --port (ward up: --broker-port),"
                    f" or, if a Kafka broker has it, use that one with KAFKA_BOOTSTRAP_SERVERS={host}:{port}"
                ) from error
            raise Failure(f"cannot listen on {host}:{port}: {error.strerror}") from error


def free_port(usual: int = 0) -> int:
    """A port of the loopback address that nobody has just now: the usual one, if nobody has that."""
    with socket.socket() as probe:
        # As a server asks for it: what a server before it left in TIME_WAIT does not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, usual))
        except OSError:
            probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _note_process(path: Path, broker: int) -> None:
    """Note the broker and who started it, so that a later start can tell a broker in use from one left behind."""
    path.write_text(json.dumps([[pid, process_start(pid)] for pid in (broker, os.getpid())]), encoding="utf-8")


def _stop_leftover(path: Path) -> None:
    """Stop the broker of a ``ward broker`` that was killed and could not do so itself; it holds port and files."""
    try:
        (pid, started_at), owner = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return
    process = find_process(pid, started_at)
    if process is None:
        return
    if find_process(*owner) is not None:
        raise Failure(f"a broker (process {pid}) already runs on {path.parent}: stop it, or use another --data-dir")
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except psutil.TimeoutExpired:
        process.kill()
        process.wait()


def _last_line(path: Path) -> str:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "no log"
    errors = [line for line in lines[-200:] if " ERROR " in line or " FATAL " in line or "Exception" in line]
    return (errors or lines or ["no log"])[-1].strip()
