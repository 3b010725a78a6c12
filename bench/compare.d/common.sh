# What the peers' files share: the two questions, the line that says ready, and the end.
#
# A file defines installed, cases and run, then sources this with its arguments. The lab gives each run network, mount and PID
# namespaces, with an empty /run, and sends SIGTERM to all of the group at the end; what a peer leaves on the links is taken off.

# Runs a command, echoes what it says, and says that NAME is ready after the first line with PATTERN in it.
until_ready() { # name, pattern, command...
	local name=$1 pattern=$2 line said=''
	shift 2
	stdbuf -oL "$@" 2>&1 | while IFS= read -r line; do
		echo "$line"
		if [[ ! $said && $line == *"$pattern"* ]]; then
			echo "$name: ready"
			said=1
		fi
	done &
	wait_for_end
}

# Waits until a signal or the end of what runs in the background. A trap is run when a signal interrupts the wait.
wait_for_end() {
	wait || true
}

# One end for all: no program of the peer stays on a link.
clean_up() {
	trap '' TERM
	wait || true
	local link
	for link in "$a" "$b"; do
		ip link set dev "$link" xdp off 2>/dev/null || true
		ip link set dev "$link" promisc off 2>/dev/null || true
	done
}

# A core that does not forward, for a peer's main thread.
other_core() { # cpu
	local core
	for core in $(seq 0 $(($(nproc --all) - 1))); do
		((core == $1)) || { echo "$core" && return; }
	done
	echo "$1"
}

set -euo pipefail
case ${1-} in
installed) installed ;;
cases) cases ;;
run)
	(($# == 9)) || { echo "usage: $(basename "$0") run CASE A B CPU CLIENT_MAC A_MAC B_MAC SERVER_MAC" >&2 && exit 2; }
	readonly case=$2 a=$3 b=$4 cpu=$5 client_mac=$6 a_mac=$7 b_mac=$8 server_mac=$9
	echo "$name: version $(installed)"
	trap 'exit 0' TERM
	trap clean_up EXIT
	run
	;;
*) echo "usage: $(basename "$0") installed | cases | run ..." >&2 && exit 2 ;;
esac
