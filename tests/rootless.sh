#!/usr/bin/env bash
# Runs tests as a user without privileges: those named, of lib, it and attacks, or all. As root it
# takes a uid nobody has; what it cannot read of this directory's path is covered by mounts of a
# namespace of its own.
#
#   tests/rootless.sh [lib] [it] [attacks]
set -euo pipefail
cd "$(dirname "$0")/.."

# A uid without a name, a home or anything else of its own.
user=61234

if [ "${1:-}" != --built ]; then
	cargo test --locked --no-run
	cargo test --locked --no-run --message-format=json 2>/dev/null |
		jq -r 'select(.profile.test and .executable) | "\(.target.kind[0]) \(.target.name) \(.executable)"' |
		sort -u >target/rootless-binaries
	if [ "$(id -u)" = 0 ]; then
		exec unshare --mount "$0" --built "$@"
	fi
	exec "$0" --built "$@"
fi
shift
wanted=${*:-lib it attacks}

here=$PWD
# Directories above this one that the user may not pass: a small one in its place holds only us.
reach() {
	local dir=/ part
	IFS=/ read -ra parts <<<"${here#/}"
	for part in "${parts[@]}"; do
		dir=${dir%/}/$part
		[ "$dir" != "$here" ] || break
		setpriv --reuid "$user" --regid "$user" --clear-groups test -x "$dir" && continue
		mount --bind "$here" /mnt
		mount -t tmpfs -o mode=0755 tmpfs "$dir"
		mkdir -p "$here"
		mount --move /mnt "$here"
		cd "$here"
		return
	done
}

own=$(mktemp -d /tmp/pagebox-rootless.XXXXXX)
trap 'rm -rf "$own"' EXIT
mkdir "$own/home" "$own/tmp"
as=(env -i "PATH=$PATH" "HOME=$own/home" "TMPDIR=$own/tmp" ${CI_REQUIRE_ALL:+"CI_REQUIRE_ALL=$CI_REQUIRE_ALL"})
if [ "$(id -u)" = 0 ]; then
	reach
	chown -R "$user:$user" "$own"
	as=(setpriv --reuid "$user" --regid "$user" --clear-groups --bounding-set=-all --no-new-privs -- "${as[@]}")
fi
"${as[@]}" test -x "$here/target/debug/pagebox" || {
	echo "target/debug/pagebox cannot be executed by uid $user: chmod -R a+rX $here" >&2
	exit 1
}

failed=0
seconds=$SECONDS
run() {
	echo "== $*"
	"$@" 2>&1 | tee -a "$own/log" || failed=1
}
while read -r kind name program; do
	part=$name
	[ "$kind" != lib ] || part=lib
	[[ " $wanted " == *" $part "* ]] || continue
	case $kind/$name in
	lib/*) run "${as[@]}" "$program" ;;
	test/it)
		run "${as[@]}" "$program" --skip egress:: --skip clients::
		# Their world is two network namespaces: root of a user namespace may make them. The daemons
		# in it get nothing of that.
		run "${as[@]}" unshare --user --map-current-user --keep-caps "$program" egress:: clients::
		;;
	test/*) run "${as[@]}" "$program" ;;
	esac
done <target/rootless-binaries
echo "rootless: $((SECONDS - seconds)) s, $(grep -c '^SKIP' "$own/log" || true) skipped:"
grep '^SKIP' "$own/log" | cut -c1-200 | sort | uniq -c || true
exit $failed
