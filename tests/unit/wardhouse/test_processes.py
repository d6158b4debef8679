import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread

import psutil
import pytest

from lakehouse.datadir import DataDir
from wardhouse import processes
from wardhouse.component import SUPERVISOR_VARIABLE, component, read_state, states
from wardhouse.errors import Failure
from wardhouse.processes import GaveUp, Interrupted, Program, RestartPolicy, Supervisor, last_lines, restart_delay

SERVES = """
    import signal, sys
    from pathlib import Path
    from lakehouse.datadir import DataDir
    from wardhouse.component import component
    with component(DataDir(Path(sys.argv[1])), sys.argv[2], "here:1") as running:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        running.ready()
        print("serving", flush=True)
        signal.pause()
"""
DEAF = """
    import signal, subprocess, sys
    from pathlib import Path
    from lakehouse.datadir import DataDir
    from wardhouse.component import component
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # One child in the group, one that leaves it.
    subprocess.Popen(["sleep", "600"])
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    with component(DataDir(Path(sys.argv[1])), sys.argv[2]) as running:
        running.ready()
        signal.pause()
"""
FAILS = """
    import sys
    print("something went wrong", file=sys.stderr)
    print("ward: port 1 is taken: choose another", file=sys.stderr)
    print("    or end what has it", file=sys.stderr)
    for _ in range(40):
        print("\\tat java.lang.Thread.run(Thread.java:840)", file=sys.stderr)
    sys.exit(1)
"""
CRASHES = """
    print("line one")
    raise SystemExit(3)
"""


class Clock:
    """Stands still, or goes on by ``step`` seconds each time it is read."""

    def __init__(self, step: float = 0) -> None:
        self.now = 1000.0
        self.step = step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def supervisor(data: DataDir, told: list[str], clock: Clock) -> Iterator[Supervisor]:
    with Supervisor(data, told.append, clock=clock) as made:
        yield made


@pytest.fixture
def program(data: DataDir, tmp_path: Path) -> Callable[..., Program]:
    """Call it with a name and a script to have that program."""

    def make(name: str, script: str, **options: float) -> Program:
        path = tmp_path / f"{name}.py"
        path.write_text(textwrap.dedent(script))
        return Program(
            name,
            (sys.executable, str(path), str(data.root), name),
            environment={"PYTHONPATH": str(Path.cwd())},
            **options,  # type: ignore[arg-type]
        )

    return make


def process_of(data: DataDir, name: str) -> psutil.Process:
    state = read_state(data, name)
    assert state is not None
    return psutil.Process(state.pid)


def kill(process: psutil.Process) -> None:
    """Kill and wait, leaving it for its parent to collect."""
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


def test_restarts_wait_longer_each_time_up_to_half_a_minute() -> None:
    policy = RestartPolicy(most=9)
    assert [restart_delay([0.0] * count, policy) for count in range(1, 8)] == [1, 2, 4, 8, 16, 30, 30]


def test_a_sixth_death_within_ten_minutes_is_one_too_many() -> None:
    policy = RestartPolicy()
    assert restart_delay([0, 100, 200, 300, 400], policy) == 16
    assert restart_delay([0, 100, 200, 300, 400, 500], policy) is None


def test_deaths_of_long_ago_are_forgotten() -> None:
    assert restart_delay([0, 1, 2, 3, 4, 1000], RestartPolicy()) == 1


def test_a_component_is_ready_when_it_says_so(
    supervisor: Supervisor, program: Callable[..., Program], data: DataDir
) -> None:
    supervisor.start(program("web", SERVES))
    assert [item.state for item in supervisor.conditions()] == ["starting"]
    supervisor.wait_ready(Event())
    supervisor.measure()
    (condition,) = supervisor.conditions()
    assert (condition.state, condition.pid, condition.address, condition.restarts) == (
        "ready",
        process_of(data, "web").pid,
        "here:1",
        0,
    )
    assert condition.rss_mb > 1
    assert condition.cpu_s > 0
    assert sum(supervisor.peak_rss_mb.values()) > condition.rss_mb


def test_a_stop_ends_the_component_cleanly_and_frees_its_name(
    supervisor: Supervisor, program: Callable[..., Program], data: DataDir, told: list[str]
) -> None:
    supervisor.start(program("web", SERVES))
    supervisor.wait_ready(Event())
    process = process_of(data, "web")
    supervisor.stop("web")
    assert not process.is_running()
    assert states(data) == ()
    assert [item.state for item in supervisor.conditions()] == ["stopped"]
    supervisor.check()
    assert [item.state for item in supervisor.conditions()] == ["stopped"]
    assert told == []


def test_a_component_that_dies_is_told_with_its_last_lines_and_starts_again_after_a_pause(
    supervisor: Supervisor, program: Callable[..., Program], data: DataDir, told: list[str], clock: Clock
) -> None:
    supervisor.start(program("web", SERVES))
    supervisor.wait_ready(Event())
    first = process_of(data, "web")
    kill(first)
    supervisor.check()
    assert told == [
        f"web ended (killed by SIGKILL), and starts again in 1 s. The end of {data.logs}/web.log:\n    serving"
    ]
    assert [item.state for item in supervisor.conditions()] == ["restarting"]
    clock.now += 0.9
    supervisor.check()
    assert [item.state for item in supervisor.conditions()] == ["restarting"]
    clock.now += 0.1
    supervisor.check()
    supervisor.wait_ready(Event())
    assert process_of(data, "web").pid != first.pid
    assert [item.restarts for item in supervisor.conditions()] == [1]


def test_a_component_that_dies_too_often_ends_it_all(
    data: DataDir, program: Callable[..., Program], told: list[str], clock: Clock
) -> None:
    with Supervisor(data, told.append, RestartPolicy(most=1), clock) as supervisor:
        supervisor.start(program("web", SERVES))
        supervisor.wait_ready(Event())
        kill(process_of(data, "web"))
        supervisor.check()
        clock.now += 1
        supervisor.check()
        supervisor.wait_ready(Event())
        kill(process_of(data, "web"))
        with pytest.raises(GaveUp, match=r"^web ended \(killed by SIGKILL\), after 1 restarts\. The end of"):
            supervisor.check()


def test_a_component_that_does_not_start_is_told_in_its_own_words(
    supervisor: Supervisor, program: Callable[..., Program]
) -> None:
    supervisor.start(program("web", FAILS))
    with pytest.raises(GaveUp) as told:
        supervisor.wait_ready(Event())
    assert str(told.value) == "web did not start: port 1 is taken: choose another\n    or end what has it"


def test_a_component_that_crashes_at_its_start_is_told_with_its_log(
    supervisor: Supervisor, program: Callable[..., Program], data: DataDir
) -> None:
    supervisor.start(program("web", CRASHES))
    with pytest.raises(GaveUp) as told:
        supervisor.wait_ready(Event())
    assert str(told.value) == f"web did not start. The end of {data.logs}/web.log:\n    line one"


def test_a_component_that_never_serves_is_given_up(
    data: DataDir, program: Callable[..., Program], told: list[str]
) -> None:
    with Supervisor(data, told.append, clock=Clock(step=10)) as supervisor:
        supervisor.start(program("web", "import signal; signal.pause()", ready_s=30))
        with pytest.raises(GaveUp, match="web was not ready within 30 s"):
            supervisor.wait_ready(Event())


def test_a_wait_ends_when_somebody_asks_to_stop(supervisor: Supervisor, program: Callable[..., Program]) -> None:
    supervisor.start(program("web", "import signal; signal.pause()"))
    stop = Event()
    stop.set()
    with pytest.raises(Interrupted):
        supervisor.wait_ready(stop)


def test_nothing_outlives_a_component_that_does_not_listen(
    supervisor: Supervisor, program: Callable[..., Program], data: DataDir, told: list[str]
) -> None:
    supervisor.start(program("deaf", DEAF, stop_s=0.2))
    supervisor.wait_ready(Event())
    process = process_of(data, "deaf")
    family = [process, *process.children(recursive=True)]
    assert len(family) == 3
    supervisor.stop("deaf")
    assert [member for member in family if member.is_running()] == []
    assert told == ["deaf did not stop within 0.2 s and was killed"]


def test_what_a_killed_component_leaves_is_gone_before_it_starts_again(
    supervisor: Supervisor, program: Callable[..., Program], data: DataDir
) -> None:
    supervisor.start(program("deaf", DEAF, stop_s=0.2))
    supervisor.wait_ready(Event())
    supervisor.measure()
    process = process_of(data, "deaf")
    children = process.children(recursive=True)
    kill(process)
    supervisor.check()
    assert [child for child in children if child.is_running()] == []


def test_a_thread_that_has_the_id_of_an_ended_process_is_left_alone(
    supervisor: Supervisor, program: Callable[..., Program]
) -> None:
    ended = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    relative = psutil.Process(ended.pid)
    ended.kill()
    ended.communicate()
    done = Event()
    thread = Thread(target=done.wait)
    thread.start()
    # The system gives ids anew after some tens of thousands: what takes hours is done here by hand.
    relative._pid = relative._proc.pid = thread.native_id
    supervisor.start(program("probe", SERVES))
    supervisor.wait_ready(Event())
    child = supervisor._children["probe"]
    child.family[relative.pid] = relative

    supervisor.stop("probe")

    assert child.process is None
    assert thread.is_alive()
    done.set()
    thread.join()


def test_a_disk_that_is_nearly_full_ends_the_run_before_anything_is_half_written(
    supervisor: Supervisor, data: DataDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    data.root.mkdir()
    supervisor.check()
    monkeypatch.setattr(processes, "LEAST_FREE_BYTES", 10**18)
    with pytest.raises(GaveUp, match=r"are left on the disk of .*: free some space, then start again"):
        supervisor.check()


def test_leaving_the_block_ends_everything(
    data: DataDir, program: Callable[..., Program], told: list[str], clock: Clock
) -> None:
    others = set(psutil.Process().children(recursive=True))
    with Supervisor(data, told.append, clock=clock) as supervisor:
        supervisor.start(program("web", SERVES), program("deaf", DEAF))
        supervisor.wait_ready(Event())
        family = set(psutil.Process().children(recursive=True)) - others
    assert len(family) >= 4
    assert [member for member in family if member.is_running()] == []


def test_a_command_runs_to_its_end(supervisor: Supervisor, program: Callable[..., Program], data: DataDir) -> None:
    assert supervisor.run(program("once", CRASHES), Event()) == 3
    assert last_lines(data.logs / "once.log", 5) == ["line one"]


def test_processor_time_of_earlier_lives_counts(
    supervisor: Supervisor, program: Callable[..., Program], data: DataDir, clock: Clock
) -> None:
    supervisor.start(program("web", SERVES))
    supervisor.wait_ready(Event())
    supervisor.measure()
    before = supervisor.cpu_seconds()["web"]
    kill(process_of(data, "web"))
    supervisor.check()
    clock.now += 1
    supervisor.check()
    supervisor.wait_ready(Event())
    supervisor.measure()
    assert supervisor.cpu_seconds()["web"] > before > 0


def test_a_component_ends_with_the_process_that_started_it(data: DataDir, program: Callable[..., Program]) -> None:
    starter = subprocess.Popen(["sleep", "600"])
    web = program("web", SERVES)
    environment = {**web.environment, SUPERVISOR_VARIABLE: str(starter.pid)}
    process = subprocess.Popen(web.command, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "serving\n"
    starter.kill()
    starter.wait()
    assert process.wait(10) == 0
    process.stdout.close()
    assert states(data) == ()


def test_a_name_is_taken_once_on_a_data_dir(data: DataDir) -> None:
    with component(data, "web"):
        with (
            pytest.raises(Failure, match=r"^web already runs on .*/ward \(process \d+\): stop it, or use another"),
            component(data, "web"),
        ):
            pass
        with component(data, "other"):
            assert [state.name for state in states(data)] == ["other", "web"]
    with component(data, "web"):
        assert [state.name for state in states(data)] == ["web"]


def test_a_state_file_of_a_dead_process_does_not_count(
    supervisor: Supervisor, program: Callable[..., Program], data: DataDir
) -> None:
    supervisor.start(program("web", SERVES))
    supervisor.wait_ready(Event())
    process_of(data, "web").send_signal(signal.SIGKILL)
    supervisor.stop("web")
    assert [path.name for path in data.run.glob("*.json")] == ["web.json"]
    assert states(data) == ()
    with component(data, "web"):
        pass


def test_the_last_lines_of_a_log_leave_out_blank_ones(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("\n".join(f"line {number}\n" for number in range(10_000)))
    assert last_lines(tmp_path / "log", 2) == ["line 9998", "line 9999"]
    assert last_lines(tmp_path / "absent", 2) == []
