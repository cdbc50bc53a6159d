"""Classes of the multi-label task: which pair of actions happens in which order.

An atomic action is an action with the shape that does it; there are 14. A composition is "A before B", 14 x 14 of them,
or "A during B" in either order, 14 x 15 / 2 of them. That makes 301, as published. "A after B" is "B before A".
"""

from collections.abc import Sequence
from itertools import combinations, combinations_with_replacement, product

import numpy as np

from slowfast.apps.synthetic.cater.objects import CONE, SHAPES
from slowfast.apps.synthetic.cater.world import CONTAIN, PICK_PLACE, ROTATE, ROTATING, SLIDE, Action, World

_WHO = {SLIDE: SHAPES, ROTATE: ROTATING, PICK_PLACE: SHAPES, CONTAIN: (CONE,)}
ATOMS = tuple((kind, shape) for kind, shapes in _WHO.items() for shape in shapes)
_PAIRS = [("before", *pair) for pair in product(range(len(ATOMS)), repeat=2)]
_PAIRS += [("during", *pair) for pair in combinations_with_replacement(range(len(ATOMS)), 2)]
_NUMBERS = {pair: number for number, pair in enumerate(_PAIRS)}


def class_names() -> list[str]:
    """Return the names of the 301 classes, such as "slide cone before rotate snitch"."""
    return [f"{' '.join(ATOMS[first])} {relation} {' '.join(ATOMS[second])}" for relation, first, second in _PAIRS]


def composition(first: Action, second: Action, shapes: Sequence[str]) -> int:
    """Return the class of two actions; `shapes` are those of all objects.

    An action is before another if it ends before that starts. Actions that share a frame are during each other.
    """
    first, second = sorted((first, second), key=lambda action: action.start)
    one, two = (ATOMS.index((action.kind, shapes[action.actor])) for action in (first, second))
    if first.end <= second.start:
        return _NUMBERS["before", one, two]
    return _NUMBERS["during", min(one, two), max(one, two)]


def compositions(world: World) -> list[int]:
    """Return the classes of a scene, in order: those of all pairs of its actions."""
    shapes = [thing.shape for thing in world.objects]
    return sorted({composition(*pair, shapes) for pair in combinations(world.actions, 2)})


def order_accuracy(scores: np.ndarray, labels: np.ndarray) -> float:
    """Return how often the order of two different actions is told right, in percent, whatever a model knows of them.

    Counted is each "A before B" and "B before A" of which a video has one alone; the higher score is the answer.

    Args:
        scores: (videos, 301).
        labels: (videos, 301), 1 for a class that the video has, else 0.
    """
    pairs = combinations(range(len(ATOMS)), 2)
    one, two = np.array([(_NUMBERS["before", a, b], _NUMBERS["before", b, a]) for a, b in pairs]).T
    counted = labels[:, one] != labels[:, two]
    right = (scores[:, one] > scores[:, two]) == (labels[:, one] > labels[:, two])
    return 100 * float(right[counted].mean())
