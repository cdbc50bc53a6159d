"""The camera of a scene: fixed, or on a smooth random path; and where it sees points of the world."""

from dataclasses import dataclass

import numpy as np

FIELD_OF_VIEW = 36.0  # degrees, of the height and the width
_TARGET = (0.0, 0.0, 0.15)
_DISTANCE, _AZIMUTH, _ELEVATION = 12.6, 0.0, 52.0  # units and degrees
_SWINGS = {"distance": 0.5, "azimuth": 22.0, "elevation": 6.0}  # largest distances from those, of a moving camera
_WAVES = 3


@dataclass(frozen=True)
class Camera:
    """Poses of a camera in T frames: `eye` (T, 3), and `right`, `up`, `forward` (T, 3), unit vectors."""

    eye: np.ndarray
    right: np.ndarray
    up: np.ndarray
    forward: np.ndarray

    def project(self, points: np.ndarray) -> np.ndarray:
        """Return where points (T, P, 3) are in the picture, (T, P, 2): 0 to 1 from the left and from the top."""
        ways = points - self.eye[:, None]
        x, y, depth = (np.einsum("tpc,tc->tp", ways, axis) for axis in (self.right, self.up, self.forward))
        scale = 2 * np.tan(np.radians(FIELD_OF_VIEW) / 2) * depth
        return np.stack([0.5 + x / scale, 0.5 - y / scale], axis=-1)


def make_camera(rng: np.random.Generator, num_frames: int, moving: bool) -> Camera:
    """Make a camera; a moving one looks at the middle of the ground from a path of slow waves."""
    distance, azimuth, elevation = (
        middle + (swing * _wave(rng, num_frames) if moving else np.zeros(num_frames))
        for middle, swing in zip((_DISTANCE, _AZIMUTH, _ELEVATION), _SWINGS.values(), strict=True)
    )
    turn, rise = np.radians(azimuth), np.radians(elevation)
    back = np.stack([np.sin(turn) * np.cos(rise), -np.cos(turn) * np.cos(rise), np.sin(rise)], axis=1)
    right = np.stack([np.cos(turn), np.sin(turn), np.zeros(num_frames)], axis=1)
    return Camera(np.array(_TARGET) + distance[:, None] * back, right, np.cross(back, right), -back)


def _wave(rng: np.random.Generator, num_frames: int) -> np.ndarray:
    """Return a smooth random curve (num_frames,) from -1 to 1."""
    time = np.arange(num_frames) / num_frames
    rates, phases, heights = rng.uniform(0.5, 2.0, _WAVES), rng.uniform(0, 1, _WAVES), rng.uniform(0.5, 1.0, _WAVES)
    curves = np.sin(2 * np.pi * (rates * time[:, None] + phases))
    return curves @ heights / heights.sum()
