"""The peer of `view`: a tile server as one writes it with OpenSlide's Python binding, DeepZoomGenerator and Pillow, behind the standard library's
threaded HTTP server.

Arguments: JPEG quality, then for each slide its tile size and its path. Answers `port` on standard input with the port that it serves on; ends when
its input closes. A tile is `/SLIDE/LEVEL/COLUMN/ROW`, slides numbered from 0.
"""

import io
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import openslide
from openslide.deepzoom import DeepZoomGenerator


class Tiles(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # One packet an answer, sent at once: the usual two would wait for each other.
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self):
        try:
            slide, level, column, row = map(int, self.path.strip("/").split("/"))
            tile = self.server.pyramids[slide].get_tile(level, (column, row))
        except (ValueError, IndexError, openslide.OpenSlideError) as error:
            self.send_error(404, str(error))
            return
        jpeg = io.BytesIO()
        tile.save(jpeg, "JPEG", quality=self.server.quality)
        self.send_response(200)
        self.send_header("Content-Type", "image/jpeg")
        self.send_header("Content-Length", str(jpeg.tell()))
        self.end_headers()
        self.wfile.write(jpeg.getbuffer())

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def main():
    quality, *slides = sys.argv[1:]
    server = Server(("127.0.0.1", 0), Tiles)
    server.quality = int(quality)
    sides, paths = slides[::2], slides[1::2]
    server.pyramids = [
        DeepZoomGenerator(openslide.OpenSlide(path), tile_size=int(side), overlap=0, limit_bounds=False)
        for side, path in zip(sides, paths, strict=True)
    ]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for line in sys.stdin:
        if line.strip() != "port":
            sys.exit(f"deepzoom_server.py: no such order: {line}")
        print(server.server_port, flush=True)


if __name__ == "__main__":
    main()
