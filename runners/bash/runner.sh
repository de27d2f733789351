#!/bin/bash
# Runs bash executions: one supervisor for the life of a session's bash context, one new bash for each
# execution, in its own process group. Frames come and go on fd 3 (see ../README.md); fds 1 and 2
# belong to the user's code and are only passed on.
#
# The shell of the next execution is started ahead of it and waits in lib/prelude.bash for its code.
#
# Pure bash on purpose: nothing is started per execution but the user's own shell. Frames come from
# serde_json in a fixed field order, and it escapes only ", \ and control characters, all of which
# `printf %b` knows but for the quote.
#
# Private descriptors of this process, none of them inherited by the user's shell:
#   3 frames   4 the user's stderr   5 the user's stdout   7 the code and environment of an execution
#   8 the page agent-browser shall be on   9 where the user's shell ended
# 7, 8 and 9 are unlinked files: shells of the session reach them as /proc/<this pid>/fd/<n>. They have
# their memory from the start and are only ever written over (`<>`, never `>`), so that they work
# when the session's files have used up all the room there is.
set -euo pipefail

# Bytes, not characters: faster, and code need not fit the locale. Children get the locale they had.
locale=${LC_ALL-}
declare +x LC_ALL=C

here=${BASH_SOURCE[0]%/*}
case $here in /*) ;; *) here=$PWD/$here ;; esac
native=$here/../node/node_modules/agent-browser/bin/agent-browser-linux-x64
[[ $HOSTTYPE == aarch64 ]] && native=${native%x64}arm64
export AGENT_BROWSER_SOCKET_DIR=${AGENT_BROWSER_SOCKET_DIR:-/run/agent-browser}
target_file=$AGENT_BROWSER_SOCKET_DIR/default.target
# How long the service may take to say where it is after an execution; it answers in 5 ms.
readonly SETTLE_SECONDS=2
# Room for the longest code and environment the daemon sends.
readonly JOB_BYTES=$((160 << 10))
# Room for a path of the longest kind.
readonly PATH_BYTES=$((8 << 10))

send() { printf '%s\n' "$1" >&3; }

fail() {
  send "{\"type\":\"failed\",\"message\":\"$1\"}"
  exit 1
}

# The escaped JSON string at the start of $rest, up to its closing quote, into $string; $rest moves on.
take_string() {
  local part
  string=
  while :; do
    part=${rest%%\"*}
    rest=${rest:${#part}+1}
    string+=$part
    # A quote after an odd number of backslashes is part of the string.
    [[ $part =~ (\\+)$ ]] || return 0
    ((${#BASH_REMATCH[1]} % 2)) || return 0
    string+=\"
  done
}

# Decodes the escaped JSON string $2 into the variable named $1. A quote always has its own backslash
# right before it.
decode() { printf -v "$1" %b "${2//\\\"/\"}"; }

# Opens fds 7, 8 and 9 as unlinked files with all the room they need. /dev/shm comes first: it is
# this sandbox's own and empty now, while the session's files may be full.
open_state_files() {
  local directory name
  for directory in /dev/shm "${TMPDIR:-/tmp}"; do
    name=$directory/.pagebox-$$-$RANDOM
    if { printf '%*s' "$JOB_BYTES" '' >"$name.job" && printf '%*s' "$PATH_BYTES" '' >"$name.page" &&
      printf '%*s' "$PATH_BYTES" '' >"$name.cwd"; } 2>/dev/null; then
      exec 7<>"$name.job" 8<>"$name.page" 9<>"$name.cwd"
      rm -f "$name.job" "$name.page" "$name.cwd"
      forget_directory || fail 'cannot reopen a file through /proc'
      return
    fi
    rm -f "$name.job" "$name.page" "$name.cwd"
  done
  fail 'cannot write to the temporary directory'
}

# Puts the page of an execution where agent-browser looks for it.
tell_page() { printf '%s\n' "$1" 1<>"/proc/$$/fd/8"; }

# Empties the place where the user's shell says where it ended.
forget_directory() { printf '\0' 1<>"/proc/$$/fd/9"; }

# Splits an execute frame into id, page, names/values (still escaped) and code.
parse_execute() {
  local rest=$1 string
  names=() values=()
  rest=${rest#*\"id\":\"}
  take_string
  id=$string
  rest=${rest#,\"page\":}
  page=
  if [[ ${rest:0:1} == \" ]]; then
    rest=${rest:1}
    take_string
    page=$string
  fi
  rest=${rest#*\"environment\":\{}
  while [[ ${rest:0:1} == [\",] ]]; do
    rest=${rest#,}
    rest=${rest#\"}
    take_string
    names+=("$string")
    rest=${rest#:\"}
    take_string
    values+=("$string")
  done
  rest=${rest#*\"code\":\"}
  decode code "${rest%\"*}"
  # A script saved with DOS line ends throughout is meant as lines.
  if [[ $code == *$'\r\n'* && ${code//$'\r\n'/} != *$'\n'* ]]; then
    code=${code//$'\r\n'/$'\n'}
  fi
}

# Becomes a shell that waits for the user's code, with the user's descriptors and name in error messages.
become_user_shell() {
  if [[ -n $locale ]]; then export LC_ALL=$locale; else unset LC_ALL; fi
  export BASH_ENV=$here/lib/prelude.bash PAGEBOX_RUNNER=$$ SHLVL=0
  # shellcheck disable=SC2016 # the shell's own: the prelude puts the code there
  exec -a bash "$BASH" --noprofile --norc -c 'eval "$BASH_EXECUTION_STRING"' bash \
    1>&5 2>&4 3>&- 4>&- 5>&- 7>&- 8>&- 9>&-
}

# Starts the next execution's shell, in the directory the last one ended in.
prepare_shell() {
  coproc WAITING { become_user_shell; }
  shell=$WAITING_PID
}

# Gives the shell that waits its code and environment.
hand_over() {
  local i value items=()
  for i in "${!names[@]}"; do
    if [[ ${names[i]} =~ ^[A-Za-z_][A-Za-z0-9_]*$ ]]; then
      decode value "${values[i]}"
      items+=("${names[i]}=$value")
    fi
  done
  printf '%s\0' "${#items[@]}" "${items[@]}" "$code" 1<>"/proc/$$/fd/7" || return
  printf '\n' >&"${WAITING[1]}"
}

# What was handed over is gone with its execution: it may hold secrets.
forget_job() { printf '%*s' "$JOB_BYTES" '' 1<>"/proc/$$/fd/7"; }

# Runs the code; exit status into $status. The supervisor's own stderr is /dev/null, so that bash's
# "Killed" notices do not mix with what the user wrote.
run_user_shell() {
  status=0
  # What an earlier execution left running may have ended it.
  kill -0 "$shell" || prepare_shell
  hand_over || fail 'cannot hand over the code'
  wait "$shell" || status=$?
  # A shell that stopped itself would never end.
  if ((status > 128)) && kill -0 "$shell"; then
    kill -KILL -- "-$shell" || :
    wait -f "$shell" || :
  fi
}

# Goes to the directory the user's shell ended in; stays where it is when that is gone.
keep_directory() {
  local directory=
  IFS= read -r -d '' directory <"/proc/$$/fd/9" || :
  if [[ -n $directory ]]; then
    cd -- "${directory%$'\n'}" || :
  fi
}

# Has the service run a command, for its effect only.
ask_service() (
  # With a proxy the command would have the service launch a browser of its own.
  unset HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy
  timeout "$SETTLE_SECONDS" "$native" "$@" >/dev/null 2>&1 3>&- 4>&- 5>&- 7>&- 8>&- 9>&- || :
)

# Whether agent-browser was used; $moved is the page it is on, as a JSON value, null when that is the
# page this execution began with.
look_at_page() {
  local line=
  moved=null
  [[ -n ${CDP_URL-} && -r $target_file ]] || return
  IFS= read -r line <"$target_file" || :
  [[ $line == *'"pinned":false'* ]] || return
  find_page
}

find_page() {
  if [[ $line =~ \"targetId\":\"([0-9A-F]+)\" && ${BASH_REMATCH[1]} != "$page" ]]; then
    moved=\"${BASH_REMATCH[1]}\"
  fi
}

# Pins the service to its page, which only then is known for certain: the code may have opened others.
#
# Between executions it is pinned: otherwise it would follow any page another language opens and forget
# its refs. While an execution runs it is not, so it follows popups.
settle_page() {
  local line=
  moved=null
  ask_service --pin-tab tab list
  IFS= read -r line <"$target_file" || :
  find_page
}

main() {
  local line id page code status moved used names values shell
  exec 4>&2 5>&1 2>/dev/null </dev/null
  # A process group for each execution: `kill 0` in it must not reach the supervisor.
  set -m
  IFS= read -r -u 3 line
  open_state_files
  unset CDP_URL
  if [[ $line =~ \"cdp_url\":\"([^\"]*)\" ]]; then
    export CDP_URL=${BASH_REMATCH[1]}
  fi
  # The service connects with its first command, and says so on that command's stderr.
  if [[ -n ${CDP_URL-} && -S ${target_file%target}sock ]]; then
    ask_service --no-pin-tab get url
  fi
  send '{"type":"ready"}'
  prepare_shell
  while IFS= read -r -u 3 line; do
    parse_execute "$line"
    line=
    tell_page "$page" || :
    forget_directory || :
    run_user_shell
    keep_directory
    used=false
    if look_at_page; then used=true; fi
    send "{\"type\":\"finished\",\"id\":\"$id\",\"exit_code\":$status,\"result\":null,\"result_truncated\":false,\"error\":null,\"page\":$moved,\"settles\":$used}"
    forget_job || :
    prepare_shell
    if $used; then
      settle_page
      send "{\"type\":\"settled\",\"id\":\"$id\",\"page\":$moved}"
    fi
  done
}

main
