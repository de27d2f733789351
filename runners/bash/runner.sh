#!/bin/bash
# Runs bash executions: one supervisor for the life of a session's bash context, one new bash for each
# execution, in its own process group. Frames come and go on fd 3 (see ../README.md); fds 1 and 2
# belong to the user's code and are only passed on.
#
# Pure bash on purpose: nothing is started per execution but the user's own shell. Frames come from
# serde_json in a fixed field order, and it escapes only ", \ and control characters, all of which
# `printf %b` knows but for the quote.
#
# Private descriptors of this process, none of them inherited by the user's shell:
#   3 frames   4 the user's stderr   8 the page agent-browser shall be on   9 where the user's shell ended
# 8 and 9 are unlinked files: shells of the session reach them as /proc/<this pid>/fd/<n>. Their room is
# taken once and written in place, never cut: code that fills its disk must still be able to clean up.
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

# Opens fds 8 and 9 as unlinked files with room for the longest path, in memory of this sandbox's own
# where there is some.
open_state_files() {
  local directory name
  for directory in /dev/shm "${TMPDIR:-/tmp}"; do
    name=$directory/.pagebox-$$-$RANDOM
    if printf '%8192s' '' >"$name.page" && printf '%8192s' '' >"$name.cwd"; then
      exec 8<>"$name.page" 9<>"$name.cwd"
      rm -f "$name.page" "$name.cwd"
      note 9 '\0' || fail 'cannot reopen a file through /proc'
      return
    fi
    rm -f "$name.page" "$name.cwd"
  done
  fail 'cannot write to the temporary directory'
}

# Writes $2, as printf %b does, over the start of state file $1.
note() { printf %b "$2" 1<>"/proc/$$/fd/$1"; }

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

# Becomes the user's shell: its environment, its descriptors, its name in error messages.
become_user_shell() {
  local i value
  for i in "${!names[@]}"; do
    decode value "${values[i]}"
    if [[ ${names[i]} =~ ^[A-Za-z_][A-Za-z0-9_]*$ ]]; then
      export "${names[i]}=$value" || :
    fi
  done
  if [[ -n $locale && " ${names[*]-} " != *' LC_ALL '* ]]; then
    export LC_ALL=$locale
  elif [[ " ${names[*]-} " != *' LC_ALL '* ]]; then
    unset LC_ALL
  fi
  export BASH_ENV=$here/lib/prelude.bash PAGEBOX_RUNNER=$$ SHLVL=0
  exec -a bash "$BASH" --noprofile --norc -c "$code" bash 2>&4 3>&- 4>&- 8>&- 9>&-
}

# Runs the code; exit status into $status. The supervisor's own stderr is /dev/null, so that bash's
# "Killed" notices do not mix with what the user wrote.
run_user_shell() {
  status=0
  (become_user_shell) || status=$?
  # A shell that stopped itself would never end.
  if ((status > 128)) && [[ -n $(jobs -sp) ]]; then
    kill -KILL %% && wait %% || status=$?
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
  timeout "$SETTLE_SECONDS" "$native" "$@" >/dev/null 2>&1 8>&- 9>&- 3>&- 4>&- || :
)

# The page agent-browser is on, as a JSON value, null when that is the page this execution began with.
#
# Between executions the service is pinned to its page: otherwise it would follow any page another
# language opens and forget its refs. While an execution runs it is not, so it follows popups.
settle_page() {
  local line=
  moved=null
  [[ -n ${CDP_URL-} && -r $target_file ]] || return 0
  IFS= read -r line <"$target_file" || :
  if [[ $line == *'"pinned":false'* ]]; then
    ask_service --pin-tab tab list
    IFS= read -r line <"$target_file" || :
    if [[ $line =~ \"targetId\":\"([0-9A-F]+)\" && ${BASH_REMATCH[1]} != "$page" ]]; then
      moved=\"${BASH_REMATCH[1]}\"
    fi
  fi
}

main() {
  local line id page code status moved names values
  exec 4>&2 2>/dev/null </dev/null
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
  while IFS= read -r -u 3 line; do
    parse_execute "$line"
    line=
    # Neither is worth the execution: without them its page and directory stay as they were.
    note 8 "$page\n" || :
    note 9 '\0' || :
    run_user_shell
    keep_directory
    settle_page
    send "{\"type\":\"finished\",\"id\":\"$id\",\"exit_code\":$status,\"result\":null,\"result_truncated\":false,\"error\":null,\"page\":$moved}"
  done
}

main
