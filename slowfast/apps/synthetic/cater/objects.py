"""Objects of a scene after CATER: shapes, sizes, colors, materials, and what fits under a cone.

Lengths are in units of the ground: a cell of the grid is 1 by 1.
"""

from dataclasses import dataclass

import numpy as np

SNITCH, CUBE, SPHERE, CYLINDER, CONE = SHAPES = ("snitch", "cube", "sphere", "cylinder", "cone")
SIZES = {"small": 0.40, "medium": 0.60, "large": 0.76}  # radius of the ground that an object takes
COLORS = {  # those of CLEVR without yellow, which small pictures do not tell from gold
    "gray": (87, 87, 87),
    "red": (173, 35, 35),
    "blue": (42, 75, 215),
    "green": (29, 105, 20),
    "brown": (129, 74, 25),
    "purple": (129, 38, 192),
    "cyan": (41, 208, 208),
}
GOLD = (255, 190, 20)
MATERIALS = ("rubber", "metal")
_SNITCH_RADIUS = 0.38
_CONE_HEIGHT = 2.2  # in radii
_CUBE_EDGE = 2**0.5  # in radii; the corners are on the circle of the radius
_CYLINDER_HEIGHT = 1.5  # in radii


@dataclass(frozen=True)
class Object:
    """An object; `radius` is that of the ground which it takes."""

    shape: str
    size: str
    color: str
    material: str

    @property
    def radius(self) -> float:
        """Return the radius of the circle of ground that the object takes."""
        return _SNITCH_RADIUS if self.shape == SNITCH else SIZES[self.size]

    @property
    def height(self) -> float:
        """Return the height of the object."""
        return self.radius * {CUBE: _CUBE_EDGE, CYLINDER: _CYLINDER_HEIGHT, CONE: _CONE_HEIGHT}.get(self.shape, 2.0)

    @property
    def rgb(self) -> tuple[int, int, int]:
        """Return the color, 0 to 255."""
        return GOLD if self.shape == SNITCH else COLORS[self.color]

    def holds(self, other: "Object") -> bool:
        """Return True if this is a cone, and `other`, a ball or a smaller cone, fits under it."""
        if self.shape != CONE:
            return False
        if other.shape == CONE:
            return other.radius < self.radius
        return other.shape in (SNITCH, SPHERE) and other.radius <= self._largest_ball

    @property
    def _largest_ball(self) -> float:
        """Return the radius of the largest ball that stands on the ground under this cone."""
        return self.radius * self.height / (self.radius + np.hypot(self.radius, self.height))


THE_SNITCH = Object(SNITCH, "small", "gold", "metal")


def sample_objects(rng: np.random.Generator, count: int, cones: int) -> list[Object]:
    """Sample `count` objects: the snitch, first; `cones` cones that can hold it; and any others but such cones.

    No two of the cones that can hold the snitch look the same. Colors repeat only where there are more objects than
    colors.
    """
    colors = [name for _ in range(-(-count // len(COLORS))) for name in rng.permutation(list(COLORS))]
    objects = [THE_SNITCH]
    while len(objects) < count:
        can_hold = len(objects) <= cones
        size = str(rng.choice(("medium", "large") if can_hold else tuple(SIZES)))
        shapes = (CONE,) if can_hold else (CUBE, SPHERE, CYLINDER) + ((CONE,) if size == "small" else ())
        material = str(rng.choice(MATERIALS))
        objects.append(Object(str(rng.choice(shapes)), size, str(colors[len(objects)]), material))
    return objects
