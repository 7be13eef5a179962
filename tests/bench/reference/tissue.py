"""The tissue stage as CLAM's algorithm does it, for `./run bench tile`: mask, contours, grid, coordinates.

    python3 tissue.py SLIDES THREADS PARAMETERS

SLIDES is a folder of slides; PARAMETERS is a JSON object: `saturation`, `median`, `close` (pixels of the level that is looked at),
`tissue` and `hole` (areas, in squares of 128 micrometres, which are 512 pixels of a 40x slide), `holes` (at most so many in a contour),
and by slide name `side` and `unit`, the sides of a tile and of that square in level-0 pixels. Each line on standard input orders one
pass over all slides: `plain FOLDER` or `pool FOLDER`, a new folder; the answer is `SECONDS TILES`.

Steps of a slide: the level nearest to a 64th, saturation in HSV, its median, a fixed threshold, closing by a square, contours with
holes, small ones of either dropped; then on each contour's own grid the tiles of which one of four points around the centre lies
inside, and the centre in no hole; coordinates into HDF5, a picture of the mask into JPEG. One process, as many OpenCV threads as said.
With `pool`, the tiles of each contour are tried by a pool of up to four processes that is started for it, as CLAM's script does.
"""

import json
import multiprocessing
import os
import sys
import time

import cv2
import h5py
import numpy as np
import openslide


def contours_of(slide, unit, parameters):
    """Outer contours and their holes, in pixels of the level looked at; that level's picture and downsample."""
    level = slide.get_best_level_for_downsample(64)
    downsample = slide.level_downsamples[level]
    picture = np.array(slide.read_region((0, 0), level, slide.level_dimensions[level]))[:, :, :3]
    saturation = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV)[:, :, 1]
    saturation = cv2.medianBlur(saturation, parameters["median"])
    mask = cv2.threshold(saturation, parameters["saturation"], 255, cv2.THRESH_BINARY)[1]
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((parameters["close"],) * 2, np.uint8))
    found, tree = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    unit = unit**2 / downsample**2
    kept = []
    for index in range(len(found)) if tree is not None else []:
        if tree[0][index][3] != -1:
            continue
        holes, hole = [], tree[0][index][2]
        while hole != -1:
            holes.append(found[hole])
            hole = tree[0][hole][0]
        if cv2.contourArea(found[index]) - sum(map(cv2.contourArea, holes)) <= parameters["tissue"] * unit:
            continue
        largest = sorted(holes, key=cv2.contourArea, reverse=True)[: parameters["holes"]]
        kept.append((found[index], [hole for hole in largest if cv2.contourArea(hole) > parameters["hole"] * unit]))
    return kept, picture, downsample


def inside(contour, point):
    return cv2.pointPolygonTest(contour, point, False) >= 0


def tried(corner, outer, holes, side):
    """The corner of a tile that has tissue, or None."""
    centre = (float(corner[0] + side // 2), float(corner[1] + side // 2))
    probes = [(centre[0] + dx, centre[1] + dy) for dx in (-(side // 4), side // 4) for dy in (-(side // 4), side // 4)]
    if any(inside(outer, probe) for probe in probes) and not any(inside(hole, centre) for hole in holes):
        return corner
    return None


def tiles_of(outer, holes, side, canvas, pooled):
    """Top-left corners, level 0, column by column; contours in level-0 pixels."""
    left, top, width, height = cv2.boundingRect(outer)
    columns = range(left, min(left + width, canvas[0] - side + 1), side)
    rows = range(top, min(top + height, canvas[1] - side + 1), side)
    work = [((x, y), outer, holes, side) for x in columns for y in rows]
    if pooled:
        with multiprocessing.Pool(min(4, multiprocessing.cpu_count())) as pool:
            results = pool.starmap(tried, work)
    else:
        results = [tried(*item) for item in work]
    return [corner for corner in results if corner is not None]


def one_slide(path, out, parameters, pooled):
    name = os.path.splitext(os.path.basename(path))[0]
    slide = openslide.OpenSlide(path)
    kept, picture, downsample = contours_of(slide, parameters["unit"][name], parameters)
    side = parameters["side"][name]
    corners = []
    for outer, holes in kept:
        level0 = [(contour * downsample).astype(np.int32) for contour in (outer, *holes)]
        corners += tiles_of(level0[0], level0[1:], side, slide.dimensions, pooled)
    if corners:
        with h5py.File(os.path.join(out, "patches", name + ".h5"), "w") as file:
            coords = file.create_dataset("coords", data=np.array(corners, np.int64))
            coords.attrs["patch_size"], coords.attrs["patch_level"], coords.attrs["name"] = side, 0, name
    drawn = np.ascontiguousarray(picture[:, :, ::-1])
    cv2.drawContours(drawn, [outer for outer, _ in kept], -1, (0, 255, 0), 4)
    cv2.drawContours(drawn, [hole for _, holes in kept for hole in holes], -1, (255, 0, 0), 4)
    cv2.imwrite(os.path.join(out, "masks", name + ".jpg"), drawn)
    return len(corners)


def main():
    folder, threads, parameters = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
    cv2.setNumThreads(threads)
    slides = sorted(os.path.join(folder, name) for name in os.listdir(folder))
    for order in sys.stdin:
        way, out = order.strip().split(" ", 1)
        started = time.perf_counter()
        for part in ("patches", "masks"):
            os.makedirs(os.path.join(out, part))
        tiles = sum(one_slide(slide, out, parameters, way == "pool") for slide in slides)
        print(time.perf_counter() - started, tiles, flush=True)


if __name__ == "__main__":
    main()
