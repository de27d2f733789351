#!/usr/bin/env bash
# What the virtual machine runs, as root and as its first program; see run.sh. Its own steps stand
# below; /job/arguments holds the project's directory and the test programs with their filters.
exec >/dev/ttyS0 2>&1
export PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin HOME=/tmp LC_ALL=C.UTF-8
mapfile -t arguments </job/arguments
project=${arguments[0]}
pagebox=${arguments[1]}
tests=${arguments[2]}
cd "$project" || exit
ulimit -n 65536
# Where the user who is not root can follow; the change stays in this machine's memory.
for ((directory = 1; ${#project} > 1; directory++)); do
	parent=$(cut -d/ -f"1-$directory" <<<"$project")
	[ -z "$parent" ] || chmod o+rx "$parent"
	[ "$parent" != "$project" ] || break
done
# Emulated, everything takes ten times as long.
export PAGEBOX_BROWSER__START_TIMEOUT=300s PAGEBOX_RUNNER__START_TIMEOUT=300s
cgroup=/sys/fs/cgroup
user=4242
failed=0

# step WANTED NAME COMMAND...: runs it, and says whether its exit status was the wanted one.
step() {
	local wanted=$1 name=$2 started=$SECONDS code=0
	shift 2
	echo "=== $name"
	"$@" || code=$?
	if [ "$code" = "$wanted" ]; then
		echo "=== ok: $name ($((SECONDS - started)) s)"
	else
		echo "=== FAILED: $name: exit $code, not $wanted ($((SECONDS - started)) s)"
		failed=1
	fi
}

# says TEXT COMMAND...: whether the command prints the text, whatever its exit status.
says() {
	local text=$1 output
	shift
	output=$("$@" 2>&1) || true
	echo "$output"
	grep -qF -- "$text" <<<"$output"
}

# as_user COMMAND...: without root, in a new cgroup of its own, as a service manager gives one to each
# start: the one of the start before may still hand out controllers, and takes no process then.
as_user() {
	(
		undelegate
		mkdir $cgroup/user/session
		chown $user $cgroup/user/session $cgroup/user/session/cgroup.{procs,subtree_control,threads}
		echo "$BASHPID" >"$cgroup/user/session/cgroup.procs"
		exec setpriv --reuid $user --regid $user --clear-groups --inh-caps=-all "$@"
	)
}

# delegate CONTROLLERS: what a service manager does for `Delegate=yes`, with these controllers.
delegate() {
	mkdir -p $cgroup/user
	undelegate
	# shellcheck disable=SC2086 # one word each
	printf '+%s ' $1 >$cgroup/cgroup.subtree_control
	printf -- '-%s ' memory pids cpu >$cgroup/user/cgroup.subtree_control
	# shellcheck disable=SC2086
	printf '+%s ' $1 >$cgroup/user/cgroup.subtree_control
}

# undelegate: removes the cgroup of the start before.
undelegate() {
	[ ! -d $cgroup/user/session ] || find $cgroup/user/session -depth -type d -exec rmdir {} +
}

# runs CONFIGURATION...: a session opens, reads a page, and holds to its memory limit.
runs() {
	local result
	result=$("$@" exec -t 300 -e 'await page.evaluate("6 * 7")') || return
	[ "$result" = 42 ] || return
	says "out of memory" "$@" exec -l python -t 300 -e 'x = bytearray(1500 << 20)'
}

uname -r
cat $cgroup/cgroup.controllers
step 0 "root: doctor" "$pagebox" doctor
step 0 "root: sessions" runs "$pagebox"
for name in memory_is_limited_and_the_kill_is_counted usage_is_read_while_it_runs_and_the_peak_starts_anew \
	processes_are_limited_and_die_together what_a_program_leaves_behind_dies_with_it; do
	step 0 "root: $name" "$tests" --exact "sandbox::lifecycle::$name"
done

delegate "memory pids cpu"
step 2 "no root, nothing allowed" as_user "$pagebox" doctor
export PAGEBOX_SANDBOX__ALLOW_DEGRADED='["shared-uid"]'
step 1 "no root, all controllers: doctor" as_user "$pagebox" doctor
step 0 "no root, all controllers: sessions" runs as_user "$pagebox"

delegate "pids"
step 2 "no root, no memory controller: doctor" as_user "$pagebox" doctor
step 0 "no root, no memory controller: it is named" says no-cgroup as_user "$pagebox" doctor
export PAGEBOX_SANDBOX__ALLOW_DEGRADED='["shared-uid", "no-cgroup"]'
step 1 "no root, no memory controller, allowed: doctor" as_user "$pagebox" doctor
step 0 "no root, no memory controller, allowed: sessions" runs as_user "$pagebox"
unset PAGEBOX_SANDBOX__ALLOW_DEGRADED

echo 0 >/proc/sys/user/max_user_namespaces
step 2 "no user namespaces: doctor" "$pagebox" doctor
step 0 "no user namespaces: it is named" says max_user_namespaces "$pagebox" doctor

echo "$failed" >/job/status
echo o >/proc/sysrq-trigger
sleep 60
