//! Files.

use pagebox::grpc::v1::{Language, Outcome};

use crate::arena::Ground;
use crate::client::OpenSession;
use crate::inside::{goes_on, last_number};
use crate::leaks::holdings;
use crate::outside;
use crate::own::Own;

const MIB: u64 = 32;
const INODES: u64 = 2000;
/// `runner.open_files` by default.
const OPEN_FILES: u64 = 1024;

fn small(ground: &Ground) -> Own {
    ground.own(&format!(
        "[session]\nscratch = \"{MIB} MiB\"\nscratch_inodes = {INODES}\n"
    ))
}

/// The errno's name and the count that a program printed, inside.
async fn inside(session: &OpenSession, language: Language, code: &str) -> (String, u64) {
    let text = session.good(language, code).await.stdout;
    let why = text.split_whitespace().next().unwrap_or_default();
    (why.to_owned(), last_number(&text))
}

/// Writes 48 MiB; says what stopped it and how many whole MiB there are.
const WRITE: [(Language, &str); 3] = [
    (
        Language::Python,
        "import errno, os\nwhy, piece = 'none', bytes(1 << 20)\ntry:\n  with open('big', 'wb', 0) as f:\n    \
         for _ in range(48):\n      n = 0\n      while n < len(piece): n += f.write(piece[n:])\n\
         except OSError as error: why = errno.errorcode[error.errno]\n\
         print(why, os.path.getsize('big') >> 20)",
    ),
    (
        Language::Node,
        "var fs = require('fs'), piece = Buffer.alloc(1 << 20), why = 'none', f = fs.openSync('big', 'w');\n\
         try { for (let i = 0; i < 48; i++) for (let n = 0; n < piece.length;) n += fs.writeSync(f, piece, n); }\n\
         catch (error) { why = error.code; }\n\
         fs.closeSync(f); console.log(why, fs.statSync('big').size >> 20);",
    ),
    (
        Language::Bash,
        "why=none; LC_ALL=C head -c 48M /dev/zero > big 2> why || \
         { grep -q 'No space left' why || ! [ -s why ]; why=ENOSPC; }; \
         echo $why $(($(stat -c %s big) >> 20)); rm -f why",
    ),
];

pub(super) async fn full_by_bytes(ground: &Ground) {
    let own = small(ground);
    let session = own.blank().await;
    session.bash("cd /workspace").await;
    for (language, code) in WRITE {
        assert_eq!(outside::good(language, code).await, "none 48");
        let temporary = holdings(own.daemon().pid(), &own.daemon().temporary()).temporary_files;
        let (why, written) = inside(&session, language, code).await;
        assert_eq!(why, "ENOSPC", "{language:?}");
        assert!(
            (MIB / 2..=MIB).contains(&written),
            "{language:?}: {written}"
        );
        let after = holdings(own.daemon().pid(), &own.daemon().temporary()).temporary_files;
        assert_eq!(after, temporary, "nothing of it is on the host");
        session
            .bash("rm /workspace/big && echo x > /workspace/room")
            .await;
    }
    session.stop().await;
    own.end().await;
}

/// Makes 3000 files; says what stopped it and how many there are.
const CREATE: [(Language, &str); 3] = [
    (
        Language::Python,
        "import errno, os\nos.mkdir('many')\nwhy, n = 'none', 0\ntry:\n  while n < 3000:\n    \
         open(f'many/{n}', 'x').close()\n    n += 1\n\
         except OSError as error: why = errno.errorcode[error.errno]\nprint(why, n)",
    ),
    (
        Language::Node,
        "var fs = require('fs'), why = 'none', n = 0; fs.mkdirSync('many');\n\
         try { for (; n < 3000; n++) fs.closeSync(fs.openSync('many/' + n, 'wx')); }\n\
         catch (error) { why = error.code; } console.log(why, n);",
    ),
    (
        Language::Bash,
        "mkdir many; why=none; (cd many && LC_ALL=C touch $(seq 3000)) 2>&1 | \
         grep -q 'No space left' && why=ENOSPC; echo $why $(ls many | wc -l)",
    ),
];

pub(super) async fn full_by_inodes(ground: &Ground) {
    let own = small(ground);
    let session = own.blank().await;
    session.bash("cd /workspace").await;
    for (language, code) in CREATE {
        assert_eq!(outside::good(language, code).await, "none 3000");
        let (why, made) = inside(&session, language, code).await;
        assert_eq!(why, "ENOSPC", "{language:?}");
        assert!((INODES / 2..INODES).contains(&made), "{language:?}: {made}");
        session.bash("rm -r /workspace/many").await;
    }
    session.stop().await;
    own.end().await;
}

const SPARSE: [(Language, &str); 3] = [
    (
        Language::Python,
        "import errno, os\ndef t(work):\n  try: work()\n  except OSError as error: \
         return errno.errorcode[error.errno]\n  return 'none'\n\
         f = open('sparse', 'wb')\nprint(t(lambda: os.ftruncate(f.fileno(), 1 << 40)),\n  \
         t(lambda: (os.lseek(f.fileno(), 1 << 40, 0), os.write(f.fileno(), b'x'))), f.close() or 1)",
    ),
    (
        Language::Node,
        "var fs = require('fs'), t = (work) => { try { work(); return 'none'; } catch (e) { return e.code; } };\n\
         var f = fs.openSync('sparse', 'w');\n\
         console.log(t(() => fs.ftruncateSync(f, 2 ** 40)), t(() => fs.writeSync(f, 'x', 2 ** 40)), 1);\n\
         fs.closeSync(f);",
    ),
    (
        Language::Bash,
        "t() { \"$@\" 2>/dev/null && printf 'none ' || printf 'EFBIG '; }\n\
         t truncate -s 1T sparse; t dd if=/dev/zero of=sparse bs=1 count=1 seek=1T; echo 1",
    ),
];

pub(super) async fn sparse(ground: &Ground) {
    let session = ground.blank().await;
    for (language, code) in SPARSE {
        let seen = outside::good(language, code).await;
        if seen != "none none 1" {
            ground.note(format!("outside, {language:?}: {seen}"));
        }
        let seen = session.good(language, code).await.stdout;
        assert_eq!(seen, "EFBIG EFBIG 1\n", "{language:?}");
    }
    // What fallocate gives is memory; it is counted before it is there.
    let fallocate = "import errno, os\ntry: os.posix_fallocate(os.open('f', os.O_CREAT | os.O_WRONLY), 0, 1 << 40)\n\
                     except OSError as error: print(errno.errorcode[error.errno])";
    assert_eq!(
        session.good(Language::Python, fallocate).await.stdout,
        "EFBIG\n"
    );
    assert_eq!(session.bash("du -s /workspace | cut -f1").await, "0");
    session.stop().await;
}

/// Opens 3000 files if it may; what stopped it, whether it may have more, and how many.
const OPEN: [(Language, &str); 3] = [
    (
        Language::Python,
        "import errno, os, resource\nmore = 'yes'\n\
         try: resource.setrlimit(resource.RLIMIT_NOFILE, (4096, max(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))\n\
         except (OSError, ValueError): more = 'EPERM'\n\
         held, why = [], 'none'\ntry:\n  while len(held) < 3000: held.append(os.open('/dev/null', 0))\n\
         except OSError as error: why = errno.errorcode[error.errno]\n\
         for f in held[5:]: os.close(f)\nprint(why, more, len(held))",
    ),
    (
        Language::Node,
        "var fs = require('fs'), held = [], why = 'none';\n\
         try { while (held.length < 3000) held.push(fs.openSync('/dev/null')); }\n\
         catch (error) { why = error.code; }\n\
         for (const f of held.slice(5)) fs.closeSync(f); console.log(why, 'yes', held.length);",
    ),
    (
        Language::Bash,
        "more=yes; ulimit -n 4096 2>/dev/null || more=EPERM; n=0; why=none\n\
         while [ $n -lt 3000 ]; do { exec {f}< /dev/null; } 2>/dev/null || { why=EMFILE; break; }; \
         n=$((n + 1)); done; echo $why $more $n",
    ),
];

pub(super) async fn open_files(ground: &Ground) {
    let session = ground.blank().await;
    goes_on(&session).await;
    let held = || holdings(ground.daemon().pid(), &ground.daemon().temporary()).descriptors;
    let before = held();
    for (language, code) in OPEN {
        let seen = outside::good(language, code).await;
        if seen != "none yes 3000" {
            ground.note(format!(
                "outside, {language:?}, the tests' own limit: {seen}"
            ));
        }
        let text = session.good(language, code).await.stdout;
        assert!(text.starts_with("EMFILE"), "{language:?}: {text}");
        assert!(
            language == Language::Node || text.contains("EPERM"),
            "{text}"
        );
        let count = last_number(&text);
        assert!((OPEN_FILES / 2..OPEN_FILES).contains(&count), "{text}");
        // Those of the honest session's replies come and go.
        let now = held();
        assert!(now < before + 16, "{language:?}: {before}, now {now}");
    }
    session.stop().await;
}

pub(super) async fn links_names_and_depth(ground: &Ground) {
    let links = "import errno, os\nopen('one', 'w').close()\nos.mkdir('links')\nwhy, n = 'none', 0\ntry:\n  \
                 while n < 3000:\n    os.link('one', f'links/{n}')\n    n += 1\n\
                 except OSError as error: why = errno.errorcode[error.errno]\nprint(why, n)";
    let names = "import errno\nseen = []\nfor name in ['n' * 255, 'n' * 256, '\\N{PILE OF POO}' * 64, 'p/' * 2048]:\n  \
                 try: open(name, 'w').close()\n  \
                 except OSError as error: seen.append(errno.errorcode[error.errno])\n  \
                 else: seen.append('none')\nprint(*seen, 1)";
    let depth = "import errno, os\nhome, why, n = os.getcwd(), 'none', 0\ntry:\n  while n < 3000:\n    \
                 os.mkdir('d')\n    os.chdir('d')\n    n += 1\n\
                 except OSError as error: why = errno.errorcode[error.errno]\nos.chdir(home)\nprint(why, n)";
    assert_eq!(outside::good(Language::Python, links).await, "none 3000");
    let outside_names = outside::good(Language::Python, names).await;
    let own = small(ground);
    let session = own.blank().await;
    let seen = session.good(Language::Python, names).await.stdout;
    assert_eq!(seen, "none ENAMETOOLONG ENAMETOOLONG ENAMETOOLONG 1\n");
    assert_eq!(
        seen.trim_end(),
        outside_names,
        "a scratch is like a disk here"
    );
    let (why, count) = inside(&session, Language::Python, links).await;
    assert_eq!(why, "ENOSPC");
    assert!((INODES / 2..INODES).contains(&count), "{count}");
    session.bash("rm -r /workspace/links").await;
    let (why, count) = inside(&session, Language::Python, depth).await;
    assert_eq!(why, "ENOSPC");
    assert!((INODES / 2..INODES).contains(&count), "{count}");
    // The tree is left for the daemon.
    session.stop().await;
    own.end().await;
}

pub(super) async fn shared_memory(ground: &Ground) {
    let bytes = "import errno, os\nwhy = 'none'\nf = os.open('/dev/shm/big', os.O_CREAT | os.O_WRONLY)\ntry:\n  \
                 for _ in range(100):\n    n = 0\n    while n < 1 << 20: n += os.write(f, bytes((1 << 20) - n))\n\
                 except OSError as error: why = errno.errorcode[error.errno]\n\
                 print(why, os.fstat(f).st_size >> 20)\nos.close(f)\nos.unlink('/dev/shm/big')";
    let files = "import errno\nwhy, n = 'none', 0\ntry:\n  while n < 2000:\n    open(f'/dev/shm/{n}', 'x').close()\n    n += 1\n\
                 except OSError as error: why = errno.errorcode[error.errno]\nprint(why, n)";
    let session = ground.blank().await;
    let (why, size) = inside(&session, Language::Python, bytes).await;
    assert_eq!((&*why, size), ("ENOSPC", 64));
    let (why, count) = inside(&session, Language::Python, files).await;
    assert_eq!(why, "ENOSPC");
    assert!((900..1024).contains(&count), "{count}");
    assert_eq!(session.bash("ls /dev/shm | wc -l").await, "0");
    session.stop().await;
}

pub(super) async fn cleaned_up_inside(ground: &Ground) {
    let session = ground.blank().await;
    session
        .bash("mkdir -p /workspace/kept && cd /workspace/kept")
        .await;
    let by_bytes = "i=0; while head -c 1M /dev/zero >> /tmp/big; do :; done 2>/dev/null; \
                    while printf x > /tmp/small-$((i++)); do :; done 2>/dev/null; true";
    let by_files = "python3 -c '\nimport itertools\ntry:\n  for i in itertools.count(): \
                    open(f\"/tmp/f{i}\", \"w\").close()\nexcept OSError: pass'";
    for fill in [by_bytes, by_files] {
        session.bash(fill).await;
        let full = "echo xxx > /workspace/more 2>/dev/null && echo room || echo full";
        assert_eq!(session.bash(full).await, "full");
        assert_eq!(session.bash("pwd").await, "/workspace/kept");
        goes_on(&session).await;
        let killed = session.exec(Language::Bash, "kill -9 -1").await;
        assert_ne!(killed.outcome(), Outcome::Completed);
        session.bash("find /tmp -maxdepth 1 -type f -delete").await;
        assert_eq!(session.bash(full).await, "room");
        session.bash("cd /workspace/kept; rm /workspace/more").await;
        assert_eq!(session.bash("agent-browser get url").await, "about:blank");
    }
    session.stop().await;
}

pub(super) async fn bash_in_a_full_scratch(ground: &Ground) {
    let own = small(ground);
    let session = own.blank().await;
    let fill = "import itertools\ntry:\n  for i in itertools.count(): open(f'/tmp/f{i}', 'w').close()\n\
                except OSError: pass";
    session.good(Language::Python, fill).await;
    session.bash("find /tmp -maxdepth 1 -type f -delete").await;
    assert_eq!(session.bash("agent-browser get url").await, "about:blank");
    session.stop().await;
    own.end().await;
}
