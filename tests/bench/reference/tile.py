"""The peer of `tile`: tiles read with OpenSlide's Python binding, as a plain script does it.

Reads orders from standard input, one a line, and answers each with one line:
    read THREADS WINDOW TILE REPEATS    tiles of TILE px from windows of WINDOW level-0 px -> wall and CPU seconds
The slides are named as arguments. Every slide is opened anew for each repeat, before the clock runs.
"""

import sys
import time
from concurrent.futures import ThreadPoolExecutor

import openslide
from PIL import Image


def corners(slide, window):
    width, height = slide.dimensions
    return [(x, y) for y in range(0, height - window + 1, window) for x in range(0, width - window + 1, window)]


def tile(slide, corner, window, side):
    image = slide.read_region(corner, 0, (window, window)).convert("RGB")
    return image if window == side else image.resize((side, side), Image.Resampling.BICUBIC)


def read(paths, threads, window, side, repeats):
    wall = cpu = 0.0
    with ThreadPoolExecutor(threads) as pool:
        for path in paths * repeats:
            slide = openslide.OpenSlide(path)
            places = corners(slide, window)
            started, used = time.perf_counter(), time.process_time()
            if threads == 1:
                tiles = sum(tile(slide, place, window, side).width == side for place in places)
            else:
                tiles = sum(pool.map(lambda place: tile(slide, place, window, side).width == side, places))
            wall, cpu = wall + time.perf_counter() - started, cpu + time.process_time() - used
            assert tiles == len(places)
            slide.close()
    return wall, cpu


def main():
    for line in sys.stdin:
        order, *numbers = line.split()
        if order != "read":
            sys.exit(f"tile.py: no such order: {order}")
        threads, window, side, repeats = map(int, numbers)
        print(*read(sys.argv[1:], threads, window, side, repeats), flush=True)


if __name__ == "__main__":
    main()
