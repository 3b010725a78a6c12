# How long a packet of an idle class waits while another class is saturated: htb at d1, a flood of half as much again as its
# rate in one class, and a thousand packets a second in the other, whose one-way delays `bypath bench` takes. Each round has
# every case once, every other in reverse order; given are medians over the rounds, in microseconds. The bench's own threads share
# the source's core with the flood, but a frame's time runs from when it is given to c0 to when it is at s0.

readonly CLASS_PORT=5005

class() {
	: "${seconds:=5}" "${rate:=100mbit}" "${cases:=kernel,run}"
	class_up
	declare -gA p50=() p99=() p999=()
	local round name order=${cases//,/ }
	for ((round = 1; round <= rounds; round++)); do
		for name in $order; do
			wait_in "$name"
		done
		order=$(tr ' ' '\n' <<<"$order" | tac | paste -sd' ')
		log "round $round of $rounds, p99: $(for name in ${cases//,/ }; do echo -n "$name ${p99[$name]##* }  "; done)us"
	done
	headline
	local format='%-8s %10s %10s %10s\n' parts=()
	printf "$format" case 'p50 us' 'p99 us' 'p99.9 us'
	for name in ${cases//,/ }; do
		printf "$format" "$name" "$(median ${p50[$name]})" "$(median ${p99[$name]})" "$(median ${p999[$name]})"
		parts+=("\"$name\":{\"p50_us\":[$(join , ${p50[$name]})],\"p99_us\":[$(join , ${p99[$name]})],\"p999_us\":[$(join , ${p999[$name]})]}")
	done
	keep "\"rounds\":$rounds,\"seconds\":$seconds,\"rate\":\"$rate\",\"cases\":{$(join , "${parts[@]}")}"
}

class_up() {
	local bits
	bits=$(bits "$rate")
	tc -batch - <<-END
		qdisc add dev d1 root handle 1: htb default 20
		class add dev d1 parent 1: classid 1:1 htb rate $rate
		class add dev d1 parent 1:1 classid 1:10 htb rate $((bits / 5)) ceil $rate prio 0
		class add dev d1 parent 1:1 classid 1:20 htb rate $((bits / 5 * 4)) ceil $rate prio 1
		filter add dev d1 parent 1: protocol ip prio 1 u32 match ip dport $CLASS_PORT 0xffff flowid 1:10
	END
}

wait_in() { # case
	start "$1"
	local saturating before
	before=$(delivered)
	flood $((seconds + 2)) --rate $(($(bits "$rate") * 3 / 2 / 8 / size)) >"$dir/flood" &
	saturating=$!
	sleep 1
	"$BIN/bypath" bench --port "$client:c0" --port "$server:s0" --dst-mac "$gateway" --src 10.1.0.2 --dst $target \
		--dport $CLASS_PORT --rate 1k --size 128 --sink xsk --no-own-error --cpus "$source_cpu" --seconds "$seconds" \
		--csv "$dir/csv" >"$dir/bench" 2>&1 || die "bypath bench: $(cat "$dir/bench")"
	wait $saturating
	stop
	(($(delivered) - before < $(field offered "$(<"$dir/flood")"))) || die "$1: the class was not saturated"
	[[ $1 == kernel ]] || log "$1: $(tail -n 1 "$dir/out")"
	p50[$1]+=" $(of_csv p50_ns)" p99[$1]+=" $(of_csv p99_ns)" p999[$1]+=" $(of_csv p999_ns)"
}

# Of the one trial, a column of nanoseconds, in microseconds.
of_csv() { # column
	awk -F, -v name="$1" 'NR == 1 { for (n = 1; n <= NF; n++) if ($n == name) at = n } $1 == "trial" { printf "%.1f", $at / 1000 }' "$dir/csv"
}
