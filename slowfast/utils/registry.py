"""Registries: objects by the name that a configuration key holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from slowfast.utils.errors import check_choice

# Registry of each configuration key. `load_config` checks every key of its tree that is listed here.
REGISTRIES: dict[str, Registry] = {}
# Names, or patterns of names, that a further key takes, stated by the builder that reads the key. `load_config` checks
# these keys too.
CHOICES: dict[str, Sequence[str]] = {}


class Registry:
    """Objects by name, for one or more configuration keys; projects add their own.

    Args:
        keys: configuration keys whose values are names in this registry, such as "MODEL.MODEL_NAME".
        facts: what may be said of an object when it is registered, with the default of each.
        default: name that the empty text stands for.
        several: a value may hold several names joined by "+", or none.
        ignore_case: names are lower case, and a value's case does not count.
        aliases: pattern (* matches anything) of values -> the name that they stand for.
        unnamed: facts of objects that are registered under their own name, as in PySlowFast.
    """

    def __init__(
        self,
        *keys: str,
        facts: Mapping[str, Any] | None = None,
        default: str = "",
        several: bool = False,
        ignore_case: bool = False,
        aliases: Mapping[str, str] | None = None,
        unnamed: Mapping[str, Any] | None = None,
    ):
        self.key = " or ".join(keys)
        self.default, self.several, self.ignore_case = default, several, ignore_case
        self._default_facts, self._aliases = dict(facts or {}), dict(aliases or {})
        self._unnamed = dict(unnamed or {})
        self._objects: dict[str, Any] = {}
        self._facts: dict[str, dict[str, Any]] = {}
        REGISTRIES.update(dict.fromkeys(keys, self))

    def register(self, name: str = "", **facts: Any) -> Callable[[Any], Any]:
        """Return a decorator that registers a function or class under `name`.

        Args:
            name: value of the configuration key; "" for the object's own name, in lower case with `ignore_case`.
            facts: what `fact` returns for it; those left out have the registry's defaults.

        Raises:
            ValueError: the name is taken by another object, cannot be a value of the key, or a fact is unknown.
        """
        unknown = sorted(set(facts) - set(self._default_facts))
        if unknown:
            known = ", ".join(self._default_facts) or "none"
            raise ValueError(f"{self.key} {name!r} is registered with {', '.join(unknown)}; known facts: {known}")
        if not name:
            return lambda obj: self.register(self._own_name(obj), **(self._unnamed | facts))(obj)
        if self.names(name) != [name]:
            rule = "lower case" if self.ignore_case else "no '+'" if self.several else "not empty"
            raise ValueError(f"{self.key} {name!r} cannot be registered; the name must be {rule}")

        def add(obj: Any) -> Any:
            if self._objects.setdefault(name, obj) is not obj:
                raise ValueError(f"{self.key} {name!r} is registered twice; choose another name")
            self._facts[name] = {**self._default_facts, **facts}
            return obj

        return add

    def _own_name(self, obj: Any) -> str:
        return obj.__name__.lower() if self.ignore_case else obj.__name__

    def names(self, value: str) -> list[str]:
        """Return the names that a value of the key holds: one, or any number where `several` are allowed."""
        value = (value or self.default).lower() if self.ignore_case else value or self.default
        value = next((name for pattern, name in self._aliases.items() if fnmatchcase(value, pattern)), value)
        return [part for part in value.split("+") if part] if self.several else [value]

    def check(self, value: str, key: str = "") -> None:
        """Check that every name in `value` is registered.

        Raises:
            ValueError: with `key` (default: the registry's), the name found, the nearest one and all there are.
        """
        for name in self.names(value):
            check_choice(key or self.key, name, sorted([*self, *self._aliases]))

    def get(self, name: str, key: str = "") -> Any:
        """Return the object registered under one name.

        Raises:
            ValueError: as `check`.
        """
        self.check(name, key)
        return self._objects[self.names(name)[0]]

    def fact(self, name: str, fact: str) -> Any:
        """Return what was said of an object when it was registered, such as "num_pathways" of a model.

        Raises:
            ValueError: as `check`.
        """
        self.check(name)
        return self._facts[self.names(name)[0]][fact]

    def __contains__(self, name: str) -> bool:
        return name in self._objects

    def __iter__(self) -> Iterator[str]:
        return iter(self._objects)
