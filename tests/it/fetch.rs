//! A folder filled from where a model's files live: in one pod, in several at once, killed and gone on with.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ekiben::io::digest::Digest;
use serde_json::{Value, json};

use crate::home::registry::Registry;
use crate::home::servers::Server;
use crate::home::{Home, Ran, program, ran, tool, wait_until};
use crate::origins::{at_objects, locked, objects, project};
use crate::transfers::{SIZE, asked, slow};

/// Paths and contents of a folder's files, but for what belongs to the work.
fn content(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let listed =
        ran(tool("find").arg(folder).args(["-type", "f", "-not", "-path", "*/.ekiben-fetch/*", "-printf", "%P\n"]));
    let mut found: Vec<_> =
        listed.ok().out.lines().map(|name| (name.to_owned(), fs::read(folder.join(name)).unwrap())).collect();
    found.sort();
    found
}

/// What is under way or left in a folder's work.
fn work(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.join(".ekiben-fetch")).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.file_name().unwrap() != "known.json").collect()
}

/// Which files were fetched.
fn fetched(said: &Value) -> Vec<&str> {
    let files = said["files"].as_array().unwrap().iter();
    files.filter(|file| file["fetched"] == true).map(|file| file["path"].as_str().unwrap()).collect()
}

#[test]
fn only_what_changed_at_a_prefix_is_fetched() {
    let home = Home::empty();
    let (server, id, secret) = objects(false);
    let folder = home.folder().join("models/iris");
    let run = |args: &[&str]| -> Ran {
        let to = folder.display().to_string();
        let args = [&["fetch", "s3://models/iris/3/", "--to", &to, "--output", "json"], args].concat();
        let mut command = at_objects(&home, &server, &args);
        ran(command.env("AWS_ACCESS_KEY_ID", &id).env("AWS_SECRET_ACCESS_KEY", &secret))
    };
    let put = |name: &str, letter: char| {
        let script = "import boto3, sys; boto3.client('s3', endpoint_url=sys.argv[1], region_name='us-east-1').put_object(\
                      Bucket='models', Key=sys.argv[2], Body=sys.argv[3].encode() * 70000)";
        let moto = crate::home::python_program("moto_server", "moto[server]==5.1.22");
        let mut command = Command::new(moto.with_file_name("python"));
        command.args(["-c", script, &server.url(""), &format!("iris/3/{name}"), &letter.to_string()]);
        ran(command.env("AWS_ACCESS_KEY_ID", "a").env("AWS_SECRET_ACCESS_KEY", "b")).ok();
    };
    let said = run(&[]).ok().json();
    assert_eq!(fetched(&said), ["a+b c.txt", "deep/x.bin", "model.bin"]);
    assert_eq!(said["files"][2]["digest"], Digest::of(vec![b'x'; 70_000]).to_string());
    let names = |folder: &Path| content(folder).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names(&folder), ["a+b c.txt", "deep/x.bin", "model.bin"]);
    assert_eq!(fs::metadata(folder.join("model.bin")).unwrap().mode() & 0o444, 0o444);
    let inode = fs::metadata(folder.join("model.bin")).unwrap().ino();
    assert!(fetched(&run(&[]).ok().json()).is_empty());
    assert_eq!(fs::metadata(folder.join("model.bin")).unwrap().ino(), inode, "it was kept");

    // Another object; a file that somebody wrote to; one that belongs to nobody.
    put("model.bin", 'y');
    fs::write(folder.join("deep/x.bin"), "?").unwrap();
    fs::write(folder.join("mine"), "").unwrap();
    let old = fs::File::open(folder.join("model.bin")).unwrap();
    assert_eq!(fetched(&run(&[]).ok().json()), ["deep/x.bin", "model.bin"]);
    assert_eq!(std::io::read_to_string(old).unwrap(), "x".repeat(70_000), "who reads it goes on");
    assert!(folder.join("mine").exists());
    let said = run(&["--delete"]).ok().json();
    assert_eq!((fetched(&said).len(), &said["removed"]), (0, &json!(["mine"])));

    // Where one is not what it has to be, none is another.
    put("a+b c.txt", 'z');
    put("model.bin", 'z');
    let before = content(&folder);
    let w = Digest::of(vec![b'w'; 70_000]);
    run(&["--expect-sha256", &format!("model.bin={}", w.hex())]).ends(5).says("`model.bin`").says("what the list says");
    assert_eq!(content(&folder), before);
    let z = Digest::of(vec![b'z'; 70_000]);
    assert_eq!(fetched(&run(&["--expect-sha256", &format!("model.bin={z}")]).ok().json()), ["a+b c.txt", "model.bin"]);
    run(&["--expect-sha256", &format!("none.bin={z}")]).ends(5).says("none.bin");
    // A list of some: the others stay where they are. It needs no key of what is known.
    fs::remove_dir_all(folder.join(".ekiben-fetch")).unwrap();
    let list = json!({ "folder": "/models/iris", "files": [{ "path": "model.bin", "size": 70_000, "digest": z }] });
    home.write("list.json", list.to_string());
    let said = run(&["--expect", "list.json"]).ok().json();
    assert_eq!((fetched(&said).len(), said["files"].as_array().unwrap().len()), (0, 1));
    home.write("list.json", "{}");
    run(&["--expect", "list.json"]).ends(3).says("no list of a model's files");
    let text = at_objects(&home, &server, &["fetch", "s3://models/iris/3/", "--to", &folder.display().to_string()])
        .env("AWS_ACCESS_KEY_ID", &id)
        .env("AWS_SECRET_ACCESS_KEY", &secret)
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&text.stdout).contains(&format!("kept model.bin (70.0 kB, {z})\n")), "{text:?}");
}

#[test]
fn a_lock_says_what_files_have_to_be() {
    let home = Home::empty();
    home.write("there/model.bin", vec![7; 100_000]);
    let server = Server::of_files(&home, "there");
    project(&home, &json!([{ "from": server.url("model.bin") }]));
    home.run(["lock", "far"]).ok();
    assert_eq!(locked(&home)["models"].as_array().unwrap().len(), 1);
    let fetch = |address: &str| home.run(["fetch", address, "--to", "to", "--expect", "far/ekiben.lock"]);
    fetch(&server.url("model.bin")).ok();
    home.write("there/model.bin", vec![8; 100_000]);
    fs::remove_file(home.path("to/model.bin")).unwrap();
    fetch(&server.url("model.bin")).ends(7).says("is not what the lock says");
    assert!(content(&home.folder().join("to")).is_empty());
    fetch(&server.url("other.bin")).ends(5);
    home.write("there/other.bin", "other");
    fetch(&server.url("other.bin")).ends(7).says("the lock does not have");
}

#[test]
fn a_pod_needs_only_the_folder_and_tmp() {
    let home = Home::empty();
    home.write("there/model.bin", vec![7; 5_000_000]);
    let server = Server::of_files(&home, "there");
    let folder = home.folder().join("volume");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, Permissions::from_mode(0o777)).unwrap();
    let mut pod = tool("unshare");
    // All is read-only but the two, also for root.
    let script = "mount --rbind / /mnt && mount -t tmpfs none /mnt/tmp && mkdir -p \"/mnt$1\" \"/mnt$(dirname \"$2\")\" \
                  && mount --bind \"$1\" \"/mnt$1\" && touch \"/mnt$2\" && mount --bind \"$2\" \"/mnt$2\" \
                  && mount -o remount,ro,bind /mnt && shift \
                  && exec chroot /mnt setpriv --reuid=1034 --regid=1034 --clear-groups --no-new-privs \
                  --inh-caps=-all --bounding-set=-all \"$@\"";
    pod.args(["-m", "sh", "-ec", script, "sh"]).arg(&folder).arg(program());
    pod.args(["fetch", &server.url("model.bin"), "--to"])
        .arg(&folder)
        .env_clear()
        .env("PATH", "/usr/bin:/bin:/usr/sbin");
    let said = ran(&mut pod).ok();
    assert!(said.out.starts_with("fetched model.bin (5.0 MB, sha256:"), "{said:?}");
    assert_eq!(fs::metadata(folder.join("model.bin")).unwrap().uid(), 1034);
    assert!(work(&folder).is_empty(), "{:?}", work(&folder));
}

#[test]
fn what_one_fetches_the_others_wait_for() {
    let (home, server, digest) = slow(16 << 20);
    let folder = home.folder().join("shared");
    let fetch = || {
        let mut command = home.command(["fetch", &server.url("model.bin"), "--output", "json", "--to"]);
        command.arg(&folder).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let first = fetch();
    wait_until("a part of it", || work(&folder).iter().any(|path| fs::metadata(path).is_ok_and(|file| file.len() > 0)));
    let others: Vec<_> = (0..3).map(|_| fetch()).collect();
    let mut by = 0;
    for process in others.into_iter().chain([first]) {
        let output = process.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(said["files"][0]["digest"], digest.to_string());
        by += fetched(&said).len();
    }
    assert_eq!(by, 1);
    assert_eq!(asked(&home).iter().filter(|(begin, _)| *begin == 0).count(), 1);
    assert!(work(&folder).is_empty(), "{:?}", work(&folder));
}

#[test]
fn a_killed_one_is_gone_on_with_in_little_memory() {
    let (home, server, digest) = slow(8 << 20);
    let folder = home.folder().join("shared");
    let fetch = || {
        let mut command = home.command(["fetch", &server.url("model.bin"), "--to"]);
        command.arg(&folder).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    };
    let part = || work(&folder).iter().filter_map(|path| fs::metadata(path).ok()).map(|file| file.len()).max();
    let mut process = fetch();
    wait_until("a part of it", || part().is_some_and(|bytes| bytes > 12 << 20));
    let mut most = 0;
    process.kill().unwrap();
    process.wait().unwrap();
    let kept = usize::try_from(part().unwrap()).unwrap();
    let before = asked(&home).len();
    assert!(!folder.join("model.bin").exists(), "half a file");
    let mut process = fetch();
    while process.try_wait().unwrap().is_none() {
        let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap_or_default();
        let now = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
        most = now.unwrap_or(0_u64).max(most);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(Digest::of(fs::read(folder.join("model.bin")).unwrap()), digest);
    let again = &asked(&home)[before..];
    assert!(again.iter().all(|(begin, _)| *begin >= kept.min(SIZE)), "{kept}: {again:?}");
    assert!(most > 0 && most < 100_000, "{most} kB");
    assert!(work(&folder).is_empty(), "{:?}", work(&folder));
}

#[test]
fn an_image_of_models_is_a_place_too() {
    let home = Home::empty();
    let registry = Registry::start();
    home.write("w/one.bin", vec![1; 5_000_000]);
    home.write("w/deep/two.bin", vec![2; 70_000]);
    home.write("w/deep/same.bin", vec![2; 70_000]);
    let manifest = "name: w\nversion: \"1\"\nbase: scratch\nmodel: {files: ['**/*.bin']}\n\
                    service: {command: [/bin/serve]}\n";
    home.write("w/ekiben.yaml", manifest);
    let reference = registry.reference("w:models");
    home.run(["build", "w", "--models-only", "-t", &reference, "--push"]).ok();
    let about = home.run(["inspect", &reference, "--output", "json"]).ok().json();
    let list = about["annotations"]["io.ekiben.models"].as_str().unwrap().to_owned();
    let address = format!("oci://{reference}/w/");
    let fetch =
        |more: &[&str]| home.run([&["fetch", &address, "--to", "to", "--output", "json"], more].concat()).ok().json();
    assert_eq!(fetched(&fetch(&[])), ["deep/same.bin", "deep/two.bin", "one.bin"]);
    assert_eq!(content(&home.folder().join("to"))[2], ("one.bin".to_owned(), vec![1; 5_000_000]));
    assert!(work(&home.folder().join("to")).is_empty());
    let blobs = || {
        registry.requests().iter().filter(|request| request.starts_with("GET") && request.contains("/blobs/")).count()
    };
    let before = blobs();
    assert!(fetched(&fetch(&[])).is_empty());
    assert_eq!(blobs(), before, "nothing is read again");
    fs::write(home.path("to/deep/two.bin"), "").unwrap();
    home.write("list.json", list);
    assert_eq!(fetched(&fetch(&["--expect", "list.json"])), ["deep/two.bin"]);
}

#[test]
fn nothing_is_written_outside_of_the_folder() {
    let home = Home::empty();
    home.write("there/deep/x", "x");
    home.write("there/name", "x");
    fs::create_dir_all(home.path("to/name")).unwrap();
    fs::create_dir(home.path("elsewhere")).unwrap();
    let there = home.path("there");
    std::os::unix::fs::symlink(home.path("elsewhere"), home.path("to/deep")).unwrap();
    home.run(["fetch", &there, "--to", "to"]).ends(5).says("is in the way");
    assert!(fs::read_dir(home.path("elsewhere")).unwrap().next().is_none());
    fs::remove_file(home.path("to/deep")).unwrap();
    home.run(["fetch", &there, "--to", "to"]).ends(5).says("to/name is in the way");
    home.run(["fetch", &there, &there, "--to", "to"]).ends(5).says("two of the files");
}
