//! Cohorts as hospitals and benchmarks hand them over: real label files counted, damaged ones refused, labels joined to bags.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use wsi::config::Config;
use wsi::datasets::bags::Bags;
use wsi::datasets::cohort::patient_stage::{COLUMN, NODE_CLASSES, Stage, patient_stage};
use wsi::datasets::cohort::{Cohort, CohortSettings, Status};
use wsi::stages::{Data, probe, train};
use wsi::store::predictions;
use wsi::store::scores::ScoreFile;

use super::data::test_data;
use super::train::{cohort as bags, config, machine, write_bag};

/// The settings of a pack in `configs/datasets`.
fn pack(name: &str, overrides: &[&str]) -> CohortSettings {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/datasets").join(format!("{name}.toml"));
    let overrides: Vec<String> = overrides.iter().map(|&item| item.to_owned()).collect();
    Config::load(Some(&path), &overrides).unwrap().cohort
}

fn settings(overrides: &[&str]) -> CohortSettings {
    config(overrides).cohort
}

/// Slides by the value of a column (rows, sorted) and class (columns, in index order).
fn counts(cohort: &Cohort, column: &str) -> BTreeMap<String, Vec<usize>> {
    let mut counts = BTreeMap::new();
    for slide in &cohort.slides {
        counts.entry(slide.columns[column].clone()).or_insert_with(|| vec![0; cohort.classes.len()])[slide.target as usize] += 1;
    }
    counts
}

fn table<const R: usize, const C: usize>(rows: [(&str, [usize; C]); R]) -> BTreeMap<String, Vec<usize>> {
    rows.into_iter().map(|(name, counts)| (name.to_owned(), counts.to_vec())).collect()
}

fn patients(cohort: &Cohort) -> usize {
    cohort.slides.iter().map(|slide| &slide.patient).collect::<std::collections::BTreeSet<_>>().len()
}

#[test]
fn every_pack_is_a_valid_settings_file() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/datasets");
    let mut packs = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        Config::load(Some(&entry.unwrap().path()), &[]).unwrap();
        packs += 1;
    }
    assert_eq!(packs, 6);
}

/// The stage of each patient by the classes of the nodes in this cohort.
fn stages(cohort: &Cohort) -> BTreeMap<&str, Stage> {
    let mut nodes: BTreeMap<&str, [usize; 4]> = BTreeMap::new();
    cohort.slides.iter().for_each(|slide| nodes.entry(&slide.patient).or_default()[slide.target as usize] += 1);
    nodes.into_iter().map(|(patient, counts)| (patient, patient_stage(counts))).collect()
}

/// Two public files of the same slides: six nodes have another class in each, in centres 1 and 4.
#[test]
fn camelyon17_counts_by_centre_and_class() {
    let Some(data) = test_data("camelyon17_counts_by_centre_and_class") else { return };
    let read = |name: &str| Cohort::read(&data.join("labels").join(name), &pack("camelyon17", &[]), 0).unwrap();
    let (numbers, official) = (read("AEM_camelyon17.csv"), read("CAMELYON17_stage_labels.csv"));
    for cohort in [&numbers, &official] {
        assert_eq!((cohort.slides.len(), patients(cohort)), (500, 100));
        assert_eq!(cohort.classes, NODE_CLASSES);
        for slide in &cohort.slides {
            let patient: usize = slide.patient.strip_prefix("patient_").unwrap().parse().unwrap();
            assert_eq!(slide.columns["centre"], (patient / 20).to_string(), "{}", slide.slide);
        }
    }
    let shared = [("0", [64, 11, 10, 15]), ("2", [75, 2, 8, 15]), ("3", [60, 8, 13, 19])];
    let with = |one, four| table([shared[0], ("1", one), shared[1], shared[2], ("4", four)]);
    assert_eq!(counts(&numbers, "centre"), with([58, 7, 23, 12], [61, 8, 5, 26]));
    assert_eq!(counts(&official, "centre"), with([60, 7, 22, 11], [64, 7, 4, 25]));
    let differ: Vec<&str> =
        numbers.slides.iter().zip(&official.slides).filter(|(a, b)| a.target != b.target).map(|(a, _)| a.slide.as_str()).collect();
    assert_eq!(
        differ,
        ["022_node_4", "038_node_2", "086_node_0", "086_node_4", "089_node_3", "097_node_1"].map(|node| format!("patient_{node}"))
    );
}

/// In the official file every stated stage follows from its nodes; with the nodes of the other file four patients' do not.
#[test]
fn camelyon17_stages_follow_from_the_nodes() {
    let Some(data) = test_data("camelyon17_stages_follow_from_the_nodes") else { return };
    let file = data.join("labels/CAMELYON17_stage_labels.csv");
    let official = Cohort::read(&file, &pack("camelyon17", &[]), 0).unwrap();
    let stated: BTreeMap<&str, &str> =
        official.slides.iter().map(|slide| (slide.patient.as_str(), slide.columns[COLUMN].as_str())).collect();
    let derived: BTreeMap<&str, &str> = stages(&official).into_iter().map(|(patient, stage)| (patient, stage.name())).collect();
    assert_eq!((derived.len(), &derived), (100, &stated));
    let number = |stage: &str| stated.values().filter(|&&stated| stated == stage).count();
    assert_eq!(Stage::ALL.map(|stage| number(stage.name())), [25, 11, 21, 30, 13]);

    let numbers = Cohort::read(&data.join("labels/AEM_camelyon17.csv"), &pack("camelyon17", &[]), 0).unwrap();
    let other: Vec<(&str, &str)> = stages(&numbers).into_iter().map(|(patient, stage)| (patient, stage.name())).collect();
    let differ: Vec<_> = other.into_iter().filter(|(patient, stage)| stated[patient] != *stage).collect();
    assert_eq!(differ, [("patient_022", "pN1"), ("patient_086", "pN0(i+)"), ("patient_089", "pN1mi"), ("patient_097", "pN2")]);
    assert!(numbers.slides.iter().all(|slide| slide.columns[COLUMN] == stages(&numbers)[slide.patient.as_str()].name()));
}

#[test]
fn camelyon17_rows_come_in_any_order_and_damage_is_listed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stages.csv");
    let read = |text: &str| {
        std::fs::write(&path, text).unwrap();
        Cohort::read(&path, &pack("camelyon17", &[]), 0)
    };
    let cohort =
        read("patient,stage\r\npatient_021_node_1.tif,macro\r\npatient_021.zip,pN1\r\npatient_021_node_0.tif,negative\r\n").unwrap();
    let slide =
        |place: usize| (cohort.slides[place].slide.as_str(), cohort.slides[place].target, cohort.slides[place].columns[COLUMN].as_str());
    assert_eq!((slide(0), slide(1)), (("patient_021_node_0", 0, "pN1"), ("patient_021_node_1", 3, "pN1")));
    assert_eq!(cohort.slides[0].columns["centre"], "1");

    let error = format!(
        "{:#}",
        read("patient,stage\npatient_1.tif,macro\nnode.tif,itc\npatient_002.zip,pN9\npatient_140_node_0.tif,itc\n").unwrap_err()
    );
    for named in
        ["'patient_1.tif' (row 2)", "'node.tif' (row 3)", "'pN9' of patient_002.zip", "100 with public labels", "patient_140_node_0.tif"]
    {
        assert!(error.contains(named), "{named}: {error}");
    }
    let class = format!("{:#}", read("patient,stage\npatient_001_node_0.tif,mega\n").unwrap_err());
    assert!(class.contains("'mega' is not one of the classes negative, itc, micro, macro: 'patient_001_node_0' (row 2)"), "{class}");
}

#[test]
fn bracs_counts_by_part_and_class() {
    let Some(data) = test_data("bracs_counts_by_part_and_class") else { return };
    let read = |name: &str| Cohort::read(&data.join("labels/AEM_bracs.csv"), &pack(name, &[]), 0).unwrap();
    let (three, seven) = (read("bracs"), read("bracs-7"));
    assert_eq!((three.slides.len(), &three.classes[..]), (547, &["BT", "AT", "MT"].map(str::to_owned)[..]));
    assert_eq!(counts(&three, "part"), table([("train", [203, 52, 140]), ("valid", [30, 14, 21]), ("test", [32, 23, 32])]));
    assert_eq!(seven.classes, ["N", "PB", "UDH", "FEA", "ADH", "DCIS", "IC"]);
    assert_eq!(
        counts(&seven, "part"),
        table([("train", [27, 120, 56, 24, 28, 40, 100]), ("valid", [10, 11, 9, 6, 8, 9, 12]), ("test", [7, 16, 9, 11, 12, 12, 20])])
    );
}

#[test]
fn camelyon16_counts_by_part_and_class() {
    let Some(data) = test_data("camelyon16_counts_by_part_and_class") else { return };
    let cohort = Cohort::read(&data.join("labels/AEM_camelyon16.csv"), &pack("camelyon16", &[]), 0).unwrap();
    assert_eq!((cohort.slides.len(), patients(&cohort)), (399, 362));
    assert_eq!(counts(&cohort, "part"), table([("train", [159, 111]), ("test", [80, 49])]));
}

/// A workbook of one sheet a list of rows; cells that are numbers become numbers.
#[test]
fn packs_divide_the_real_cohorts_as_published() {
    let Some(data) = test_data("packs_divide_the_real_cohorts_as_published") else { return };
    let divided = |name: &str, file: &str, overrides: &[&str]| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/datasets").join(format!("{name}.toml"));
        let overrides: Vec<String> = overrides.iter().map(|&item| item.to_owned()).collect();
        let config = Config::load(Some(&path), &overrides).unwrap();
        let cohort = Cohort::read(&data.join("labels").join(file), &config.cohort, 0).unwrap();
        let bags = vec![vec![half::f16::ONE]; cohort.slides.len()];
        let bags = Bags::in_memory(cohort, bags, 1).unwrap();
        config.split.divide(&bags, 0).unwrap().counts(&bags)
    };
    // methods §6.1: negative, itc, micro, macro; 300 and 200 slides.
    for (split, validated) in [("split.name=c17-acmil", Some(30)), ("split.name=c17-strict", None)] {
        let counts = divided("camelyon17", "AEM_camelyon17.csv", &[split]);
        assert_eq!(counts["test"], [121, 16, 18, 45], "{split}");
        let trained: Vec<usize> = counts["train"].iter().zip(&counts["valid"]).map(|(train, valid)| train + valid).collect();
        assert_eq!(trained, [197, 20, 41, 42], "{split}");
        let valid: usize = counts["valid"].iter().sum();
        assert!(validated.is_none_or(|validated| valid == validated) && valid > 0, "{split}: {valid}");
    }
    // methods §6.2: BT, AT, MT.
    let counts = divided("bracs", "AEM_bracs.csv", &[]);
    assert_eq!([&counts["train"], &counts["valid"], &counts["test"]], [&vec![203, 52, 140], &vec![30, 14, 21], &vec![32, 23, 32]]);
    let counts = divided("bracs-7", "AEM_bracs.csv", &[]);
    assert_eq!(counts["train"], [27, 120, 56, 24, 28, 40, 100]);
    assert_eq!(counts["valid"], [10, 11, 9, 6, 8, 9, 12]);
    assert_eq!(counts["test"], [7, 16, 9, 11, 12, 12, 20]);
}

fn workbook(path: &Path, sheets: &[(&str, &[&[&str]])]) {
    let mut zip = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
    let mut part = |name: &str, text: String| {
        zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>{text}").as_bytes()).unwrap();
    };
    let main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main";
    let package = "http://schemas.openxmlformats.org/package/2006";
    let office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";
    let of = |f: &dyn Fn(usize, &str) -> String| sheets.iter().enumerate().map(|(i, (name, _))| f(i + 1, name)).collect::<String>();
    let overrides = of(&|i, _| {
        format!(
            "<Override PartName=\"/xl/worksheets/sheet{i}.xml\" ContentType=\"application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml\"/>"
        )
    });
    part(
        "[Content_Types].xml",
        format!(
            "<Types xmlns=\"{package}/content-types\"><Default Extension=\"rels\" ContentType=\"application/vnd.openxmlformats-package.relationships+xml\"/>\
             <Override PartName=\"/xl/workbook.xml\" ContentType=\"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml\"/>{overrides}</Types>"
        ),
    );
    part(
        "_rels/.rels",
        format!(
            "<Relationships xmlns=\"{package}/relationships\"><Relationship Id=\"rId1\" Type=\"{office}/officeDocument\" Target=\"xl/workbook.xml\"/></Relationships>"
        ),
    );
    let listed = of(&|i, name| format!("<sheet name=\"{name}\" sheetId=\"{i}\" r:id=\"rId{i}\"/>"));
    part("xl/workbook.xml", format!("<workbook xmlns=\"{main}\" xmlns:r=\"{office}\"><sheets>{listed}</sheets></workbook>"));
    let related = of(&|i, _| format!("<Relationship Id=\"rId{i}\" Type=\"{office}/worksheet\" Target=\"worksheets/sheet{i}.xml\"/>"));
    part("xl/_rels/workbook.xml.rels", format!("<Relationships xmlns=\"{package}/relationships\">{related}</Relationships>"));
    for (index, (_, rows)) in sheets.iter().enumerate() {
        let mut body = String::new();
        for (row, cells) in rows.iter().enumerate() {
            body += &format!("<row r=\"{}\">", row + 1);
            for (column, cell) in cells.iter().enumerate().filter(|(_, cell)| !cell.is_empty()) {
                let place = format!("{}{}", char::from(b'A' + column as u8), row + 1);
                body += &match cell.parse::<f64>() {
                    Ok(_) => format!("<c r=\"{place}\"><v>{cell}</v></c>"),
                    Err(_) => format!("<c r=\"{place}\" t=\"inlineStr\"><is><t xml:space=\"preserve\">{cell}</t></is></c>"),
                };
            }
            body += "</row>";
        }
        part(
            &format!("xl/worksheets/sheet{}.xml", index + 1),
            format!("<worksheet xmlns=\"{main}\"><sheetData>{body}</sheetData></worksheet>"),
        );
    }
    zip.finish().unwrap();
}

#[test]
fn bracs_workbook_is_read_by_its_sheet() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("BRACS.xlsx");
    let rows: [&[&str]; 5] = [
        &["WSI Filename", "Patient Id", "RoI ", "WSI label ", "Set"],
        &["BRACS_1228", "67", "3", "ADH", "Testing"],
        &["BRACS_738.svs", "67.0", "", "IC", "Validation"],
        &["BRACS_264", "8", "1", " N", "Training"],
        &["", "", "", "", ""],
    ];
    workbook(&path, &[("WSI_with_RoI_Distribution", &[&["WSI", "DCIS"], &["BRACS_1228", "2"]]), ("WSI_Information", &rows)]);
    let cohort = Cohort::read(&path, &pack("bracs", &[]), 0).unwrap();
    let found: Vec<_> =
        cohort.slides.iter().map(|s| (s.slide.as_str(), s.patient.as_str(), s.target, s.columns["part"].as_str())).collect();
    assert_eq!(found, [("BRACS_1228", "67", 1, "test"), ("BRACS_264", "8", 0, "train"), ("BRACS_738", "67", 2, "valid")]);
    assert_eq!((cohort.slides[0].columns["RoI"].as_str(), cohort.slides[2].columns["RoI"].as_str()), ("3", ""));

    let error = |overrides: &[&str]| format!("{:#}", Cohort::read(&path, &pack("bracs", overrides), 0).unwrap_err());
    let missing = error(&["cohort.sheet='Labels'"]);
    assert!(missing.contains("no sheet 'Labels'") && missing.contains("WSI_with_RoI_Distribution, WSI_Information"), "{missing}");
    let first = error(&["cohort.sheet=''"]);
    assert!(first.contains("no column 'WSI Filename' or 'slide_id'") && first.contains("WSI, DCIS"), "{first}");
}

fn touch(root: &Path, files: &[&str]) {
    for file in files {
        let path = root.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
    }
}

#[test]
fn folders_name_classes_and_parts() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    touch(
        root,
        &["train/Group_BT/Type_N/BRACS_1.svs", "val/Group_MT/Type_IC/BRACS_2.svs", "test/Group_AT/Type_FEA/BRACS_3.svs", "test/notes.txt"],
    );
    let waived = "cohort.each-slide-is-a-patient='the folders name no patients'";
    let read = |root: &Path, overrides: &[&str]| Cohort::read(root, &pack("bracs", &[&["cohort.format=folder"], overrides].concat()), 0);
    let cohort = read(root, &[waived]).unwrap();
    let found: Vec<_> = cohort.slides.iter().map(|s| (s.slide.as_str(), s.target, s.columns["part"].as_str())).collect();
    assert_eq!(found, [("BRACS_1", 0, "train"), ("BRACS_2", 2, "valid"), ("BRACS_3", 1, "test")]);
    assert_eq!(cohort.waivers, ["each slide counts as a patient: the folders name no patients"]);
    let unnamed = format!("{:#}", read(root, &[]).unwrap_err());
    assert!(unnamed.contains("cohort.patient-pattern") && unnamed.contains("cohort.each-slide-is-a-patient"), "{unnamed}");

    let plain = tempfile::tempdir().unwrap();
    touch(plain.path(), &["normal/P1_a.h5", "tumour/P1_b.svs", "tumour/P2_a.tif", "tumour/.hidden.svs"]);
    let cohort = Cohort::read(plain.path(), &pack("folder", &[]), 0).unwrap();
    let found: Vec<_> = cohort.slides.iter().map(|s| (s.slide.as_str(), s.patient.as_str(), s.target)).collect();
    assert_eq!(found, [("P1_a", "P1", 0), ("P1_b", "P1", 1), ("P2_a", "P2", 1)]);
    assert_eq!((cohort.classes, cohort.slides[0].columns.contains_key("part")), (vec!["normal".to_owned(), "tumour".to_owned()], false));

    touch(plain.path(), &["normal/P2_a.svs", "loose.svs", "other/deep/er/still/x_1.svs"]);
    let error = |root: &Path| format!("{:#}", Cohort::read(root, &pack("folder", &[]), 0).unwrap_err());
    let misplaced = error(plain.path());
    assert!(misplaced.contains("loose.svs") && misplaced.contains("other/deep/er/still/x_1.svs"), "{misplaced}");
    std::fs::remove_file(plain.path().join("loose.svs")).unwrap();
    std::fs::remove_dir_all(plain.path().join("other")).unwrap();
    let twice = error(plain.path());
    assert!(twice.contains("listed twice") && twice.contains("'P2_a' (normal/P2_a.svs and tumour/P2_a.tif)"), "{twice}");
}

/// Reads a table that is written out for the test.
fn read(text: &str, overrides: &[&str]) -> anyhow::Result<Cohort> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("labels.csv");
    std::fs::write(&path, text).unwrap();
    Cohort::read(&path, &settings(overrides), 0)
}

#[test]
fn everything_wrong_is_told_at_once() {
    let error = |text: &str, overrides: &[&str]| format!("{:#}", read(text, overrides).unwrap_err());
    let rows = "slide_id,patient_id,label,centre,part\na,p1,x,c,train\na.tif,p1,x,c,train\n,p2,x,c,test\nb,,x,c,test\nc,p3,,c,test\nd,p4,y,,test\n\
                1.00E+06,p5,x,c,test\n2024-01-31,p6,x,c,test\ne,1E+09,x,c,test\nf,p7,x,c,later\n1/2/24,p8,x,c,test\n";
    let all = error(rows, &["cohort.classes=['x']"]);
    for named in [
        "labels.csv",
        "listed twice; keep one of each: 'a' (row 2 and row 3)",
        "empty slide id; fill it or remove the row: row 4",
        "empty patient; fill it or remove the row: 'b' (row 5)",
        "empty label; fill it or remove the row: 'c' (row 6)",
        "label 'y' is not one of the classes x: 'd' (row 7)",
        "empty centre; fill it, or set cohort.centre = []: 'd' (row 7)",
        "scientific notation, its digits are lost; export the table again with ids as text: '1.00E+06' (row 8)",
        "date; export the table again with ids as text: '2024-01-31' (row 9), '1/2/24' (row 12)",
        "'e' (row 10) of '1E+09'",
        "part 'later' is none of train, valid and test",
    ] {
        assert!(all.contains(named), "{named}\n{all}");
    }
    let head = "slide_id,label\n";
    let none = error(&format!("{head}a_1,x\n"), &[]);
    assert!(none.contains("(cohort.patient)") && none.contains("cohort.each-slide-is-a-patient"), "{none}");
    let pattern = error(&format!("{head}a_1,x\nb,x\nc,x\n"), &["cohort.patient-pattern='^([a-z])_'"]);
    assert!(pattern.contains("finds no patient in: 'b' (row 3), 'c' (row 4)"), "{pattern}");
    assert!(error(&format!("{head}a_1,x\n"), &["cohort.patient-pattern='^a'"]).contains("has no group"));
    let leads = error("slide_id,patient,label\na,p,0\n", &["cohort.part-map={x='somewhere'}"]);
    assert!(leads.contains("cohort.part-map: 'x' leads to 'somewhere'"), "{leads}");
    let mapped = error("slide_id,patient,label\na,p,0\nb,p,3\n", &["cohort.label-map={0='x',1='y'}"]);
    assert!(mapped.contains("label '3' is not one of the classes"), "{mapped}");
}

#[test]
fn columns_labels_and_parts_are_found_by_many_names() {
    let cohort = read(
        "\u{feff}Filename;CASE_ID;label;Center;Set\r\nb.svs;1.0;1.0;north;TRAINING\r\na.tif;01;0;south;held out\r\n;;;;\r\n",
        &["cohort.label-map={0='normal',1='tumour'}", "cohort.part-map={'Held Out'='Testing'}"],
    )
    .unwrap();
    let found: Vec<_> = cohort
        .slides
        .iter()
        .map(|s| (s.slide.as_str(), s.patient.as_str(), s.target, s.columns["centre"].as_str(), s.columns["part"].as_str()))
        .collect();
    assert_eq!(found, [("a", "01", 0, "south", "test"), ("b", "1", 1, "north", "train")]);
    assert_eq!(cohort.slides[0].columns["Set"], "held out", "the table's own columns stay as they are");
    assert!(cohort.waivers.is_empty());
    let one = read("image,who,label\nx,p,a\n", &["cohort.slide=image", "cohort.patient=['nobody','who']"]).unwrap();
    assert_eq!((one.slides[0].slide.as_str(), one.slides[0].patient.as_str()), ("x", "p"));
    assert!(!one.slides[0].columns.contains_key("centre") && !one.slides[0].columns.contains_key("part"));
    let ignored = read("slide,patient,label,set\nx,p,a,?\n", &["cohort.part=[]"]).unwrap();
    assert!(!ignored.slides[0].columns.contains_key("part"));
}

#[test]
fn labels_without_bags_are_all_listed_or_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let mut data = bags(folder.path(), 2, 4);
    write_bag(folder.path(), "007", 0, 5);
    let table: PathBuf = folder.path().join("other.csv");
    let mut rows = String::from("slide_id,patient_id,label,hospital\nlost1,q1,class0,east\n7.0,q2,class1,west\nlost2,q3,class1,east\n");
    (0..8).for_each(|p| rows += &format!("p{p:02}_0.svs,p{p:02},class{},east\n", p % 2));
    std::fs::write(&table, rows).unwrap();
    data.labels = Some(table);
    let refused = format!("{:#}", data.open(&config(&[])).err().unwrap());
    assert!(refused.contains("2 of the 11 slides") && refused.contains("'lost1', 'lost2'"), "{refused}");

    let out = folder.path().join("run");
    let partial = config(&["cohort.partial=true", "train.epochs=1"]);
    train::run(&partial, &data, &out, &machine()).unwrap();
    let (dataset, _) = data.open(&partial).unwrap();
    assert_eq!((dataset.ids()[0].as_str(), dataset.ids().len()), ("007", 9));
    assert!(dataset.column("centre").unwrap().contains(&"west".to_owned()));
    let roll = dataset.roll().unwrap();
    let number = |status: Status| roll.entries.iter().filter(|entry| entry.status == status).count();
    assert_eq!([Status::Used, Status::NoBag, Status::NoLabel].map(number), [9, 2, 8]);
    let written = std::fs::read_to_string(out.join("cohort.csv")).unwrap();
    let mut lines = written.lines();
    assert_eq!(lines.next(), Some("slide_id,patient_id,label,centre,part,status"));
    assert_eq!(lines.next(), Some("007,q2,class1,west,\"\",used"));
    let unknown = "\"\",\"\",\"\",\"\"";
    assert!(
        written.contains("lost1,q1,class0,east,\"\",no bag\n") && written.contains(&format!("p00_1,{unknown},no label\n")),
        "{written}"
    );
}

#[test]
fn a_waiver_is_recorded_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let mut data = bags(folder.path(), 2, 4);
    let table: PathBuf = folder.path().join("other.csv");
    let rows: String = (0..8).map(|p| format!("p{p:02}_0,class{}\n", p % 2)).collect();
    std::fs::write(&table, format!("slide_id,label\n{rows}")).unwrap();
    data.labels = Some(table);
    let waived = config(&["cohort.each-slide-is-a-patient='one slide each'", "train.epochs=1"]);
    let summary = train::run(&waived, &data, &folder.path().join("run"), &machine()).unwrap();
    assert_eq!(summary.figures["waivers"], serde_json::json!(["each slide counts as a patient: one slide each"]));
}

#[test]
fn a_probe_of_camelyon17_scores_patients() {
    let folder = tempfile::tempdir().unwrap();
    let mut rows = String::from("patient,stage\n");
    for patient in 0..16 {
        let class = patient % 4;
        for node in 0..5 {
            let id = format!("patient_{patient:03}_node_{node}");
            write_bag(folder.path(), &id, class, 5);
            rows += &format!("{id}.tif,{}\n", NODE_CLASSES[class]);
        }
        rows += &format!("patient_{patient:03}.zip,{}\n", ["pN0", "pN0(i+)", "pN1mi", "pN2"][class]);
    }
    let table = folder.path().join("stages.csv");
    std::fs::write(&table, rows).unwrap();
    let data = Data { data: folder.path().join("bags"), labels: Some(table), split: None };
    let scored = |name: &str, overrides: &[&str]| {
        let settings =
            config(&[&["cohort.format=camelyon17", "split={name='holdout',validation=0.0}", "train.epochs=20"], overrides].concat());
        let (trained, probed) = (folder.path().join(format!("train-{name}")), folder.path().join(format!("probe-{name}")));
        train::run(&settings, &data, &trained, &machine()).unwrap();
        probe::run(&settings, &probe::Inputs { train: trained, data: data.clone(), tiles: None }, &probed, &machine()).unwrap();
        (ScoreFile::read(&probed).unwrap(), probed)
    };
    let (scores, probed) = scored("true", &[]);
    let predictions = predictions::read(&probed, &scores.classes).unwrap();
    for (decision, scores) in &scores.decisions {
        let right = predictions[decision].iter().all(|row| row.predicted == row.label);
        let kappa = &scores.metrics["patient_stage_kappa"];
        assert!(kappa.undefined.is_none() && (kappa.value == 1.0 || !right), "{decision:?}: {kappa:?}");
    }
    assert!(scores.decisions.values().any(|scores| scores.metrics["patient_stage_kappa"].value > 0.5));
    let (shuffled, _) = scored("shuffled", &["cohort.shuffle-labels=1", "train.epochs=1"]);
    assert!(shuffled.decisions.values().all(|scores| !scores.metrics.contains_key("patient_stage_kappa")));
}

#[test]
fn slide_lists_are_tables_of_any_kind() {
    let folder = tempfile::tempdir().unwrap();
    touch(folder.path(), &["a.svs", "b.svs"]);
    std::fs::write(folder.path().join("list.csv"), "slide ; mpp\r\na.svs;0,25\r\nb;\r\n;\r\n").unwrap();
    workbook(&folder.path().join("list.xlsx"), &[("Slides", &[&["slide", "mpp"], &["a.svs", "0.25"], &["b", ""]])]);
    for name in ["list.csv", "list.xlsx"] {
        let slides = wsi::slides::list(&folder.path().join(name)).unwrap();
        let found: Vec<_> = slides.iter().map(|slide| (slide.id.as_str(), slide.mpp)).collect();
        assert_eq!(found, [("a", Some(0.25)), ("b", None)], "{name}");
    }
}
