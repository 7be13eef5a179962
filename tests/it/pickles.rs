//! Checkpoints made to do harm, and broken ones: each is refused with a reason, nothing of it runs, and none takes time or memory of note.

use std::path::Path;
use std::process::Command;

use flate2::Crc;
use wsi::store::weights::Published;

use crate::program::{said, wsi};

// ---- pickles -------------------------------------------------------------------------------------------------------

fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

fn global(module: &str, name: &str) -> Vec<u8> {
    format!("c{module}\n{name}\n").into_bytes()
}

fn int(value: i64) -> Vec<u8> {
    [&[0x8a, 8][..], &value.to_le_bytes()].concat()
}

fn tuple(items: &[Vec<u8>]) -> Vec<u8> {
    [b"(", &items.concat()[..], b"t"].concat()
}

fn storage(key: &str, elements: i64) -> Vec<u8> {
    [tuple(&[text("storage"), global("torch", "FloatStorage"), text(key), text("cpu"), int(elements)]), b"Q".to_vec()].concat()
}

fn tensor(key: &str, elements: i64, offset: i64, shape: &[i64], stride: &[i64]) -> Vec<u8> {
    let ints = |values: &[i64]| tuple(&values.iter().map(|&value| int(value)).collect::<Vec<_>>());
    let hooks = [global("collections", "OrderedDict"), b")R".to_vec()].concat();
    let arguments = [storage(key, elements), int(offset), ints(shape), ints(stride), b"\x89".to_vec(), hooks];
    [global("torch._utils", "_rebuild_tensor_v2"), tuple(&arguments), b"R".to_vec()].concat()
}

/// `{name: value, …}`
fn dict(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let entries: Vec<u8> = entries.iter().flat_map(|(name, value)| [text(name), value.clone()].concat()).collect();
    [b"}(", &entries[..], b"u"].concat()
}

fn pickle(body: &[u8]) -> Vec<u8> {
    [b"\x80\x02", body, b"."].concat()
}

/// Six numbers, [2,3].
fn good() -> Vec<u8> {
    tensor("0", 6, 0, &[2, 3], &[3, 1])
}

// ---- files ---------------------------------------------------------------------------------------------------------

#[derive(Clone)]
struct Member {
    name: String,
    content: Vec<u8>,
    method: u16,
    flags: u16,
    /// What the directory says of its size and its place, where that is not the truth.
    size: Option<u32>,
    header: Option<u32>,
}

fn member(name: &str, content: &[u8]) -> Member {
    Member { name: name.to_owned(), content: content.to_vec(), method: 0, flags: 0, size: None, header: None }
}

fn zip(members: &[Member]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for Member { name, content, method, flags, size, header } in members {
        let at = header.unwrap_or(file.len() as u32);
        let mut crc = Crc::new();
        crc.update(content);
        let mut common = Vec::new();
        common.extend([*flags, *method, 0, 0].iter().flat_map(|word| word.to_le_bytes()));
        common.extend([crc.sum(), content.len() as u32, size.unwrap_or(content.len() as u32)].iter().flat_map(|word| word.to_le_bytes()));
        common.extend((name.len() as u32).to_le_bytes());
        file.extend([b"PK\x03\x04\x14\0", &common[..], name.as_bytes(), content].concat());
        directory.extend([b"PK\x01\x02\x14\0\x14\0", &common[..], &[0; 10], &at.to_le_bytes(), name.as_bytes()].concat());
    }
    let (count, length, start) = (members.len() as u16, directory.len() as u32, file.len() as u32);
    let end = [&count.to_le_bytes()[..], &count.to_le_bytes(), &length.to_le_bytes(), &start.to_le_bytes(), &[0; 2]].concat();
    [file, directory, b"PK\x05\x06\0\0\0\0".to_vec(), end].concat()
}

/// As `torch.save` lays it out, with storage "0" of six numbers.
fn members(pickle: &[u8]) -> Vec<Member> {
    let numbers: Vec<u8> = (0..6).flat_map(|value| (value as f32).to_le_bytes()).collect();
    vec![member("x/data.pkl", pickle), member("x/byteorder", b"little"), member("x/data/0", &numbers)]
}

/// The layout before PyTorch 1.6.
fn flat(body: &[u8]) -> Vec<u8> {
    let system = pickle(&dict(&[("little_endian", b"\x88".to_vec())]));
    let keys = pickle(&[b"](", &text("0")[..], b"e"].concat());
    let numbers: Vec<u8> = (0..6).flat_map(|value| (value as f32).to_le_bytes()).collect();
    let magic = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";
    [&magic[..], &pickle(&int(1001)), &system, &pickle(body), &keys, &6u64.to_le_bytes(), &numbers].concat()
}

fn refusal(folder: &Path, bytes: &[u8]) -> Option<String> {
    let path = folder.join("weights.pth");
    std::fs::write(&path, bytes).unwrap();
    Published::open(&path).and_then(|mut published| published.tensors()).err().map(|error| format!("{error:#}"))
}

// ---- tests ---------------------------------------------------------------------------------------------------------

#[test]
fn what_is_well_formed_is_read_so_that_a_refusal_means_something() {
    let folder = tempfile::tempdir().unwrap();
    let nested = dict(&[("epoch", int(3)), ("state_dict", dict(&[("a", good())])), ("optimizer", dict(&[("state", dict(&[]))]))]);
    for body in [dict(&[("a", good())]), nested, dict(&[("a", good()), ("b", tensor("0", 6, 1, &[2], &[3]))])] {
        assert_eq!(refusal(folder.path(), &zip(&members(&pickle(&body)))), None);
        assert_eq!(refusal(folder.path(), &flat(&body)), None);
    }
}

/// Ways to have a function called, and what the refusal must name.
fn calls(marker: &str) -> Vec<(Vec<u8>, &'static str)> {
    let command = text(&format!("touch {marker}"));
    let call = |function: Vec<u8>| [function, command.clone(), b"\x85R".to_vec()].concat();
    let stack_global = [text("os"), text("system"), b"\x93".to_vec()].concat();
    let class = global("collections", "OrderedDict");
    let eval = text(&format!("__import__('os').system('touch {marker}')"));
    vec![
        (call(global("os", "system")), "'os.system'"),
        (call(global("posix", "system")), "'posix.system'"),
        (call(global("builtins", "exec")), "'builtins.exec'"),
        (call(global("subprocess", "Popen")), "'subprocess.Popen'"),
        (call(global("torch", "load")), "'torch.load'"),
        (call(global("torch.hub", "load")), "'torch.hub.load'"),
        (call(global("collections", "OrderedDict.fromkeys")), "'collections.OrderedDict.fromkeys'"),
        (call(global("numpy.testing._private.utils", "runstring")), "'numpy.testing._private.utils.runstring'"),
        (call(global("torch.storage", "_load_from_bytes")), "'torch.storage._load_from_bytes'"),
        (call(global("argparse", "Namespace")), "'argparse.Namespace'"),
        (call(global("o\u{1b}[2J", "x")), "'o\\u{1b}[2J.x'"),
        (call(stack_global), "'os.system'"),
        ([&eval[..], &global("builtins", "eval"), b"R"].concat(), "'builtins.eval'"),
        ([b"(", &command[..], b"ios\nsystem\n"].concat(), "INST"),
        ([b"(", &class[..], &command, b"o"].concat(), "OBJ"),
        ([&class[..], &command, b"\x85\x81"].concat(), "NEWOBJ"),
        ([&class[..], &command, b"\x85}\x92"].concat(), "NEWOBJ_EX"),
        (b"\x82\x01".to_vec(), "EXT1"),
        (b"\x83\x01\x00".to_vec(), "EXT2"),
        (b"\x84\x01\x00\x00\x00".to_vec(), "EXT4"),
        (b"Pos.system\n".to_vec(), "PERSID"),
        (b"\x97".to_vec(), "NEXT_BUFFER"),
        // Attributes of what is neither a dictionary nor a plain value: of a function, of a tensor.
        ([&class[..], b"}b"].concat(), "BUILD"),
        ([good(), dict(&[("__setstate__", text("x"))]), b"b".to_vec()].concat(), "BUILD"),
        // A value that is no function is called; a known function gets what it never gets.
        ([&text("os.system")[..], &command, b"\x85R"].concat(), "REDUCE"),
        (call(class.clone()), "REDUCE"),
        (call(global("torch._utils", "_rebuild_tensor_v2")), "REDUCE"),
        (call(global("torch", "FloatStorage")), "REDUCE"),
        // Inside the description of a storage.
        ([tuple(&[text("storage"), call(global("os", "system"))]), b"Q".to_vec()].concat(), "'os.system'"),
        ([tuple(&[text("storage"), global("torch", "FloatStorage"), int(0), text("cpu"), int(6)]), b"Q".to_vec()].concat(), "BINPERSID"),
        ([&text("os.system")[..], b"Q"].concat(), "BINPERSID"),
        (storage("0", -1), "BINPERSID"),
    ]
}

#[test]
fn nothing_is_called() {
    let folder = tempfile::tempdir().unwrap();
    let marker = folder.path().join("marker");
    for (body, word) in calls(marker.to_str().unwrap()) {
        // Alone, as a tensor's neighbour, and in both layouts.
        let among = dict(&[("a", good()), ("b", body.clone())]);
        for bytes in [zip(&members(&pickle(&body))), zip(&members(&pickle(&among))), flat(&among)] {
            let error = refusal(folder.path(), &bytes).unwrap_or_else(|| panic!("{word}: not refused"));
            assert!(error.contains(word) && !error.contains('\u{1b}'), "{word}: {error}");
        }
    }
    let path = folder.path().join("weights.pth");
    std::fs::write(&path, zip(&members(&pickle(&calls(marker.to_str().unwrap())[0].0)))).unwrap();
    let output = wsi(["weights", "import", path.to_str().unwrap(), "--encoder", "resnet18"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("'os.system'") && said(&output).contains("GLOBAL"), "{}", said(&output));
    assert!(!marker.exists(), "something was executed");
}

#[test]
fn broken_and_lying_pickles_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let with = |value: Vec<u8>| pickle(&dict(&[("a", value)]));
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (b"\x80\x01N.".to_vec(), "protocol 1"),
        (b"\x80\x06N.".to_vec(), "protocol 6"),
        (pickle(b"\x8b\xff\xff\xff\x7f"), "LONG4"),
        (pickle(b"\x8a\xff"), "LONG1"),
        (pickle(b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff"), "BINUNICODE8"),
        (pickle(b"X\xff\xff\xff\xff"), "BINUNICODE"),
        (pickle(b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f"), "BINBYTES8"),
        (pickle(b"X\x01\0\0\0\xff"), "UTF-8"),
        (pickle(b"cos"), "cut short"),
        (pickle(b"h\x07"), "value 7"),
        (pickle(b"t"), "TUPLE"),
        (pickle(b"R"), "REDUCE"),
        (pickle(b"(NNa"), "APPEND"),
        (pickle(b"}(Nu"), "without a value"),
        (pickle(b"N"), "no dictionary"),
        (pickle(b"]"), "no dictionary"),
        (with(b"N".to_vec()), "no dictionary"),
        (with(tensor("0", 6, -1, &[2], &[1])), "begins at element -1"),
        (with(tensor("0", 6, 0, &[-2, 3], &[3, 1])), "a stride of -2"),
        (with(tensor("0", 6, 5, &[2], &[-1])), "a stride of -1"),
        (with(tensor("0", 6, 0, &[2, 3], &[3])), "2 sizes and 1 strides"),
        (with(tensor("0", 6, 0, &[1; 65], &[1; 65])), "65 sizes"),
        (with(tensor("0", 6, 4, &[3], &[1])), "beyond its storage"),
        (with(tensor("0", 6, 0, &[i64::MAX, i64::MAX], &[1, 1])), "beyond its storage"),
        (with(tensor("0", 6, i64::MAX, &[1], &[1])), "beyond its storage"),
        (with(tensor("0", 6, 0, &[2], &[i64::MAX])), "beyond its storage"),
        (with(tensor("0", 6, 0, &[1 << 40], &[0])), "views of 6"),
        (with(tensor("0", 1 << 60, 0, &[1 << 60], &[1])), "numbers instead of"),
        (with(tensor("1", 6, 0, &[6], &[1])), "'x/data/1'"),
        (with(tensor("../byteorder", 1, 0, &[1], &[1])), "'x/data/../byteorder'"),
        (pickle(&dict(&[("a", good()), ("a", good())])), "two tensors 'a'"),
        (pickle(&dict(&[("a\nb", good())])), "'a\\nb'"),
        (pickle(&dict(&[("a", dict(&[("b", dict(&[("c", dict(&[("d", dict(&[("e", good())]))]))]))]))])), "no dictionary"),
    ];
    for (pickle, word) in cases {
        let error = refusal(folder.path(), &zip(&members(&pickle))).unwrap_or_else(|| panic!("{word}: not refused"));
        assert!(error.contains(word), "'{word}' is not in: {error}");
    }
}

#[test]
fn bombs_go_off_in_nobodys_memory() {
    let folder = tempfile::tempdir().unwrap();
    let many = 1 << 22;
    // Tuples of ten of the tuples before: ten to the thirtieth elements, if somebody counted them.
    let laughs: Vec<u8> = (0..30u8)
        .flat_map(|level| {
            [&[b'(', b'N'][..], &if level == 0 { vec![] } else { [b'h', level - 1].repeat(10) }, &[b't', b'q', level]].concat()
        })
        .collect();
    let remembered: Vec<u8> =
        (0..many / 8u32).flat_map(|index| [&b"Nr"[..], &index.wrapping_mul(0x9E37_79B9).to_le_bytes()].concat()).collect();
    let itself = b"]q\x00h\x00a}q\x01X\x05\0\0\0modelh\x01s".to_vec();
    let bombs: Vec<(&str, Vec<u8>)> = vec![
        ("laughs", [&laughs[..], &b"}X\x01\0\0\0ah\x1ds"[..]].concat()),
        ("a memory of many places", [&remembered[..], b"}"].concat()),
        ("tuples in tuples", [&b"N"[..], &b"\x85".repeat(many as usize / 2)].concat()),
        ("lists in lists", [b"]q\x00".to_vec(), b"]ah\x00".repeat(many as usize / 4)].concat()),
        ("marks", b"(".repeat(many as usize / 2)),
        ("dictionaries that hold themselves", itself),
        ("more than there may be", b"N".repeat(many as usize + 1)),
    ];
    for (name, body) in bombs {
        let path = folder.path().join("bomb.pth");
        std::fs::write(&path, zip(&members(&pickle(&body)))).unwrap();
        // The program maps some gigabytes of libraries; what a bomb would take is beyond any limit.
        let program =
            format!("ulimit -v 6000000; exec '{}' weights import '{}' --encoder resnet18", env!("CARGO_BIN_EXE_wsi"), path.display());
        let output = Command::new("sh").args(["-c", &program]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{name}: {}", said(&output));
        assert!(said(&output).contains("bomb.pth") && !said(&output).contains("panicked"), "{name}: {}", said(&output));
    }
}

#[test]
fn archives_that_are_not_what_they_seem_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let honest = members(&pickle(&dict(&[("a", good())])));
    let changed = |place: usize, change: &dyn Fn(&mut Member)| {
        let mut members = honest.clone();
        change(&mut members[place]);
        zip(&members)
    };
    let with = |more: &[Member]| zip(&[&honest[..], more].concat());
    let whole = zip(&honest);
    let flipped = |word: &[u8], by: usize| {
        let mut bytes = whole.clone();
        let at = bytes.windows(word.len()).position(|window| window == word).unwrap();
        bytes[at + word.len() + by] ^= 1;
        bytes
    };
    let cases: Vec<(Vec<u8>, &str)> = vec![
        // Eight kilobytes that say they are four gigabytes; terabytes need the wide field, which says that it is missing.
        (changed(2, &|member| (member.method, member.size) = (8, Some(0xffff_fffe))), "'x/data/0' is compressed"),
        (changed(2, &|member| (member.method, member.size) = (8, Some(0xffff_ffff))), "damaged"),
        (changed(0, &|member| member.method = 8), "'x/data.pkl' is compressed"),
        (changed(2, &|member| member.size = Some(1 << 30)), "'x/data/0' is compressed"),
        (changed(2, &|member| member.flags = 1), "encrypted"),
        (changed(2, &|member| member.header = Some(0)), "reaches into"),
        (changed(2, &|member| member.header = Some(1 << 31)), "damaged"),
        (changed(2, &|member| member.header = Some(3)), "damaged"),
        (with(&[member("x/data/0", b"other")]), "two members 'x/data/0'"),
        (with(&[member("x/data.pkl", b"N.")]), "two members 'x/data.pkl'"),
        (with(&[member("y/data.pkl", b"N.")]), "more than one data.pkl"),
        (with(&[member("../escape", b"")]), "'../escape'"),
        (with(&[member("/etc/passwd", b"")]), "'/etc/passwd'"),
        (with(&[member("x\\..\\y", b"")]), "a member is called"),
        (with(&[member("", b"")]), "a member is called ''"),
        (with(&[member("x/code/__torch__.py", b"")]), "TorchScript"),
        (with(&[member("x/constants.pkl", b"")]), "--encoder FILE.pt"),
        (zip(&honest[1..]), "no data.pkl"),
        (zip(&honest[..2]), "'x/data/0'"),
        (changed(1, &|member| member.content = b"big".to_vec()), "big-endian"),
        (flipped(b"x/data/0", 5), "checksum"),
        (flipped(b"x/data.pkl", 3), "damaged"),
    ];
    for (bytes, word) in cases {
        let error = refusal(folder.path(), &bytes).unwrap_or_else(|| panic!("{word}: not refused"));
        assert!(error.contains(word), "'{word}' is not in: {error}");
    }
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let body = dict(&[("a", good())]);
    for whole in [zip(&members(&pickle(&body))), flat(&body)] {
        assert_eq!(refusal(folder.path(), &whole), None);
        for end in 0..whole.len() {
            assert!(refusal(folder.path(), &whole[..end]).is_some(), "cut at byte {end} of {}", whole.len());
        }
    }
}

#[test]
fn parts_are_files_beside_their_index() {
    let folder = tempfile::tempdir().unwrap();
    let index = folder.path().join("pytorch_model.bin.index.json");
    std::fs::write(folder.path().join("part-1.bin"), zip(&members(&pickle(&dict(&[("a", good())]))))).unwrap();
    std::fs::write(folder.path().join("part-2.bin"), flat(&dict(&[("b", good())]))).unwrap();
    let said = |map: &str| {
        std::fs::write(&index, format!("{{\"weight_map\": {map}}}")).unwrap();
        Published::open(&index).and_then(|mut published| published.tensors()).map_err(|error| format!("{error:#}"))
    };
    let tensors = said(r#"{"a": "part-1.bin", "b": "part-2.bin"}"#).unwrap();
    assert_eq!(tensors.keys().collect::<Vec<_>>(), ["a", "b"]);
    for (map, word) in [
        (r#"{"a": "../part-1.bin"}"#, "no file beside the index"),
        (r#"{"a": "/etc/passwd"}"#, "no file beside the index"),
        (r#"{"a": "pytorch_model.bin.index.json"}"#, "no file beside the index"),
        (r#"{"a": 7}"#, "no file name"),
        (r#"["part-1.bin"]"#, "weight_map"),
        (r#"{"a": "part-3.bin"}"#, "part-3.bin"),
        (r#"{"a": "part-1.bin", "c": "part-1.bin"}"#, "no tensor 'c'"),
        (r#"{"a": "part-1.bin", "b": "part-1.bin", "x": "part-2.bin"}"#, "'b'"),
        ("{}", "holds no tensors"),
    ] {
        let error = said(map).unwrap_err();
        assert!(error.contains(word), "'{word}' is not in: {error}");
    }
}
