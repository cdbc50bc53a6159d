"""A scene after CATER (Girdhar and Ramanan, ICLR 2020): where every object is in every frame, and what it does.

Positions are (x, y, z) of the middle of an object's base. The ground is z = 0, x goes to the right, y away from the
camera. The grid of 6 x 6 cells covers -3 to 3.
"""

from dataclasses import dataclass

import numpy as np

from slowfast.apps.synthetic.cater.objects import CUBE, CYLINDER, SNITCH, Object

GRID = 6
SLIDE, ROTATE, PICK_PLACE, CONTAIN = ACTIONS = ("slide", "rotate", "pick-place", "contain")
ROTATING = (SNITCH, CUBE, CYLINDER)  # shapes that rotate


@dataclass(frozen=True)
class WorldSpec:
    """Parameters of scenes; pairs are (least, most), both included.

    Attributes:
        objects: number of objects, the snitch among them.
        cones: number of cones that can hold the snitch.
        slots: number of time slots.
        slot_frames: frames of a slot.
        movers: most objects that act in a slot.
        frames: of an action.
        slide: length of a slide, in cells.
        scatter: how far from the middle of a cell objects are put, along each axis; 0.5 reaches its edges.
        cone_slides: probability that, in a slot, one of the uncovered cones that can hold the snitch slides. All of
            them are as likely, so motion does not tell which one holds it. With 0 none of them ever slides.
    """

    objects: tuple[int, int] = (5, 10)
    cones: tuple[int, int] = (2, 4)
    slots: int = 10
    slot_frames: int = 30
    movers: int = 2
    frames: tuple[int, int] = (12, 28)
    slide: tuple[float, float] = (1.0, 6.0)
    scatter: float = 0.5
    cone_slides: float = 0.8

    @property
    def num_frames(self) -> int:
        """Return the number of frames of a video."""
        return self.slots * self.slot_frames


@dataclass(frozen=True)
class Action:
    """An action of object `actor` in frames `start` to `end`, exclusive; `target` is what a cone contains, or -1."""

    kind: str
    actor: int
    start: int
    end: int
    target: int = -1


@dataclass(frozen=True)
class World:
    """All that happens in a video of T frames with N objects; object 0 is the snitch.

    Attributes:
        actions: in order of their starts.
        positions: (T, N, 3) float64, the middle of the base.
        angles: (T, N) float64, turns about the vertical, in radians.
        inside: (T, N) int: the cone directly over an object; -1 for none.
    """

    objects: list[Object]
    actions: list[Action]
    positions: np.ndarray
    angles: np.ndarray
    inside: np.ndarray

    @property
    def cells(self) -> np.ndarray:
        """Return the cell of the snitch in every frame, (T,) int."""
        return cell_of(self.positions[:, 0, :2])


def cell_of(places: np.ndarray) -> np.ndarray:
    """Return the cells (...,) of places (..., 2): 0 to 5 from left to right in the farthest row, then nearer rows.

    Places outside the grid belong to the nearest cell.
    """
    column, row = (np.clip(np.floor(GRID / 2 + sign * places[..., i]), 0, GRID - 1) for i, sign in ((0, 1), (1, -1)))
    return (GRID * row + column).astype(int)
