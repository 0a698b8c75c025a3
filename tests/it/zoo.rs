//! Models as people save them, from their file to their answer: the light third of `scripts/zoo`.

use std::path::Path;

use crate::home::{ran, tool};

#[test]
fn saved_models_answer_as_their_frameworks_do() {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("zoo");
    let zoo = ran(tool("python3")
        .args(["scripts/zoo", "--light", "--ekiben", env!("CARGO_BIN_EXE_ekiben"), "--cache"])
        .arg(cache));
    assert_eq!(zoo.code, Some(0), "{}{}", zoo.out, zoo.err);
    let cases = zoo.out.lines().filter(|line| line.contains(": passes, equal, ")).count();
    assert!(cases >= 20, "{}{}", zoo.out, zoo.err);
}
