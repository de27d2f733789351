# shellcheck shell=bash
# Read by every execution's shell before the user's code (as BASH_ENV, which it takes back). It waits
# until there is code, and tells the supervisor the working directory when the shell ends, however it
# ends short of a signal or `exec`.
unset BASH_ENV

# shellcheck source=runners/bash/lib/agent-browser.bash
. "${BASH_SOURCE[0]%/*}/agent-browser.bash"

# The exit trap's text. It leaves the exit status alone and stays silent under `set -x` and `set -e`.
__pagebox_keep="{ set +x; { builtin pwd -P && builtin printf \\\\0; } 1<>/proc/$PPID/fd/9 || :; } 2>/dev/null"
# shellcheck disable=SC2064 # $PPID is meant now
builtin trap "$__pagebox_keep" EXIT

# The user's own exit trap runs first, then ours.
eval "trap() {
  { local -; set +exu; } 2>/dev/null
  if ((BASH_SUBSHELL)); then
    builtin trap \"\$@\"
    return
  fi
  builtin trap \"\$@\" || return
  if [[ \${1-} == -- ]]; then shift; fi
  case \" \${*:2} \" in
    *' EXIT '* | *' exit '* | *' 0 '*)
      case \$1 in
        '' | -) builtin trap '$__pagebox_keep' EXIT ;;
        -*) ;;
        *) builtin trap \"\$1\"\$'\\n''$__pagebox_keep' EXIT ;;
      esac
      ;;
  esac
}"
unset __pagebox_keep

# Only the supervisor's shell has no code of its own.
# shellcheck disable=SC2016
if [[ $BASH_EXECUTION_STRING == 'eval "$BASH_EXECUTION_STRING"' ]]; then
  # A line on stdin says that the job is there: how many variables there are, they, and the code.
  IFS= builtin read -r __pagebox_item || exit
  exec </dev/null
  {
    builtin read -r -d '' __pagebox_left
    while ((__pagebox_left-- > 0)); do
      IFS= builtin read -r -d '' __pagebox_item
      # IFS would be the words of the shell itself.
      [[ $__pagebox_item == IFS=* ]] || export "${__pagebox_item?}" || :
    done
    IFS= builtin read -r -d '' BASH_EXECUTION_STRING
  } <"/proc/$PPID/fd/7" 2>/dev/null
  unset __pagebox_item __pagebox_left
  SECONDS=0
  # `eval` would count as a level where commands are shown.
  if [[ $BASH_EXECUTION_STRING =~ xtrace|set[[:space:]]+(-[[:alpha:]]+[[:space:]]+([[:alpha:]]+[[:space:]]+)?)*-[[:alpha:]]*x ]]; then
    BASH_ENV=${BASH_SOURCE[0]} exec -a bash "$BASH" --noprofile --norc -c "$BASH_EXECUTION_STRING" bash
  fi
fi
