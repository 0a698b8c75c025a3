//! Project metadata shown, checked and mapped with the real program.

use std::fs;

use crate::home::{Home, Ran, ran, tool};
use serde_json::{Value, json};

const EXAMPLE: &str = include_str!("../../fixtures/metadata/categories_and_labels_data.json5");
const TARGET: &str = include_str!("../../fixtures/metadata/target.json5");
const NAME: &str = "categories_and_labels_data.json5";

/// A home with the example in `example` and another project in `target.json5`.
fn home() -> Home {
    let home = Home::empty();
    home.write(&format!("example/src/{NAME}"), EXAMPLE);
    home.write("target.json5", TARGET);
    home
}

fn json(ran: Ran) -> Value {
    assert_eq!(ran.err, "", "`{}`", ran.line);
    ran.json()
}

#[test]
fn a_person_sees_the_whole_tree() {
    let home = home();
    let shown = home.run(["metadata", "show", "example"]).ok().out;
    insta::assert_snapshot!(shown);
    let data = json(home.run(["metadata", "show", "example", "--output", "json"]).ok());
    assert_eq!(data["path"], format!("example/src/{NAME}"));
    assert_eq!(data["categories"][0]["schema"][1]["labels"][1]["threshold"], 0.1);
}

#[test]
fn it_is_found_in_files_folders_and_bundles() {
    let home = Home::warm();
    let project = home.tiny("tiny");
    home.run(["metadata", "show", "tiny"]).ends(1).says("there is no project metadata in `tiny`").says(NAME);
    home.run(["metadata", "show", "nowhere"]).ends(1).says("there is no file or folder `nowhere`");
    home.write(&format!("tiny/{NAME}"), EXAMPLE);
    let manifest = fs::read_to_string(project.join("ekiben.yaml")).unwrap();
    home.write("tiny/ekiben.yaml", format!("{manifest}metadata: [{NAME}]\n"));
    home.run(["pack", "tiny"]).ok();
    let places = [
        ("tiny", format!("tiny/{NAME}")),
        (&*format!("tiny/{NAME}"), format!("tiny/{NAME}")),
        ("tiny-1.ekiben", format!("tiny-1.ekiben:{NAME}")),
    ];
    let shown = places.map(|(path, place)| {
        let shown = json(home.run(["metadata", "show", path, "--output", "json"]).ok());
        assert_eq!(shown["path"], place);
        shown["categories"].clone()
    });
    assert!(shown[0].is_array() && shown.iter().all(|categories| *categories == shown[0]));
    // Whatever the file is called, a person may name it.
    home.write("mine.json", shown[0].to_string());
    home.run(["metadata", "check", "mine.json", "--against", "tiny-1.ekiben"]).ok();
    home.run(["metadata", "check", "tiny/model.json"]).ends(3);

    // Of two, the one that a service reads; of two of these, none.
    home.write("tiny/categories_and_label_data.json5", "[]");
    let shown = json(home.run(["metadata", "show", "tiny", "--output", "json"]).ok());
    assert_eq!(shown["path"], format!("tiny/{NAME}"));
    home.write(&format!("tiny/src/{NAME}"), "[]");
    home.run(["metadata", "show", "tiny"]).ends(1).says("more than one").says("name the file");
}

#[test]
fn what_the_sdk_writes_is_read_though_its_services_do_not_find_it() {
    let home = home();
    // As json.dump writes it, and as project folders have it.
    let written = r#"[{"description": "Bills", "id": 63, "name": "Invoice", "schema": [{"api_name": "Invoice", "has_multiple_annotation_sets": false, "id": 63, "labels": [], "name": "Invoice"}]}]"#;
    home.write("sdk/src/categories_and_label_data.json5", written);
    let checked = home.run(["metadata", "check", "sdk"]).ok().says("EK0903").says("will not find");
    assert!(checked.out.contains("is consistent, 1 warning"), "{}", checked.out);
    let data = json(home.run(["metadata", "check", "sdk", "--output", "json"]).ok());
    assert_eq!((&data["warnings"], &data["diagnostics"][0]["code"]), (&json!(1), &json!("EK0903")));
}

#[test]
fn a_bento_is_opened_in_each_of_its_forms() {
    let home = home();
    let name = "categories_and_label_data.json5";
    home.write("store/bentos/extraction_63/1/bento.yaml", "service: s:S\nname: extraction_63\nversion: '1'\n");
    home.write(&format!("store/bentos/extraction_63/1/src/{name}"), EXAMPLE);
    home.write("store/bentos/extraction_63/latest", "1");
    let folder = "store/bentos/extraction_63/1";
    ran(tool("tar").args(["-czf", "extraction_63.bento", "-C", folder, "."]).current_dir(home.folder())).ok();
    for (path, place) in [
        ("extraction_63.bento", format!("extraction_63.bento:src/{name}")),
        (folder, format!("{folder}/src/{name}")),
        ("bento:extraction_63", home.path(&format!("{folder}/src/{name}"))),
    ] {
        let mut show = home.command(["metadata", "show", path, "--output", "json"]);
        let shown = ran(show.env("BENTOML_HOME", home.path("store"))).ok().says("EK0903");
        assert_eq!(shown.json()["path"], place);
        assert_eq!(shown.json()["categories"][0]["schema"][1]["name"], "Line item");
    }
    home.run(["metadata", "map", "extraction_63.bento", "--against", "example"]).ok();
    home.write("empty/bento.yaml", "service: s:S\nname: empty\nversion: '1'\n");
    ran(tool("tar").args(["-cf", "empty.bento", "-C", "empty", "."]).current_dir(home.folder())).ok();
    home.run(["metadata", "show", "empty.bento"]).ends(1).says("there is no project metadata in `empty.bento`");
}

#[test]
fn mistakes_have_their_places_and_code_3() {
    let home = home();
    for (text, place, said) in [
        ("[{id: 1, name: 'A'},\n {id: 2, name: 'A'}]", ":2:16:", "the category `A` is there twice"),
        ("[{id: 1, name: 'A'},\n {id: 1, name: 'B'}]", ":2:16:", "the category 1 has two values of `name`"),
        (
            "[{id: 1, name: 'A', schema: [\n{id: 1, name: 'A', labels: [{name: 'x'}]}]}]",
            ":2:29:",
            "the key `data_type` is missing",
        ),
        (
            "[{id: 1, name: 'A', schema: [\n{id: 1, name: 'A', labels: [{name: 'x', data_type: 'Text', threshold: 2}]}]}]",
            ":2:71:",
            "2 is out of range",
        ),
        ("[{id: 1, name: 'A'}", ":1:1:", "not closed"),
    ] {
        home.write("wrong.json5", text);
        home.run(["metadata", "check", "wrong.json5"]).ends(3).says(&format!("wrong.json5{place}")).says(said);
        home.run(["metadata", "map", "target.json5", "--against", "wrong.json5"]).ends(3).says(said);
        home.run(["metadata", "check", "target.json5", "--against", "wrong.json5"]).ends(3).says(said);
        let data = json(home.run(["metadata", "check", "wrong.json5", "--output", "json"]).ends(3));
        assert_eq!(data["errors"], 1, "{data}");
    }
    // Ids are what is mapped.
    home.write("wrong.json5", "[{name: 'A'}]");
    home.run(["metadata", "check", "wrong.json5"]).ok();
    home.run(["metadata", "map", "wrong.json5", "--against", "target.json5"]).ends(3).says("has no `id`");
}

#[test]
fn what_does_not_fit_is_listed_with_code_4() {
    let home = home();
    let args = ["metadata", "check", "example", "--against", "target.json5"];
    insta::assert_snapshot!(home.run(args).ends(4).out);
    let data = json(home.run(args.iter().chain(&["--output", "json"])).ends(4));
    let names = |list: &Value, key: &str| {
        list.as_array().unwrap().iter().map(|entry| entry[key].as_str().unwrap_or("-").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&data["against"]["missing"], "label"), ["-", "Invoice date", "Amount", "Description"]);
    let different = &data["against"]["different"][0];
    assert_eq!((&different["label"], &different["keeps"][0]["target"]), (&json!("Total"), &json!("Text")));
    home.run(["metadata", "check", "example", "--against", "example"]).ok();
    // What only the other one has does no harm.
    home.write("less.json5", "[{id: 1, name: 'Invoice'}]");
    home.run(["metadata", "check", "less.json5", "--against", "example"]).ok();
}

#[test]
fn a_mapping_can_be_applied_by_a_server() {
    let home = home();
    let args = ["metadata", "map", "example", "--against", "target.json5"];
    insta::assert_snapshot!("map", home.run(args).ends(4).out);
    let create = args.iter().chain(&["--create-missing"]);
    insta::assert_snapshot!("map_create_missing", home.run(create.clone()).ok().out);
    let data = home.run(create.chain(&["--output", "json"])).ok();
    insta::assert_snapshot!("map_create_missing_json", data.out);
    assert_eq!(data.err, "");
}

#[test]
fn names_do_not_reach_the_terminal_as_commands() {
    let home = home();
    let evil = r#"[{"id": 1, "name": "A[2J", "schema": [{"id": 1, "name": "B\u001b[2J", "labels": [{"id": 2, "name": "C\u0007", "data_type": "T\u001b"}]}]}]"#;
    home.write("evil.json", evil);
    for args in [
        &["metadata", "show", "evil.json"][..],
        &["metadata", "check", "evil.json", "--against", "target.json5"],
        &["metadata", "check", "evil.json", "--against", "evil.json"],
        &["metadata", "map", "evil.json", "--against", "target.json5", "--create-missing"],
    ] {
        let Ran { out, err, .. } = home.run(args.iter().chain(&["--color", "always"]));
        let said = format!("{out}{err}");
        assert!(!said.contains("\u{1b}[2J") && !said.contains('\u{7}'), "{args:?}: {said:?}");
    }
}

#[test]
fn large_and_foreign_metadata_is_mapped_in_time() {
    let home = home();
    let labels = |word: &str| {
        let label = |id: u32| json!({"id": id, "name": format!("{word} {id}"), "data_type": "Text"});
        let labels: Vec<_> = (2..20_000).map(label).collect();
        json!([{"id": 1, "name": "A", "schema": [{"id": 1, "name": "A", "labels": labels}]}]).to_string()
    };
    home.write("one.json", labels("one"));
    home.write("two.json", labels("two"));
    let data = json(home.run(["metadata", "map", "one.json", "--against", "two.json", "--output", "json"]).ends(4));
    assert_eq!(data["labels"].as_array().unwrap().len(), 19_998);
    let listed = home.run(["metadata", "check", "one.json", "--against", "two.json"]).ends(4).out;
    assert!(listed.contains("19998 missing, 0 different"));
}
