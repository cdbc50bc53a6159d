"""Planning of scenes: what slides, rotates, is picked up, or is placed over what, without collisions.

A cone that holds something takes it along when it slides, and leaves it when it is picked up. Every plan is random. One
in which the snitch cannot be covered when it has to be is dropped, and another is tried.
"""

from collections.abc import Iterator

import numpy as np

from slowfast.apps.synthetic.cater.objects import sample_objects
from slowfast.apps.synthetic.cater.world import (
    ACTIONS,
    CONTAIN,
    GRID,
    PICK_PLACE,
    ROTATE,
    ROTATING,
    SLIDE,
    Action,
    World,
    WorldSpec,
)

_GAP = 0.06  # least space between two objects
_LIFT = 1.85  # height at which objects are carried, above the highest cone
_LIFTING = 0.25  # share of the time that going up takes; as much for going down
_WAY = np.linspace(0, 1, 25)[:, None]  # shares of a path at which it has to be free
_PLACES, _PLANS = 60, 200  # tries


def make_world(rng: np.random.Generator, spec: WorldSpec, final_slot: int | None) -> World:
    """Sample a scene whose snitch is covered for good in slot `final_slot`; with None it is uncovered at the end.

    Before that it may be covered and uncovered at any time.

    Raises:
        ValueError: no such scene was found.
    """
    for _ in range(_PLANS):
        plan = _Plan(rng, spec, final_slot)
        if plan.place_objects() and all(plan.plan_slot(slot) for slot in range(spec.slots)) and plan.ends_well():
            actions = sorted(plan.actions, key=lambda action: (action.start, action.actor))
            return World(plan.objects, actions, plan.positions, plan.angles, plan.inside)
    raise ValueError(
        f"{spec}: no scene was found in {_PLANS} tries, since the objects leave no room, or no cone can hold the snitch"
    )


class _Plan:
    """A scene in the making: where objects rest, what is under what, and the frames so far."""

    def __init__(self, rng: np.random.Generator, spec: WorldSpec, final_slot: int | None) -> None:
        """Sample the objects, which are not yet on the ground: infinitely far away."""
        self.rng, self.spec = rng, spec
        self.final_slot = spec.slots if final_slot is None else final_slot
        count = rng.integers(spec.objects[0], spec.objects[1] + 1)
        cones = rng.integers(spec.cones[0], spec.cones[1] + 1)
        self.objects = sample_objects(rng, count, min(cones, count - 1))
        self.radii = np.array([thing.radius for thing in self.objects])
        self.places = np.full((count, 2), np.inf)
        self.cover = np.full(count, -1)  # the cone directly over each object
        self.actions: list[Action] = []
        shape = spec.num_frames, count
        self.positions, self.angles, self.inside = np.zeros((*shape, 3)), np.zeros(shape), np.full(shape, -1)
        self.paths: list[tuple[np.ndarray, float]] = []  # swept in this slot, with the radius of what moved

    def place_objects(self) -> bool:
        """Put the objects on the ground; return False if there is no room."""
        turns = self.rng.uniform(0, 2 * np.pi, len(self.objects))
        for index in range(len(self.objects)):
            place = self._free_place(index)
            if place is None:
                return False
            self.places[index] = place
        self.positions[:, :, :2], self.angles[:] = self.places, turns
        return True

    def plan_slot(self, slot: int) -> bool:
        """Plan the actions of a slot; return False if what has to happen in it cannot."""
        self.paths = []
        busy: set[int] = set()
        if slot == self.final_slot:
            if not any(self._contain(cone, 0, slot) for cone in self._cones_for(0)):
                return False
            busy = {0, self.actions[-1].actor}
        elif slot == self.final_slot - 1 and self.cover[0] >= 0:
            cone = int(self.cover[0])
            if self.cover[cone] >= 0 or not self._pick_place(cone, slot):
                return False
            busy = {0, cone}
        elif self.rng.random() < self.spec.cone_slides:
            snitch = self.objects[0]
            cones = [i for i, thing in enumerate(self.objects) if self.cover[i] < 0 and thing.holds(snitch)]
            busy = next(({int(i)} for i in self.rng.permutation(cones) if self._slide(int(i), slot)), busy)
        for _ in range(self.spec.movers - bool(busy)):
            self._act(slot, busy)
        return True

    def ends_well(self) -> bool:
        """Return True if the snitch is covered at the end exactly if it has to be."""
        return (self.cover[0] >= 0) == (self.final_slot < self.spec.slots)

    def _act(self, slot: int, busy: set[int]) -> None:
        """Let one object that is not busy do something that is possible, if any; those concerned become busy."""
        free = [index for index in range(len(self.objects)) if index not in busy and self.cover[index] < 0]
        for index in map(int, self.rng.permutation(free)):
            for kind in map(str, self.rng.permutation(ACTIONS)):
                concerned = self._try(kind, index, slot, busy)
                if concerned is not None:
                    busy |= concerned
                    return

    def _try(self, kind: str, index: int, slot: int, busy: set[int]) -> set[int] | None:
        """Let an object act if it can; return the objects concerned, None if it cannot."""
        held = set(np.flatnonzero(self.cover == index).tolist())
        settled = slot > self.final_slot
        if kind == SLIDE:
            stays = self.spec.cone_slides == 0 and self.objects[index].holds(self.objects[0])
            return None if stays or not self._slide(index, slot) else {index}
        if kind == ROTATE:
            return {index} if self._rotate(index, slot) else None
        if kind == PICK_PLACE:
            stays = settled and index == self._outermost(0)  # the snitch stays covered
            return None if stays or not self._pick_place(index, slot) else {index} | held
        if held:
            return None
        targets = self.rng.permutation(len(self.objects)).tolist()
        targets = [i for i in targets if i not in busy and index in self._cones_for(i)]
        # A cone over the snitch has to be gone before the slot in which it is covered for good. Only one is.
        in_time = slot < self.final_slot - 1
        targets = [i for i in targets if settled or i != self._outermost(0) or (i == 0 and in_time)]
        if not targets or not self._contain(index, targets[0], slot):
            return None
        return {index, targets[0]}

    def _slide(self, index: int, slot: int) -> bool:
        """Let an object slide, with what is under it; return False if it cannot."""
        place = self._free_place(index, slides=True)
        if place is None:
            return False
        self.paths.append((_path(self.places[index], place), self.radii[index]))
        start, end = self._schedule(SLIDE, index, slot)
        steps = _ease(_shares(start, end))[:, None]
        way = place - self.places[index]
        for moved in (i for i in range(len(self.objects)) if index in self._with_covers(i)):
            self.positions[start:end, moved, :2] = self.places[moved] + steps * way
            self.positions[end:, moved, :2] = self.places[moved] = self.positions[end - 1, moved, :2]
        return True

    def _rotate(self, index: int, slot: int) -> bool:
        """Turn an object about the vertical by 90 to 180 degrees; return False if its shape does not rotate."""
        if self.objects[index].shape not in ROTATING:
            return False
        start, end = self._schedule(ROTATE, index, slot)
        turn = self.rng.choice((-1, 1)) * self.rng.uniform(np.pi / 2, np.pi)
        self.angles[start:end, index] += turn * _ease(_shares(start, end))
        self.angles[end:, index] += turn
        self.paths.append((self.places[index][None], self.radii[index]))
        return True

    def _pick_place(self, index: int, slot: int) -> bool:
        """Pick an object up and place it elsewhere; what was under it stays. Return False if it cannot."""
        place = self._free_place(index)
        if place is None or not self._is_clear(_path(self.places[index], place), index):
            return False
        self._carry(PICK_PLACE, index, place, slot)
        return True

    def _contain(self, index: int, target: int, slot: int) -> bool:
        """Place a cone over an object; return False if it cannot."""
        place = self.places[target].copy()
        if not self._is_clear(_path(self.places[index], place), index):
            return False
        others = [i for i in range(len(self.objects)) if i not in (index, target) and self.cover[i] < 0]
        if (np.hypot(*(self.places[others] - place).T) < self.radii[others] + self.radii[index] + _GAP).any():
            return False
        end = self._carry(CONTAIN, index, place, slot, target)
        self.cover[target] = index
        self.inside[end - 1 :, target] = index
        return True

    def _carry(self, kind: str, index: int, place: np.ndarray, slot: int, target: int = -1) -> int:
        """Move an object through the air; return the frame after the action."""
        start, end = self._schedule(kind, index, slot, target)
        for held in np.flatnonzero(self.cover == index):
            self.cover[held] = -1
            self.inside[start:, held] = -1
        share = _shares(start, end)
        across = _ease(np.clip((share - _LIFTING) / (1 - 2 * _LIFTING), 0, 1))[:, None]
        rise = _ease(np.clip(np.minimum(share, 1 - share) / _LIFTING, 0, 1))
        self.positions[start:end, index, :2] = self.places[index] + across * (place - self.places[index])
        self.positions[start:end, index, 2] = _LIFT * rise
        self.positions[end:, index, :2], self.positions[end:, index, 2] = place, 0
        self.paths.append((_path(self.places[index], place), self.radii[index]))
        self.places[index] = place
        return end

    def _schedule(self, kind: str, index: int, slot: int, target: int = -1) -> tuple[int, int]:
        """Choose the frames of an action in a slot, and note the action."""
        length = int(self.rng.integers(self.spec.frames[0], self.spec.frames[1] + 1))
        start = slot * self.spec.slot_frames + int(self.rng.integers(self.spec.slot_frames - length + 1))
        self.actions.append(Action(kind, index, start, start + length, target))
        return start, start + length

    def _free_place(self, index: int, slides: bool = False) -> np.ndarray | None:
        """Return a random place with room for an object, to which it can slide if so asked; None if none is found."""
        left = () if slides else np.flatnonzero(self.cover == index)  # under it, until it is picked up
        others = [i for i in range(len(self.objects)) if i != index and (self.cover[i] < 0 or i in left)]
        room = self.radii[others] + self.radii[index] + _GAP
        source = self.places[index]
        for place in self._random_places():
            path = place[None]
            if slides:
                if not self.spec.slide[0] <= np.hypot(*(place - source)) <= self.spec.slide[1]:
                    continue
                path = _path(source, place)
            if (np.linalg.norm(path[:, None] - self.places[others], axis=-1) < room).any():
                continue
            if not slides or self._is_clear(path, index):
                return place
        return None

    def _random_places(self) -> Iterator[np.ndarray]:
        """Yield random places in random cells."""
        for _ in range(_PLACES):
            cell = self.rng.integers(0, GRID, 2) - GRID / 2 + 0.5
            yield cell + self.rng.uniform(-self.spec.scatter, self.spec.scatter, 2)

    def _is_clear(self, path: np.ndarray, index: int) -> bool:
        """Return True if an object on a path (n, 2) keeps clear of all that moves in this slot."""
        return all(
            (np.linalg.norm(path[:, None] - other, axis=-1) >= radius + self.radii[index] + _GAP).all()
            for other, radius in self.paths
        )

    def _cones_for(self, target: int) -> list[int]:
        """Return, in random order, uncovered cones that hold nothing and fit over an uncovered object."""
        if self.cover[target] >= 0:
            return []
        empty = [i for i in range(len(self.objects)) if self.cover[i] < 0 and not (self.cover == i).any()]
        return [int(i) for i in self.rng.permutation(empty) if self.objects[i].holds(self.objects[target])]

    def _with_covers(self, index: int) -> list[int]:
        """Return an object and all cones over it, from the inside."""
        chain = [index]
        while self.cover[chain[-1]] >= 0:
            chain.append(int(self.cover[chain[-1]]))
        return chain

    def _outermost(self, index: int) -> int:
        """Return the outermost cone over an object; the object itself if it is uncovered."""
        return self._with_covers(index)[-1]


def _shares(start: int, end: int) -> np.ndarray:
    """Return how much of an action is over in each of its frames; 1 in the last."""
    return (np.arange(start, end) - start + 1) / (end - start)


def _ease(share: np.ndarray) -> np.ndarray:
    """Return shares 0 to 1 of a motion that starts and ends gently."""
    return share * share * (3 - 2 * share)


def _path(source: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Return points (n, 2) on the way between two places."""
    return source + _WAY * (place - source)
