"""The contracts of the topics ``vitals`` and ``clinical.resource``: what every producer builds, checks and sends.

They are contracts/vitals.v1.schema.json and contracts/clinical_resource.v1.schema.json. The stream does not use this
module: it takes what arrives, and names what is wrong with it.
"""

import json
from collections.abc import Callable, Mapping
from functools import cache
from importlib import resources
from math import isfinite
from typing import Any

import fastjsonschema
import orjson

SCHEMA_VERSION = 1

Message = dict[str, Any]
"""A message as a dictionary, shaped as the JSON Schema says."""


class ContractError(ValueError):
    """A message breaks the contract; the text names the field."""


def schema(name: str = "vitals", version: int = SCHEMA_VERSION) -> dict[str, Any]:
    """The JSON Schema of one version of the contract ``vitals`` or ``clinical_resource``."""
    path = resources.files("lakehouse.contracts").joinpath(f"{name}.v{version}.schema.json")
    return dict(json.loads(path.read_text(encoding="utf-8")))


@cache
def _validator(name: str) -> Callable[[Mapping[str, Any]], object]:
    compiled: Callable[[Mapping[str, Any]], object] = fastjsonschema.compile(schema(name))
    return compiled


def _hold(name: str, record: Mapping[str, Any]) -> None:
    try:
        _validator(name)(record)
    except fastjsonschema.JsonSchemaValueException as error:
        raise ContractError(error.message) from error


def validate(message: Mapping[str, Any]) -> None:
    """Raise ContractError where the message breaks the contract."""
    _hold("vitals", message)
    for number, observation in enumerate(message["observations"]):
        # JSON has no word for NaN or infinity: an encoder would write null.
        if not isfinite(observation.get("value", 0.0)):
            raise ContractError(f"data.observations[{number}].value must be finite")


def encode(message: Mapping[str, Any]) -> bytes:
    """A checked message as the bytes to send. Raises ContractError."""
    validate(message)
    return orjson.dumps(message)


def encode_resource(record: Mapping[str, Any]) -> bytes:
    """A checked record of ``clinical.resource`` as the bytes to send. Raises ContractError."""
    _hold("clinical_resource", record)
    return orjson.dumps(record)


def key(message: Mapping[str, Any]) -> bytes:
    """The record key: all of one patient goes to one partition, in order."""
    return str(message["patient_id"]).encode()
