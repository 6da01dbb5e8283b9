"""Rendered frames with depth, and one real pair: see ``synthetic_dense.py``."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

TRAIN_MAPS, TEST_MAPS = range(1, 7), range(7, 10)
KNOWN = (4, 127)
"""What is kept of the renderer's 256 values: nearer ones are too coarse, and at 128 it puts sprites of any depth."""
METRES = 10.0 / 128
"""What one step of the renderer is called, so that the largest depth is NYU's."""
FOCAL_OF_NYU = 518.8579


def render(out: Path, frames: int, seed: int) -> None:
    """Walk at random through nine maps of Freedoom and keep colour and depth: maps 1-6 to train, 7-9 to test.

    The renderer's depth is relative, in 256 steps. Values from 4 to 127 are kept and called ``10 m / 128`` a step;
    others (sky, what is very near or very far) stand in the files as 0, which means unknown.
    """
    import vizdoom

    lines: dict[str, list[str]] = {"train": [], "test": []}
    for part, maps in (("train", TRAIN_MAPS), ("test", TEST_MAPS)):
        for number in maps:
            game = _game(vizdoom, number, seed)
            dice = random.Random(f"{seed} {number}")
            for index in range(frames):
                image, depth = _next_view(game, dice)
                metres = np.where(_known(depth), depth * METRES, 0)
                lines[part].append(_write(out, f"map{number:02}", index, image, metres, FOCAL_OF_NYU))
            game.close()
            print(f"map{number:02}: {frames} frames to {part}")
    for part, text in lines.items():
        (out / f"nyu_{part}.txt").write_text("".join(text))


def motorcycle(packages: Path, out: Path) -> None:
    """Write Middlebury 2014's Motorcycle, the middle 640 x 480 of it, as the only frame of both splits.

    Depth in mm is ``baseline * focal length / (disparity + offset)`` with the constants that scikit-image documents.
    """
    folder = packages / "usr/lib/python3/dist-packages/skimage/data"
    image = np.asarray(Image.open(folder / "motorcycle_left.png").convert("RGB"))
    with np.load(folder / "motorcycle_disp.npz") as arrays:
        disparity = arrays["arr_0"].astype(np.float64)
    known = np.isfinite(disparity)
    metres = np.where(known, 193.001 * 994.978 / (np.where(known, disparity, 0) + 31.086) / 1000, 0)
    top, left = (image.shape[0] - 480) // 2, (image.shape[1] - 640) // 2
    window = np.s_[top : top + 480, left : left + 640]
    line = _write(out, "motorcycle", 0, image[window], metres[window], 994.978)
    for part in ("train", "test"):
        (out / f"nyu_{part}.txt").write_text(line)


def _game(vizdoom: Any, number: int, seed: int) -> Any:
    game = vizdoom.DoomGame()
    game.set_doom_game_path(str(Path(vizdoom.__file__).parent / "freedoom2.wad"))
    game.set_doom_map(f"map{number:02}")
    game.set_screen_resolution(vizdoom.ScreenResolution.RES_640X480)
    game.set_screen_format(vizdoom.ScreenFormat.RGB24)
    game.set_depth_buffer_enabled(True)
    game.set_render_hud(False)
    game.set_render_weapon(False)
    game.set_render_crosshair(False)
    game.set_render_messages(False)
    game.set_render_decals(False)
    game.set_render_particles(False)
    game.set_render_effects_sprites(False)
    game.set_window_visible(False)
    game.set_sound_enabled(False)
    game.set_mode(vizdoom.Mode.PLAYER)
    game.set_doom_skill(1)
    buttons = (vizdoom.Button.MOVE_FORWARD, vizdoom.Button.TURN_LEFT_RIGHT_DELTA, vizdoom.Button.USE)
    game.set_available_buttons(list(buttons))
    # Texts over the frame have no depth, and monsters stand before the camera for good.
    game.add_game_args("-nomonsters +cl_showsecretmessage 0 +con_centernotify 0 +show_messages 0")
    game.set_episode_timeout(0)
    game.set_seed(seed)
    game.init()
    game.new_episode()
    # Else the walker dies in the first pool of slime, and the frames show the ground.
    game.send_game_command("god")
    return game


def _next_view(game: Any, dice: random.Random) -> tuple[np.ndarray, np.ndarray]:
    """Walk on until there is something to see: ``(480, 640, 3)`` colour and ``(480, 640)`` depth, both uint8."""
    while True:
        for _ in range(dice.randint(2, 5)):
            turn = dice.uniform(-70, 70)
            game.make_action([0, turn, 0], 1)
            game.make_action([1, 0, dice.randint(0, 1)], dice.randint(8, 30))
        if game.is_episode_finished():
            game.new_episode()
            game.send_game_command("god")
            continue
        state = game.get_state()
        depth = state.depth_buffer
        known = _known(depth)
        # With the nose at a wall there is one depth, and with much of it unknown there is little to learn.
        if known.mean() > 0.8 and np.ptp(np.percentile(depth[known], (10, 90))) > 12:
            return state.screen_buffer.copy(), depth.copy()


def _known(depth: np.ndarray) -> np.ndarray:
    return (depth >= KNOWN[0]) & (depth <= KNOWN[1])


def _write(out: Path, scene: str, index: int, image: np.ndarray, metres: np.ndarray, focal: float) -> str:
    """Write a frame; returns its line of the split file."""
    (out / scene).mkdir(parents=True, exist_ok=True)
    names = f"{scene}/rgb_{index:05}.jpg", f"{scene}/sync_depth_{index:05}.png"
    Image.fromarray(image).save(out / names[0], quality=95)
    Image.fromarray(np.round(metres * 1000).astype(np.uint16)).save(out / names[1])
    return f"/{names[0]} /{names[1]} {focal}\n"
