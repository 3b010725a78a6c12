# Sourced by the scripts beside it, in the guest of scripts/vm with two pairs of cards: a router between two hosts.
#
#    client, 10.0.0.2 on p0a --- p0b, 10.0.0.1 [ root namespace ] 10.0.1.1, p1a --- p1b with 10.0.1.2, server
#
# Streams are of pktgen, so their number is exact; what arrives is counted by nftables before the server's stack.
set -uo pipefail
bypath=${BYPATH:-target/release/bypath}
work=$(mktemp -d)
bypath_pid=
failed=0

in_() { local ns=$1; shift; ip netns exec "$ns" "$@"; }

# check WHAT GOT WANTED: a comparison that must hold; says so either way.
check() {
  if [ "$2" = "$3" ]; then echo "ok: $1: $2"; else echo "FAILED: $1: $2, not $3"; failed=1; fi
}

# show WHAT...: what `bypath show` says; the processors are emulated, so an answer may come late.
show() {
  for _ in 1 2 3; do
    "$bypath" show "$@" 2>"$work/show" && return
  done
  cat "$work/show"
}

# number WHAT NAME: the sum of all numbers `"NAME":N` in what `bypath show WHAT` says.
number() { show "$1" --json | grep -oE "\"$2\":[0-9]+" | cut -d: -f2 | awk '{ n += $1 } END { print n + 0 }'; }

lab_up() {
  for ns in client server; do ip netns add "$ns"; in_ "$ns" ip link set lo up; done
  sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.disable_ipv6=1
  ip link set p0a netns client
  ip link set p1b netns server
  in_ client ip addr add 10.0.0.2/24 dev p0a
  in_ server ip addr add 10.0.1.2/24 dev p1b
  ip addr add 10.0.0.1/24 dev p0b
  ip addr add 10.0.1.1/24 dev p1a
  ip link set p0b up
  ip link set p1a up
  in_ client ip link set p0a up
  in_ server ip link set p1b up
  in_ client ip route add default via 10.0.0.1
  in_ server ip route add default via 10.0.1.1
  in_ server nft -f - <<'NFT'
table netdev sink {
  counter stream { }
  chain ingress { type filter hook ingress device "p1b" priority 0; udp dport 9 counter name stream drop; }
}
NFT
}

# ready: waits until the client reaches the server, so that links are up and neighbours known.
ready() {
  for _ in $(seq 60); do
    in_ client ping -q -c 1 -W 1 10.0.1.2 >/dev/null && return
  done
  echo "FAILED: no ping from the client to the server"
  failed=1
  return 1
}

# start ARGUMENTS...: bypath on both ports of the router.
start() {
  "$bypath" run p0b p1a "$@" >"$work/log" 2>&1 &
  bypath_pid=$!
  for _ in $(seq 300); do
    grep -qs '^bypath: ready' "$work/log" && return
    kill -0 $bypath_pid 2>/dev/null || break
    sleep 0.1
  done
  echo "FAILED: bypath run p0b p1a $*:"
  cat "$work/log"
  failed=1
  return 1
}

stop() {
  kill -TERM $bypath_pid
  wait $bypath_pid
  check "exit code of bypath" $? 0
  cat "$work/log"
}

# stream COUNT BYTES [PACKETS_PER_SECOND]: UDP datagrams of many sources, so that they meet all queues.
stream() {
  local pg=/proc/net/pktgen mac
  mac=$(cat /sys/class/net/p0b/address)
  modprobe pktgen
  in_ client bash -c "
    pg() { echo \"\$2\" >$pg/\$1 || echo \"FAILED: pktgen: \$1 \$2\"; }
    pg kpktgend_0 rem_device_all
    pg kpktgend_0 'add_device p0a'
    pg p0a 'count $1'
    pg p0a 'pkt_size $2'
    pg p0a 'ratep ${3:-2000}'
    pg p0a 'dst_mac $mac'
    pg p0a 'src_min 10.0.0.2'
    pg p0a 'src_max 10.0.0.250'
    pg p0a 'dst_min 10.0.1.2'
    pg p0a 'dst_max 10.0.1.2'
    pg p0a 'udp_src_min 1000'
    pg p0a 'udp_src_max 1999'
    pg p0a 'flag IPSRC_RND'
    pg p0a 'flag UDPSRC_RND'
    pg p0a 'udp_dst_min 9'
    pg p0a 'udp_dst_max 9'
    pg p0a 'flag UDPCSUM'
    pg pgctrl start
    grep -E 'Result|pps|errors' $pg/p0a
  "
}

# arrived: how many of the stream have come to the server since the last question.
arrived() {
  sleep 1
  in_ server nft reset counter netdev sink stream | grep -oE 'packets [0-9]+' | cut -d' ' -f2
}
