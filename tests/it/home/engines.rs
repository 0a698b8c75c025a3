//! podman, buildah, docker and containerd, each with a storage of its own.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::{tool, wait_until};

/// With these podman and docker can start a container wherever this runs.
pub const LIMITS: [&str; 4] = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"];

/// podman with its own storage below `folder`.
pub fn podman(folder: &Path) -> Command {
    let mut command = tool("podman");
    storage(&mut command, folder);
    command.args(["--runtime", "runc", "--cgroup-manager", "cgroupfs", "--events-backend", "file"]);
    command
}

/// buildah with the same storage.
pub fn buildah(folder: &Path) -> Command {
    let mut command = tool("buildah");
    storage(&mut command, folder);
    command.env("BUILDAH_ISOLATION", "chroot");
    command
}

fn storage(command: &mut Command, folder: &Path) {
    command.arg("--root").arg(folder.join("storage")).arg("--runroot").arg(folder.join("run-storage"));
    command.args(["--storage-driver", "overlay"]).current_dir(folder);
}

/// A docker daemon of this test's own.
pub struct Docker<'a> {
    folder: &'a Path,
    daemon: Child,
}

impl<'a> Docker<'a> {
    pub fn start(folder: &'a Path) -> Self {
        let log = fs::File::create(folder.join("dockerd.log")).unwrap();
        let daemon = tool("dockerd")
            .arg("--data-root")
            .arg(folder.join("docker"))
            .arg("--exec-root")
            .arg(folder.join("docker-run"))
            .arg("--pidfile")
            .arg(folder.join("docker.pid"))
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--storage-driver=overlay2"])
            .arg("--host")
            .arg(Self::socket(folder))
            .stderr(log)
            .spawn()
            .unwrap();
        let mut docker = Self { folder, daemon };
        wait_until("dockerd", || {
            let log = || fs::read_to_string(folder.join("dockerd.log")).unwrap();
            assert!(docker.daemon.try_wait().unwrap().is_none(), "dockerd ended:\n{}", log());
            docker.client().arg("version").output().is_ok_and(|output| output.status.success())
        });
        docker
    }

    fn socket(folder: &Path) -> String {
        format!("unix://{}/docker.sock", folder.display())
    }

    pub fn client(&self) -> Command {
        let mut command = tool("docker");
        command.arg("--host").arg(Self::socket(self.folder)).current_dir(self.folder).env_remove("DOCKER_CONTEXT");
        command
    }
}

/// Asks a daemon to end, and waits until it has.
fn end(daemon: &mut Child) {
    let pid = nix::unistd::Pid::from_raw(daemon.id().try_into().unwrap());
    let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
    let _ = daemon.wait();
}

impl Drop for Docker<'_> {
    fn drop(&mut self) {
        end(&mut self.daemon);
        // Where it ran a container with a network, this is left behind, and keeps the folder from being removed.
        let _ = tool("umount").arg(self.folder.join("docker-run/netns/default")).stderr(Stdio::null()).status();
    }
}

/// A containerd of this test's own, with the part that a kubelet speaks to.
pub struct Containerd<'a> {
    folder: &'a Path,
    daemon: Child,
}

impl<'a> Containerd<'a> {
    pub fn start(folder: &'a Path) -> Self {
        let place = folder.display();
        let config = format!(
            "version = 2\nroot = '{place}/containerd'\nstate = '{place}/containerd-run'\n\
             disabled_plugins = ['io.containerd.internal.v1.opt']\n\
             [grpc]\naddress = '{place}/containerd.sock'\n[ttrpc]\naddress = '{place}/containerd.ttrpc'\n\
             [plugins.'io.containerd.grpc.v1.cri'.containerd]\nsnapshotter = 'native'\n\
             [plugins.'io.containerd.grpc.v1.cri'.cni]\nbin_dir = '{place}/cni'\nconf_dir = '{place}/cni'\n"
        );
        fs::write(folder.join("containerd.toml"), config).unwrap();
        let log = fs::File::create(folder.join("containerd.log")).unwrap();
        let daemon = tool("containerd").arg("-c").arg(folder.join("containerd.toml")).stderr(log).spawn().unwrap();
        let mut containerd = Self { folder, daemon };
        wait_until("containerd", || {
            let log = || fs::read_to_string(folder.join("containerd.log")).unwrap();
            assert!(containerd.daemon.try_wait().unwrap().is_none(), "containerd ended:\n{}", log());
            containerd.client().arg("version").output().is_ok_and(|output| output.status.success())
        });
        containerd
    }

    /// `ctr` in the namespace of Kubernetes.
    pub fn client(&self) -> Command {
        let mut command = tool("ctr");
        command.arg("--address").arg(self.folder.join("containerd.sock")).args(["--namespace", "k8s.io"]);
        command.current_dir(self.folder);
        command
    }
}

impl Drop for Containerd<'_> {
    fn drop(&mut self) {
        end(&mut self.daemon);
    }
}
