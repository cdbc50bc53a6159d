"""Pictures of scenes by MuJoCo, drawn in software: no GPU and no display are needed.

One model, compiled once in a process, brings the meshes, the lights and the ground. The objects of a frame are written
straight into the list of shapes that MuJoCo draws, so no video needs a model of its own.
"""

import importlib
import os
from ctypes.util import find_library
from types import ModuleType

import cv2
import numpy as np

from slowfast.apps.synthetic.cater.camera import FIELD_OF_VIEW, Camera
from slowfast.apps.synthetic.cater.objects import CONE, CUBE, CYLINDER, SIZES, SNITCH, THE_SNITCH, Object
from slowfast.apps.synthetic.cater.world import World

_LIBRARIES = ("osmesa", "egl")
_SUPERSAMPLING = 2  # pictures are drawn larger and reduced, which takes a third of the time of MuJoCo's own smoothing
_SIDES = 40  # of a cone
_SLICES = (16, 32)  # of round shapes, in small and in large pictures: drawing them takes most of the time
_RING = (0.76, 0.24)  # radii of the snitch's rings and of their tubes, in radii of the snitch
_GROUND, _SHADOW = (0.62, 0.62, 0.62, 1.0), (0.42, 0.42, 0.42, 1.0)
_LOOKS = {"rubber": (0.1, 0.1), "metal": (0.9, 0.7)}  # specular, shininess
_NEAR, _FAR = 1.0, 60.0
_MOST_SHAPES = 64

_MODEL = """
<mujoco>
  <visual>
    <global offwidth="{pixels}" offheight="{pixels}"/>
    <quality offsamples="0" numslices="{slices}" numstacks="{stacks}" numquads="1"/>
    <headlight ambient=".38 .38 .38" diffuse=".22 .22 .22" specular=".1 .1 .1"/>
  </visual>
  <asset>{meshes}</asset>
  <worldbody>
    <light pos="4 -5 9" dir="-.36 .45 -.81" diffuse=".55 .55 .55" specular=".5 .5 .5" directional="true"/>
    <light pos="-6 -2 6" dir=".67 .22 -.67" diffuse=".18 .18 .18" specular=".1 .1 .1" directional="true"/>
    {bodies}
  </worldbody>
</mujoco>
"""


def load_mujoco() -> tuple[ModuleType, type]:
    """Import MuJoCo and its context to draw in memory: that of MUJOCO_GL, or else OSMesa, or else EGL.

    Raises:
        ValueError: MuJoCo, or the library that draws, is missing.
    """
    library = os.environ.setdefault("MUJOCO_GL", "osmesa" if find_library("OSMesa") else "egl")
    os.environ.setdefault("LP_NUM_THREADS", "0")  # threads of Mesa's own gain nothing on small pictures
    if library not in _LIBRARIES:
        raise ValueError(f"MUJOCO_GL {library}: {' and '.join(_LIBRARIES)} draw without a display")
    try:
        # Named, since MuJoCo's own choice is made once: by what MUJOCO_GL was when it was imported first.
        return importlib.import_module("mujoco"), importlib.import_module(f"mujoco.{library}").GLContext
    except ModuleNotFoundError:
        raise ValueError("the cater set is drawn by MuJoCo; install it: pip install 'slowfast-pgt[cater]'") from None
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"MuJoCo cannot draw with MUJOCO_GL={library} ({error}): the system's OSMesa is missing (apt install "
            "libosmesa6), or its EGL (libegl1)"
        ) from None


class Renderer:
    """Draws square pictures of `size` pixels."""

    def __init__(self, size: int) -> None:
        """Load MuJoCo and compile the model.

        Raises:
            ValueError: see `load_mujoco`.
        """
        self._mujoco, context = load_mujoco()
        mujoco, flags = self._mujoco, self._mujoco.mjtRndFlag
        self.size, self._pixels = size, size * _SUPERSAMPLING
        self._model = mujoco.MjModel.from_xml_string(_model(self._pixels))
        data = mujoco.MjData(self._model)
        mujoco.mj_forward(self._model, data)
        self._gl = context(self._pixels, self._pixels)
        self._gl.make_current()
        self._context = mujoco.MjrContext(self._model, mujoco.mjtFontScale.mjFONTSCALE_50)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._scene = mujoco.MjvScene(self._model, maxgeom=_MOST_SHAPES)
        for flag in (flags.mjRND_SHADOW, flags.mjRND_REFLECTION, flags.mjRND_SKYBOX):
            self._scene.flags[flag] = False
        # This brings the lights.
        mujoco.mjv_updateScene(
            self._model, data, mujoco.MjvOption(), None, mujoco.MjvCamera(), mujoco.mjtCatBit.mjCAT_ALL, self._scene
        )
        self._view = mujoco.MjrRect(0, 0, self._pixels, self._pixels)
        self._picture = np.empty((self._pixels, self._pixels, 3), np.uint8)
        self._poses: list[tuple[np.ndarray, np.ndarray]] = []  # of each object's shape, from the middle of its base

    def close(self) -> None:
        """Free the drawing context."""
        self._context.free()
        self._gl.free()

    def draw(self, world: World, camera: Camera) -> np.ndarray:
        """Draw all frames of a scene: (T, size, size, 3) uint8 RGB."""
        self._fill(world)
        pictures = np.empty((len(world.positions), self.size, self.size, 3), np.uint8)
        former = None
        for number in range(len(pictures)):
            state = (world.positions[number], world.angles[number], camera.eye[number])
            if former is not None and all(map(np.array_equal, state, former)):
                pictures[number] = pictures[number - 1]  # nothing moved
                continue
            self._move(world, camera, number)
            cv2.resize(self._render(), (self.size, self.size), dst=pictures[number], interpolation=cv2.INTER_AREA)
            former = state
        return pictures

    def segment(self, world: World, camera: Camera, number: int) -> np.ndarray:
        """Draw which object each pixel of a frame shows, without smoothing: (n, n) int; -1 for the ground."""
        self._fill(world)
        self._move(world, camera, number)
        flags = self._scene.flags
        segment, ids = self._mujoco.mjtRndFlag.mjRND_SEGMENT, self._mujoco.mjtRndFlag.mjRND_IDCOLOR
        flags[segment], flags[ids] = True, True
        try:
            picture = self._render().astype(int)
        finally:
            flags[segment], flags[ids] = False, False
        shapes = picture[..., 0] + 256 * picture[..., 1] + 65536 * picture[..., 2] - 1
        return np.where(shapes < 1, -1, np.where(shapes % 2 == 1, -1, shapes // 2 - 1))

    def _render(self) -> np.ndarray:
        mujoco = self._mujoco
        mujoco.mjr_render(self._view, self._scene, self._context)
        mujoco.mjr_readPixels(self._picture, None, self._view, self._context)
        return self._picture[::-1]

    def _fill(self, world: World) -> None:
        """Write the shapes of a scene: the ground is shape 0, object i has shadow 2 i + 1 and shape 2 i + 2."""
        self._gl.make_current()  # another renderer may have drawn since
        kinds = self._mujoco.mjtGeom
        self._scene.ngeom = 0
        self._add(kinds.mjGEOM_BOX, (20, 20, 0.5), _GROUND, (0.0, 0.0))
        self._scene.geoms[0].pos[:] = 0, 0, -0.5
        self._poses = []
        for thing in world.objects:
            self._add(kinds.mjGEOM_CYLINDER, (1.08 * thing.radius, 0.004, 0), _SHADOW, (0.0, 0.0))
            kind, size, mesh = self._shape(thing)
            self._add(kind, size, (*(np.array(thing.rgb) / 255), 1.0), _LOOKS[thing.material], mesh)
            self._poses.append(self._mesh_pose(mesh) if mesh else (np.array([0, 0, thing.height / 2]), np.eye(3)))

    def _move(self, world: World, camera: Camera, number: int) -> None:
        """Put the shapes and the camera where they are in a frame."""
        geoms = self._scene.geoms
        for index, (offset, axes) in enumerate(self._poses):
            place, turn = world.positions[number, index], _turn(world.angles[number, index])
            covered = world.inside[number, index] >= 0
            geoms[2 * index + 1].pos[:] = place[0], place[1], -1 if covered else 0.005
            shape = geoms[2 * index + 2]
            shape.pos[:] = place + turn @ offset
            shape.mat[:] = turn @ axes
        # Both eyes of the scene are the same, since a picture is drawn from their middle.
        half = _NEAR * np.tan(np.radians(FIELD_OF_VIEW) / 2)
        for eye in self._scene.camera:
            eye.pos[:], eye.forward[:], eye.up[:] = camera.eye[number], camera.forward[number], camera.up[number]
            eye.frustum_near, eye.frustum_far = _NEAR, _FAR
            eye.frustum_bottom, eye.frustum_top, eye.frustum_center, eye.frustum_width = -half, half, 0, half

    def _mesh_pose(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the position (3,) and the axes (3, 3) of a mesh.

        MuJoCo moves a mesh to its center of mass and turns it to its axes of inertia.
        """
        number, axes = self._model.mesh(name).id, np.empty(9)
        self._mujoco.mju_quat2Mat(axes, self._model.mesh_quat[number])
        return self._model.mesh_pos[number].copy(), axes.reshape(3, 3)

    def _shape(self, thing: Object) -> tuple[int, tuple[float, float, float], str | None]:
        """Return the kind of shape, its half sizes, and its mesh."""
        kinds = self._mujoco.mjtGeom
        half = thing.height / 2
        if thing.shape == CUBE:
            return kinds.mjGEOM_BOX, (half, half, half), None
        if thing.shape == CYLINDER:
            return kinds.mjGEOM_CYLINDER, (thing.radius, half, 0), None
        if thing.shape in (CONE, SNITCH):
            return kinds.mjGEOM_MESH, (1, 1, 1), SNITCH if thing.shape == SNITCH else f"cone_{thing.size}"
        return kinds.mjGEOM_SPHERE, (thing.radius,) * 3, None

    def _add(self, kind: int, size, color, look: tuple[float, float], mesh: str | None = None) -> None:
        """Add a shape to the scene."""
        shape = self._scene.geoms[self._scene.ngeom]
        self._mujoco.mjv_initGeom(
            shape, kind, np.array(size, float), np.zeros(3), np.eye(3).ravel(), np.array(color, np.float32)
        )
        shape.specular, shape.shininess = look
        shape.reflectance = 0.0
        shape.segid = self._scene.ngeom
        if mesh is not None:
            shape.dataid = 2 * self._model.mesh(mesh).id
        self._scene.ngeom += 1


def _model(pixels: int) -> str:
    """Return the model, in MuJoCo's XML, for pictures of `pixels` pixels."""
    meshes = {f"cone_{size}": _cone(Object(CONE, size, "red", "rubber")) for size in SIZES} | {SNITCH: _rings()}
    assets = (f'<mesh name="{name}" vertex="{_text(v)}" face="{_text(f)}"/>' for name, (v, f) in meshes.items())
    bodies = (f'<geom type="mesh" mesh="{name}"/>' for name in meshes)
    slices = int(np.clip(pixels // 8, *_SLICES))
    return _MODEL.format(
        pixels=pixels, slices=slices, stacks=slices // 2, meshes="".join(assets), bodies="".join(bodies)
    )


def _cone(thing: Object) -> tuple[np.ndarray, np.ndarray]:
    """Return vertices and triangles of a cone whose base is at 0."""
    turns = 2 * np.pi * np.arange(_SIDES) / _SIDES
    rim = np.stack([thing.radius * np.cos(turns), thing.radius * np.sin(turns), np.zeros(_SIDES)], axis=1)
    this, following = np.arange(_SIDES), (np.arange(_SIDES) + 1) % _SIDES
    side = np.stack([this, following, np.full(_SIDES, _SIDES)], axis=1)
    base = np.stack([following, this, np.full(_SIDES, _SIDES + 1)], axis=1)
    return np.concatenate([rim, [[0, 0, thing.height], [0, 0, 0]]]), np.concatenate([side, base])


def _rings(around: int = 20, across: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Return vertices and triangles of the snitch, its base at 0: three rings, each across the others."""
    ring, tube = (THE_SNITCH.radius * share for share in _RING)
    u, v = np.meshgrid(2 * np.pi * np.arange(around) / around, 2 * np.pi * np.arange(across) / across, indexing="ij")
    flat = np.stack(
        [(ring + tube * np.cos(v)) * np.cos(u), (ring + tube * np.cos(v)) * np.sin(u), tube * np.sin(v)], -1
    )
    corner = np.arange(around * across).reshape(around, across)
    right, below, both = np.roll(corner, -1, 0), np.roll(corner, -1, 1), np.roll(corner, (-1, -1), (0, 1))
    faces = np.concatenate([np.stack([corner, right, both], -1), np.stack([corner, both, below], -1)]).reshape(-1, 3)
    vertices = [np.roll(flat.reshape(-1, 3), shift, axis=1) for shift in range(3)]
    rise = (0, 0, THE_SNITCH.radius)
    return np.concatenate(vertices) + rise, np.concatenate([faces + i * around * across for i in range(3)])


def _turn(angle: float) -> np.ndarray:
    """Return the matrix (3, 3) of a turn about the vertical."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])


def _text(values: np.ndarray) -> str:
    return " ".join(map(str, values.ravel().tolist()))
