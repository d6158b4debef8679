"""A fitted model as bytes that hold data and no code, read only after the digest has been compared.

Pickle would run whatever a file says, and a model file may come from a server. Trees are a skops file: skops makes
nothing but the types named here, and of them only what scikit-learn's own readers make. A network is arrays (npz).
"""

import re
from hashlib import sha256
from io import BytesIO
from zipfile import ZipFile, ZipInfo

from lakehouse.models import network
from lakehouse.models.features import COURSES_DIGEST, DIGEST
from lakehouse.models.network import NetworkFileError, NetworkModel
from lakehouse.models.recipe import Kind
from lakehouse.models.risk import RiskModel
from lakehouse.models.trees import TreesModel

TRUSTED = (
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
)
"""Beside what skops trusts by itself: the parts of a calibrated classifier of boosted trees."""

FILES = {Kind.TREES: "model.skops", Kind.NETWORK: "model.npz"}
"""The name of the file of each kind."""
DIGESTS = {Kind.TREES: DIGEST, Kind.NETWORK: COURSES_DIGEST}
"""Of the declaration of what each kind is told."""


_SCHEMA = "schema.json"
_ADDRESS = re.compile(r'(?<="__id__": )\d+|(?<="file": ")\d+')
"""What skops tells objects, and the files of their arrays, apart by: where they lay in memory."""


class ModelFileError(ValueError):
    """A stored model is missing, damaged, or was made for other features; the text says which and what to do."""


def dump(model: RiskModel) -> bytes:
    """The model as the bytes of its file; the same model gives the same bytes, in whatever process and when."""
    if isinstance(model, NetworkModel):
        return network.dump(model)
    if not isinstance(model, TreesModel):
        raise TypeError(f"no file holds a {type(model).__name__}")
    from skops import io

    return _settled(io.dumps(model.estimator))


def _settled(content: bytes) -> bytes:
    """The file with addresses as running numbers, and without the time at which it was written."""
    numbers: dict[str, str] = {}
    with ZipFile(BytesIO(content)) as made, ZipFile(settled := BytesIO(), "w") as written:
        schema = _ADDRESS.sub(lambda it: numbers.setdefault(it[0], str(len(numbers))), made.read(_SCHEMA).decode())
        for name in made.namelist():
            address, _, kind = name.partition(".")
            if name != _SCHEMA:
                written.writestr(ZipInfo(f"{numbers[address]}.{kind}"), made.read(name))
        written.writestr(ZipInfo(_SCHEMA), schema)
    return settled.getvalue()


def digest(content: bytes) -> str:
    """SHA-256 of a model's bytes."""
    return sha256(content).hexdigest()


def load(content: bytes, wanted: str, kind: Kind, features: str, name: str) -> RiskModel:
    """The model of these bytes, whose digest is ``wanted``, and which was fitted to ``features`` (their digest).

    Raises ModelFileError before anything is read of bytes that are not what was registered.
    """
    if (found := digest(content)) != wanted:
        raise ModelFileError(
            f"{name} is damaged: its SHA-256 is {found[:12]}, registered was {wanted[:12]};"
            " restore the file, `ward model rollback`, or `ward model train` another"
        )
    if features != DIGESTS[kind]:
        raise ModelFileError(
            f"{name} takes features declared as {features[:12]}, this version of ward has {DIGESTS[kind][:12]}:"
            " `ward model train` makes one for them"
        )
    if kind is Kind.NETWORK:
        try:
            return network.load(content)
        except NetworkFileError as error:
            raise ModelFileError(f"{name} holds something else than a model of risk: {error}") from error
    from skops import io
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        return TreesModel(io.loads(content, trusted=list(TRUSTED)))
    except UntrustedTypesFoundException as error:
        raise ModelFileError(f"{name} holds more than a model of risk: {error}") from error
