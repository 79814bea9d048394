# shellcheck shell=bash
# Free ports, and waiting until a server listens on one. Sourced by scripts that start servers; they have set $work, a
# folder for what the shell says.
: "${work:?}"

listens() { (exec 3<> "/dev/tcp/127.0.0.1/$1") 2> "$work/connect"; }

# A port below the ephemeral range, so that no client's own port can take it in between.
free_port() {
  local port
  while port=$((10000 + RANDOM % 20000)) && listens "$port"; do :; done
  echo "$port"
}

# await_port PORT PID: false if the process has ended, or does not listen within ten seconds.
await_port() {
  for _ in $(seq 200); do
    listens "$1" && return 0
    kill -0 "$2" 2> "$work/kill" || return 1
    sleep 0.05
  done
  return 1
}
