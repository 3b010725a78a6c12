# A paced minute through bypath and through the kernel, one after the other: how much was offered, how much came out, and
# what every counter on the way says about the rest.
#
#   flood --refused--> c0 ==> d0 --rx_dropped, show drops--> forwarder --> d1 ==> s0 --softnet--> delivered
#
# Everything that bypath counts as lost comes from `bypath show drops`; the kernel's own counters stand beside it in both
# cases: drops of the four interfaces, and of the backlog queue that s0 receives through (the second column of
# /proc/net/softnet_stat, which is the machine's). "unaccounted" is what no counter explains: 0, or something lies.

readonly LOSS_INTERFACES="client:c0 router:d0 router:d1 server:s0"

loss() {
	: "${seconds:=60}" "${rate:=100000}" "${cases:=kernel,run}"
	headline
	local name parts=()
	for name in ${cases//,/ }; do
		lose "$name"
		parts+=("\"$name\":{$result}")
	done
	keep "\"seconds\":$seconds,\"rate\":$rate,\"cases\":{$(join , "${parts[@]}")}"
}

lose() { # case; leaves JSON members in $result
	start "$1"
	local before line after drops='[]' lost named
	local -A counted=()
	read_counters -1
	before=$(delivered)
	line=$(flood "$seconds" --rate "$rate")
	sleep 0.5
	after=$(($(delivered) - before))
	[[ $1 != run && $1 != wire ]] || drops=$("$BIN/bypath" show drops --json)
	read_counters 1
	stop
	lost=$(($(field offered "$line") - after))
	count_drops "$drops"
	named=$(named_sum)
	echo "$1: offered $(field offered "$line") in $(field seconds "$line") s (the source refused $(field refused "$line"))," \
		"delivered $after, lost $lost, unaccounted $((lost - named))"
	for key in $(printf '%s\n' "${!counted[@]}" | sort); do
		((counted[$key] == 0)) || printf '    %-28s %d\n' "$key" "${counted[$key]}"
	done
	result="\"flood\":$line,\"delivered\":$after,\"lost\":$lost,\"unaccounted\":$((lost - named)),\"counters\":$(counters_json)"
}

# Adds the kernel's counters, times $1, to `counted`.
read_counters() {
	local pair place interface rx tx
	for pair in $LOSS_INTERFACES; do
		place=${pair%:*} interface=${pair#*:}
		read -r rx tx < <("$place" ip -s link show dev "$interface" 2>/dev/null |
			awk '/RX:/ { getline; rx = $4 } /TX:/ { getline; tx = $4 } END { print rx, tx }')
		counted[$interface.rx_dropped]=$((${counted[$interface.rx_dropped]-0} + $1 * rx))
		counted[$interface.tx_dropped]=$((${counted[$interface.tx_dropped]-0} + $1 * tx))
	done
	local dropped
	while read -r _ dropped _; do
		counted[softnet.backlog]=$((${counted[softnet.backlog]-0} + $1 * 16#$dropped))
	done </proc/net/softnet_stat
}

router() { "$@"; }

# Adds what `bypath show drops --json` says.
count_drops() {
	local place reason frames
	while IFS='"' read -r _ _ _ place _ _ _ reason _ _ frames; do
		counted[$place.$reason]=${frames//[^0-9]/}
	done < <(tr '}' '\n' <<<"$1" | grep '"frames"')
}

# Of rx_dropped, rx_ring_full and fill_ring_empty the first is the sum, and a veth counts a refused redirect as its own drop.
named_sum() {
	local key sum=0
	for key in "${!counted[@]}"; do
		case $key in
		*.rx_ring_full | *.fill_ring_empty | s0.*) ;;
		d[01].rx_dropped) [[ ${drops} != '[]' ]] || sum=$((sum + counted[$key])) ;;
		c0.*) ;;
		*) sum=$((sum + counted[$key])) ;;
		esac
	done
	echo $sum
}

counters_json() {
	local key parts=()
	for key in "${!counted[@]}"; do
		parts+=("\"$key\":${counted[$key]}")
	done
	echo "{$(join , "${parts[@]}")}"
}
