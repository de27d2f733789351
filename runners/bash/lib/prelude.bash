# shellcheck shell=bash
# Read by every execution's shell before the user's code (as BASH_ENV, which it takes back): tells the
# supervisor the working directory when the shell ends, however it ends short of a signal or `exec`.
unset BASH_ENV

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
