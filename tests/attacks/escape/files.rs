//! Files: of the host, of the images, in /proc, and names and kinds that are traps for who works
//! with a session's files from outside.

use std::os::unix::fs::PermissionsExt as _;

use pagebox::grpc::v1::Language;

use super::probe;
use crate::arena::Ground;

/// 30 and 45: the host's files and the other sessions'.
pub(super) async fn of_the_host(ground: &Ground) {
    let (first, second) = (ground.blank().await, ground.blank().await);
    first.bash("echo secret > /tmp/secret; echo secret > /workspace/secret; echo secret > /dev/shm/secret").await;
    let canary = tempfile::tempdir().unwrap();
    std::fs::set_permissions(canary.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(canary.path().join("canary"), "of the host").unwrap();
    let canary_path = canary.path().join("canary");
    let manifest = env!("CARGO_MANIFEST_DIR");
    let mut places = vec![
        canary_path.display().to_string(),
        ground.daemon().temporary().display().to_string(),
        format!("{manifest}/Cargo.toml"),
    ];
    places.extend(
        [
            "/sys",
            "/sys/fs/cgroup",
            "/sys/kernel",
            "/proc/kallsyms",
            "/proc/keys",
            "/proc/kcore",
            "/proc/kmsg",
            "/proc/sys",
            "/proc/sysrq-trigger",
            "/proc/net",
            "/proc/meminfo",
            "/proc/cpuinfo",
            "/proc/version",
            "/proc/cmdline",
            "/proc/modules",
            "/proc/mounts",
            "/proc/interrupts",
            "/proc/timer_list",
            "/proc/sched_debug",
            "/proc/bus",
            "/proc/driver",
            "/home",
            "/root",
            "/var",
            "/boot",
            "/media",
            "/mnt",
            "/srv",
            "/run/systemd",
            "/run/user",
            "/run/docker.sock",
            "/var/run/docker.sock",
            "/etc/shadow",
            "/etc/machine-id",
            "/etc/hostname",
            "/etc/resolv.conf",
            "/etc/ssh",
            "/usr/local/lib/python3.11",
            "/usr/sbin",
            "/images",
            "/spaces",
        ]
        .map(ToOwned::to_owned),
    );
    let code = |paths: &[String]| {
        paths
            .iter()
            .map(|path| format!("t('{path}', lambda: os.stat('{path}'))\n"))
            .collect::<String>()
    };
    let natural = probe::outside(&code(&places));
    natural.expect(
        "outside",
        [
            &*places[0],
            &places[1],
            &places[2],
            "/sys",
            "/proc/sys",
            "/proc/version",
        ]
        .map(|p| (p, "ok")),
    );
    let other = ["/tmp/secret", "/workspace/secret", "/dev/shm/secret"];
    places.extend(other.map(ToOwned::to_owned));
    // /proc/net and /proc/mounts are links to self's, which is one's own.
    let own = ["/proc/net", "/proc/mounts"];
    for (place, seen) in [
        ("bash", probe::in_bash(&second, &code(&places)).await),
        ("python", probe::in_python(&second, &code(&places)).await),
    ] {
        let refused = places.iter().filter(|path| !own.contains(&&***path));
        seen.expect(place, refused.map(|path| (&**path, "ENOENT|EACCES")));
    }
    let inner = first
        .bash("cat /tmp/secret /workspace/secret /dev/shm/secret")
        .await;
    assert_eq!(inner, "secret\nsecret\nsecret");
    // What the page can be led to is the browser's own sandbox.
    for path in [
        &*canary_path.display().to_string(),
        "/tmp/secret",
        "/proc/1/environ",
    ] {
        let code = format!("await page.goto('file://{path}').then(() => 'read', () => 'refused')");
        assert_eq!(second.node(&code).await, "refused", "{path}");
    }
    first.stop().await;
    second.stop().await;
    drop(canary);
}

/// 39, 40, 46: set-uid files, capabilities, devices, and the read-only rest.
pub(super) async fn privileged(ground: &Ground) {
    let code = r"
import shutil, stat
os.umask(0)
def capability(path): c(188, path, b'security.capability', struct.pack('IIIII', 0x02000001, 0xffffffff, 0, 0xffffffff, 0), 20, 0)
shutil.copyfile('/usr/bin/python3', 'python'); os.chmod('python', 0o6755)
t('set-uid copy', lambda: subprocess.run(['./python', '-I', '-c', 'import os,sys; sys.exit(os.geteuid() != os.getuid() or os.getegid() != os.getgid())'], check=True))
t('capability', lambda: capability(b'python'))
t('user attribute', lambda: os.setxattr('python', 'user.x', b'x'))
t('ACL', lambda: os.setxattr('python', 'system.posix_acl_access', b'x' * 28))
t('trusted attribute', lambda: os.setxattr('python', 'trusted.overlay.opaque', b'y'))
t('chown root', lambda: os.chown('python', 0, 0))
t('chown other', lambda: os.chown('python', 1001, 1001))
t('block device', lambda: os.mknod('disk', 0o666 | stat.S_IFBLK, os.makedev(8, 0)))
t('character device', lambda: os.mknod('mem', 0o666 | stat.S_IFCHR, os.makedev(1, 1)))
t('whiteout', lambda: os.mknod('whiteout', 0o666 | stat.S_IFCHR, 0))
t('FIFO', lambda: os.mkfifo('fifo'))
for name in ('mem', 'kmem', 'kmsg', 'port', 'sda', 'vda', 'loop-control', 'fuse', 'kvm', 'net/tun', 'mapper', 'hwrng', 'userfaultfd', 'vhost-net', 'snd', 'dri'):
    t(f'/dev/{name}', lambda: os.open(f'/dev/{name}', os.O_RDONLY))
for path in ('/usr/bin/x', '/etc/x', '/x', '/dev/x', '/usr/lib/x', '/proc/x'):
    t(f'create {path}', lambda: os.open(path, os.O_CREAT | os.O_WRONLY))
for path in ('/usr/bin/python3', '/etc/passwd', '/etc/nsswitch.conf', '/usr/lib64/ld-linux-x86-64.so.2'):
    t(f'write {path}', lambda: os.open(path, os.O_WRONLY))
    t(f'truncate {path}', lambda: os.truncate(path, 0))
    t(f'unlink {path}', lambda: os.unlink(path))
    t(f'mode {path}', lambda: os.chmod(path, 0o777))
    t(f'times {path}', lambda: os.utime(path))
    t(f'hard link of {path}', lambda: os.link(path, '/tmp/link'))
    t(f'rename {path}', lambda: os.rename(path, '/tmp/renamed'))
t('own program', lambda: os.open('/proc/self/exe', os.O_WRONLY))
t('own memory', lambda: os.open('/proc/self/mem', os.O_RDWR))
def sealed():
    fd = os.memfd_create('x'); os.write(fd, read('/proc/self/exe', 1 << 26)); os.execv(f'/proc/self/fd/{fd}', ['x', '-I', '-c', 'import os; os._exit(os.geteuid() == 0)'])
t('memfd', lambda: child(sealed))
import mmap
def mapped():
    with open('/usr/bin/python3', 'rb') as f: mmap.mmap(f.fileno(), 4096, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
t('shared writable mapping', mapped)
for name in os.listdir('.'): os.unlink(name)
";
    let session = ground.blank().await;
    for (place, seen) in [
        (
            "bash",
            probe::in_bash(
                &session,
                &format!("os.makedirs('/tmp/a', exist_ok=True); os.chdir('/tmp/a')\n{code}"),
            )
            .await,
        ),
        (
            "python",
            probe::in_python(
                &session,
                &format!("os.makedirs('/tmp/b', exist_ok=True); os.chdir('/tmp/b')\n{code}"),
            )
            .await,
        ),
    ] {
        seen.expect(
            place,
            [
                ("set-uid copy", "ok"),
                ("capability", "ENOTSUP"),
                ("user attribute", "ENOTSUP"),
                ("ACL", "ENOTSUP"),
                ("trusted attribute", "ENOTSUP"),
                ("chown root", "EINVAL"),
                ("chown other", "EINVAL"),
                ("block device", "EPERM"),
                ("character device", "EPERM"),
                ("whiteout", "EPERM"),
                ("FIFO", "ok"),
                ("own program", "EROFS|ETXTBSY|EACCES"),
                ("own memory", "EROFS"),
                // Not there where no cgroup limits memory.
                ("memfd", "ok|ENOSYS"),
                ("shared writable mapping", "EACCES"),
            ],
        );
        for device in [
            "mem",
            "kmem",
            "kmsg",
            "port",
            "sda",
            "vda",
            "loop-control",
            "fuse",
            "kvm",
            "net/tun",
            "mapper",
            "hwrng",
            "userfaultfd",
            "vhost-net",
            "snd",
            "dri",
        ] {
            seen.expect(place, [(&*format!("/dev/{device}"), "ENOENT")]);
        }
        for path in [
            "/usr/bin/x",
            "/etc/x",
            "/x",
            "/dev/x",
            "/usr/lib/x",
            "/proc/x",
        ] {
            seen.expect(place, [(&*format!("create {path}"), "EROFS|EACCES|ENOENT")]);
        }
        for path in [
            "/usr/bin/python3",
            "/etc/passwd",
            "/etc/nsswitch.conf",
            "/usr/lib64/ld-linux-x86-64.so.2",
        ] {
            for verb in [
                "write",
                "truncate",
                "unlink",
                "mode",
                "times",
                "hard link of",
                "rename",
            ] {
                seen.expect(
                    place,
                    [(&*format!("{verb} {path}"), "EROFS|EACCES|EXDEV|EBUSY|EPERM")],
                );
            }
        }
    }
    // Set-uid programs of the image give nothing.
    let found = "for f in /usr/bin/su /usr/bin/sudo /usr/bin/mount /usr/bin/passwd /usr/bin/newgrp \
                 /usr/bin/chsh; do [ -u $f ] && grep -q nosuid <(findmnt -no OPTIONS -T $f 2>/dev/null || \
                 grep ' /usr/bin ' /proc/self/mountinfo) && echo nosuid; done; \
                 for f in su sudo newgrp; do timeout 5 $f -c id </dev/null 2>/dev/null | grep -c 'euid=0\\|uid=0'; done; id -u";
    let told = session.bash(&format!("{found}; true")).await;
    assert!(
        told.ends_with("1000") && !told.lines().any(|line| line == "1"),
        "{told}"
    );
    // Outside the same attempts are what root, or the owner, does every day.
    let natural = "open('x', 'w').close()\nt('user attribute', lambda: os.setxattr('x', 'user.x', b'x'))\n\
                   t('own memory', lambda: os.open('/proc/self/mem', os.O_RDWR))\n\
                   t('hard link', lambda: os.link('x', 'y'))\n\
                   t('block device', lambda: os.mknod('disk', 0o60600, os.makedev(8, 0)))\n";
    let seen = probe::outside(natural);
    seen.expect(
        "outside",
        [
            ("user attribute", "ok|ENOTSUP"),
            ("own memory", "ok"),
            ("hard link", "ok"),
        ],
    );
    if probe::is_root() {
        seen.expect("outside", [("block device", "ok|EPERM")]);
    } else {
        println!("outside: a device node needs root; tried inside only");
    }
    session.stop().await;
}

/// 113: copying attributes is silent, as on a file system that has none.
pub(super) async fn attributes(ground: &Ground) {
    let session = ground.blank().await;
    let script = "mkdir -p a/b c; echo one > a/b/f; chmod 640 a/b/f; touch -d 2001-01-01 a/b/f\n\
                  sed -i s/one/two/ a/b/f; cp -p a/b/f c/f; cp -a a c/; mv c/f /dev/shm/f; mv /dev/shm/f c/g\n\
                  install -m 600 a/b/f c/h; cat c/g c/h c/a/b/f; stat -c %a c/g c/a/b/f\n\
                  tar -C a -cf t.tar --xattrs --acls b 2>&1; tar -C c -xf t.tar; cat c/b/f";
    let reply = session.good(Language::Bash, script).await;
    assert_eq!(
        (reply.stdout.as_str(), reply.stderr.as_str()),
        ("two\ntwo\ntwo\n640\n640\ntwo\n", "")
    );
    session.stop().await;
}

/// 114: everything of /proc/self that tells or changes something.
pub(super) async fn proc_self(ground: &Ground) {
    let code = r"
for name in ('mem', 'oom_score_adj', 'oom_adj', 'clear_refs', 'coredump_filter', 'comm', 'loginuid', 'uid_map', 'gid_map', 'projid_map', 'setgroups', 'timens_offsets', 'autogroup', 'attr/current', 'attr/exec', 'sched', 'timerslack_ns', 'task/self/comm'):
    t(f'write {name}', lambda: os.open(f'/proc/self/{name}', os.O_WRONLY))
t('uid_map', lambda: ' '.join(read('/proc/self/uid_map').decode().split()[::2]))
t('setgroups', lambda: read('/proc/self/setgroups').decode().strip())
t('cgroup', lambda: str({line.split(':')[2] for line in read('/proc/self/cgroup').decode().splitlines()} <= {'/'}))
t('root', lambda: os.readlink('/proc/self/root'))
t('above root', lambda: str(sorted(os.listdir('/proc/self/root/../../..')) == sorted(os.listdir('/'))))
t('through cwd', lambda: str(sorted(os.listdir('/proc/self/cwd/../../../..')) == sorted(os.listdir('/'))))
t('map_files', lambda: os.listdir('/proc/self/map_files') and os.open('/proc/self/map_files/' + os.listdir('/proc/self/map_files')[0], os.O_RDONLY))
t('pagemap', lambda: str(all(frame & ((1 << 55) - 1) == 0 for frame in struct.unpack('512Q', read('/proc/self/pagemap', 4096)))))
t('kernel stack', lambda: read('/proc/self/stack'))
t('wchan', lambda: str(read('/proc/self/wchan') in (b'0', b'')))
t('stat addresses', lambda: str(read('/proc/self/stat').split()[29] == b'0'))
t('processes', lambda: str(all(os.stat('/proc/' + name).st_uid == os.getuid() for name in os.listdir('/proc') if name.isdigit())))
";
    let session = ground.blank().await;
    for (place, seen) in [
        ("bash", probe::in_bash(&session, code).await),
        ("python", probe::in_python(&session, code).await),
    ] {
        for name in [
            "mem",
            "oom_score_adj",
            "oom_adj",
            "clear_refs",
            "coredump_filter",
            "comm",
            "loginuid",
            "uid_map",
            "gid_map",
            "projid_map",
            "setgroups",
            "timens_offsets",
            "autogroup",
            "attr/current",
            "attr/exec",
            "sched",
            "timerslack_ns",
        ] {
            seen.expect(place, [(&*format!("write {name}"), "EROFS|EACCES|ENOENT")]);
        }
        seen.expect(
            place,
            [
                ("uid_map", "1000 1"),
                ("setgroups", "allow|deny"),
                ("cgroup", "True"),
                ("root", "/"),
                ("above root", "True"),
                ("through cwd", "True"),
                ("map_files", "ok|EPERM|EACCES|ENOENT"),
                ("pagemap", "True"),
                ("kernel stack", "EACCES|EPERM|ENOENT"),
                ("wchan", "True"),
                ("processes", "True"),
            ],
        );
    }
    let natural = "t('mem', lambda: os.open('/proc/self/mem', os.O_WRONLY))\n\
                   t('clear_refs', lambda: os.open('/proc/self/clear_refs', os.O_WRONLY))\n";
    probe::outside(natural).expect("outside", [("mem", "ok"), ("clear_refs", "ok")]);
    session.stop().await;
}

/// 115: names that are traps for whoever lists, prints or stores them.
pub(super) async fn names(ground: &Ground) {
    let session = ground.open("/").await;
    let make = r"
import os
names = [b'new\nline', b'\xff\xfe\x80', b'x' * 255, b'...', b'.. ', b' ', b'trailing ', b'-rf', b'--help', b'CON', b'aux.txt', b'a\tb', b'\x1b[31mred', b'%00', b'%2e%2e%2f', b'$(touch owned)', b'`id`', b'; touch owned', '\u202etxt.exe'.encode(), b'.pagebox', b'*', b'?', b'a\\b', b'\'', b'\x22']
os.makedirs('/workspace/n', exist_ok=True)
for name in names:
    with open(b'/workspace/n/' + name, 'wb') as f: f.write(b'x')
try: open(b'/workspace/n/' + b'x' * 256, 'wb'); print('256 bytes')
except OSError as e: print(e.errno)
deep = '/workspace/n/deep'
os.mkdir(deep); os.chdir(deep)
for _ in range(200): os.mkdir('d' * 200); os.chdir('d' * 200)
print(sorted(os.listdir(b'/workspace/n')) == sorted(names + [b'deep']))
";
    let reply = session.good(Language::Python, make).await;
    assert_eq!(reply.stdout, format!("{}\nTrue\n", libc::ENAMETOOLONG));
    // Printed as they are, by every language, and run by nobody.
    let list = "cd /workspace/n; ls -1 --show-control-chars | head -c 200000 | wc -l; for f in *; do cat -- \"$f\" 2>/dev/null; done; echo; ls /workspace/n/owned owned 2>&1 | grep -c 'No such'";
    let text = session.bash(list).await;
    assert!(text.ends_with("x\n2"), "{text}");
    let reply = session
        .good(Language::Bash, "cd /workspace/n && printf '%s\\n' *")
        .await;
    assert!(reply.stdout.contains("\u{1b}[31mred") && reply.stdout.contains('\u{fffd}'));
    session
        .node("process.chdir('/workspace/n'); require('fs').readdirSync('.').length")
        .await;
    // A page is given such a file, agent-browser is given such a path.
    let give = "await page.setContent('<input type=file multiple>');\n\
                await page.locator('input').setInputFiles(['/workspace/n/new\\nline', '/workspace/n/%2e%2e%2f', '/workspace/n/ ']);\n\
                await page.evaluate(() => [...document.querySelector('input').files].map((f) => f.name).join('|'))";
    assert_eq!(session.node(give).await, "new\nline|%2e%2e%2f| ");
    let shot = "cd /tmp; for n in $'/tmp/new\\nline.png' '/tmp/; touch owned.png' '/tmp/$(touch owned).png' '--help.png'; do \
                agent-browser screenshot \"$n\" >/dev/null 2>&1; done; ls owned* 2>&1 | grep -c 'No such'";
    assert_eq!(session.bash(&format!("set +e; {shot}")).await, "1");
    session
        .bash("cd /workspace; rm -rf n 2>/dev/null || find n -delete; ls -A")
        .await;
    session.good(Language::Bash, "agent-browser get url").await;
    session.stop().await;
}

/// 116: kinds of files where daemon and browser open a session's files by name.
pub(super) async fn kinds(ground: &Ground) {
    let session = ground.open("/").await;
    let make = "mkdir -p /workspace/k && cd /workspace/k && mkfifo fifo && ln -s /etc/passwd passwd && \
                ln -s /proc/self/environ environ && ln -s /proc/1/environ init && ln -s loop loop && \
                ln -s /dev/zero zero && mkdir dir && truncate -s 200M sparse && echo plain > plain && \
                python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"sock\")'";
    session.bash(make).await;
    // By CDP, which is what the daemon's policy sees; the browser opens the files.
    let give = "const cdp = await page.context().newCDPSession(page);\n\
                await page.setContent('<input type=file>');\n\
                const { root } = await cdp.send('DOM.getDocument');\n\
                const { nodeId } = await cdp.send('DOM.querySelector', { nodeId: root.nodeId, selector: 'input' });\n\
                const seen = {};\n\
                for (const name of ['plain', 'environ', 'init', 'passwd', 'loop', 'fifo', 'zero', 'sock', 'dir', 'sparse', 'none']) {\n\
                \x20 await cdp.send('DOM.setFileInputFiles', { nodeId, files: ['/workspace/k/' + name] }).catch(() => {});\n\
                \x20 seen[name] = await page.evaluate(() => Promise.race([\n\
                \x20   document.querySelector('input').files[0]?.slice(0, 4096).text().catch((e) => e.name) ?? 'nothing',\n\
                \x20   new Promise((resolve) => setTimeout(resolve, 1000, 'waits'))]));\n\
                }\n\
                JSON.stringify(seen)";
    let text = session.node(give).await;
    let seen: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(seen["plain"], "plain\n", "{seen}");
    // The image's own, at most: what the browser itself may read; nothing of the host's.
    for name in ["passwd", "environ", "init"] {
        let text = seen[name].as_str().unwrap_or_default();
        for secret in [
            "/root:",
            "/bin/bash\nroot",
            "CARGO",
            env!("CARGO_MANIFEST_DIR"),
        ] {
            assert!(!text.contains(secret), "{name}: {text}");
        }
    }
    // The daemon puts a finished download where the directory was: a trap of each kind.
    let traps = [
        "ln -s /etc .pagebox-downloads",
        "mkfifo .pagebox-downloads",
        "ln -s /proc/self/fd .pagebox-downloads",
        "echo file > .pagebox-downloads",
        "ln -s .pagebox-downloads .pagebox-downloads",
        "mkdir -p elsewhere && ln -s /tmp/elsewhere .pagebox-downloads",
    ];
    let download = "const waiting = page.waitForEvent('download', { timeout: 3000 }).catch((e) => null);\n\
                    await page.evaluate(() => { const a = document.createElement('a'); a.href = URL.createObjectURL(new Blob(['data'])); a.download = '../../../etc/cron.d/x'; document.body.append(a); a.click() });\n\
                    const download = await waiting;\n\
                    const path = download && await Promise.race([download.path().catch(() => 'failed'), new Promise((r) => setTimeout(r, 3000, 'waits'))]);\n\
                    `${download?.suggestedFilename()} ${path && path.startsWith('/tmp/')}`";
    for trap in traps {
        session
            .bash(&format!("cd /tmp && rm -rf .pagebox-downloads && {trap}"))
            .await;
        session.node(download).await;
    }
    session
        .bash("cd /tmp && rm -rf .pagebox-downloads elsewhere; mkdir .pagebox-downloads; rm -rf /workspace/k")
        .await;
    let told = session.node(download).await;
    assert!(told.contains("true") && !told.contains('/'), "{told}");
    assert_eq!(session.node("await page.evaluate('6 * 7')").await, "42");
    assert!(!std::path::Path::new("/etc/cron.d/x").exists());
    session.stop().await;
}

/// 117: directories turned into links while the daemon works below them.
pub(super) async fn swapped(ground: &Ground) {
    let canary = tempfile::tempdir().unwrap();
    std::fs::set_permissions(canary.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let session = ground.open("/").await;
    // In the background until the session ends: each entry is a directory half of the time.
    let swap = format!(
        "mkdir -p /tmp/.pagebox-downloads /workspace/in; ln -sfn {} /tmp/out; ln -sfn /etc /workspace/etc\n\
         nohup python3 -I -c '\nimport ctypes, itertools\nlibc = ctypes.CDLL(None)\n\
         for _ in itertools.count():\n\
         \x20 libc.syscall(316, -100, b\"/tmp/.pagebox-downloads\", -100, b\"/tmp/out\", 2)\n\
         \x20 libc.syscall(316, -100, b\"/workspace/in\", -100, b\"/workspace/etc\", 2)\n' >/dev/null 2>&1 &\necho on",
        canary.path().display()
    );
    assert_eq!(session.bash(&swap).await, "on");
    let downloads = "let done = 0;\n\
         for (let n = 0; n < 12; n++) {\n\
         \x20 const waiting = page.waitForEvent('download', { timeout: 500 }).catch(() => null);\n\
         \x20 await page.evaluate(() => { const a = document.createElement('a'); a.href = URL.createObjectURL(new Blob(['data'])); a.download = 'x.txt'; document.body.append(a); a.click() });\n\
         \x20 const download = await waiting;\n\
         \x20 if (download && await Promise.race([download.saveAs('/workspace/in/x' + n).then(() => true, () => false), new Promise((r) => setTimeout(r, 500))])) done++;\n\
         }\ndone";
    session.good(Language::Node, downloads).await;
    assert_eq!(
        std::fs::read_dir(canary.path()).unwrap().count(),
        0,
        "something left the scratch"
    );
    assert_eq!(session.node("await page.evaluate('6 * 7')").await, "42");
    session.stop().await;
}
