#!/usr/bin/env bash
# Brings new code to a Thunder server that server-init.sh has set up.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck disable=SC2034 # common.sh prints it
usage='usage: deploy.sh [OPTION...]

Installs program, configuration, executables and units, restarts both services and
refreshes the crontab. The worker finishes the build it has begun before it starts
anew: that takes up to 20 minutes.

  --user NAME        whom the services run as (as before)
  --group NAME       its group (as before)
  --binary FILE      the program (target/release/tasker of the checkout, else the
                     one on the PATH)
  --config FILE      the configuration (config/examples/thunder.config.yaml)
  --no-wait          do not wait for the worker
  --no-user          change no owner
  --no-systemd       say what systemd would be told, and leave it out
  --no-crontab       leave the crontab alone
  --help             this text

DESTDIR=/some/directory in the environment goes before all paths that are written.'
# shellcheck source=common.sh
. "$here/common.sh"

block=
while [ $# -gt 0 ]; do
  case $1 in
    --no-wait)
      block=--no-block
      shift
      ;;
    *)
      option "$@"
      [ "$words" -gt 0 ] || fail "there is no option $1: try --help"
      shift "$words"
      ;;
  esac
done
prepare
for each in "$key" "$certificate" "$token" "$data"; do
  [ -e "$each" ] || fail "there is no $each: set the server up with server-init.sh"
done

place_all
reload_units
# Always, whatever was changed: an earlier deployment may have been stopped between its files and this. The API first; it is
# away for a moment only, and the worker, which may take long, meets the new one.
systemd restart tasker-thunder-api.service
echo "the worker finishes the build it has begun, if any, for up to 20 minutes, and starts anew"
systemd restart ${block:+"$block"} tasker-thunder-worker.service
refresh_crontab
summary
