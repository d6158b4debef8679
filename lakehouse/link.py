"""Links to one patient's page that end by themselves: encrypted and signed with a secret of the data dir.

A link says neither whose it is nor until when, and without the secret none can be made or changed. Nothing is kept of
it: whoever takes the secret away ends every link at once.
"""

from datetime import UTC, datetime

import orjson

from lakehouse import secret_file
from lakehouse.datadir import DataDir


class LinkError(ValueError):
    """A link opens nothing; the text says why."""


def make(data: DataDir, patient_id: str, until: datetime) -> str:
    """The token of a link to a patient's page; the first one makes the secret."""
    from cryptography.fernet import Fernet

    path = data.access / "link.key"
    if not path.exists():
        secret_file.write(path, Fernet.generate_key())
    content = orjson.dumps({"patient_id": patient_id, "until": until.astimezone(UTC)})
    return Fernet(path.read_bytes()).encrypt(content).decode()


def patient_of(data: DataDir, token: str, now: datetime) -> str:
    """Whose page a link opens. Raises LinkError."""
    from cryptography.fernet import Fernet, InvalidToken

    try:
        content = orjson.loads(Fernet((data.access / "link.key").read_bytes()).decrypt(token.encode()))
    except (FileNotFoundError, InvalidToken, ValueError) as error:
        raise LinkError("this link is not whole, or was taken back: ask for another") from error
    if now >= datetime.fromisoformat(content["until"]):
        raise LinkError("this link is over: ask for another")
    patient_id: str = content["patient_id"]
    return patient_id
