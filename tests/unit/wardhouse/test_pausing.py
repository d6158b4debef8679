"""The pause: a file that outlasts a process, and what may not happen while it is there or while it is not."""

from datetime import UTC, datetime

import pytest

from lakehouse import pause
from lakehouse.datadir import DataDir
from wardhouse.component import component, read_state
from wardhouse.errors import Failure
from wardhouse.pausing import moving, pause_stream, paused_for, resume_stream

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_a_stack_that_does_not_run_is_neither_paused_nor_resumed(data: DataDir) -> None:
    with pytest.raises(Failure, match="nothing to pause"):
        pause_stream(data, "a test", NOON)
    assert pause.asked(data) is None
    with pytest.raises(Failure, match="no stream runs"):
        resume_stream(data)


def test_a_pause_that_comes_too_late_stays_asked_for(data: DataDir) -> None:
    with component(data, "stream") as running:
        running.ready()
        with pytest.raises(Failure, match=r"still in a batch after 0 s"):
            pause_stream(data, "a test", NOON, timeout_s=0)
        assert pause.asked(data) == pause.Pause(NOON.isoformat(), "a test")
        running.paused(True)
        pause_stream(data, "another", NOON, timeout_s=0)
        assert pause.asked(data) == pause.Pause(NOON.isoformat(), "a test")
        with pytest.raises(Failure, match="has not gone on"):
            resume_stream(data, timeout_s=0)
        running.paused(False)
        with pytest.raises(Failure, match="no stream is paused"):
            resume_stream(data)


def test_a_paused_component_says_so_and_still_serves(data: DataDir) -> None:
    with component(data, "stream") as running:
        running.paused(True)
        running.ready()
        state = read_state(data, "stream")
        assert state is not None
        assert (state.state, state.paused) == ("ready", True)


def test_the_pause_of_a_stream_that_was_killed_can_be_ended(data: DataDir) -> None:
    pause.ask(data, "a test", NOON)
    assert resume_stream(data) is False
    assert pause.asked(data) is None


def test_nothing_starts_while_checkpoints_are_moved_or_after_that_was_cut_off(data: DataDir) -> None:
    with pytest.raises(OSError, match="disk"), moving(data, "ward checkpoint restore x --yes", NOON):
        raise OSError("disk")
    with pytest.raises(Failure, match="`ward checkpoint restore x --yes` is under way or was cut off"):
        resume_stream(data)
    with pytest.raises(Failure, match="was cut off: give it again first"), moving(data, "another", NOON):
        pass
    with pytest.raises(Failure, match="no broker"), moving(data, "ward checkpoint restore x --yes", NOON):
        raise Failure("no broker")
    assert pause.asked(data) is not None
    with moving(data, "ward checkpoint restore x --yes", NOON):
        pass
    assert pause.asked(data) is None


def test_a_pause_outlasts_what_is_moved_in_it(data: DataDir) -> None:
    before = pause.ask(data, "a test", NOON)
    with moving(data, "a command", NOON):
        assert pause.asked(data) == pause.Pause(NOON.isoformat(), "a test", "a command")
    with paused_for(data, "backup", NOON):
        pass
    assert pause.asked(data) == before


def test_what_is_refused_leaves_no_pause(data: DataDir) -> None:
    with pytest.raises(Failure, match="too far"), moving(data, "a command", NOON):
        raise Failure("too far")
    assert pause.asked(data) is None
    with component(data, "stream") as running:
        running.ready()
        with pytest.raises(Failure, match="stream runs"), moving(data, "a command", NOON):
            pass
    assert pause.asked(data) is None


def test_what_lands_waveforms_stands_still_too(data: DataDir) -> None:
    with component(data, "stream-lakehouse") as lakehouse, component(data, "stream-waveform") as waveform:
        lakehouse.paused(True)
        with pytest.raises(Failure, match=r"still in a batch"):
            pause_stream(data, "a test", NOON, timeout_s=0)
        with pytest.raises(Failure, match="stream-waveform runs"), moving(data, "ward maintain", NOON):
            pass
        waveform.paused(True)
        pause_stream(data, "a test", NOON, timeout_s=0)
