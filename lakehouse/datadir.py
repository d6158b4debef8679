"""Where state lives: one folder with tables, checkpoints, the embedded broker, logs and the state of processes."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse import storage
from lakehouse.pipeline import Flow
from lakehouse.table import Table

if TYPE_CHECKING:
    from lakehouse.storage import Place


@dataclass(frozen=True)
class DataDir:
    """The layout of the data dir. Paths only: nothing here creates or removes anything."""

    root: Path

    @cached_property
    def lake(self) -> "Place":
        """Parent of tables and checkpoints: the data dir itself, or the storage that it names."""
        return storage.named_by(self.root)

    def table(self, table: Table) -> "Place":
        """Folder of one Delta table."""
        return self.table_root / table.layer / table.name

    @property
    def table_root(self) -> "Place":
        """Parent of every layer's tables."""
        return self.lake / "tables"

    @property
    def checkpoints(self) -> "Place":
        """Parent of the checkpoint generations of every flow that writes tables."""
        return self.lake / "checkpoints"

    def checkpoint(self, flow: Flow) -> "Place":
        """The flow's newest checkpoint generation, ``checkpoints/NAME/1`` before there is any.

        A rewind or restore never edits a checkpoint: it makes the next generation.
        """
        return next(iter(self.generations(flow)), self._flow(flow) / "1")

    def generations(self, flow: Flow) -> "tuple[Place, ...]":
        """Every generation of the flow's checkpoint that there is, newest first."""
        found = self._flow(flow).glob("[0-9]*")
        return tuple(sorted(found, key=lambda path: int(path.name), reverse=True))

    def next_checkpoint(self, flow: Flow) -> "Place":
        """The generation after the newest."""
        newest = next(iter(self.generations(flow)), None)
        return self._flow(flow) / str(int(newest.name) + 1 if newest else 1)

    def _flow(self, flow: Flow) -> "Place":
        # Alerts wait for no storage; their flow begins a checkpoint of its own at each start.
        return self.root / "checkpoints" / flow.name if flow.application == "alerts" else self.checkpoints / flow.name

    @property
    def backups(self) -> Path:
        """One folder for each backup of the checkpoints."""
        return self.root / "backups"

    @property
    def pause(self) -> Path:
        """There as long as the lakehouse application is to stand still."""
        return self.root / "pause.json"

    @property
    def kafka(self) -> Path:
        """The embedded broker's settings and log."""
        return self.root / "kafka"

    @property
    def spool(self) -> Path:
        """Rows of backfilled files on their way into bronze."""
        return self.root / "spool"

    @property
    def logs(self) -> Path:
        """One log file per component."""
        return self.root / "logs"

    @property
    def run(self) -> Path:
        """What running components say of themselves: process ids, addresses, progress."""
        return self.root / "run"

    @property
    def spill(self) -> Path:
        """Where a reader puts what does not fit in memory, for as long as it reads."""
        return self.root / "run" / "duckdb"

    @property
    def snapshots(self) -> Path:
        """Parent of every snapshot; each is laid out as a data dir of its own."""
        return self.root / "snapshots"

    @property
    def models(self) -> Path:
        """The registry of models and their files, unless a server has them."""
        return self.root / "models"

    @property
    def refused(self) -> Path:
        """Payloads from MQTT that no message could be made of."""
        return self.root / "refused"

    @property
    def reports(self) -> Path:
        """Trend reports of care units, unless they are wanted elsewhere."""
        return self.root / "reports"

    @property
    def access(self) -> Path:
        """Who may do what: hashes of API keys, secrets of this stack, and audit records that wait for the broker."""
        return self.root / "access"

    def progress(self, name: str) -> Path:
        """Progress of one flow or component, JSON lines, newest last."""
        return self.root / "progress" / f"{name}.jsonl"

    @property
    def truth(self) -> Path:
        """What the simulator sent: one JSON line per message, injected fault and episode, one file a run."""
        return self.root / "truth"
