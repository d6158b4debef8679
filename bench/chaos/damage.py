"""Damage to the files of a stack that stands still: what it says at the next start, and whether its advice mends it."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.chaos.stack import Stack, StackError
from lakehouse.pipeline import DEVICE_MESSAGE, OBSERVATION, Flow
from lakehouse.tables import DEVICE_MESSAGE as BRONZE

if TYPE_CHECKING:
    from lakehouse.storage import Place

_REFUSED_S = 300.0
"""A start gets as far as the Spark applications before it is refused."""
_MOVE = re.compile(r"(\S+) is damaged .*: move it")
_ADVICE = re.compile(r"`ward ([^`]+)`")


@dataclass(frozen=True)
class Damage:
    """One file that is not as it was. ``says`` is in the error of the next start; None where it needs no person."""

    name: str
    does: str
    do: Callable[[Stack], None]
    says: str | None


def mended(damage: Damage, stack: Stack) -> None:
    """Stop the stack, damage it, start it, do exactly what the error says, and start it again.

    Raises StackError where it does not say what it should, or does not start after all.
    """
    stack.stop()
    damage.do(stack)
    if damage.says is None:
        stack.start()
        return
    stack.launch()
    code, words = stack.ended(_REFUSED_S), stack.last_words()
    # What the machine of Java says as it ends may come after it.
    said = next((line for line in words.splitlines() if damage.says in line), "")
    require(code == 1 and bool(said), f"{damage.name} is not named: {words}")
    print(f"  it says: {said}", flush=True)
    if move := _MOVE.search(said):
        for path in Path(move[1]).parent.glob(f"*{Path(move[1]).stem}.*"):
            path.rename(stack.data.root.parent / path.name)
    advice = _ADVICE.findall(said)
    require(bool(advice), f"{damage.name}: it does not say what to do: {said}")
    for command in advice:
        print(f"  ward {command}: {stack.ward(*command.split()).splitlines()[-1]}", flush=True)
    stack.start()


def require(holds: bool, what: str) -> None:
    """Raise StackError where something does not hold."""
    if not holds:
        raise StackError(what)


def newest(stack: Stack, flow: Flow, folder: str) -> "Place":
    """The newest file in a folder of a flow's checkpoint."""
    files = stack.data.checkpoint(flow) / folder
    return files / str(max(int(path.name) for path in files.iterdir() if path.name.isdecimal()))


def garbage(flow: Flow, folder: str, stack: Stack) -> None:
    """Random bytes instead of what the newest file held; its checksum is gone, as after a copy of the visible files."""
    _write(newest(stack, flow, folder), stack.chance.randbytes(64))


def cut_off(flow: Flow, folder: str, stack: Stack) -> None:
    """The beginning of the newest file only."""
    path = newest(stack, flow, folder)
    _write(path, path.read_bytes()[: stack.chance.randrange(20)])


def lost_commit(stack: Stack) -> None:
    """The newest commit of silver's checkpoint is gone: its batch runs again."""
    newest(stack, OBSERVATION, "commits").unlink()


def cut_off_log(stack: Stack) -> None:
    """The beginning of bronze's newest version only."""
    log = stack.data.table(BRONZE) / "_delta_log"
    path = log / max(path.name for path in log.glob("[0-9]*.json"))
    _write(path, path.read_bytes()[: stack.chance.randrange(200)])


def _write(path: "Place", content: bytes) -> None:
    path.write_bytes(content)
    path.with_name(f".{path.name}.crc").unlink(missing_ok=True)


def _checkpoint(name: str, does: str, how: Callable[..., None], flow: Flow, folder: str) -> Damage:
    def do(stack: Stack) -> None:
        how(flow, folder, stack)

    return Damage(name, does, do, "is damaged")


DAMAGES = (
    _checkpoint("checkpoint cut off", "newest offsets of bronze", cut_off, DEVICE_MESSAGE, "offsets"),
    _checkpoint("checkpoint garbage", "newest commit of silver", garbage, OBSERVATION, "commits"),
    Damage("table log cut off", "newest version of bronze", cut_off_log, "is damaged"),
    Damage("lost commit", "newest commit of silver is deleted", lost_commit, None),
)
