# shellcheck shell=bash
# Builds and installs what scripts/bench-peers compares. It is sourced there, from the root of the project, and relies on
# nothing but $target (cargo's directory) and $cache (where everything else goes).
: "${target:?}" "${cache:?}"

# Peers that are not there, and why.
declare -A missing=()

# What is compared with is pinned: package.json, requirements.txt, Cargo.lock, and this.
uwebsockets_url=https://github.com/uNetworking/uWebSockets.git
uwebsockets_commit=66dcff3dd48f0c19dd1703426365d062039321d0

build_rust() {
  cargo build --release -p mahavishnu -p mahavishnu-benches
  cargo build --release -p mahavishnu-driver --example echo
  cargo build --release --locked --manifest-path benches/peers/Cargo.toml --target-dir "$target/peers"
}

# attempt PEERS STEP: runs the function STEP; if it fails, those peers are missing.
attempt() {
  local peer log="$cache/$2.log"
  # Its own shell, so that `set -e` ends the step and not the script.
  if (set -e; "$2") > "$log" 2>&1; then return 0; fi
  for peer in $1; do
    missing[$peer]="$2 failed: $(tail -n 1 "$log")"
  done
}

# need PEERS COMMAND: whether the command is there; if not, those peers are missing.
need() {
  local peer
  command -v "$2" > /dev/null && return 0
  for peer in $1; do
    missing[$peer]="no $2 on this machine"
  done
  return 1
}

install_node_packages() {
  local dir=$cache/node
  cmp -s benches/peers/package.json "$dir/installed" && return 0
  mkdir -p "$dir"
  cp benches/peers/package.json "$dir/package.json"
  npm install --prefix "$dir" --no-audit --no-fund --loglevel=error
  "$dir/node_modules/.bin/bun" --version
  cp benches/peers/package.json "$dir/installed"
}

install_python_packages() {
  local dir=$cache/python
  cmp -s benches/peers/requirements.txt "$dir/installed" && return 0
  python3 -m venv "$dir"
  "$dir/bin/python" -m pip install --quiet --disable-pip-version-check -r benches/peers/requirements.txt
  cp benches/peers/requirements.txt "$dir/installed"
}

# The checkout that uWebSockets is built from.
uwebsockets_dir() {
  echo "${UWEBSOCKETS_DIR:-$cache/uWebSockets}"
}

fetch_uwebsockets() {
  local dir
  dir=$(uwebsockets_dir)
  [[ ! -f $dir/uSockets/src/libusockets.h ]] || return 0
  [[ -z ${UWEBSOCKETS_DIR:-} ]] || { echo "no uWebSockets with uSockets in $dir"; return 1; }
  rm -rf "$dir"
  git init --quiet "$dir"
  export GIT_TERMINAL_PROMPT=0
  timeout 120 git -C "$dir" fetch --quiet --depth 1 "$uwebsockets_url" "$uwebsockets_commit"
  git -C "$dir" checkout --quiet FETCH_HEAD
  timeout 120 git -C "$dir" submodule update --quiet --init --depth 1 uSockets
}

build_uwebsockets() {
  local dir stamp objects source
  fetch_uwebsockets
  dir=$(uwebsockets_dir)
  stamp="$(uwebsockets_version) $(cksum < benches/peers/uwebsockets.cpp)"
  [[ $(cat "$cache/uwebsockets.stamp" 2>&1) != "$stamp" ]] || return 0
  objects=$(mktemp -d)
  for source in "$dir"/uSockets/src/*.c "$dir"/uSockets/src/eventing/*.c "$dir"/uSockets/src/crypto/*.c; do
    cc -O3 -flto=auto -std=c11 -DLIBUS_NO_SSL -I"$dir/uSockets/src" -c "$source" -o "$objects/$(basename "$source" .c).o"
  done
  c++ -O3 -flto=auto -std=c++20 -DLIBUS_NO_SSL -DUWS_NO_ZLIB -I"$dir/src" -I"$dir/uSockets/src" \
    benches/peers/uwebsockets.cpp "$objects"/*.o -o "$cache/uwebsockets"
  rm -r "$objects"
  echo "$stamp" > "$cache/uwebsockets.stamp"
}

set_up() {
  mkdir -p "$cache"
  if [[ ${BENCH_BUILD:-1} != 0 ]]; then build_rust; fi
  if need "bun ws" npm; then attempt "bun ws" install_node_packages; fi
  need ws node || true
  if need websockets python3; then attempt websockets install_python_packages; fi
  if need uwebsockets cc && need uwebsockets c++ && need uwebsockets git; then
    attempt uwebsockets build_uwebsockets
  fi
}

crate_version() {
  sed -n "/^name = \"$1\"/{n;s/version = \"\(.*\)\"/\1/p;}" "$2"
}

package_version() {
  sed -n "s/.*\"$1\": \"\([^\"]*\)\".*/\1/p" benches/peers/package.json
}

requirement_version() {
  sed -n "s/^$1==//p" benches/peers/requirements.txt
}

uwebsockets_version() {
  git -C "$(uwebsockets_dir)" rev-parse --short=12 HEAD
}

# One line for each thing that was compared.
versions() {
  local lock=benches/peers/Cargo.lock
  echo "- mahavishnu $(git rev-parse --short=12 HEAD), $(rustc --version | cut -d ' ' -f 1-2), tokio $(crate_version tokio Cargo.lock)," \
    "smol $(crate_version smol Cargo.lock)"
  echo "- tokio-tungstenite $(crate_version tokio-tungstenite $lock), fastwebsockets $(crate_version fastwebsockets $lock)," \
    "tokio $(crate_version tokio $lock)"
  [[ -n ${missing[uwebsockets]:-} ]] || echo "- uWebSockets $(uwebsockets_version), $(c++ --version | head -n 1)"
  [[ -n ${missing[bun]:-} ]] || echo "- Bun $(package_version bun)"
  [[ -n ${missing[ws]:-} ]] || echo "- ws $(package_version ws) on Node $(node --version)"
  [[ -n ${missing[websockets]:-} ]] || echo "- websockets $(requirement_version websockets) on $("$cache/python/bin/python" --version)," \
    "uvloop $(requirement_version uvloop)"
}
