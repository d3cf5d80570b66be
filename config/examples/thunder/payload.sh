# shellcheck shell=sh
# What `warmers` and `runners` share: values out of the task, and the start of a build. They source it; it may not be
# executable, or it would itself be the handler of a task type `payload`.

task=$(cat)

refuse() {
  echo "$2" >&2
  exit "$1"
}

[ -n "${THUNDER_HOME:-}" ] || refuse 78 "THUNDER_HOME is not set: it belongs into the worker's environment and into endpoint.pass_env"

# A member of the payload. Whoever may submit tasks chooses these texts, so a real JSON parser reads them: jq if there is one,
# and python3 otherwise, since most servers have one of the two. Control characters are refused: a line break or a NUL would not
# survive the shell, and the build would get another text than was submitted.
text() {
  if command -v jq >/dev/null; then
    # shellcheck disable=SC2016 # $name is jq's
    printf '%s' "$task" | jq -er --arg name "$1" '.payload[$name]
      | if type == "string" and length > 0 and (explode | all(. > 31 and . != 127)) then . else error end' 2>/dev/null
  elif command -v python3 >/dev/null; then
    printf '%s' "$task" | python3 -c '
import json, sys
value = json.load(sys.stdin.buffer)["payload"][sys.argv[1]]
if not isinstance(value, str) or value == "" or any(ord(c) < 32 or ord(c) == 127 for c in value):
    sys.exit(1)
sys.stdout.buffer.write(value.encode())' "$1" 2>/dev/null
  else
    refuse 78 "neither jq nor python3 is installed: one of them has to read the task"
  fi || refuse 64 "the payload's $1 has to be a text without control characters"
}

# A member that becomes an argument of its own. The build may hand it on to git and docker, so it must not look like an option to
# any of them; neither a branch nor a tag of an image can begin with a dash anyway.
argument() {
  value=$(text "$1") || exit
  case $value in
    -*) refuse 64 "the payload's $1 begins with a dash" ;;
  esac
  printf '%s\n' "$value"
}

# The file of a kind: beside the build, as in a checkout of the Thunder scripts, or else one for both builds above them. The API lets
# only known kinds through; a slash would still lead to any other file if it ever did not.
compose_file() {
  kind=$(text composeType) || exit
  case $kind in
    */*) refuse 64 "the payload's composeType has a slash" ;;
  esac
  file=$THUNDER_HOME/$1/docker-compose.$kind.yml
  [ -e "$file" ] || file=$THUNDER_HOME/docker-compose.$kind.yml
  printf '%s\n' "$file"
}

# Becomes the build, so that its exit code and the signals meant for it need no handing on. Its output goes to the log of the
# response, and not to its answer, for which it would be too long.
build() {
  program=$THUNDER_HOME/$1/build.sh
  shift
  [ -x "$program" ] || refuse 78 "$program is not there or cannot be executed"
  cd "$THUNDER_HOME" || exit 78
  exec "$program" "$@" </dev/null >&2
}
