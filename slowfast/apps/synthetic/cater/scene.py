"""A scene of a set, chosen by the frame in which its snitch is seen last, and its ground truth."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from slowfast.apps.synthetic import render
from slowfast.apps.synthetic.cater.camera import Camera, make_camera
from slowfast.apps.synthetic.cater.planner import make_world
from slowfast.apps.synthetic.cater.visibility import VISIBLE_SHARE, last_visible, seen_share
from slowfast.apps.synthetic.cater.world import World, WorldSpec
from slowfast.utils.files import atomic_write_local

_TRIES = 200


@dataclass(frozen=True)
class Scene:
    """A scene with its camera; `seen` (T,) is the share of the snitch that is seen."""

    world: World
    camera: Camera
    seen: np.ndarray

    @property
    def label(self) -> int:
        """Return the cell of the snitch in the last frame."""
        return int(self.world.cells[-1])

    @property
    def last_visible(self) -> int:
        """Return the last frame in which the snitch is visible; -1 if it never is."""
        return last_visible(self.seen)


def make_scene(seed: int, split: str, index: int, spec: WorldSpec, moving: bool) -> Scene:
    """Make scene `index` of a split. Its snitch is seen last in time slot `index` modulo the number of slots.

    Of every other scene of the last slot the snitch is visible to the end.

    Raises:
        ValueError: no such scene was found.
    """
    rng = render.video_generator(seed, split, index)
    turn, slot = divmod(index, spec.slots)
    final = None if slot == spec.slots - 1 and turn % 2 else slot
    for _ in range(_TRIES):
        world = make_world(rng, spec, final)
        camera = make_camera(rng, spec.num_frames, moving)
        seen = seen_share(world, camera)
        if last_visible(seen) // spec.slot_frames == slot:
            return Scene(world, camera, seen)
    raise ValueError(f"{spec}: no scene was found whose snitch is seen last in slot {slot}, in {_TRIES} tries")


def write_truth(path: Path, scene: Scene) -> None:
    """Write the ground truth of a scene as a NumPy archive (.npz), atomically; `docs/cater.md` describes its arrays."""
    world, camera = scene.world, scene.camera
    arrays = {
        "positions": world.positions.astype(np.float32),
        "angles": world.angles.astype(np.float32),
        "inside": world.inside.astype(np.int8),
        "cells": world.cells.astype(np.int8),
        "visible": scene.seen >= VISIBLE_SHARE,
        "seen": scene.seen.astype(np.float32),
        "eye": camera.eye.astype(np.float32),
        "right": camera.right.astype(np.float32),
        "up": camera.up.astype(np.float32),
        "objects": np.array(json.dumps([asdict(thing) for thing in world.objects])),
        "actions": np.array(json.dumps([asdict(action) for action in world.actions])),
    }
    atomic_write_local(path, lambda stream: np.savez_compressed(stream, **arrays))
