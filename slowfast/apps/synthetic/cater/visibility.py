"""Visibility of the snitch, by geometry: rays from the camera to points of its outline, against all other objects.

No picture is needed, so that a scene can be chosen by the frame in which its snitch is seen last. The test compares it
with the pixels of a rendered picture.
"""

import numpy as np

from slowfast.apps.synthetic.cater.camera import Camera
from slowfast.apps.synthetic.cater.objects import CONE, CUBE, CYLINDER, Object
from slowfast.apps.synthetic.cater.world import World

VISIBLE_SHARE = 0.25  # of its outline, from which on the snitch counts as visible
_RINGS, _SPOKES = 3, 10
_NEAR = 1e-9


def seen_share(world: World, camera: Camera) -> np.ndarray:
    """Return the share of the snitch's outline that the camera sees in every frame, (T,) float64; 0 under a cone."""
    share = np.zeros(len(world.positions))
    open_frames = np.flatnonzero(world.inside[:, 0] < 0)
    snitch = world.objects[0]
    eye, right, up = (value[open_frames] for value in (camera.eye, camera.right, camera.up))
    middle = world.positions[open_frames, 0] + (0, 0, snitch.radius)
    spots = snitch.radius * _disc()
    points = middle[:, None] + spots[:, :1] * right[:, None] + spots[:, 1:] * up[:, None]
    picture = Camera(eye, right, up, camera.forward[open_frames]).project(points)
    hidden = ((picture < 0) | (picture > 1)).any(-1)
    for index, thing in enumerate(world.objects[1:], start=1):
        place, angle = world.positions[open_frames, index], world.angles[open_frames, index]
        hidden |= _blocks(thing, _turned(eye - place, angle)[:, None], _turned(points - place[:, None], angle[:, None]))
    share[open_frames] = 1 - hidden.mean(axis=1)
    return share


def last_visible(shares: np.ndarray) -> int:
    """Return the last frame in which the snitch is visible; -1 if it never is."""
    frames = np.flatnonzero(shares >= VISIBLE_SHARE)
    return int(frames[-1]) if len(frames) else -1


def _disc() -> np.ndarray:
    """Return points (P, 2) that are even over a disc of radius 1."""
    radii = np.sqrt((np.arange(_RINGS) + 0.5) / _RINGS)
    turns = 2 * np.pi * (np.arange(_SPOKES)[None] + np.arange(_RINGS)[:, None] / _RINGS) / _SPOKES
    return (radii[:, None, None] * np.stack([np.cos(turns), np.sin(turns)], axis=-1)).reshape(-1, 2)


def _turned(ways: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Return vectors (..., 3) in the axes of an object that is turned by `angle` (...)."""
    cos, sin = np.cos(angle), np.sin(angle)
    x, y, z = np.moveaxis(ways, -1, 0)
    return np.stack([cos * x + sin * y, cos * y - sin * x, z], axis=-1)


def _blocks(thing: Object, eye: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return where an object, its base at 0, is between the eyes (T, 1, 3) and points (T, P, 3): (T, P) bool."""
    way = points - eye
    if thing.shape == CUBE:
        half = thing.height / 2
        return _crosses_slabs(eye, way, (half, half), thing.height)
    if thing.shape == CYLINDER:
        enter, leave = _roots((way[..., :2] ** 2).sum(-1), (eye * way)[..., :2].sum(-1), _square(eye) - thing.radius**2)
        low, high = _slab(eye[..., 2], way[..., 2], 0, thing.height)
        return _overlaps(np.maximum(enter, low), np.minimum(leave, high))
    if thing.shape == CONE:
        return _crosses_cone(thing, eye, way)
    eye = eye - (0, 0, thing.radius)
    enter, leave = _roots((way**2).sum(-1), (eye * way).sum(-1), (eye**2).sum(-1) - thing.radius**2)
    return _overlaps(enter, leave)


def _crosses_cone(thing: Object, eye: np.ndarray, way: np.ndarray) -> np.ndarray:
    """Return where ways meet the side of a cone: x^2 + y^2 = (slope (height - z))^2, z between 0 and the height."""
    slope = thing.radius / thing.height
    gap, fall = slope * (thing.height - eye[..., 2]), -slope * way[..., 2]
    square = (way[..., :2] ** 2).sum(-1) - fall**2
    linear = (eye * way)[..., :2].sum(-1) - gap * fall
    hits = np.zeros(way.shape[:-1], bool)
    for at in _roots(square, linear, _square(eye) - gap**2):
        z = eye[..., 2] + at * way[..., 2]
        hits |= (at > _NEAR) & (at < 1) & (z >= 0) & (z <= thing.height)
    return hits


def _crosses_slabs(eye: np.ndarray, way: np.ndarray, half: tuple[float, float], height: float) -> np.ndarray:
    spans = [_slab(eye[..., i], way[..., i], -half[i], half[i]) for i in (0, 1)]
    spans.append(_slab(eye[..., 2], way[..., 2], 0, height))
    return _overlaps(np.max([low for low, _ in spans], axis=0), np.min([high for _, high in spans], axis=0))


def _slab(eye: np.ndarray, way: np.ndarray, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the shares of ways at which they enter and leave low <= coordinate <= high."""
    way = np.where(np.abs(way) < _NEAR, _NEAR, way)
    ends = (low - eye) / way, (high - eye) / way
    return np.minimum(*ends), np.maximum(*ends)


def _roots(square: np.ndarray, linear: np.ndarray, constant: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both roots of square t^2 + 2 linear t + constant; nan where there are none."""
    square = np.where(np.abs(square) < _NEAR, _NEAR, square)
    with np.errstate(invalid="ignore"):
        root = np.sqrt(linear**2 - square * constant)
    return (-linear - root) / square, (-linear + root) / square


def _overlaps(enter: np.ndarray, leave: np.ndarray) -> np.ndarray:
    """Return where a way, 0 to 1, is inside for a while; never where a number is nan."""
    return (enter < leave) & (leave > _NEAR) & (enter < 1)


def _square(eye: np.ndarray) -> np.ndarray:
    return (eye[..., :2] ** 2).sum(-1)
