//! Specifications of the Container Device Interface: which devices a machine has for containers, and what a container needs
//! for each of them.
//!
//! `SPEC.md` of <https://github.com/cncf-tags/container-device-interface>, versions 0.3 to 1.1. Such a file lies in
//! `/etc/cdi` or `/var/run/cdi`, written by a driver's tool (`nvidia-ctk cdi generate`). As in its own library, a key that
//! is not known is a mistake.
//!
//! Invariant of what [`Cdi::load`] gives: paths are absolute and without `..`; what is put into a container hides nothing
//! that the kernel or the container itself shows there; no device is there twice.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::formats::diagnostic::{Code, Diagnostics};
use crate::formats::document::Document;
use crate::formats::schema::Kind;
use crate::formats::schema::load::{self, Described};

/// The devices of one kind, of one vendor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cdi {
    /// The version of the specification that it follows.
    #[schemars(regex(pattern = r"^v?[01]\.[0-9]+\.[0-9]+$"), extend("patternErrorMessage" = "a version of the specification, as 0.6.0 or 1.0.0"))]
    pub cdi_version: String,
    /// Vendor and class, as `nvidia.com/gpu`.
    #[schemars(length(max = 317), regex(pattern = r"^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?/[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$"), extend("patternErrorMessage" = "a vendor and a class, as nvidia.com/gpu"))]
    pub kind: String,
    /// Free labels.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// The devices, one at least.
    #[schemars(length(min = 1))]
    pub devices: Vec<CdiDevice>,
    /// What a container needs that gets any of them.
    #[serde(default)]
    pub container_edits: ContainerEdits,
}

/// A device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CdiDevice {
    /// What it is called among those of its kind: `0`, `all`.
    #[schemars(length(max = 128), regex(pattern = r"^[A-Za-z0-9]([A-Za-z0-9._:-]*[A-Za-z0-9])?$"), extend("patternErrorMessage" = "letters, digits, `-`, `_`, `.` and `:`, the first and last a letter or digit"))]
    pub name: String,
    /// Free labels.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// What a container needs that gets it.
    #[serde(default)]
    pub container_edits: ContainerEdits,
}

/// What a container needs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ContainerEdits {
    /// Variables, `NAME=VALUE`.
    #[serde(default)]
    pub env: Vec<String>,
    /// Device nodes.
    #[serde(default)]
    pub device_nodes: Vec<DeviceNode>,
    /// Network devices.
    #[serde(default)]
    pub net_devices: Vec<Json>,
    /// Programs of the host that are run while the container starts.
    #[serde(default)]
    pub hooks: Vec<Hook>,
    /// Files and folders of the host.
    #[serde(default)]
    pub mounts: Vec<CdiMount>,
    /// Intel's Resource Director Technology.
    #[serde(default)]
    pub intel_rdt: Option<Json>,
    /// Groups of the container's program.
    #[serde(default)]
    pub additional_gids: Vec<u32>,
}

/// A device node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeviceNode {
    /// In the container.
    pub path: String,
    /// On the host, where it is another one.
    #[serde(default)]
    pub host_path: Option<String>,
    /// `c`, `u` (the same) or `b`; `p` is a pipe.
    #[serde(default, rename = "type")]
    #[schemars(regex(pattern = "^[bcup]?$"), extend("patternErrorMessage" = "b, c, u or p"))]
    pub kind: Option<String>,
    /// Its number.
    #[serde(default)]
    pub major: Option<i64>,
    /// Its number.
    #[serde(default)]
    pub minor: Option<i64>,
    /// The permissions that it should have.
    #[serde(default)]
    pub file_mode: Option<u32>,
    /// What the container may do with it: `r`, `w`, `m`.
    #[serde(default)]
    #[schemars(regex(pattern = "^[rwm]*$"), extend("patternErrorMessage" = "letters of rwm"))]
    pub permissions: Option<String>,
    /// The owner that it should have.
    #[serde(default)]
    pub uid: Option<u32>,
    /// The group that it should have.
    #[serde(default)]
    pub gid: Option<u32>,
}

/// A file or folder of the host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CdiMount {
    /// On the host.
    pub host_path: String,
    /// In the container.
    pub container_path: String,
    /// How: nothing or `bind`.
    #[serde(default, rename = "type")]
    #[schemars(regex(pattern = "^(bind|none)?$"), extend("patternErrorMessage" = "bind, as nothing else is mounted here"))]
    pub kind: Option<String>,
    /// As mount(8) has them.
    #[serde(default)]
    pub options: Vec<String>,
}

/// A program of the host that is run while the container starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Hook {
    /// When.
    pub hook_name: String,
    /// The program.
    pub path: String,
    /// Its arguments, the first its name.
    #[serde(default)]
    pub args: Vec<String>,
    /// Its variables.
    #[serde(default)]
    pub env: Vec<String>,
    /// Seconds that it may take.
    #[serde(default)]
    pub timeout: Option<i64>,
}

impl Described for Cdi {
    const KIND: Kind = Kind::Cdi;
}

impl Cdi {
    /// Reads a specification. Mistakes go to `found`; none where it has any.
    pub fn load(path: &Path, found: &mut Diagnostics) -> Option<Self> {
        let (document, cdi) = load::file::<Self>(path, found)?.whole()?;
        let before = found.errors();
        cdi.check(&document, found);
        (found.errors() == before).then_some(cdi)
    }

    fn check(&self, document: &Document, found: &mut Diagnostics) {
        let mut known = BTreeSet::new();
        for (number, device) in self.devices.iter().enumerate() {
            let place = format!("/devices/{number}");
            if !known.insert(&device.name) {
                let message = format!("two devices are called `{}`", device.name);
                found.push(document.at(Code::NameTwice, &format!("{place}/name"), message));
            }
            device.container_edits.check(document, &format!("{place}/containerEdits"), found);
        }
        self.container_edits.check(document, "/containerEdits", found);
    }
}

impl ContainerEdits {
    fn check(&self, document: &Document, place: &str, found: &mut Diagnostics) {
        for (number, variable) in self.env.iter().enumerate() {
            if variable.starts_with('=') || !variable.contains('=') || variable.contains('\0') {
                let message = format!("`{variable}` is not NAME=VALUE");
                found.push(document.at(Code::WrongForm, &format!("{place}/env/{number}"), message));
            }
        }
        let mut say = |pointer: String, path: &str, why: Option<&str>| {
            if let Some(why) = why {
                found.push(document.at(Code::WrongForm, &pointer, format!("the path `{path}` {why}")));
            }
        };
        for (number, node) in self.device_nodes.iter().enumerate() {
            let place = format!("{place}/deviceNodes/{number}");
            let why = wrong(&node.path).or_else(|| wrong_for_node(Path::new(&node.path)));
            say(format!("{place}/path"), &node.path, why);
            if let Some(path) = &node.host_path {
                say(format!("{place}/hostPath"), path, wrong(path));
            }
        }
        for (number, mount) in self.mounts.iter().enumerate() {
            let place = format!("{place}/mounts/{number}");
            say(format!("{place}/hostPath"), &mount.host_path, wrong(&mount.host_path));
            let why = wrong(&mount.container_path).or_else(|| wrong_for_mount(Path::new(&mount.container_path)));
            say(format!("{place}/containerPath"), &mount.container_path, why);
        }
    }
}

/// What is wrong with a path wherever it leads.
fn wrong(path: &str) -> Option<&'static str> {
    let path = Path::new(path);
    let is_plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !path.is_absolute() || path == Path::new("/") || path.as_os_str().len() > LONGEST {
        return Some("is no absolute one below the root");
    }
    (!is_plain).then_some("contains `..`")
}

/// `PATH_MAX` of Linux, with the byte at the end.
const LONGEST: usize = 4095;

/// What every container has in `/dev` (OCI runtime specification, `config-linux.md`, default devices).
const OWN: [&str; 13] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
    "/dev/console",
    "/dev/ptmx",
    "/dev/pts",
    "/dev/shm",
    "/dev/stdin",
    "/dev/stdout",
    "/dev/stderr",
];

fn wrong_for_node(path: &Path) -> Option<&'static str> {
    if !path.starts_with("/dev") || path == Path::new("/dev") {
        return Some("is not in `/dev`");
    }
    let is_own = OWN.iter().chain(&["/dev/fd"]).any(|own| path.starts_with(own));
    is_own.then_some("is one of the container's own devices")
}

fn wrong_for_mount(path: &Path) -> Option<&'static str> {
    let is_kernels = ["/proc", "/sys"].iter().any(|kernel| path.starts_with(kernel)) || path == Path::new("/dev");
    let hides = is_kernels || path.starts_with("/dev") && wrong_for_node(path).is_some();
    hides.then_some("would hide what the kernel shows in the container")
}

#[cfg(test)]
mod tests {
    use fs_err as fs;

    use super::*;

    fn load(text: &str, name: &str) -> Result<Cdi, Vec<String>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        let mut found = Diagnostics::new();
        let cdi = Cdi::load(&path, &mut found);
        assert_eq!(cdi.is_none(), found.has_errors());
        let said = |one: &&crate::formats::diagnostic::Diagnostic| {
            let (line, _) = one.primary.source.position(one.primary.span.start);
            format!("{line}: {}", one.message)
        };
        cdi.ok_or_else(|| found.sorted().iter().map(said).collect())
    }

    #[test]
    fn the_example_of_the_specification_is_read() {
        let text = r#"{
          "cdiVersion": "0.5.0",
          "kind": "vendor.com/device",
          "devices": [
            {"name": "myDevice", "containerEdits": {"deviceNodes": [
              {"hostPath": "/vendor/dev/card1", "path": "/dev/card1", "type": "c", "major": 25, "minor": 25, "fileMode": 384, "permissions": "rw", "uid": 1000, "gid": 1000},
              {"path": "/dev/card-render1", "type": "c", "major": 25, "minor": 25, "fileMode": 384, "permissions": "rwm", "uid": 1000, "gid": 1000}
            ]}}
          ],
          "containerEdits": {
            "env": ["FOO=VALID_SPEC", "BAR=BARVALUE1"],
            "deviceNodes": [{"path": "/dev/vendorctl", "type": "b", "major": 25, "minor": 25, "fileMode": 384, "permissions": "rw"}],
            "mounts": [
              {"hostPath": "/bin/vendorBin", "containerPath": "/bin/vendorBin"},
              {"hostPath": "/usr/lib/libVendor.so.0", "containerPath": "/usr/lib/libVendor.so.0"},
              {"hostPath": "tmpfs", "containerPath": "/tmp/data", "type": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]}
            ],
            "hooks": [
              {"hookName": "createContainer", "path": "/bin/vendor-hook"},
              {"hookName": "startContainer", "path": "/usr/bin/ldconfig"}
            ]
          }
        }"#;
        // A file system of memory is none of the host's.
        assert_eq!(load(text, "vendor.json").unwrap_err().len(), 1);
        let text = text.lines().filter(|line| !line.contains("tmpfs")).collect::<Vec<_>>().join("\n");
        let cdi = load(&text.replace("libVendor.so.0\"},", "libVendor.so.0\"}"), "vendor.json").unwrap();
        assert_eq!((cdi.kind.as_str(), cdi.devices[0].name.as_str()), ("vendor.com/device", "myDevice"));
        let nodes = &cdi.devices[0].container_edits.device_nodes;
        assert_eq!((nodes[0].host_path.as_deref(), nodes[1].file_mode), (Some("/vendor/dev/card1"), Some(384)));
        assert_eq!(cdi.container_edits.hooks[1].path, "/usr/bin/ldconfig");
    }

    #[test]
    fn what_nvidia_writes_is_read() {
        let cdi = load(NVIDIA, "nvidia.yaml").unwrap();
        let names: Vec<_> = cdi.devices.iter().map(|device| device.name.as_str()).collect();
        assert_eq!(names, ["0", "GPU-4cf8db2d-06c0-7d70-1a51-e59b25b2c16c", "all"]);
        assert_eq!((cdi.container_edits.mounts.len(), cdi.container_edits.hooks.len()), (3, 4));
    }

    /// As `nvidia-ctk cdi generate` of version 1.17 writes it, with fewer mounts.
    const NVIDIA: &str = include_str!("cdi/nvidia.yaml");

    #[test]
    fn mistakes_are_told_with_their_places() {
        let head = "cdiVersion: 0.6.0\nkind: vendor.com/gpu\ndevices:\n- name: a\n";
        load(head, "a.yaml").unwrap();
        for (text, expected) in [
            ("cdiVersion: 2.0.0\nkind: vendor.com/gpu\ndevices: [{name: a}]", "1: `2.0.0` has a wrong form"),
            ("cdiVersion: 0.6.0\nkind: gpu\ndevices: [{name: a}]", "2: `gpu` has a wrong form"),
            ("cdiVersion: 0.6.0\nkind: vendor.com/gpu\ndevices: []", "3: the list has 0 items"),
            (&format!("{head}- name: a\n"), "5: two devices are called `a`"),
            (&format!("{head}- name: -b\n"), "5: `-b` has a wrong form"),
            (
                &format!("{head}  containerEdits: {{deviceNodes: [{{path: /dev/../x}}]}}"),
                "5: the path `/dev/../x` contains",
            ),
            (&format!("{head}  containerEdits: {{deviceNodes: [{{path: /etc/x}}]}}"), "5: the path `/etc/x` is not in"),
            (&format!("{head}  containerEdits: {{deviceNodes: [{{path: /dev/null}}]}}"), "one of the container's own"),
            (
                &format!("{head}  containerEdits:\n    mounts: [{{hostPath: x, containerPath: /x}}]"),
                "6: the path `x` is no",
            ),
            (
                &format!("{head}  containerEdits:\n    mounts: [{{hostPath: /x, containerPath: /proc/1}}]"),
                "6: the path `/proc/1` would hide",
            ),
            (&format!("{head}  containerEdits: {{env: [A]}}"), "5: `A` is not NAME=VALUE"),
            (&format!("{head}  containerEdits: {{deviceNode: []}}"), "there is no key `deviceNode`"),
        ] {
            let said = load(text, "a.yaml").unwrap_err();
            assert!(said.iter().any(|one| one.contains(expected)), "{text}\n{said:?}");
        }
    }
}
