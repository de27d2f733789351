//! How cgroups are laid out on a host: pure reading of `/proc/self/mountinfo`, `/proc/self/cgroup`
//! and of version 2's `cgroup.controllers`. See cgroups(7).

use std::path::{Path, PathBuf};

/// What is limited or counted by a hierarchy of version 1, or a part of version 2's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Controller {
    Memory,
    Pids,
    Cpu,
    /// Counts cpu time. Version 2 counts it in every group, without a controller.
    Cpuacct,
}

impl Controller {
    pub(in super::super) const ALL: [Self; 4] =
        [Self::Memory, Self::Pids, Self::Cpu, Self::Cpuacct];
    /// Those of version 2.
    pub(super) const V2: [Self; 3] = [Self::Memory, Self::Pids, Self::Cpu];

    /// The kernel's name.
    pub(in super::super) const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Cpu => "cpu",
            Self::Cpuacct => "cpuacct",
        }
    }
}

/// One line of mountinfo that is a cgroup mount.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    root: PathBuf,
    at: PathBuf,
    v2: bool,
    options: String,
}

/// The directories of our own groups.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    /// In version 2's hierarchy, with or without controllers.
    pub(super) v2: Option<PathBuf>,
    /// In each of version 1's that we use.
    pub(super) v1: Vec<(Controller, PathBuf)>,
}

impl Layout {
    /// Reads both files of /proc.
    pub(super) fn parse(mountinfo: &str, cgroup: &str) -> Self {
        let mounts = parse_mounts(mountinfo);
        let v1 = Controller::ALL.into_iter().filter_map(|controller| {
            let dir = own_dir(&mounts, cgroup, Some(controller.name()))?;
            Some((controller, dir))
        });
        Self {
            v2: own_dir(&mounts, cgroup, None),
            v1: v1.collect(),
        }
    }
}

/// The controllers of version 2 that a `cgroup.controllers` file offers.
pub(super) fn offered(controllers: &str) -> Vec<Controller> {
    Controller::V2
        .into_iter()
        .filter(|wanted| {
            controllers
                .split_whitespace()
                .any(|name| name == wanted.name())
        })
        .collect()
}

fn parse_mounts(mountinfo: &str) -> Vec<Mount> {
    mountinfo
        .lines()
        .filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let left: Vec<&str> = left.split(' ').collect();
            let right: Vec<&str> = right.split(' ').collect();
            let v2 = match *right.first()? {
                "cgroup2" => true,
                "cgroup" => false,
                _ => return None,
            };
            Some(Mount {
                root: PathBuf::from(left.get(3)?),
                at: PathBuf::from(left.get(4)?),
                v2,
                options: (*right.get(2)?).to_owned(),
            })
        })
        .collect()
}

/// Our own group's path for a controller; the empty name is version 2.
fn own_path<'a>(cgroup: &'a str, controller: &str) -> Option<&'a str> {
    cgroup.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let _id = fields.next()?;
        let names = fields.next()?;
        let path = fields.next()?;
        names
            .split(',')
            .any(|name| name == controller)
            .then_some(path)
    })
}

/// Where our own group's directory is: below the first mount that shows it.
fn own_dir(mounts: &[Mount], cgroup: &str, controller: Option<&str>) -> Option<PathBuf> {
    let path = Path::new(own_path(cgroup, controller.unwrap_or(""))?);
    mounts
        .iter()
        .filter(|mount| match controller {
            None => mount.v2,
            Some(name) => !mount.v2 && mount.options.split(',').any(|option| option == name),
        })
        .find_map(|mount| Some(mount.at.join(path.strip_prefix(&mount.root).ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A Debian 12 host: version 2 only.
    const V2_MOUNTS: &str = "\
22 28 0:21 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
31 22 0:27 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
34 22 0:7 / /sys/kernel/debug rw,nosuid,nodev,noexec,relatime shared:12 - debugfs debugfs rw";
    /// Docker on version 1: the container's own group is the root of each mount.
    const V1_MOUNTS: &str = "\
812 811 0:64 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime - tmpfs tmpfs rw,mode=755
813 812 0:30 /docker/7f2 /sys/fs/cgroup/systemd ro,nosuid,nodev,noexec,relatime master:11 - cgroup cgroup rw,xattr,name=systemd
816 812 0:34 /docker/7f2 /sys/fs/cgroup/cpu,cpuacct ro,nosuid,nodev,noexec,relatime master:16 - cgroup cgroup rw,cpu,cpuacct
817 812 0:35 /docker/7f2 /sys/fs/cgroup/pids ro,nosuid,nodev,noexec,relatime master:17 - cgroup cgroup rw,pids
820 812 0:38 /docker/7f2 /sys/fs/cgroup/memory ro,nosuid,nodev,noexec,relatime master:20 - cgroup cgroup rw,memory";
    const V1_CGROUP: &str = "\
12:pids:/docker/7f2
9:memory:/docker/7f2
4:cpu,cpuacct:/docker/7f2
1:name=systemd:/docker/7f2";
    /// systemd's hybrid: version 2 without controllers beside version 1.
    const HYBRID_MOUNTS: &str = "\
25 24 0:22 / /sys/fs/cgroup/unified rw,nosuid,nodev,noexec,relatime shared:10 - cgroup2 cgroup2 rw,nsdelegate
26 24 0:23 / /sys/fs/cgroup/systemd rw,nosuid,nodev,noexec,relatime shared:11 - cgroup cgroup rw,xattr,name=systemd
33 24 0:30 / /sys/fs/cgroup/memory rw,nosuid,nodev,noexec,relatime shared:18 - cgroup cgroup rw,memory
35 24 0:32 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid,nodev,noexec,relatime shared:20 - cgroup cgroup rw,cpu,cpuacct";
    const HYBRID_CGROUP: &str = "\
10:memory:/user.slice/user-1000.slice/session-2.scope
8:cpu,cpuacct:/user.slice
1:name=systemd:/user.slice/user-1000.slice/session-2.scope
0::/user.slice/user-1000.slice/session-2.scope";

    #[test]
    fn version_2_alone() {
        let own = "0::/system.slice/pagebox.service\n";
        assert_eq!(
            Layout::parse(V2_MOUNTS, own),
            Layout {
                v2: Some("/sys/fs/cgroup/system.slice/pagebox.service".into()),
                v1: vec![],
            }
        );
        let root = Layout::parse(V2_MOUNTS, "0::/\n");
        assert_eq!(root.v2, Some("/sys/fs/cgroup/".into()));
    }

    #[test]
    fn version_1_in_a_container() {
        let at = |name: &str| PathBuf::from("/sys/fs/cgroup").join(name).join("");
        assert_eq!(
            Layout::parse(V1_MOUNTS, V1_CGROUP),
            Layout {
                v2: None,
                v1: vec![
                    (Controller::Memory, at("memory")),
                    (Controller::Pids, at("pids")),
                    (Controller::Cpu, at("cpu,cpuacct")),
                    (Controller::Cpuacct, at("cpu,cpuacct")),
                ],
            }
        );
    }

    #[test]
    fn both_at_once() {
        let scope = "user.slice/user-1000.slice/session-2.scope";
        let cpu: PathBuf = "/sys/fs/cgroup/cpu,cpuacct/user.slice".into();
        assert_eq!(
            Layout::parse(HYBRID_MOUNTS, HYBRID_CGROUP),
            Layout {
                v2: Some(Path::new("/sys/fs/cgroup/unified").join(scope)),
                v1: vec![
                    (
                        Controller::Memory,
                        Path::new("/sys/fs/cgroup/memory").join(scope)
                    ),
                    (Controller::Cpu, cpu.clone()),
                    (Controller::Cpuacct, cpu),
                ],
            }
        );
    }

    #[test]
    fn a_group_the_mount_does_not_show_is_not_found() {
        // A container that sees the host's file of groups, but mounts of its own.
        let own = "9:memory:/../other\n4:cpu,cpuacct:/elsewhere\n";
        assert_eq!(Layout::parse(V1_MOUNTS, own), Layout::default());
        assert_eq!(Layout::parse("", ""), Layout::default());
    }

    #[test]
    fn offered_controllers_are_whole_words() {
        use Controller::{Cpu, Memory, Pids};
        assert_eq!(
            offered("cpuset cpu io memory hugetlb pids rdma misc\n"),
            [Memory, Pids, Cpu]
        );
        assert_eq!(offered("memory pids\n"), [Memory, Pids]);
        assert_eq!(offered("cpuset hugetlb\n"), []);
        assert_eq!(offered(""), []);
    }
}
