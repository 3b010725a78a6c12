# Sourced by scripts/demo, scripts/home-router and scripts/k8s-walk: network namespaces, and bypath in some of them. The first two have
# a router between two hosts, and bypath in the router:
#
#    $client 10.0.0.2 --- c0 [ $router ] s0 --- 10.0.1.2 $server
#                fd00:0::/64             fd00:1::/64
#
# Everything is made in lab_up, and removed at exit, however that comes. What runs in the background belongs into `pids`.

router=bypath-router-$$ client=bypath-client-$$ server=bypath-server-$$
# All there are, to be removed.
namespaces=("$client" "$router" "$server")
work=$(mktemp -d) pids=() bypath_pid=
failed=0 begin=$SECONDS

tidy() {
  trap - EXIT INT TERM
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
  for ns in "${namespaces[@]}"; do ip netns del "$ns" 2>/dev/null || true; done
  rm -rf "$work"
}
trap tidy EXIT
trap 'exit 130' INT TERM

say() { printf '\n== %s\n' "$*"; }
in_() { local ns=$1; shift; ip netns exec "$ns" "$@"; }
# check WHAT COMMAND...: a step that must work; says so, and goes on if it does not.
check() {
  local what=$1
  shift
  if "$@"; then echo "ok: $what"; else echo "FAILED: $what"; failed=1; fi
}
show() { in_ "$router" "$bypath" show "$@"; }
count() { show totals --json | grep -oE "\"$1\":[0-9]+" | head -n 1 | cut -d: -f2; }

# build: what is missing, and bypath; BYPATH names one that is built already, and then neither Rust nor a compiler is needed.
build() {
  [ "$(id -u)" = 0 ] || { echo "${0##*/}: it makes network namespaces, which needs root: sudo scripts/${0##*/}" >&2; exit 1; }
  if [ -n "${BYPATH:-}" ]; then
    [ -x "$BYPATH" ] || { echo "${0##*/}: BYPATH is $BYPATH, which is no program (seen from $PWD)" >&2; exit 1; }
    scripts/setup lab
    bypath=$BYPATH
    return
  fi
  scripts/setup
  as_caller cargo build --release --locked --quiet
  bypath=${CARGO_TARGET_DIR:-target}/release/bypath
}

# listens NAMESPACE PORT: waits until somebody there does, by TCP or UDP.
listens() {
  for _ in $(seq 100); do
    [ -z "$(in_ "$1" ss -Hlntu "sport = :$2")" ] || return 0
    sleep 0.1
  done
  echo "${0##*/}: nobody listens to port $2 in $1" >&2
  return 1
}

lab_up() {
  say "three namespaces"
  local ns
  for ns in "$client" "$router" "$server"; do
    ip netns add "$ns"
    in_ "$ns" ip link set lo up
  done
  in_ "$router" sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
  # Made inside the router, so that nothing is ever seen outside of the namespaces.
  in_ "$router" ip link add c0 type veth peer name eth0 netns "$client"
  in_ "$router" ip link add s0 type veth peer name eth0 netns "$server"
  side "$client" c0 10.0.0 fd00:0
  side "$server" s0 10.0.1 fd00:1
}

# side NAMESPACE ROUTER_PORT IPV4_PREFIX IPV6_PREFIX
side() {
  in_ "$1" ip addr add "$3.2/24" dev eth0
  in_ "$1" ip addr add "$4::2/64" dev eth0 nodad
  in_ "$1" ip link set eth0 up
  in_ "$router" ip addr add "$3.1/24" dev "$2"
  in_ "$router" ip addr add "$4::1/64" dev "$2" nodad
  in_ "$router" ip link set "$2" up
  in_ "$1" ip route add default via "$3.1"
  in_ "$1" ip -6 route add default via "$4::1"
}

# launch NAMESPACE LOG PORT...: bypath there, as $bypath_pid; returns when it is ready. Call it neither in a subshell nor in a pipe.
launch() {
  local ns=$1 log=$2
  shift 2
  # Not by in_: a function in the background is a shell of its own, and `kill` would meet that one.
  ip netns exec "$ns" "$bypath" run "$@" >"$log" 2>&1 &
  bypath_pid=$!
  pids+=("$bypath_pid")
  for _ in $(seq 100); do
    grep -qs '^bypath: ready' "$log" && return
    kill -0 "$bypath_pid" 2>/dev/null || break
    sleep 0.1
  done
  cat "$log"
  return 1
}

# start LOG: bypath in the router.
start() { launch "$router" "$1" c0 s0; }

ended() { wait "$bypath_pid"; }
gone() { ! in_ "$router" ip -d link show | grep -qE 'bypath0|prog/xdp'; }

# finish: says whether every step worked.
finish() {
  say "done in $((SECONDS - begin)) s"
  [ "$failed" = 0 ] || { echo "${0##*/}: at least one step failed, see FAILED above" >&2; exit 1; }
}
