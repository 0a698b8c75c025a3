//! Why no container can be started here, and what to do about it.

use std::path::Path;

use nix::errno::Errno;

use super::Failure;

/// Whether this process's user namespace knows a user or group: `map` is `uid_map` or `gid_map` (user_namespaces(7)).
pub(super) fn knows(map: &str, id: u32) -> bool {
    let text = std::fs::read_to_string(Path::new("/proc/self").join(map)).unwrap_or_default();
    text.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u64>);
        match (numbers.next(), numbers.next(), numbers.next()) {
            (Some(Ok(first)), Some(_), Some(Ok(count))) => {
                (first..first.saturating_add(count)).contains(&u64::from(id))
            }
            _ => false,
        }
    })
}

/// Whether root of this process's user namespace may give up groups: not where an ordinary user has made it with themselves alone in
/// it (`unshare --map-root-user`; user_namespaces(7), "/proc/PID/setgroups").
pub(super) fn may_set_groups() -> bool {
    std::fs::read_to_string("/proc/self/setgroups").is_ok_and(|text| text.trim() == "allow")
}

/// The kernel refused namespaces with `error`: finds out which of its settings, or which sandbox around this process,
/// it was.
pub(crate) fn refused(error: Errno) -> Failure {
    let (why, hint) = reason(error, &|path| std::fs::read_to_string(path).ok());
    Failure::NoSandbox { why, hint: hint.to_owned() }
}

/// The container runtime failed with `message`, though the kernel gave namespaces: finds out whether it was a sandbox
/// around this process.
pub(crate) fn explained(message: String) -> Failure {
    if is_confined(&|path| std::fs::read_to_string(path).ok()) {
        let (why, hint) = confined(&message);
        return Failure::NoSandbox { why, hint: hint.to_owned() };
    }
    Failure::Runtime { message }
}

/// Whether this process is in a container itself, or under a filter of system calls.
fn is_confined(read: &dyn Fn(&str) -> Option<String>) -> bool {
    let status = read("/proc/self/status").unwrap_or_default();
    let has_filter = status.lines().any(|line| line.strip_prefix("Seccomp:").is_some_and(|mode| mode.trim() == "2"));
    // Containers hide parts of `/proc` under mounts; the kernel then lets nobody in them mount another.
    let mounts = read("/proc/self/mountinfo").unwrap_or_default();
    let hides = ["/proc/kcore", "/proc/keys", "/proc/sys"];
    let is_masked = mounts.lines().any(|line| line.split(' ').nth(4).is_some_and(|point| hides.contains(&point)));
    has_filter || is_masked || read("/.dockerenv").is_some() || read("/run/.containerenv").is_some()
}

fn confined(said: &str) -> (String, &'static str) {
    (
        format!("ekiben itself runs in a container or sandbox that forbids what one needs ({said})"),
        "start that container with `--privileged`, or with `--security-opt seccomp=unconfined` and \
         `--security-opt systempaths=unconfined` (docker) or `--security-opt unmask=ALL` (podman); in Kubernetes with \
         `hostUsers: false` and `procMount: Unmasked`; packing, building and exporting need none of this",
    )
}

fn reason(error: Errno, read: &dyn Fn(&str) -> Option<String>) -> (String, &'static str) {
    let setting = |path: &str| read(path).and_then(|text| text.trim().parse::<u64>().ok());
    if setting("/proc/sys/user/max_user_namespaces") == Some(0) {
        return (
            "user namespaces are switched off on this machine (user.max_user_namespaces is 0)".to_owned(),
            "switch them on with `sudo sysctl user.max_user_namespaces=10000`, or run ekiben as root",
        );
    }
    if setting("/proc/sys/kernel/unprivileged_userns_clone") == Some(0) {
        return (
            "user namespaces are for root alone on this machine (kernel.unprivileged_userns_clone is 0)".to_owned(),
            "allow them with `sudo sysctl kernel.unprivileged_userns_clone=1`, or run ekiben as root",
        );
    }
    if setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == Some(1) {
        return (
            "AppArmor gives this program no rights in user namespaces \
             (kernel.apparmor_restrict_unprivileged_userns is 1, as on Ubuntu since 23.10)"
                .to_owned(),
            "allow them with `sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0`, \
             or with an AppArmor profile for ekiben that has `userns,`, or run ekiben as root",
        );
    }
    if is_confined(read) {
        return confined(error.desc());
    }
    if error == Errno::ENOSPC || error == Errno::EUSERS {
        return (
            "the limit on namespaces is reached (user.max_user_namespaces, or 32 within each other)".to_owned(),
            "end other containers, or raise the limit with `sudo sysctl user.max_user_namespaces=100000`",
        );
    }
    (
        format!("the kernel refused the namespaces that a container needs ({})", error.desc()),
        "run ekiben as root, or choose an engine that is set up here with `--engine`",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_told_from_the_others() {
        let settings = [
            ("/proc/sys/user/max_user_namespaces", "0\n", "user.max_user_namespaces"),
            ("/proc/sys/kernel/unprivileged_userns_clone", "0\n", "kernel.unprivileged_userns_clone"),
            ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1\n", "AppArmor"),
            ("/proc/self/status", "Name:\tx\nSeccomp:\t2\n", "runs in a container or sandbox"),
            (
                "/proc/self/mountinfo",
                "54 74 0:44 /null /proc/keys rw - tmpfs tmpfs rw\n",
                "runs in a container or sandbox",
            ),
            ("/.dockerenv", "", "runs in a container or sandbox"),
            ("/dev/null", "", "the kernel refused"),
        ];
        for (path, content, expected) in settings {
            let (why, _) = reason(Errno::EPERM, &|asked| (asked == path).then(|| content.to_owned()));
            assert!(why.contains(expected), "{path}: {why}");
        }
    }

    #[test]
    fn maps_are_read() {
        assert!(knows("uid_map", nix::unistd::geteuid().as_raw()));
        assert!(!knows("no_map", 0));
    }
}
