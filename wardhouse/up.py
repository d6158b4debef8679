"""``ward up``: the whole stack on this machine, started in order, watched, shown, and stopped in order.

Order: broker, topics, the Spark applications together, the router, what else was asked for, and the simulator last, so
that nothing is sent before everything can take it. The other way round at the end.
"""

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Any, Self

import orjson

from alerting.terminal import line as alert_line
from lakehouse import kafka_access
from lakehouse.datadir import DataDir
from lakehouse.flow_status import FlowTail, Follower, flow_tails
from lakehouse.pipeline import ALERT_ROUTER
from lakehouse.progress import Record
from lakehouse.topics import ALERTS, declared
from wardhouse import report as reports
from wardhouse.broker import LOOPBACK, bootstrap_servers, free_port
from wardhouse.component import component, read_state
from wardhouse.errors import Failure
from wardhouse.processes import Interrupted, Program, Supervisor
from wardhouse.settings import DASHBOARD_PORT, DEFAULT_BROKER_PORT, GATEWAY_PORT, MLLP_PORT, Settings
from wardhouse.status import wait_until_landed
from wardhouse.terminal import ALERTS_SHOWN, Picture, View
from wardhouse.topics import Offsets, end_offsets, ensure

LANDING_TIMEOUT_S = 600.0
"""How long the end of a --duration run waits for the last message; a usual backlog is through long before."""
DELTA_NICE = 10
"""The lakehouse yields to the alert flow, the broker and the router: alerts stay quick while a batch is written."""
WAVEFORM_PATIENTS = 10
"""Who of the simulated patients sends an ECG too: their two leads take a tenth of a core to search."""
BROKER = ("broker",)
_SERVED = ("gateway", "dashboard", "airflow")
"""Components whose address a person wants to open."""
_TICK_S = 0.25
_MEASURE_S = 1.0
_SHOW_S = 0.5
_LATENCIES_KEPT = 2000


@dataclass(frozen=True)
class Options:
    """What to run. ``rate`` is messages a second of all patients together; None leaves it to the simulator."""

    duration_s: float | None = None
    patients: int | None = None
    rate: float | None = None
    faults: str | None = None
    simulator: bool = True
    realtime: bool = True
    """Real-time mode for alerts; otherwise micro-batches."""
    one_jvm: bool = False
    gateway: bool = False
    dashboard: bool = False
    airflow: bool = False
    risk: bool = False
    waveform: bool = False
    """Also the Spark application that lands waveforms."""
    channels: str | None = None
    """Channels file of the notifier, which runs where one is given."""
    sinks: str | None = None
    """Sinks file: which tables go to which databases."""
    port: int = DEFAULT_BROKER_PORT
    gateway_port: int = GATEWAY_PORT
    mllp_port: int = MLLP_PORT
    dashboard_port: int = DASHBOARD_PORT
    report: Path | None = None
    verify: bool = True


@dataclass(frozen=True)
class Outcome:
    """How a run ended: the report where one was asked for, and what went wrong."""

    report: dict[str, Any] | None
    problems: tuple[str, ...]


def broker_program(data: DataDir, port: int) -> Program:
    """The embedded broker."""
    return Program("broker", (*_ward("broker", data), "--port", str(port)), stop_s=30)


def stream_programs(
    data: DataDir, *, one_jvm: bool, realtime: bool = True, waveform: bool = False
) -> tuple[Program, ...]:
    """The Spark applications; they finish the batch they are in before they stop."""
    mode = () if realtime else ("--no-realtime",)
    beside = (_tables_program(data, "waveform"),) if waveform else ()
    if one_jvm:
        return (Program("stream", _ward("stream", data, *mode), stop_s=60), *beside)
    alerts = Program("stream-alerts", _ward("stream", data, "alerts", *mode), stop_s=30)
    return (alerts, _tables_program(data, "lakehouse"), *beside)


def _tables_program(data: DataDir, application: str) -> Program:
    return Program(f"stream-{application}", _ward("stream", data, application), nice=DELTA_NICE, stop_s=60)


def router_program(data: DataDir) -> Program:
    """The router; what it would print is shown by the view."""
    return Program("router", (*_ward("router", data), "--quiet"))


def extra_programs(data: DataDir, options: Options) -> tuple[Program, ...]:
    """What reads beside the pipeline."""
    # The dashboard may start before the gateway has said where it serves.
    live = ("--gateway", f"http://127.0.0.1:{options.gateway_port}") if options.gateway else ()
    ports = ("--port", str(options.gateway_port), "--mllp-port", str(options.mllp_port))
    wanted = (
        (options.gateway, Program("gateway", (*_ward("gateway", data), *ports))),
        (
            options.dashboard,
            Program("dashboard", (*_ward("dashboard", data), "--port", str(options.dashboard_port), *live)),
        ),
        (
            options.risk,
            Program("risk", (*_ward("risk", data), *_channels(options)), nice=DELTA_NICE, ready_s=120),
        ),
        (options.channels, Program("notify", (*_ward("notify", data), *_channels(options)))),
        (options.sinks, Program("sink", (*_ward("sink", data), "--config", str(options.sinks)), nice=DELTA_NICE)),
        (options.airflow, Program("airflow", _ward("airflow", data), nice=DELTA_NICE, ready_s=300, stop_s=60)),
    )
    return tuple(program for is_wanted, program in wanted if is_wanted)


def _channels(options: Options) -> tuple[str, ...]:
    return ("--channels", options.channels) if options.channels else ()


def simulator_program(data: DataDir, options: Options) -> Program:
    """The simulator; it waits for the broker's acknowledgements before it ends."""
    given = {"--patients": options.patients, "--rate": options.rate, "--faults": options.faults}
    if options.waveform:
        given["--waveform"] = min(WAVEFORM_PATIENTS, options.patients or WAVEFORM_PATIENTS)
    arguments = [text for name, value in given.items() if value is not None for text in (name, str(value))]
    return Program("simulator", (*_ward("simulate", data), *arguments), stop_s=30)


def run(options: Options, settings: Settings, data: DataDir, stop: Event, view: View) -> Outcome:
    """Run the stack until ``stop`` is set or the duration is over. Raises Failure when it cannot start or go on."""
    with component(data, "up") as running:
        _log_to(data.logs / "up.log")
        with view, Supervisor(data, view.say) as supervisor:
            stack = _Stack(options, settings, data, stop, view, supervisor)
            try:
                stack.launch()
                running.ready()
                stack.watch()
                return stack.finish()
            except Interrupted:
                return stack.finish()
            except Failure:
                stack.stop_all()
                raise


@contextlib.contextmanager
def running_stack(settings: Settings, data: DataDir, stop: Event | None = None) -> Iterator[None]:
    """The stack that runs on this data dir, or one started for the block: broker, streams and router.

    Raises Failure where it cannot start (also where ``stop`` is set before it serves), and at the end of the block
    where a component died for good meanwhile; the process then also gets a SIGTERM, which whatever waits inside takes
    as a stop.
    """
    if _is_running(data):
        yield
        return
    failures: list[Failure] = []
    groups: list[tuple[str, ...]] = []
    with component(data, "up") as running, Supervisor(data, _say) as supervisor:
        try:
            options = Options(simulator=False, port=free_port())
            _launch(supervisor, options, settings, data, stop or Event(), groups=groups)
            running.ready()
            with _watched(supervisor, failures):
                yield
        except Interrupted:
            raise Failure("stopped before the stack was ready") from None
        finally:
            for group in reversed(groups):
                supervisor.stop(*group)
    if failures:
        raise failures[0]


@contextlib.contextmanager
def _watched(supervisor: Supervisor, failures: list[Failure]) -> Iterator[None]:
    """Look after the components in a thread while the block runs; what cannot be mended goes into ``failures``."""
    done = Event()

    def watch() -> None:
        try:
            while not done.wait(_TICK_S):
                supervisor.check()
        except Failure as failure:
            failures.append(failure)
            os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=watch, name="supervisor")
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


class AlertTail:
    """Follows the topic of alerts from now on, in a thread of its own: the latest lines and latencies."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._stop = Event()
        self._thread = threading.Thread(target=self._run, name="alert-tail", daemon=True)
        self.events = 0
        self.lines: deque[str] = deque(maxlen=ALERTS_SHOWN)
        self._latencies: deque[int] = deque(maxlen=_LATENCIES_KEPT)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(timeout=5)

    def latency_ms(self) -> tuple[float, float] | None:
        """p50 and p99 of the latest alerts that a message caused."""
        found = reports.summary(list(self._latencies))
        p50, p99 = found["p50"], found["p99"]
        return None if p50 is None or p99 is None else (p50, p99)

    def _run(self) -> None:
        from kafka import KafkaConsumer
        from kafka.errors import KafkaError

        while not self._stop.is_set():
            try:
                consumer = KafkaConsumer(
                    self._topic,
                    **kafka_access.client(self._bootstrap),
                    auto_offset_reset="latest",
                    enable_auto_commit=False,
                )
            except KafkaError:
                self._stop.wait(1)
                continue
            try:
                while not self._stop.is_set():
                    for records in consumer.poll(timeout_ms=500).values():
                        for record in records:
                            self._take(record.value, record.timestamp)
            except KafkaError as error:
                logging.getLogger(__name__).warning("alerts: %s", error)
            finally:
                consumer.close()

    def _take(self, value: bytes | None, timestamp_ms: int) -> None:
        try:
            event = orjson.loads(value or b"")
            self.lines.append(alert_line(event))
            caused_at = event.get("message_received_at")
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return
        self.events += 1
        if caused_at is not None:
            self._latencies.append(timestamp_ms - caused_at)


@dataclass
class _Facts:
    """What the report needs to remember of a run."""

    started_at: datetime
    since: Offsets = field(default_factory=dict)
    sending_at: datetime | None = None
    stopped_at: datetime | None = None
    reference: reports.Use | None = None
    """Use of the machine when things had settled: what comes after it tells what the stack needs."""
    last: reports.Use | None = None
    landed: bool | None = None
    landing_s: float | None = None
    simulator: list[Record] = field(default_factory=list)
    flows: dict[str, list[Record]] = field(default_factory=dict)


class _Stack:
    """One run of ``ward up``."""

    def __init__(
        self, options: Options, settings: Settings, data: DataDir, stop: Event, view: View, supervisor: Supervisor
    ) -> None:
        self._options = options
        self._settings = settings
        self._data = data
        self._stop = stop
        self._view = view
        self._supervisor = supervisor
        self._begun = time.monotonic()
        self._facts = _Facts(datetime.now(UTC))
        self._groups: list[tuple[str, ...]] = []
        self._bootstrap: str | None = None
        self._deadline: float | None = None
        self._alerts: AlertTail | None = None
        self._phase = "starting"
        self._waiting_for: tuple[str, ...] = ()
        self._measured_at = self._shown_at = 0.0
        self._shown_phase = ""
        self._following = threading.Lock()
        self._is_warm = False
        self._simulator = Follower(data.progress("simulator"))
        self._flows: tuple[tuple[FlowTail, Follower], ...] = flow_tails(data)
        for follower in (self._simulator, *(follower for _, follower in self._flows)):
            follower.skip()

    def launch(self) -> None:
        """Start everything; each group serves before the next one starts."""
        with self._shown_meanwhile():
            _launch(
                self._supervisor,
                self._options,
                self._settings,
                self._data,
                self._stop,
                groups=self._groups,
                on_topics=self._on_topics,
            )
        for item in self._supervisor.conditions():
            if item.name in _SERVED:
                self._view.say(f"{item.name}: {item.address}")
        self._facts.sending_at = datetime.now(UTC)
        if self._options.duration_s is not None:
            self._deadline = time.monotonic() + self._options.duration_s
        self._phase = "running"

    def watch(self) -> None:
        """Until the stop or the deadline: look after the components, and show how things are."""
        while not self._stop.wait(_TICK_S):
            self._supervisor.check()
            self._show()
            if self._deadline is not None and time.monotonic() >= self._deadline:
                return

    def finish(self) -> Outcome:
        """Stop sending, let everything land where nobody is in a hurry, write the report, stop the rest."""
        interrupted = self._stop.is_set()
        self._phase, self._deadline = "stopping", None
        with self._shown_meanwhile():
            self._supervisor.measure()
            self._supervisor.stop("simulator")
            self._facts.stopped_at = datetime.now(UTC)
            self._facts.last = self._use(time.monotonic())
            problems: list[str] = []
            ledger = None
            if not interrupted:
                problems += self._land()
            until = self._offsets()
            for group in reversed(self._groups):
                if group != BROKER:
                    self._supervisor.stop(*group)
            if self._options.report and self._options.verify and not self._stop.is_set():
                ledger = self._prove(problems)
            document = self._report(until, ledger, interrupted) if self._options.report and self._bootstrap else None
            self._phase = "stopping"
            self.stop_all()
        self._phase = "stopped"
        self._show()
        return Outcome(document, tuple(problems))

    def stop_all(self) -> None:
        """Stop whatever runs, the last started first."""
        if self._alerts is not None:
            self._alerts.__exit__(None, None, None)
            self._alerts = None
        for group in reversed(self._groups):
            self._supervisor.stop(*group)

    def _on_topics(self, bootstrap: str) -> None:
        """Kafka serves and the topics are there: what comes from now on is of this run."""
        self._bootstrap = bootstrap
        self._facts.since = end_offsets(bootstrap, self._settings.topics().values())
        self._alerts = AlertTail(bootstrap, self._settings.topic(ALERTS)).__enter__()

    def _land(self) -> list[str]:
        self._phase = "landing the last messages"
        begun = time.monotonic()
        self._facts.landed = wait_until_landed(
            _at(self._settings, self._bootstrap),
            self._data,
            LANDING_TIMEOUT_S,
            stop=self._stop,
            tell=self._landing,
        )
        self._facts.landing_s = round(time.monotonic() - begun, 1)
        self._waiting_for = ()
        if self._facts.landed or self._stop.is_set():
            return []
        return [f"not everything landed within {LANDING_TIMEOUT_S:g} s of the last message; see {self._data.logs}"]

    def _landing(self, remaining: Mapping[str, int]) -> None:
        # The wait must see a component that dies in it: what is missing cannot land without it.
        self._supervisor.check()
        self._waiting_for = tuple(f"{flow} {count:,}" for flow, count in remaining.items())

    def _prove(self, problems: list[str]) -> dict[str, Any] | None:
        self._phase = "proving that nothing is lost or counted twice"
        path = self._data.run / "ledger.out"
        path.unlink(missing_ok=True)
        program = Program("verify", (*_ward("verify", self._data), "--report", str(path)))
        environment = {"KAFKA_BOOTSTRAP_SERVERS": self._bootstrap or ""}
        try:
            code = self._supervisor.run(_with_environment(program, environment), self._stop)
        except Interrupted:
            return None
        if code:
            problems.append(f"ward verify found something: see {self._supervisor.log('verify')}")
        try:
            found: dict[str, Any] = orjson.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        return found

    def _report(self, until: Offsets, ledger: dict[str, Any] | None, interrupted: bool) -> dict[str, Any]:
        self._phase = "writing the report"
        self._follow()
        facts, bootstrap = self._facts, self._bootstrap
        assert bootstrap is not None  # noqa: S101 - callers have looked
        assert facts.stopped_at is not None  # noqa: S101 - set before
        finished = reports.Run(
            started_at=facts.started_at,
            sending_at=facts.sending_at,
            stopped_at=facts.stopped_at,
            interrupted=interrupted,
            landed=facts.landed,
            landing_s=facts.landing_s,
            since=facts.since,
            until=until,
            topics=self._settings.topics(),
            simulator=facts.simulator,
            flows=facts.flows,
            cpu_s=self._supervisor.cpu_seconds(),
            settled=facts.reference,
            last=facts.last,
            peak_rss_mb=self._supervisor.peak_rss_mb,
            restarts={item.name: item.restarts for item in self._supervisor.conditions()},
            ledger=ledger,
            settings={name: value for name, value in asdict(self._options).items() if name != "report"},
        )
        return reports.build(finished, self._data, bootstrap)

    def _offsets(self) -> Offsets:
        if self._bootstrap is None:
            return {}
        try:
            return end_offsets(self._bootstrap, self._settings.topics().values())
        except Failure as failure:
            self._view.say(str(failure))
            return {}

    def _follow(self) -> None:
        # The view's thread comes here as well, and a line must be taken once.
        with self._following:
            self._facts.simulator += self._simulator.poll()
            for tail, follower in self._flows:
                lines = list(follower.poll())
                tail.add(lines)
                self._facts.flows.setdefault(tail.flow.name, []).extend(lines)

    def _use(self, now: float) -> reports.Use:
        with self._following:
            sent = reports.messages_sent(self._facts.simulator)
        return reports.Use(now, self._supervisor.cpu_seconds(), sent)

    def _take_reference(self, now: float) -> None:
        """Once when sending begins, and once more, for good, when the warm-up is over."""
        if self._facts.sending_at is None or self._phase != "running":
            return
        warm = datetime.now(UTC) - self._facts.sending_at >= reports.WARM_UP
        if self._facts.reference is None or (warm and not self._is_warm):
            self._facts.reference, self._is_warm = self._use(now), warm

    def _show(self) -> None:
        now = time.monotonic()
        if now - self._shown_at < _SHOW_S and self._phase == self._shown_phase:
            return
        self._shown_at, self._shown_phase = now, self._phase
        if now - self._measured_at >= _MEASURE_S:
            self._measured_at = now
            self._supervisor.measure()
            self._follow()
            self._take_reference(now)
        self._view.show(self._picture(now))

    def _picture(self, now: float) -> Picture:
        sender = self._facts.simulator[-1] if self._facts.simulator else None
        routed = self._facts.flows.get(ALERT_ROUTER.name)
        router = routed[-1] if routed else None
        instant = datetime.now(UTC)
        tail = self._alerts
        return Picture(
            phase=self._phase,
            elapsed_s=now - self._begun,
            remaining_s=self._deadline - now if self._deadline is not None else None,
            data_dir=self._data.root,
            bootstrap=self._bootstrap,
            conditions=self._supervisor.conditions(),
            flows=tuple(item.status(instant) for item, _ in self._flows),
            sent=sender["acknowledged"] if sender else None,
            send_rate=sender["rate"] if sender else None,
            open_alerts=router["open"] if router else None,
            events=tail.events if tail else 0,
            latency_ms=tail.latency_ms() if tail else None,
            alerts=tuple(tail.lines) if tail else (),
            waiting_for=self._waiting_for,
        )

    @contextlib.contextmanager
    def _shown_meanwhile(self) -> Iterator[None]:
        """Keep showing while the block waits for something."""
        done = Event()

        def show() -> None:
            while not done.wait(_TICK_S):
                self._show()

        thread = threading.Thread(target=show, name="view")
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def _launch(
    supervisor: Supervisor,
    options: Options,
    settings: Settings,
    data: DataDir,
    stop: Event,
    *,
    groups: list[tuple[str, ...]],
    on_topics: Callable[[str], None] = lambda _: None,
) -> None:
    """Start everything that is asked for, group by group, each when the one before serves.

    The names go into ``groups`` before the group starts, so that a launch that fails can be taken back in order.
    """
    if settings.kafka_bootstrap_servers is None and read_state(data, "broker") is None:
        port = options.port or free_port()
        groups.append(BROKER)
        supervisor.start(broker_program(data, port))
        supervisor.wait_ready(stop)
    bootstrap = bootstrap_servers(settings, data)
    ensure(bootstrap, declared(settings.partitions), settings.topics())
    on_topics(bootstrap)
    environment = {"KAFKA_BOOTSTRAP_SERVERS": bootstrap}
    streams = stream_programs(data, one_jvm=options.one_jvm, realtime=options.realtime, waveform=options.waveform)
    readers = (router_program(data), *extra_programs(data, options))
    senders = (simulator_program(data, options),) if options.simulator else ()
    for programs in (streams, readers, senders):
        groups.append(tuple(program.name for program in programs))
        supervisor.start(*(_with_environment(program, environment) for program in programs))
        supervisor.wait_ready(stop)


def _with_environment(program: Program, environment: Mapping[str, str]) -> Program:
    return Program(
        program.name,
        program.command,
        program.nice,
        program.ready_s,
        program.stop_s,
        {**program.environment, **environment},
    )


def _ward(command: str, data: DataDir, *arguments: str) -> tuple[str, ...]:
    """A ``ward`` command by the interpreter that runs this one."""
    return (
        sys.executable,
        str(Path(sys.executable).parent / "ward"),
        command,
        *arguments,
        "--data-dir",
        str(data.root),
    )


def _is_running(data: DataDir) -> bool:
    def serves(name: str) -> bool:
        state = read_state(data, name)
        return state is not None and state.state == "ready"

    return serves("router") and (serves("stream") or (serves("stream-alerts") and serves("stream-lakehouse")))


def _at(settings: Settings, bootstrap: str | None) -> Settings:
    return settings.model_copy(update={"kafka_bootstrap_servers": bootstrap or f"{LOOPBACK}:{DEFAULT_BROKER_PORT}"})


def _log_to(path: Path) -> None:
    """What libraries log goes to a file: the terminal is the view's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(
        filename=path, level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )


def _say(text: str) -> None:
    sys.stderr.write(f"ward: {text}\n")
