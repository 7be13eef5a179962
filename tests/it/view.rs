//! `wsi view` over a socket: who is let in, what is refused, that tiles are the slide's, and that nothing one client does ends it for others.

use std::io::Write;
use std::net::{TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use image::RgbImage;
use serde_json::{Value, json};
use wsi::ground::units::{Coord, Size};
use wsi::slides;
use wsi::slides::deepzoom::{Place, Pyramid};
use wsi::store::heatmap::TileScores;
use wsi::store::run::{Opened, Recipe, Run};
use wsi::store::{heatmap, scores};
use wsi::synth::{CohortSettings, cohort, render};

use crate::bigtiff::{Levels, Picture, bigtiff};
use crate::program::{said, wsi};
use crate::visitor::{Answer, Viewing, Visitor};

const PROGRAM: &str = env!("CARGO_BIN_EXE_wsi");

/// The first synthetic slides.
fn synthetic(folder: &Path, count: usize) -> Vec<PathBuf> {
    std::fs::create_dir_all(folder).unwrap();
    let slides = cohort(&CohortSettings::default()).unwrap();
    let write = |slide: &wsi::synth::SyntheticSlide| {
        let path = folder.join(format!("{}.tif", slide.slide_id));
        std::fs::write(&path, render(slide, 0).unwrap()).unwrap();
        path
    };
    slides[..count].iter().map(write).collect()
}

fn view(arguments: &[&Path]) -> (Viewing, Visitor) {
    let arguments: Vec<&str> = arguments.iter().map(|path| path.to_str().unwrap()).collect();
    let (viewing, link) = Viewing::start(PROGRAM, &arguments).unwrap();
    let visitor = viewing.enter(&link).unwrap();
    (viewing, visitor)
}

fn json_of(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_slice(&answer.body).unwrap()
}

fn tile_path(slide: usize, Place { level, column, row }: Place) -> String {
    format!("/api/slides/{slide}/tiles/{level}/{column}/{row}")
}

fn decoded(answer: &Answer) -> RgbImage {
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("image/jpeg")), "{}", answer.text());
    wsi::slides::jpeg::Stored::open(&answer.body).unwrap().expect("a JPEG").decode(1).unwrap()
}

#[test]
fn what_is_not_asked_rightly_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    synthetic(folder.path(), 1);
    let (mut viewing, visitor) = view(&[folder.path()]);
    let (cookie, port) = (visitor.cookie.clone(), viewing.port);
    let host = format!("Host: localhost:{port}\r\n");
    let ask = |request: String| Visitor::new(port).send(request.as_bytes()).unwrap();
    let get = |path: &str, headers: &str| ask(format!("GET {path} HTTP/1.1\r\n{headers}\r\n"));
    let within = format!("{host}{cookie}");

    let page = get("/", &within);
    assert_eq!(page.status, 200);
    for (answer, status, why) in [
        (ask(format!("POST / HTTP/1.1\r\n{within}Content-Length: 0\r\n\r\n")), 405, "another method"),
        (ask(format!("DELETE /api/slides/0 HTTP/1.1\r\n{within}\r\n")), 405, "another method"),
        (get(&format!("/{}", "a".repeat(5 << 10)), &within), 414, "a long address"),
        (get("/", &format!("{within}X-Long: {}\r\n", "a".repeat(17 << 10))), 431, "long headers"),
        (get("/", &format!("{within}X-Long: {}\r\n", "a".repeat(200 << 10))), 431, "longer headers than are read"),
        (get("/", &format!("{within}Content-Length: 5\r\n")), 413, "a body"),
        (get("/", &format!("{within}Transfer-Encoding: chunked\r\n")), 413, "a body"),
        (get("/", &format!("Host: example.org\r\n{cookie}")), 421, "a foreign host"),
        (get("/", &format!("Host: 127.0.0.1.example.org:{port}\r\n{cookie}")), 421, "a foreign host"),
        (get("http://example.org/", &within), 421, "a foreign address"),
        (get("/", &format!("{within}Origin: http://example.org\r\n")), 403, "a foreign origin"),
        (get("/", &format!("{within}Origin: null\r\n")), 403, "no origin"),
        (get("/", &format!("{within}Sec-Fetch-Site: cross-site\r\n")), 403, "a foreign page"),
        (get("/", &host), 403, "no session"),
        (get("/api/catalogue", &host), 403, "no session"),
        (get("/api/slides/0/tiles/0/0/0", &format!("{host}Cookie: wsi-view=1\r\n")), 403, "a session that is none"),
        (get("/open", &host), 403, "no token"),
        (get(&format!("/open?token={}", "0".repeat(64)), &host), 403, "a token that is none"),
    ] {
        assert_eq!(answer.status, status, "{why}: {}", answer.text());
        if status != 431 || answer.text().contains("KiB") {
            assert!(answer.header("content-security-policy").unwrap().starts_with("default-src 'none'"), "{why}");
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
            assert!(answer.text().trim_end().ends_with('.'), "one plain sentence: {}", answer.text());
        }
    }
    assert!(get("/", &format!("{within}Origin: http://localhost:{port}\r\n")).status == 200, "its own page");
    assert!(get("/", &format!("Host: [::1]:9\r\n{cookie}")).status == 200, "through a tunnel of another port");

    // No path leads out of the program.
    for path in [
        "/../Cargo.toml",
        "/..%2f..%2fetc/passwd",
        "/etc/passwd",
        "//etc/passwd",
        "/main.js/..",
        "/api/slides/..%2f0",
        "/api/slides/-1",
        "/api/slides/99999999999999999999",
        "/api/slides/1",
        "/api/slides/0/maps/0",
        "/api/slides/0/tiles/0/1/0",
        "/api/slides/0/tiles/-1/0/0",
        "/api/slides/0/tiles/99/0/0",
        "/api/slides/7/tiles/0/0/0",
        "/%00",
    ] {
        let status = get(path, &within).status;
        assert!(status == 404 || status == 400, "{path}: {status}");
    }

    // Only this machine's own address is listened on.
    let probe = UdpSocket::bind("0.0.0.0:0").and_then(|socket| socket.connect("192.0.2.1:9").and_then(|()| socket.local_addr()));
    if let Some(address) = probe.ok().map(|address| address.ip()).filter(|address| !address.is_loopback()) {
        assert!(TcpStream::connect_timeout(&(address, port).into(), Duration::from_secs(2)).is_err(), "{address} answers");
    }
    assert!(viewing.process.try_wait().unwrap().is_none());
}

#[test]
fn a_link_lets_one_browser_in_and_the_next_link_the_next() {
    let folder = tempfile::tempdir().unwrap();
    synthetic(folder.path(), 1);
    let (mut viewing, first) = Viewing::start(PROGRAM, &[folder.path().to_str().unwrap()]).unwrap();
    let mut one = viewing.enter(&first).unwrap();
    let cookie = one.cookie.clone();
    let second = viewing.link().unwrap();
    assert_ne!(first, second);
    let error = viewing.enter(&first).err().expect("used").to_string();
    assert!(error.contains("403") && error.contains("has been used"), "{error}");
    let mut two = viewing.enter(&second).unwrap();
    assert_ne!(cookie, two.cookie);
    assert!(one.get("/api/catalogue").unwrap().status == 200 && two.get("/api/catalogue").unwrap().status == 200);
    // The same browser may open its link again.
    assert_eq!(one.get(first.split_once(&viewing.port.to_string()).unwrap().1).unwrap().status, 303);

    // A second viewer on this machine takes no cookie of the first.
    let (other, link) = Viewing::start(PROGRAM, &[folder.path().to_str().unwrap()]).unwrap();
    let mut visitor = other.enter(&link).unwrap();
    visitor.cookie = cookie;
    assert_eq!(visitor.get("/").unwrap().status, 403);

    // SAFETY: the process is this test's child and has not been waited for.
    unsafe { libc::kill(viewing.process.id() as i32, libc::SIGINT) };
    assert_eq!(viewing.process.wait().unwrap().code(), Some(0), "Ctrl-C ends a viewer well");
}

#[test]
fn the_page_names_no_other_server_and_no_folder() {
    let folder = tempfile::tempdir().unwrap();
    synthetic(folder.path(), 1);
    let (_viewing, mut visitor) = view(&[folder.path()]);
    let page = visitor.get("/").unwrap().text();
    let parts: Vec<&str> = page.split(['"', '\'']).filter(|part| part.starts_with('/') && part.contains('.')).collect();
    assert!(parts.contains(&"/openseadragon.js") && parts.contains(&"/main.js") && parts.contains(&"/style.css"), "{parts:?}");
    for part in parts {
        let answer = visitor.get(part).unwrap();
        assert_eq!(answer.status, 200, "{part}");
        assert!(!answer.text().contains("https://") || answer.header("content-encoding") == Some("gzip"), "{part}");
    }
    assert!(!page.contains("http://") && !page.contains("<style") && !page.contains("onclick"), "what the page's own rules refuse");
    for path in ["/api/catalogue", "/api/slides/0"] {
        let text = visitor.get(path).unwrap().text();
        assert!(text.contains("synth_000_0") && !text.contains(folder.path().to_str().unwrap()), "{text}");
    }
}

#[test]
fn tiles_are_the_pixels_of_the_slide() {
    let folder = tempfile::tempdir().unwrap();
    let paths = synthetic(folder.path(), 3);
    let (_viewing, mut visitor) = view(&[folder.path()]);
    let slide = slides::open(&paths[2]).unwrap();
    let pyramid = Pyramid::of(slide.as_ref());
    let about = json_of(&visitor.get("/api/slides/2").unwrap());
    assert_eq!((about["width"].as_u64(), about["levels"].as_u64()), (Some(pyramid.canvas.width.into()), Some(pyramid.levels().into())));
    assert_eq!(about["tile"], json!([pyramid.tile.width, pyramid.tile.height]));
    let (mut stored, mut made) = (0, 0);
    for level in 0..pyramid.levels() {
        let Size { width, height } = pyramid.size(level);
        for row in 0..height.div_ceil(pyramid.tile.height) {
            for column in 0..width.div_ceil(pyramid.tile.width) {
                let answer = visitor.get(&tile_path(2, Place { level, column, row })).unwrap();
                let tile = decoded(&answer);
                let (left, top) = (column * pyramid.tile.width, row * pyramid.tile.height);
                assert_eq!(tile.dimensions(), (pyramid.tile.width.min(width - left), pyramid.tile.height.min(height - top)));
                // Where the slide has this level, its own pixels; where it stores the tile, to the bit.
                let shrink = f64::from(1 << (pyramid.levels() - 1 - level));
                let levels = &slide.geometry().levels;
                let Some(number) = levels.iter().position(|level| (level.downsample / shrink - 1.0).abs() < 1e-6) else { continue };
                let at = Coord { x: (f64::from(left) * shrink) as i64, y: (f64::from(top) * shrink) as i64 };
                let own = slide.read(at, Size { width: tile.width(), height: tile.height() }, number).unwrap();
                let whole = tile.dimensions() == (pyramid.tile.width, pyramid.tile.height);
                if whole && slide.stored_jpeg(number, column, row).unwrap().is_some_and(|jpeg| jpeg == answer.body) {
                    assert_eq!(tile, own, "level {level}, column {column}, row {row}");
                    stored += 1;
                } else {
                    let far = tile.as_raw().iter().zip(own.as_raw()).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>();
                    assert!(far / (tile.as_raw().len() as f64) < 4.0, "level {level}, column {column}, row {row}");
                    made += 1;
                }
            }
        }
    }
    assert!(stored > 20 && made > 3, "{stored} stored, {made} made");
}

/// A finished heatmap run of one slide with one tile outside of it.
fn heatmap_run(folder: &Path, slide_id: &str) {
    let recipe = Recipe { stage: "heatmap".into(), settings: json!({}), inputs: Default::default() };
    let Opened::Work(run) = Run::open(folder, recipe).unwrap() else { panic!("a new folder") };
    let classes = vec!["normal".to_owned(), "tumour".to_owned()];
    let coords: Vec<Coord> = [(0, 0), (448, 0), (10_000_000, 448)].map(|(x, y)| Coord { x, y }).to_vec();
    let tiles = TileScores::new(coords, vec![vec![0.5, 0.3, 0.2]], vec![vec![0.9, 0.2, 0.5], vec![0.1, 0.8, 0.5]]);
    heatmap::write_tiles(folder, slide_id, &classes, &tiles).unwrap();
    let file: heatmap::HeatmapFile = serde_json::from_value(json!({
        "schema": 1, "classes": classes, "loss": "ncmi", "aggregator": "abmil", "encoder": "none", "group": "", "recipe": "", "labels": "true", "seed": 0,
        "epochs": 1, "checkpoint": "last", "branches": 1, "origin": "bounds", "train_folder": "../train", "tile_folder": null, "bag_folder": "../bags",
        "split": scores::Split { name: "all".into(), digest: "0".into(), kind: scores::SplitKind::Holdout, fold: 0, folds: 1 },
        "annotations": null, "froc": null,
        "slides": [{"slide_id": slide_id, "patient_id": "p", "label": "tumour", "predicted": "normal", "probabilities": [0.7, 0.3], "tiles": 3,
                    "side_level0_px": 448, "canvas": {"width": 4000, "height": 4000}, "bounds": null, "mpp": {"x": 0.5, "y": 0.5}, "agreement": null}],
    }))
    .unwrap();
    file.write(folder).unwrap();
    run.finish(json!({}), Default::default()).unwrap();
}

#[test]
fn what_is_damaged_or_missing_says_so_in_its_place_and_the_rest_works() {
    let folder = tempfile::tempdir().unwrap();
    let (slides, runs) = (folder.path().join("slides"), folder.path().join("runs"));
    let paths = synthetic(&slides, 2);
    // One slide damaged in the middle, one file that is none.
    let mut bytes = std::fs::read(&paths[1]).unwrap();
    let middle = bytes.len() / 3;
    bytes[middle..middle + 30_000].fill(0);
    std::fs::write(&paths[1], bytes).unwrap();
    std::fs::write(slides.join("zz_garbage.tif"), b"II*\0 this is no slide").unwrap();

    let output = wsi(["tile", "--slides", paths[0].to_str().unwrap(), "--out", runs.join("tiles").to_str().unwrap()]);
    assert!(output.status.success(), "{}", said(&output));
    std::fs::remove_file(runs.join("tiles/run.json")).unwrap();
    heatmap_run(&runs.join("heatmap"), "synth_000_0");
    std::fs::write(runs.join("heatmap/tiles/without_slide.csv"), "x,y\n0,0\n").unwrap();
    heatmap_run(&runs.join("unfinished"), "synth_000_0");
    std::fs::remove_file(runs.join("unfinished/heatmap.json")).unwrap();

    let (mut viewing, mut visitor) = view(&[&runs, &slides]);
    let catalogue = json_of(&visitor.get("/api/catalogue").unwrap());
    let slide = |id: &str| catalogue["slides"].as_array().unwrap().iter().position(|slide| slide[0] == id).unwrap();
    let run = |name: &str| catalogue["runs"].as_array().unwrap().iter().position(|run| run["name"] == name).unwrap();
    let (good, damaged, garbage, missing) = (slide("synth_000_0"), slide("synth_000_1"), slide("zz_garbage"), slide("without_slide"));
    let (tiles, finished, unfinished) = (run("runs/tiles"), run("runs/heatmap"), run("runs/unfinished"));
    assert_eq!(catalogue["slides"][missing][1], false);
    assert!(catalogue["runs"][tiles]["note"].as_str().unwrap().contains("run `wsi tile` again"));
    assert_eq!(catalogue["runs"][finished]["note"], Value::Null);
    assert_eq!(catalogue["runs"][finished]["said"], json!([[good, 1, 0, 0.3]]), "wrong, 0.3 of the true class");
    assert!(catalogue["runs"][unfinished]["note"].as_str().unwrap().contains("heatmap.json"));

    // The incomplete tile run is shown as far as it is there.
    let about = json_of(&visitor.get(&format!("/api/slides/{good}")).unwrap());
    assert_eq!(about["layers"], json!({"maps": [finished, unfinished], "grids": [tiles], "tissue": [tiles], "annotations": false}));
    let grid = visitor.get(&format!("/api/slides/{good}/grids/{tiles}")).unwrap();
    assert_eq!(grid.status, 200);
    assert!(!json_of(&visitor.get(&format!("/api/slides/{good}/tissue/{tiles}")).unwrap()).as_array().unwrap().is_empty());
    let map = visitor.get(&format!("/api/slides/{good}/maps/{finished}")).unwrap();
    let length = u32::from_le_bytes(map.body[..4].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&map.body[4..4 + length]).unwrap();
    assert_eq!(header, json!({"side": 448, "tiles": 3, "columns": ["x", "y", "attention", "percentile", "p_normal", "p_tumour"]}));
    let numbers: Vec<f32> = map.body[4 + length..].chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
    assert_eq!((numbers.len(), numbers[2], numbers[6], numbers[16]), (18, 10_000_000.0, 0.5, 0.8), "a place outside is the page's to tell");

    let refused = |visitor: &mut Visitor, path: String, words: &str| {
        let answer = visitor.get(&path).unwrap();
        let text = answer.text();
        assert_eq!(answer.status, 422, "{path}: {text}");
        assert!(text.contains(words) && !text.contains(folder.path().to_str().unwrap()), "{text}");
    };
    refused(&mut visitor, format!("/api/slides/{good}/maps/{unfinished}"), "not complete");
    refused(&mut visitor, format!("/api/slides/{missing}/maps/{finished}"), "no heatmap of this slide");
    refused(&mut visitor, tile_path(garbage, Place { level: 0, column: 0, row: 0 }), "zz_garbage.tif");
    let about = json_of(&visitor.get(&format!("/api/slides/{missing}")).unwrap());
    assert!(about["error"].as_str().unwrap().contains("--slides"), "{about}");
    assert!(json_of(&visitor.get(&format!("/api/slides/{garbage}")).unwrap())["error"].as_str().unwrap().contains("zz_garbage"));

    // Of the damaged slide what can be read is shown, each time it is asked for.
    let opened = slides::open(&paths[1]).unwrap();
    let pyramid = Pyramid::of(opened.as_ref());
    let level = pyramid.levels() - 1;
    for _ in 0..2 {
        let (mut shown, mut lost) = (0, 0);
        for row in 0..pyramid.canvas.height.div_ceil(pyramid.tile.height) {
            for column in 0..pyramid.canvas.width.div_ceil(pyramid.tile.width) {
                let place = Place { level, column, row };
                match visitor.get(&tile_path(damaged, place)).unwrap().status {
                    200 => shown += 1,
                    _ => {
                        refused(&mut visitor, tile_path(damaged, place), "synth_000_1.tif");
                        lost += 1;
                    }
                }
            }
        }
        assert!(shown > 5 * lost && lost > 0, "{shown} shown, {lost} lost");
    }
    assert!(visitor.get(&tile_path(good, Place { level, column: 0, row: 0 })).unwrap().status == 200);
    assert!(viewing.process.try_wait().unwrap().is_none());
}

#[test]
fn nothing_to_show_is_said_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |arguments: &[&str]| {
        let output = wsi([&["view"], arguments].concat());
        assert_eq!(output.status.code(), Some(1));
        said(&output)
    };
    assert!(refused(&[folder.path().join("nowhere").to_str().unwrap()]).contains("does not exist"));
    let empty = refused(&[folder.path().to_str().unwrap()]);
    assert!(empty.contains("no run that can be shown") && empty.contains("no slides in the folder"), "{empty}");
    synthetic(folder.path(), 1);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    assert!(refused(&[folder.path().to_str().unwrap(), "--port", &port]).contains("choose another --port"));
}

/// A slide of 60,000 × 60,000 px without coarser levels: its overview takes minutes.
fn flat_giant(path: &Path) {
    std::fs::write(path, bigtiff(&Picture::checkered(60_000, 60_000), &Levels::Chained(vec![1]), None)).unwrap();
}

#[test]
fn clients_that_leave_in_the_middle_free_their_places() {
    let folder = tempfile::tempdir().unwrap();
    synthetic(folder.path(), 1);
    flat_giant(&folder.path().join("flat.tif"));
    let (viewing, mut visitor) = view(&[folder.path(), Path::new("--threads"), Path::new("2")]);
    let (flat, small) = (0, 1);
    assert_eq!(json_of(&visitor.get("/api/slides/0").unwrap())["id"], "flat");
    let before = viewing.open_files().unwrap();
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{}\r\n", visitor.cookie);
    // Whoever asks for the overview waits long; all places are taken, and more wait, when they leave.
    let overview = request(&tile_path(flat, Place { level: 5, column: 0, row: 0 }));
    for _ in 0..5 {
        let mut clients = Vec::new();
        for _ in 0..40 {
            let mut client = TcpStream::connect(("127.0.0.1", viewing.port)).unwrap();
            client.write_all(overview.as_bytes()).unwrap();
            clients.push(client);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let started = Instant::now();
    let answer = visitor.get(&tile_path(small, Place { level: 8, column: 0, row: 0 })).unwrap();
    assert_eq!(answer.status, 200);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    let patience = Instant::now() + Duration::from_secs(10);
    while viewing.open_files().unwrap() > before + 2 {
        assert!(Instant::now() < patience, "{} files open, {before} before", viewing.open_files().unwrap());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn twenty_thousand_requests_leave_memory_and_files_as_they_are() {
    const REQUESTS: usize = 20_000;
    /// More slides than stay open, so that they are opened again and again.
    const SLIDES: usize = 12;
    let folder = tempfile::tempdir().unwrap();
    let slides = folder.path().join("slides");
    synthetic(&slides, SLIDES);
    heatmap_run(&folder.path().join("heatmap"), "synth_000_0");
    let (viewing, mut visitor) = view(&[&folder.path().join("heatmap"), &slides]);
    let ask = |visitor: &mut Visitor, number: usize| {
        let slide = number % SLIDES;
        let place = Place { level: 8, column: 0, row: 0 };
        let (path, status) = match number % 7 {
            0 => (format!("/api/slides/{slide}"), 200),
            1 => ("/api/slides/0/maps/0".to_owned(), 200),
            2 => (format!("/api/slides/{slide}/tiles/10/99/99"), 404),
            3 => ("/api/slides/1/maps/0".to_owned(), 422),
            4 => ("/main.js".to_owned(), 200),
            _ => (tile_path(slide, place), 200),
        };
        assert_eq!(visitor.get(&path).unwrap().status, status, "{path}");
    };
    let (mut memory, mut files) = (0, 0);
    for number in 0..REQUESTS {
        ask(&mut visitor, number);
        if number == REQUESTS / 4 {
            (memory, files) = (viewing.memory_kb().unwrap(), viewing.open_files().unwrap());
        }
    }
    let grown = viewing.memory_kb().unwrap().saturating_sub(memory);
    assert!(grown < 8 << 10, "{grown} kB more than {memory} kB after three quarters of the requests");
    assert!(viewing.open_files().unwrap() <= files + 4, "{} files open, {files} before", viewing.open_files().unwrap());
}
