//! What a container uses of the machine, read from proc(5): so it is known as root and as an ordinary user alike, with
//! control groups and without.

use std::time::Duration;

use fs_err as fs;

/// What the processes of a container use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Memory that is theirs alone, and shared memory that they made, in bytes. What forked processes still share counts
    /// for each of them; files that are mapped do not count.
    pub memory: u64,
    /// Time of processors that they have used, with that of those that have ended.
    pub cpu: Duration,
}

impl Usage {
    /// What the process `id` and all below it use. In a container all others are below its first.
    pub(super) fn of_tree(id: u32) -> Self {
        let mut sum = Self::default();
        let mut waiting = vec![id];
        while let Some(id) = waiting.pop() {
            let one = Self::of_process(id);
            sum.memory += one.memory;
            sum.cpu += one.cpu;
            for thread in fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten() {
                let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
                waiting.extend(children.split_whitespace().filter_map(|id| id.parse::<u32>().ok()));
            }
        }
        sum
    }

    /// Nothing, where it has ended meanwhile.
    fn of_process(id: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let kibibytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
        };
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        // proc(5): the name, in brackets, may itself contain anything; fields 14 to 17 are the 12th to 15th after it.
        let after_name = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
        let ticks: u64 =
            after_name.split_whitespace().skip(11).take(4).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
        // The kernel shows times in hundredths of a second on all machines that Ekiben runs on (`USER_HZ`).
        Self { memory: (kibibytes("RssAnon") + kibibytes("RssShmem")) << 10, cpu: Duration::from_millis(ticks * 10) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_children_counts_and_what_has_ended_uses_nothing() {
        let held = vec![1_u8; 8 << 20];
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let alone = Usage::of_process(std::process::id());
        let both = Usage::of_tree(std::process::id());
        assert!(alone.memory >= held.len() as u64, "{alone:?}");
        assert!(both.memory > alone.memory, "{both:?} is no more than {alone:?}");
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(Usage::of_tree(child.id()), Usage::default());
    }
}
