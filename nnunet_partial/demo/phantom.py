"""A phantom abdomen: small synthetic CT in Hounsfield units, with the truth of nine structures.

Every case has its own pose, organ shapes, positions, sizes, contrast and noise, all drawn from its seed. Organs, bowel and muscle
have similar values, as in CT: a network has to learn where an organ lies and what it looks like, not only how bright it is.

Coordinates are millimetres from the middle of the body: right (of the patient), anterior, superior, the positive directions of
NIfTI, so arrays are (right, anterior, superior).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

ORGANS = ("liver", "spleen", "pancreas", "kidney_left", "kidney_right")  # the classes of the demonstration
STRUCTURES = (*ORGANS, "gallbladder", "stomach", "aorta", "inferior_vena_cava")  # everything the truth knows

AIR, LUNG, FAT, MUSCLE = -1000.0, -830.0, -95.0, 52.0
EDGE_MM = 5.0  # width of the blur at a surface: the partial volume effect of voxels this large


@dataclass(frozen=True)
class Phantom:
    """One synthetic scan and its truth.

    Attributes:
        image: (right, anterior, superior) int16, Hounsfield units.
        truth: Same shape, uint8; number n is STRUCTURES[n - 1].
        spacing_mm: Size of a voxel along each axis.
    """

    image: np.ndarray
    truth: np.ndarray
    spacing_mm: tuple[float, float, float]

    @property
    def affine(self) -> np.ndarray:
        """Voxel index to millimetres (right, anterior, superior)."""
        affine = np.diag([*self.spacing_mm, 1.0])
        affine[:3, 3] = [-(size - 1) / 2 * step for size, step in zip(self.image.shape, self.spacing_mm, strict=True)]
        return affine

    def mask(self, name: str) -> np.ndarray:
        """Where a structure is, as bool."""
        return self.truth == STRUCTURES.index(name) + 1


def make_phantom(
    seed: int, *, shape: tuple[int, int, int] = (64, 56, 32), extent_mm: tuple[float, float, float] = (350, 285, 200)
) -> Phantom:
    """One case; the same seed and shape give the same voxels.

    Args:
        seed: Number of the case.
        shape: Voxels along right, anterior, superior.
        extent_mm: What the field of view covers, before the few per cent by which scans differ.
    """
    rng = np.random.default_rng([seed, 2021])
    spacing_mm = tuple(float(round(e / n * rng.uniform(0.97, 1.03), 3)) for e, n in zip(extent_mm, shape, strict=True))
    canvas = _Canvas(_posed_grid(rng, shape, spacing_mm))
    contrast = rng.normal(0, 1)  # shared by all organs: how much contrast medium has arrived
    cavity = _paint_trunk(canvas, rng)
    _paint_bowel(canvas, rng, cavity)
    _paint_stomach(canvas, rng, cavity)
    _paint_spleen(canvas, rng, cavity, 114 + 13 * contrast + rng.normal(0, 7))
    _paint_liver(canvas, rng, cavity, 104 + 11 * contrast + rng.normal(0, 7), 135 + 20 * contrast)
    _paint_vessels(canvas, rng, 160 + 30 * contrast + rng.normal(0, 12), 135 + 22 * contrast + rng.normal(0, 10))
    _paint_kidneys(canvas, rng, 148 + 24 * contrast + rng.normal(0, 10))
    _paint_pancreas(canvas, rng, cavity, 84 + 9 * contrast + rng.normal(0, 6))
    image = canvas.image + _texture(rng, shape, 5) + rng.normal(0, rng.uniform(10, 18), shape)
    return Phantom(np.clip(np.rint(image), -1024, 1500).astype(np.int16), canvas.truth, spacing_mm)


class _Canvas:
    """Image and truth under the brush; what is painted later lies in front. Depths are mm below a surface, positive inside."""

    def __init__(self, points_mm: tuple[np.ndarray, np.ndarray, np.ndarray]):
        self.points_mm = points_mm
        self.image = np.full(points_mm[0].shape, AIR, dtype=np.float32)
        self.truth = np.zeros(points_mm[0].shape, dtype=np.uint8)

    def tint(self, depth_mm: np.ndarray, value_hu: float | np.ndarray) -> None:
        """Fill the image where the depth is positive, with a soft edge; what the truth says stays."""
        self.image += np.clip(0.5 + depth_mm / EDGE_MM, 0, 1) * (value_hu - self.image)

    def paint(self, depth_mm: np.ndarray, value_hu: float | np.ndarray, name: str | None = None) -> None:
        """Fill image and truth; without a name the truth says that nothing known is there."""
        self.tint(depth_mm, value_hu)
        self.truth[depth_mm > 0] = STRUCTURES.index(name) + 1 if name else 0

    def ellipsoid(self, centre_mm: Sequence[float], radii_mm: Sequence[float], *, power: float = 2.0) -> np.ndarray:
        """Depth below the surface of an ellipsoid (power 2) or of a rounder-cornered box (more)."""
        distances = [np.abs((p - c) / r) ** power for p, c, r in zip(self.points_mm, centre_mm, radii_mm, strict=True)]
        return ((1 - sum(distances) ** (1 / power)) * np.min(radii_mm)).astype(np.float32)

    def tube(self, path_mm: Sequence[Sequence[float]], radii_mm: Sequence[float]) -> np.ndarray:
        """Depth below the surface of a tube along a polyline, its radius given at every corner."""
        path = np.asarray(path_mm, dtype=np.float32)
        depth = np.full(self.points_mm[0].shape, -np.inf, dtype=np.float32)
        for start, step, r_start, r_end in zip(path[:-1], np.diff(path, axis=0), radii_mm[:-1], radii_mm[1:], strict=True):
            away = [p - c for p, c in zip(self.points_mm, start, strict=True)]
            share = np.clip(sum(a * s for a, s in zip(away, step, strict=True)) / (step @ step), 0, 1)
            distance = np.sqrt(sum((a - share * s) ** 2 for a, s in zip(away, step, strict=True)))
            depth = np.maximum(depth, np.float32(r_start) + share * np.float32(r_end - r_start) - distance)
        return depth


def _posed_grid(rng: np.random.Generator, shape: tuple[int, ...], spacing_mm: tuple[float, ...]) -> tuple[np.ndarray, ...]:
    """Where each voxel lies in the standard body: scanner grid, then this patient's shift, turn, size and bend."""
    axes = [(np.arange(size) - (size - 1) / 2) * step for size, step in zip(shape, spacing_mm, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1) - rng.normal(0, (4, 4, 9))
    points = points @ _rotation(rng.normal(0, np.radians((2.5, 2.5, 4)))) / rng.normal(1, (0.03, 0.04, 0.05))
    bend = np.zeros_like(points)
    for _ in range(4):
        wave = rng.normal(0, 1, 3)
        wave *= 2 * np.pi / rng.uniform(140, 280) / np.linalg.norm(wave)
        bend += rng.normal(0, 3.0, 3) * np.sin(points @ wave + rng.uniform(0, 2 * np.pi))[..., None]
    return tuple(np.moveaxis((points + bend).astype(np.float32), -1, 0))


def _rotation(angles: np.ndarray) -> np.ndarray:
    """Rotation matrix from angles about the three axes."""
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        turn = np.eye(3)
        one, two = [k for k in range(3) if k != axis]
        turn[one, one] = turn[two, two] = np.cos(angle)
        turn[one, two], turn[two, one] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    return matrix


def _texture(rng: np.random.Generator, shape: tuple[int, ...], deviation_hu: float) -> np.ndarray:
    """Coarse mottle, a few voxels wide."""
    noise = rng.normal(0, 1, shape)
    for axis in range(3):
        noise = (np.roll(noise, 1, axis) + 2 * noise + np.roll(noise, -1, axis)) / 4
    return noise * (deviation_hu / noise.std())


def _wall(canvas: _Canvas, radii_mm: tuple[float, float], *, anterior_mm: float = 0) -> np.ndarray:
    """Depth below a surface that runs along the body with a rounded cross section."""
    right, anterior, _ = canvas.points_mm
    norm = (np.abs(right / radii_mm[0]) ** 2.4 + np.abs((anterior - anterior_mm) / radii_mm[1]) ** 2.4) ** (1 / 2.4)
    return (1 - norm) * min(radii_mm)


def _paint_trunk(canvas: _Canvas, rng: np.random.Generator) -> np.ndarray:
    """Couch, skin, fat, muscle, lungs, heart, ribs, spine; returns the depth below the wall of the abdominal cavity."""
    right, anterior, superior = canvas.points_mm
    fat_mm = rng.uniform(9, 24)
    body, muscle = _wall(canvas, (158, 112)), _wall(canvas, (158 - fat_mm, 112 - fat_mm))
    cavity = _wall(canvas, (146 - fat_mm, 98 - fat_mm), anterior_mm=4)
    couch = 4 - np.abs(anterior + 124 - (right / 60) ** 2)
    canvas.paint(np.minimum(couch, 150 - np.abs(right)), -350)
    canvas.paint(body, FAT - 8)
    canvas.paint(muscle, MUSCLE + rng.normal(0, 5))
    canvas.paint(cavity, FAT)

    right_dome, left_dome = 84 - ((right - 62) / 62) ** 2 * 16, 76 - ((right + 62) / 62) ** 2 * 10
    dome = np.where(right > 0, right_dome, left_dome) - (anterior / 95) ** 2 * 42 + rng.normal(0, 3)
    canvas.paint(np.minimum(np.minimum(superior - dome, cavity + 3), np.abs(right) - 22), LUNG)
    heart = canvas.ellipsoid((-22, 26, 112), (48, 42, 34))
    canvas.paint(heart, 118)

    forward = np.cos(np.arctan2(right / 158, anterior / 112))  # 1 in front, -1 at the back
    ribs = np.sin(2 * np.pi * (superior + 26 * forward) / 27) * 6 - 2.5
    costal_arch = superior + 45 - 26 * (1 + forward) ** 2
    canvas.paint(np.minimum(np.minimum(ribs, 4.5 - np.abs(muscle - 8)), costal_arch), 330)
    _paint_spine(canvas, rng)
    return np.minimum(cavity, np.maximum(dome + 4 - superior, heart))


def _paint_spine(canvas: _Canvas, rng: np.random.Generator) -> None:
    right, anterior, superior = canvas.points_mm
    for side in (-1, 1):
        back = canvas.tube([(side * 30, -78, -140), (side * 30, -78, 140)], (23, 21))
        psoas = canvas.tube([(side * 48, -44, -130), (side * 24, -44, 10)], (23, 7))
        canvas.paint(np.maximum(back, psoas), MUSCLE + 4)
    disc = np.clip(3 - np.abs((superior + rng.uniform(-16, 16)) % 33 - 16.5), 0, 3) / 3
    canvas.paint(canvas.tube([(0, -52, -140), (0, -52, 140)], (22, 21)), 190 - 95 * disc)
    canvas.paint(canvas.tube([(0, -76, -140), (0, -76, 140)], (15, 15)), 260)
    canvas.paint(canvas.tube([(0, -79, -140), (0, -79, 140)], (8, 8)), 30)
    canvas.paint(np.minimum(4 - np.abs(right), 22 - np.abs(anterior + 94)), 280)


def _paint_bowel(canvas: _Canvas, rng: np.random.Generator, cavity: np.ndarray) -> None:
    """What no one labels: loops of small bowel and the colon, as bright as organs in places, with gas in others."""
    anterior = canvas.points_mm[1]
    for _ in range(12):
        start = (rng.uniform(-85, 85), rng.uniform(5, 70), rng.uniform(-105, -12))
        path = start + np.cumsum(rng.normal(0, (26, 14, 12), (4, 3)), axis=0)
        canvas.paint(np.minimum(canvas.tube(path, rng.uniform(9, 15, 4)), cavity), rng.uniform(30, 150))
    for side in (-1, 1):
        path = np.array([(side * 104, 0, -130), (side * 108, 6, -60), (side * 98, 18, -18 - 6 * side)]) + rng.normal(0, 6, 3)
        colon = np.minimum(canvas.tube(path, (22, 19, 20)), cavity)
        canvas.paint(colon, rng.uniform(10, 60))
        canvas.paint(np.minimum(colon - 6, anterior - rng.uniform(5, 22)), rng.uniform(-900, -500))
    path = np.array([(90, 52, -26), (30, 74, -44), (-40, 74, -40), (-96, 34, -14)]) + rng.normal(0, 7, (4, 3))
    colon = np.minimum(canvas.tube(path, (15, 16, 15, 14)), cavity)
    canvas.paint(colon, rng.uniform(10, 70))
    canvas.paint(np.minimum(colon - 5, anterior - 66), -700)


def _place(
    canvas: _Canvas, rng: np.random.Generator, centre_mm: tuple, radii_mm: tuple, wander_mm: float = 5, power: float = 2.0
) -> np.ndarray:
    """An ellipsoid about where, and about as large as, anatomy has it."""
    centre = np.asarray(centre_mm) + rng.normal(0, wander_mm, 3)
    return canvas.ellipsoid(centre, np.asarray(radii_mm) * rng.normal(1, 0.08, 3), power=power)


def _paint_stomach(canvas: _Canvas, rng: np.random.Generator, cavity: np.ndarray) -> None:
    """A wall, water, food or contrast medium in it, and air in front."""
    body, antrum = _place(canvas, rng, (-52, 32, 42), (42, 40, 36)), _place(canvas, rng, (-22, 48, 4), (44, 22, 20))
    stomach = np.minimum(np.maximum(body, antrum), cavity)
    canvas.paint(stomach, 62, "stomach")
    canvas.tint(stomach - 6, rng.choice([8.0, 35.0, 110.0, 190.0]))
    canvas.tint(np.minimum(stomach - 6, canvas.points_mm[1] - rng.uniform(42, 66)), -900)


def _paint_spleen(canvas: _Canvas, rng: np.random.Generator, cavity: np.ndarray, value_hu: float) -> None:
    spleen = np.minimum(_place(canvas, rng, (-104, -26, 40), (32, 47, 40), 6, power=2.3), cavity)
    dent = _place(canvas, rng, (-66, 8, 44), (38, 42, 44), 4)
    canvas.paint(np.minimum(spleen, -dent), value_hu, "spleen")


def _paint_liver(canvas: _Canvas, rng: np.random.Generator, cavity: np.ndarray, value_hu: float, vein_hu: float) -> None:
    """Two lobes, dented by the right kidney, two hepatic vessels in them and the gallbladder below."""
    right_lobe = _place(canvas, rng, (76, 6, 34), (60, 72, 66), power=2.4)
    left_lobe = _place(canvas, rng, (4, 46, 46), (62, 30, 34), 6)
    dent = canvas.ellipsoid((72, -58, -22), (32, 32, 44))
    liver = np.minimum(np.minimum(np.maximum(right_lobe, left_lobe), cavity), -dent)
    canvas.paint(liver, value_hu, "liver")
    for path, radii in (
        ([(20, -8, 22), (58, 6, 34), (92, 22, 46)], (8, 6, 4)),
        ([(18, -20, 66), (52, -18, 58), (96, -8, 36)], (7, 6, 4)),
    ):
        canvas.tint(np.minimum(canvas.tube(path + rng.normal(0, 4, (3, 3)), radii), liver - 4), vein_hu)
    canvas.paint(_place(canvas, rng, (48, 42, -10), (14, 17, 24)), 8, "gallbladder")


def _paint_vessels(canvas: _Canvas, rng: np.random.Generator, aorta_hu: float, vein_hu: float) -> None:
    vein = canvas.tube(np.array([(22, -24, -140), (20, -22, 0), (18, -14, 90)]) + rng.normal(0, 2, 3), (12, 12, 13))
    aorta = canvas.tube(np.array([(-8, -26, -140), (-9, -27, 0), (-12, -34, 140)]) + rng.normal(0, 2, 3), (9, 11, 12))
    canvas.paint(vein, vein_hu, "inferior_vena_cava")
    canvas.paint(aorta, aorta_hu, "aorta")


def _paint_kidneys(canvas: _Canvas, rng: np.random.Generator, value_hu: float) -> None:
    """Tilted ellipsoids in a coat of fat, each with its sinus; the left one lies higher."""
    right, anterior, superior = canvas.points_mm
    for side, name, centre in ((-1, "kidney_left", (-66, -42, -16)), (1, "kidney_right", (66, -42, -32))):
        middle = np.asarray(centre) + rng.normal(0, (4, 4, 8))
        radii = np.array([27, 29, 52]) * rng.normal(1, 0.08, 3)
        away = (right + side * 0.22 * (superior - middle[2]) - middle[0], anterior - middle[1], superior - middle[2])
        kidney = (1 - np.sqrt(sum((a / r) ** 2 for a, r in zip(away, radii, strict=True)))) * radii[0]
        sinus = canvas.ellipsoid(middle - (side * 19, -6, 0), (15, 12, 20))
        canvas.paint(kidney + 9, FAT)
        canvas.paint(np.minimum(kidney, -sinus), value_hu, name)
        canvas.paint(np.minimum(kidney, sinus), -20)


def _paint_pancreas(canvas: _Canvas, rng: np.random.Generator, cavity: np.ndarray, value_hu: float) -> None:
    """Head beside the vena cava, body across the aorta, tail towards the spleen."""
    path = np.array([(38, 4, -36), (30, 10, -14), (4, 22, 0), (-28, 16, 12), (-58, -2, 20), (-82, -14, 30)])
    path = path + rng.normal(0, (4, 4, 7)) + rng.normal(0, 3, path.shape)
    radii = np.array([15, 17, 12, 13, 12, 9]) * rng.normal(1, 0.08)
    canvas.paint(np.minimum(canvas.tube(path, radii), cavity), value_hu, "pancreas")
