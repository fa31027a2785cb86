"""The views of an RGB-D scene as LLaVA-3D sees them: which frames, how they are cropped, where they look.

Letters: V views, c side of the square crop in pixels.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from extractors.clip_requests import Picture
from extractors.errors import MediaError
from extractors.heartbeat import beat
from extractors.rgbd_scene import DepthPicture, Matrix, RgbdScene

_MAX_POSE = 1e6  # metres
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class SceneViews:
    """The chosen views, cropped.

    Attributes:
        frames: (V,) numbers of the scene's frames; they repeat where there are fewer than views.
        colours: (V, c, c, 3) uint8.
        depths: (V, c, c) float32 metres, 0 where there was no reading.
        intrinsics: (V, 4, 4) of the cropped depth pictures, in pixels.
        poses: (V, 4, 4), camera to the (axis-aligned) world.
    """

    frames: npt.NDArray[np.int64]
    colours: npt.NDArray[np.uint8]
    depths: npt.NDArray[np.float32]
    intrinsics: Matrix
    poses: Matrix


def view_indices(available: int, num_views: int) -> npt.NDArray[np.int64]:
    """Return (num_views,) indices among `available` frames, LLaVA-3D's rule.

    Every floor(available / num_views)-th from the start, which stops short of the end; fewer frames than
    views are repeated cyclically.
    """
    stride = max(1, available // num_views)
    return stride * np.arange(num_views) % available


def read_views(
    scene: RgbdScene, sample_id: str, num_views: int, image_size: int, depth_scale: float
) -> SceneViews:
    """Read the chosen views of the frames with finite poses.

    Args:
        image_size: c.
        depth_scale: units of the depth pictures in a metre.

    Raises `MediaError` for pictures that cannot be read, poses that are none, and scenes without depth.
    """
    tracked = scene.tracked
    chosen = tracked[view_indices(len(tracked), num_views)]
    distinct, place = np.unique(chosen, return_inverse=True)
    poses = _aligned_poses(scene, distinct, sample_id)
    colours, depths, intrinsics = [], [], []
    for frame in distinct.tolist():
        beat()
        depth = scene.depth(frame)
        colours.append(crop_colour(scene.colour(frame), image_size))
        depths.append(crop_depth(depth, image_size, depth_scale))
        intrinsics.append(crop_intrinsic(scene.intrinsic, depth.shape[1], depth.shape[0], image_size))
    if not any(depth.any() for depth in depths):
        raise MediaError(sample_id, "no chosen view has any depth", "export the scene again")
    return SceneViews(
        frames=chosen,
        colours=np.stack(colours)[place],
        depths=np.stack(depths)[place],
        intrinsics=np.stack(intrinsics)[place],
        poses=poses[place],
    )


def _aligned_poses(scene: RgbdScene, frames: npt.NDArray[np.int64], sample_id: str) -> Matrix:
    with np.errstate(over="ignore", invalid="ignore"):
        poses = scene.alignment @ scene.poses[frames]
    for frame, pose in zip(frames.tolist(), poses, strict=True):
        if not _is_camera_pose(pose):
            reason = f"the pose of frame {scene.names[frame]} is no camera pose"
            raise MediaError(sample_id, reason, "export the scene again")
    return poses


def _is_camera_pose(pose: Matrix) -> bool:
    return (
        bool((np.abs(pose) < _MAX_POSE).all())  # and no NaN
        and bool((np.abs(pose[3] - [0.0, 0.0, 0.0, 1.0]) < _TOLERANCE).all())
        and abs(np.linalg.det(pose)) > _TOLERANCE  # a camera's is 1
    )


def crop_colour(picture: Picture, image_size: int) -> Picture:
    """(H, W, 3) uint8 to (c, c, 3): CLIP's 8-bit bicubic resize of the short side, then the centre."""
    height, width = picture.shape[:2]
    short = min(height, width)
    new_width, new_height = (int(image_size * side / short) for side in (width, height))
    resized = Image.fromarray(picture).resize((new_width, new_height), Image.Resampling.BICUBIC)
    left, top = (new_width - image_size) // 2, (new_height - image_size) // 2
    return np.asarray(resized)[top : top + image_size, left : left + image_size]


def crop_depth(depth: DepthPicture, image_size: int, depth_scale: float) -> npt.NDArray[np.float32]:
    """(H, W) uint16 to (c, c) float32 metres: the nearest reading of each pixel, then the centre."""
    new_width, new_height = depth_size(depth.shape[1], depth.shape[0], image_size)
    resized = Image.fromarray(depth).resize((new_width, new_height), Image.Resampling.NEAREST)
    # Python rounds halves to even, as the original does here but not for the colours
    left, top = round((new_width - image_size) / 2), round((new_height - image_size) / 2)
    cropped = np.asarray(resized)[top : top + image_size, left : left + image_size]
    return (cropped / depth_scale).astype(np.float32)


def depth_size(width: int, height: int, image_size: int) -> tuple[int, int]:
    """Return (width, height) of a depth picture whose short side is resized to c."""
    factor = image_size / min(width, height)
    if width < height:
        return image_size, int(height * factor)
    return int(width * factor), image_size


def crop_intrinsic(intrinsic: Matrix, width: int, height: int, image_size: int) -> Matrix:
    """Return the intrinsics (float64) of `crop_depth`'s result, from those of the whole depth picture.

    As the original does it: the centre always moves sideways by half of (new width - new height), which is
    wrong for upright pictures.
    """
    new_width, new_height = depth_size(width, height, image_size)
    cropped = intrinsic.astype(np.float64)
    cropped[0] *= new_width / width
    cropped[1] *= new_height / height
    cropped[0, 2] -= (new_width - new_height) / 2
    return cropped
