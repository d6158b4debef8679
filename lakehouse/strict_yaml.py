"""YAML that people write: a key that is given twice is an error, where YAML takes the last of two in silence."""

from collections import Counter
from typing import Any

import yaml


class StrictLoader(yaml.SafeLoader):
    """PyYAML's safe loader, which raises ConstructorError for a repeated key: ``yaml.load(text, StrictLoader)``."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping of a node."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        repeated = [key for key, count in Counter(map(str, keys)).items() if count > 1]
        if repeated:
            raise yaml.constructor.ConstructorError(None, None, f"given twice: {', '.join(repeated)}", node.start_mark)
        return super().construct_mapping(node, deep)
