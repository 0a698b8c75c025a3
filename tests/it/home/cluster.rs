//! A real Kubernetes on the loopback interface, as `scripts/cluster` starts it; and what newer ones would say of an object.
//!
//! It is of version 1.20: what goes to it through [`Cluster::kubectl`] is written in the apiVersions that it has
//! (`kubectl.py`). [`fits`] holds objects against the strict schemas of newer ones.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
#[cfg(feature = "operator")]
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use super::{Home, Ran, line, python_programs, ran, tool, wait_until};

/// The versions of Kubernetes whose schemas objects are held against: one that people run, and the newest known.
pub const VERSIONS: [&str; 2] = ["1.31", "1.37"];

/// A Kubernetes of this program's own. It ends with the pipe that it is held by, which the kernel closes whatever ends us.
pub struct Cluster {
    held: Child,
    folder: PathBuf,
}

impl Cluster {
    /// API server, controllers and scheduler, about five seconds: objects are kept and seen to, no pod runs. Ends when dropped.
    pub fn start() -> Self {
        Self::held("hold")
    }

    /// With a node, about fifteen seconds: pods run, images come from [`Cluster::import`] or a registry on loopback. No cluster
    /// addresses of services: a pod is asked at its own. As root only.
    pub fn with_node() -> Self {
        assert!(nix::unistd::geteuid().is_root(), "only root can start a node of Kubernetes");
        Self::held("node")
    }

    /// One for all tests of this program that need no node.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// One for all tests of this program that need a node.
    pub fn shared_with_node() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(Self::with_node)
    }

    fn held(what: &str) -> Self {
        assert!(
            kit().join("kubectl").exists(),
            "this test needs Kubernetes: `scripts/cluster build` makes it, in minutes"
        );
        // Beyond the life of this program: who holds the cluster removes it.
        let folder = tempfile::Builder::new().prefix("ekiben-cluster-").tempdir().unwrap().keep();
        let mut command = Command::new("scripts/cluster");
        command.arg(what).arg(&folder).stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut held = command.stderr(log.reopen().unwrap()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(held.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "ready\n", "`{}`:\n{}", line(&command), fs::read_to_string(log.path()).unwrap());
        let program = folder.join("bin/kubectl");
        fs::create_dir(folder.join("bin")).unwrap();
        let (python, kubectl) = (python(), kit().join("kubectl"));
        let rewriting = Path::new("tests/it/home/kubectl.py").canonicalize().unwrap();
        let script = format!(
            "#!/bin/sh\nexec '{}' '{}' '{}' \"$@\"\n",
            python.display(),
            rewriting.display(),
            kubectl.display()
        );
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        Self { held, folder }
    }

    /// Who may do everything in it.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// The API server's address, and the file with the certificate that it is known by.
    pub fn server(&self) -> (String, PathBuf) {
        let view = ["config", "view", "--output", "jsonpath={.clusters[0].cluster.server}"];
        let server = ran(&mut self.kubectl(&view)).ok().out.trim().to_owned();
        (server, self.folder.join("certs/apiserver.crt"))
    }

    /// A folder with a `kubectl` for this version, to be put in front of PATH.
    pub fn programs(&self) -> PathBuf {
        self.folder.join("bin")
    }

    /// The same command, which finds `kubectl` and by it this cluster.
    pub fn known_to<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let path = format!("{}:{}", self.programs().display(), std::env::var("PATH").unwrap());
        command.env("PATH", path).env("KUBECONFIG", self.kubeconfig())
    }

    /// `kubectl`, which knows the cluster.
    pub fn kubectl(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.programs().join("kubectl"));
        command.args(args).env("KUBECONFIG", self.kubeconfig()).stdin(Stdio::null());
        // What it finds out of the API of another cluster on the same port is not this one's.
        command.env("KUBECACHEDIR", self.folder.join("cache"));
        command
    }

    /// A namespace of this test's own, `name` and a number. It is removed when it is dropped.
    pub fn namespace(&self, name: &str) -> Namespace<'_> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("{name}-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        ran(&mut self.kubectl(&["create", "namespace", &name])).ok();
        let namespace = Namespace { cluster: self, name };
        // No pod is taken before.
        wait_until("the account of a namespace", || namespace.find("serviceaccount/default").is_some());
        namespace
    }

    /// The address at which the node's pods reach this machine.
    pub fn address(&self) -> String {
        fs::read_to_string(self.folder.join("node/address")).unwrap().trim().to_owned()
    }

    /// Has the node's pods reach a port of loopback, for as long as this program runs; gives where: `10.244.7.1:5000`.
    #[cfg(feature = "operator")]
    pub fn opened(&self, port: u16) -> String {
        let listener = TcpListener::bind((self.address(), port)).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            for caller in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                let ends = [(caller.try_clone(), server.try_clone()), (Ok(server), Ok(caller))];
                for (from, to) in ends {
                    let (mut from, mut to) = (from.unwrap(), to.unwrap());
                    std::thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Write);
                    });
                }
            }
        });
        address
    }

    /// Has the node pull from a registry without TLS.
    #[cfg(feature = "operator")]
    pub fn pulls_from(&self, registry: &str) {
        let folder = self.folder.join("node/registries").join(registry);
        fs::create_dir_all(&folder).unwrap();
        let host = format!("[host.\"http://{registry}\"]\ncapabilities = [\"pull\", \"resolve\"]\n");
        fs::write(folder.join("hosts.toml"), host).unwrap();
    }

    /// containerd's client, where the node's images are.
    pub fn ctr(&self, args: &[&str]) -> Command {
        let mut command = tool("ctr");
        command
            .arg("--address")
            .arg(self.folder.join("node/containerd.sock"))
            .args(["--namespace", "k8s.io"])
            .args(args);
        command
    }

    /// Gives the node an image of a home's store, without a registry; gives its name in pods, whose `imagePullPolicy` may not be
    /// `Always`.
    pub fn import(&self, home: &Home, image: &str) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("localhost/imported-{number}:1");
        let archive = home.path(&format!("imported-{number}.tar"));
        home.run(["tag", image, &name]).ok();
        home.run(["export", &name, &archive]).ok();
        ran(&mut self.ctr(&["images", "import", &archive])).ok();
        fs::remove_file(archive).unwrap();
        name
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.held.stdin.take());
        let _ = self.held.wait();
    }
}

/// A namespace of a cluster.
pub struct Namespace<'a> {
    pub cluster: &'a Cluster,
    pub name: String,
}

impl Namespace<'_> {
    /// `kubectl` in the namespace.
    pub fn kubectl(&self, args: &[&str]) -> Command {
        self.cluster.kubectl(&[&["--namespace", &self.name], args].concat())
    }

    /// `kubectl ARGS…` with documents on its stdin, as `["apply", "--server-side"]`.
    #[track_caller]
    pub fn given(&self, args: &[&str], yaml: &str) -> Ran {
        let mut command = self.kubectl(&[args, &["-f", "-"]].concat());
        let line = line(&command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(yaml.as_bytes()).unwrap();
        Ran::new(line, child.wait_with_output().unwrap())
    }

    /// Applies documents as their only owner; the API server's own checks are strict about fields.
    #[track_caller]
    pub fn apply(&self, yaml: &str) {
        self.given(&["apply", "--server-side"], yaml).ok();
    }

    /// An object, as `deployment/iris`; none where there is none.
    pub fn find(&self, name: &str) -> Option<Value> {
        let found = ran(&mut self.kubectl(&["get", name, "--ignore-not-found", "--output", "json"])).ok();
        (!found.out.is_empty()).then(|| found.json())
    }

    /// An object that is there.
    #[track_caller]
    pub fn get(&self, name: &str) -> Value {
        self.find(name).unwrap_or_else(|| panic!("there is no {name} in {}", self.name))
    }

    /// All objects of kinds (`pods,services`), those with a label where `selector` names some.
    pub fn list(&self, kinds: &str, selector: &str) -> Vec<Value> {
        let listed = ran(&mut self.kubectl(&["get", kinds, "--selector", selector, "--output", "json"])).ok();
        listed.json()["items"].as_array().unwrap().clone()
    }

    /// Waits until an object is as it should be; tells of it, and of what happened to it, where it never comes to that.
    #[track_caller]
    pub fn wait_for(&self, name: &str, mut is_so: impl FnMut(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let mut is_come = || match self.find(name) {
            Some(found) => {
                last = found;
                is_so(&last)
            }
            None => false,
        };
        let waited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| wait_until(name, &mut is_come)));
        if let Err(reason) = waited {
            eprintln!("{}", serde_json::to_string_pretty(&last).unwrap());
            let all = ran(&mut self.kubectl(&["get", "all,events", "--output", "wide"]));
            eprintln!("{}{}", all.out, all.err);
            std::panic::resume_unwind(reason);
        }
        last
    }

    /// Waits until all pods of a Deployment are the newest and ready.
    #[track_caller]
    pub fn wait_for_rollout(&self, name: &str) -> Value {
        self.wait_for(&format!("deployment/{name}"), |found| {
            let (wanted, status) = (&found["spec"]["replicas"], &found["status"]);
            let is_so = |count: &str| status[count] == *wanted;
            status["observedGeneration"] == found["metadata"]["generation"]
                && ["replicas", "updatedReplicas", "readyReplicas", "availableReplicas"].into_iter().all(is_so)
        })
    }

    /// Where requests to a Service go, as `10.244.7.2:3000`.
    pub fn endpoints(&self, service: &str) -> Vec<String> {
        let found = self.find(&format!("endpoints/{service}")).unwrap_or_default();
        let of = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
        let to = |subset: &Value| {
            let port = subset["ports"][0]["port"].clone();
            let addresses = of(subset, "addresses").into_iter();
            addresses.map(move |one| format!("{}:{port}", one["ip"].as_str().unwrap())).collect::<Vec<_>>()
        };
        of(&found, "subsets").iter().flat_map(to).collect()
    }

    /// Where each ready pod with these labels answers at `port`: `http://10.244.7.2:3000`.
    pub fn addresses(&self, selector: &str, port: u16) -> Vec<String> {
        let is_ready = |pod: &&Value| {
            let conditions = pod["status"]["conditions"].as_array();
            let is_ready = |one: &Value| one["type"] == "Ready" && one["status"] == "True";
            // One that is ending is ready for a while yet.
            pod["metadata"]["deletionTimestamp"].is_null() && conditions.into_iter().flatten().any(is_ready)
        };
        let pods = self.list("pods", selector);
        let addresses = pods.iter().filter(is_ready).map(|pod| pod["status"]["podIP"].as_str().unwrap());
        addresses.map(|address| format!("http://{address}:{port}")).collect()
    }
}

impl Drop for Namespace<'_> {
    fn drop(&mut self) {
        let _ = self.cluster.kubectl(&["delete", "namespace", &self.name, "--wait=false"]).output();
    }
}

/// Where `scripts/cluster build` has put the programs.
fn kit() -> PathBuf {
    let kept = std::env::var_os("KUBERNETES_KIT").map(PathBuf::from);
    let home = || Path::new(&std::env::var_os("HOME").unwrap()).join(".cache/kubernetes-kit");
    kept.unwrap_or_else(home).join("bin")
}

fn validator() -> PathBuf {
    python_programs("kubernetes-validate", &["kubernetes-validate==1.37.0"])
}

/// A Python that reads YAML as other programs do.
fn python() -> PathBuf {
    validator().with_file_name("python")
}

/// The documents of a text in YAML, as another reader than ours sees them.
#[track_caller]
pub fn documents(yaml: &str) -> Vec<Value> {
    let script = "import json, sys, yaml\n\
                  print(json.dumps([one for one in yaml.safe_load_all(sys.stdin) if one is not None], default=str))";
    let mut command = Command::new(python());
    command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(yaml.as_bytes()).unwrap();
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    assert!(child.wait().unwrap().success(), "no YAML:\n{yaml}");
    serde_json::from_str(&out).unwrap()
}

/// Each document must fit the strict schemas of a version of Kubernetes, as `1.31`: no field may be unknown. They see neither
/// names nor what one field means for another, and know no custom resources.
#[track_caller]
pub fn fits(yaml: &str, version: &str) {
    assert!(!documents(yaml).is_empty(), "nothing to check");
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    fs::write(file.path(), yaml).unwrap();
    let mut command = Command::new(validator());
    let ran = ran(command.args(["--strict", "-k", version]).arg(file.path()));
    assert!(ran.code == Some(0), "not for Kubernetes {version}: {}{}\n{yaml}", ran.out, ran.err);
}
