# shellcheck shell=bash
# What the program `bin/agent-browser` and the function of an execution's shell share.

__pagebox_native=${BASH_SOURCE[0]%/*}/../../node/node_modules/agent-browser/bin/agent-browser-linux-x64
[[ $HOSTTYPE != aarch64 ]] || __pagebox_native=${__pagebox_native%x64}arm64
: "${AGENT_BROWSER_SOCKET_DIR:=/run/agent-browser}"
export AGENT_BROWSER_SOCKET_DIR

# Takes away what would make the command stop the session's service, or launch a browser.
__pagebox_clean_environment() {
  # Settings that differ from the service's would make the command stop it to start its own.
  unset AGENT_BROWSER_ACTION_POLICY AGENT_BROWSER_CONFIRM_ACTIONS AGENT_BROWSER_DEBUG AGENT_BROWSER_CDP \
    AGENT_BROWSER_DEFAULT_TIMEOUT AGENT_BROWSER_IDLE_TIMEOUT_MS AGENT_BROWSER_NO_AUTO_DIALOG
  # With a proxy the command would have the service launch a browser of its own.
  unset AGENT_BROWSER_PROXY HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY http_proxy https_proxy all_proxy no_proxy
}

# Moves the service to the session's active page, once in an execution.
__pagebox_follow_active_page() {
  local state=/proc/${PAGEBOX_RUNNER:-none}/fd/8 wanted='' target=''
  [[ -e $state ]] || return 0
  read -r wanted 2>/dev/null <"$state" || return 0
  [[ -n $wanted ]] || return 0
  printf '\n' 1<>"$state" || : # written over, as there may be no room
  read -r target 2>/dev/null <"$AGENT_BROWSER_SOCKET_DIR/default.target" || :
  if [[ $target != *"\"$wanted\""* ]]; then
    "$__pagebox_native" tab "$wanted" >/dev/null 2>&1 || :
  fi
}

# The native command, for what needs nothing of the program's; without starting that.
agent-browser() (
  { set +xuETe; } 2>/dev/null
  IFS=$' \t\n'
  case ${1-}:" $* " in
    *' --'[acdin]*) ;;
    open:* | goto:* | back:* | forward:* | reload:* | click:* | dblclick:* | fill:* | type:* | press:* | keyboard:* | hover:* | \
      focus:* | check:* | uncheck:* | select:* | scroll:* | scrollintoview:* | get:* | is:* | find:* | eval:* | snapshot:*)
      __pagebox_clean_environment
      __pagebox_follow_active_page
      exec "$__pagebox_native" --no-pin-tab "$@"
      ;;
  esac
  exec "${__pagebox_native%/node/node_modules/*}/bash/bin/agent-browser" "$@"
)
