# shellcheck shell=bash
# pktgen's files in /proc, for bench/pktgen/run: one line is written at a time, and its result is read.
#
#     pgctrl        start (returns when all have stopped), stop
#     kpktgend_N    add_device DEV@N, rem_device_all       the thread of core N
#     DEV@N         one setting a line; then counters      what that thread sends by DEV
#
# A line that pktgen does not know fails as it is written (EINVAL) and leaves why in the file's `Result: `; some that it
# knows and cannot do succeed and leave a `Result: ERROR`, or another number than was written. All end here, as one line.
# Needs PROC and SYS.

die() {
  echo "pktgen: error: $*" >&2
  exit 1
}

# The result that a file has, without its "Result: ".
result_of() {
  head -c 65536 "$1" 2>/dev/null | sed -n 's/^Result: //p' | tail -n 1
}

# Writes a line for which no error is of interest.
quiet() {
  { [ -e "$1" ] && echo "$2" >>"$1"; } 2>/dev/null
}

# put FILE LINE: writes it and reads what became of it. All is one write, as pktgen wants it.
put() {
  local file=$PROC/$1 line=$2 why
  [ -w "$file" ] || die "$file: not there, or not yours to write: pktgen wants root, and no other program that empties it meanwhile"
  if ! why=$({ printf '%s\n' "$line" >>"$file"; } 2>&1); then
    why=${why##*: }
    case $line in
      imix_weights*) why+=": IMIX wants a kernel of 5.15 or newer: give one --size" ;;
      burst* | clone_skb*) why+=": this driver sends no frame twice, as veth does not: leave out --burst" ;;
      add_device*) why+=": the port must be there, Ethernet, up, and not given to pktgen by somebody else" ;;
      *) why+=": $(result_of "$file")" ;;
    esac
    die "$1: \"$line\": $why"
  fi
  [ "$1" = pgctrl ] && return
  why=$(result_of "$file")
  case $why in
    OK* | Idle | NA) ;;
    *) die "$1: \"$line\": pktgen says: ${why:-nothing}" ;;
  esac
  # What does not fit it cuts off in silence, and only says what it has now.
  local set='^([a-z_]+) ([0-9]+)$' has='^OK: ([a-z_]+)=([0-9]+)'
  if [[ $line =~ $set ]]; then
    local name=${BASH_REMATCH[1]} number=${BASH_REMATCH[2]}
    [[ ! $why =~ $has || ${BASH_REMATCH[1]} != "$name" || ${BASH_REMATCH[2]} == "$number" ]] ||
      die "$1: \"$line\": pktgen made ${BASH_REMATCH[2]} of it"
  fi
}

control() { put pgctrl "$1"; }
thread() { put "kpktgend_$1" "$2"; }
set_() { put "$1" "$2"; }

module_is_there() {
  [ -w "$PROC/pgctrl" ] && return
  if [ "$PROC" = /proc/net/pktgen ]; then
    [ "$(id -u)" = 0 ] || die "$PROC: pktgen wants root"
    modprobe pktgen 2>/dev/null || /sbin/modprobe pktgen 2>/dev/null
  fi
  [ -w "$PROC/pgctrl" ] || die "$PROC: the kernel has no pktgen: modprobe pktgen, or a kernel with CONFIG_NET_PKTGEN"
}

# A thread that has ports already is somebody else's, or was left by a crash.
thread_is_free() {
  local file=$PROC/kpktgend_$1 others
  [ -w "$file" ] || die "$file: no such thread: pktgen has one for each core; see --threads and --first-core"
  others=$(sed -nE 's/^(Running|Stopped): *//p' "$file" | xargs)
  [ -z "$others" ] || die "kpktgend_$1 has $others already: wait for whoever uses it, or: echo reset >$PROC/pgctrl"
}

port_is_up() {
  local flags carrier
  [ -d "$SYS/$1" ] || die "port $1: not there: ip link"
  flags=$(cat "$SYS/$1/flags" 2>/dev/null)
  (((${flags:-0} & 1) == 1)) || die "port $1: down: ip link set $1 up"
  carrier=$(cat "$SYS/$1/carrier" 2>/dev/null)
  [ "$carrier" = 1 ] || die "port $1: no link: cable, or the other end is down"
}

# address_after ADDRESS N: the IPv4 address N further on.
address_after() {
  local a b c d
  [[ $1 =~ ^([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})$ ]] || return 1
  a=$((10#${BASH_REMATCH[1]})) b=$((10#${BASH_REMATCH[2]})) c=$((10#${BASH_REMATCH[3]})) d=$((10#${BASH_REMATCH[4]}))
  ((a < 256 && b < 256 && c < 256 && d < 256)) || return 1
  local n=$(((a << 24) + (b << 16) + (c << 8) + d + $2))
  ((n < 1 << 32)) || return 1
  echo "$((n >> 24)).$((n >> 16 & 255)).$((n >> 8 & 255)).$((n & 255))"
}

# The greatest common divisor.
divisor() {
  if (($2 == 0)); then echo "$1"; else divisor "$2" $(($1 % $2)); fi
}

# result DEVICE: "sent errors microseconds" of what it has sent.
result() {
  local file=$PROC/$1 why
  why=$(result_of "$file")
  [[ $why == OK:* ]] || die "$1: pktgen says: ${why:-nothing}"
  awk '
    /pkts-sofar:/ { for (n = 1; n < NF; n++) { if ($n == "pkts-sofar:") sent = $(n + 1); if ($n == "errors:") errors = $(n + 1) } }
    /started:/ { for (n = 1; n < NF; n++) { if ($n == "started:") from = $(n + 1); if ($n == "stopped:") to = $(n + 1) } }
    END { if (sent == "" || from == "") exit 1; printf "%d %d %d\n", sent, errors, to - from }
  ' "$file" || die "$1: pktgen tells no counters: $(head -c 200 "$file" | tr '\n' ' ')"
}
