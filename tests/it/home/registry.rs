//! Debian's `docker-registry` on the loopback interface, and skopeo to look into it.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::process::Child;

use super::{free_port, ran, tool, wait_until};

/// The reference implementation, as Debian has it.
pub struct Registry {
    process: Child,
    pub folder: tempfile::TempDir,
    pub port: u16,
}

impl Registry {
    pub fn start() -> Self {
        Self::with("", "")
    }

    /// `http` and `more` are lines of its configuration, below `http:` and at the top; `FOLDER` is its folder.
    pub fn with(http: &str, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::on(folder, http, more)
    }

    pub fn on(folder: tempfile::TempDir, http: &str, more: &str) -> Self {
        let port = free_port();
        let root = folder.path().display().to_string();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: FOLDER/data}}\n  \
             delete: {{enabled: true}}\nMORE\nhttp:\n  addr: 127.0.0.1:{port}\nHTTP\n"
        );
        let config = config.replace("MORE", more).replace("HTTP", http).replace("FOLDER", &root);
        fs::write(folder.path().join("config.yml"), config).unwrap();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let process = tool("docker-registry")
            .args(["serve", &format!("{root}/config.yml")])
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        wait_until("docker-registry", || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
        Self { process, folder, port }
    }

    pub fn stop(mut self) -> tempfile::TempDir {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap())
    }

    pub fn reference(&self, name: &str) -> String {
        format!("127.0.0.1:{}/{name}", self.port)
    }

    /// The requests that it answered, as `PUT /v2/…`, without queries.
    pub fn requests(&self) -> Vec<String> {
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines = log.lines().filter_map(|line| line.split('"').nth(1)).filter(|text| text.contains(" /v2/"));
        lines.map(|text| text.split([' ', '?']).take(2).collect::<Vec<_>>().join(" ")).collect()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What skopeo prints; it must succeed.
pub fn skopeo_ok(args: &[&str]) -> String {
    ran(tool("skopeo").args(args)).ok().out
}

/// Everything that an image names is in the registry: skopeo reads it to the end.
pub fn is_whole(reference: &str) {
    let folder = tempfile::tempdir().unwrap();
    let to = format!("dir:{}", folder.path().display());
    skopeo_ok(&["copy", "-q", "--src-tls-verify=false", &format!("docker://{reference}"), &to]);
}
