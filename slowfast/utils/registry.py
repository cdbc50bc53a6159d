"""Names in a configuration, and what they stand for."""

import difflib
from collections.abc import Callable, Iterator
from typing import Any


class Registry:
    """Objects by name, for one configuration key; projects add theirs.

    Args:
        key: the key whose values are looked up here, for messages.
    """

    def __init__(self, key: str):
        self.key = key
        self._objects: dict[str, Any] = {}

    def register(self, name: str) -> Callable[[Any], Any]:
        """Decorator that files a function or class under `name`.

        Raises:
            ValueError: the name is taken by another object.
        """

        def add(obj: Any) -> Any:
            if self._objects.setdefault(name, obj) is not obj:
                raise ValueError(f"{self.key} {name!r} is registered twice")
            return obj

        return add

    def get(self, name: str) -> Any:
        """The object called `name`.

        Raises:
            ValueError: there is none; the message lists the names there are.
        """
        if name not in self._objects:
            near = difflib.get_close_matches(name, self._objects, n=1, cutoff=0.5)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ValueError(f"{self.key} is {name!r}{hint}; built here: {', '.join(sorted(self)) or 'none'}")
        return self._objects[name]

    def __contains__(self, name: str) -> bool:
        return name in self._objects

    def __iter__(self) -> Iterator[str]:
        return iter(self._objects)
