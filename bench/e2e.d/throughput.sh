# Frames per second of one forwarding core: each round measures every case once, so that what disturbs the machine disturbs
# all of them; every other round in reverse order, since a case may feel who ran before it. Given are medians over the rounds; of the ratios too, each taken within its round. A measurement: start the forwarder, a third of a second of traffic, then the counter behind it around an
# unpaced flood. More is offered than anyone forwards; what is over is dropped where it arrives.
#
# CPU per packet is the non-idle time of all cores (/proc/stat: user, nice, system, irq, softirq) between start and end of
# the flood, divided by the frames delivered. Source and sink are in it, for all cases alike, and so is all other work on
# the machine; a forwarder that polls has a whole core in it however little it does. So it is the number of busy cores divided
# by the rate (2 for whoever uses AF_XDP, 1 for the kernel beside the flood), not what a packet costs.

readonly WARM_SECONDS=0.3

throughput() {
	: "${seconds:=2}" "${cases:=kernel,run,wire,bare}"
	declare -gA mpps=() cost=()
	local round name order=${cases//,/ }
	for ((round = 1; round <= rounds; round++)); do
		for name in $order; do
			measure "$name"
		done
		order=$(tr ' ' '\n' <<<"$order" | tac | paste -sd' ')
		log "round $round of $rounds: $(for name in ${cases//,/ }; do echo -n "$name ${mpps[$name]##* }  "; done)Mpps"
	done
	headline
	table
	keep "$(members)"
}

measure() {
	start "$1"
	local before line after sends=flood
	[[ $1 != source ]] || sends=flood_out
	warm $sends
	before=$(delivered)
	line=$($sends "$seconds")
	sleep 0.1
	after=$(delivered)
	local frames=$((after - before))
	((frames > 0)) || die "$1 delivered nothing: $(cat "$dir/out")"
	judge "$1" "$frames"
	stop
	mpps[$1]+=" $(calc %.3f "$frames / $(field seconds "$line") / 1e6")"
	cost[$1]+=" $(calc %.0f "$(field cpu_seconds "$line") * 1e9 / $frames")"
}

# What connections.sh has otherwise.
warm() { "$1" $WARM_SECONDS >/dev/null; }
judge() { :; } # case, frames delivered; the forwarder still runs

table() {
	local name middle format='%-8s %8s %16s %9s %10s %14s\n'
	printf "$format" case Mpps 'least - most' 'of bare' 'of kernel' 'CPU ns/packet'
	for name in ${cases//,/ }; do
		middle=$(median ${mpps[$name]})
		printf "$format" "$name" "$(calc %.3f "$middle")" \
			"$(printf '%s\n' ${mpps[$name]} | sort -g | sed -n '1p;$p' | paste -sd- | sed 's/-/ - /')" \
			"$(ratio "$name" bare)" "$(ratio "$name" kernel)" "$(calc %.0f "$(median ${cost[$name]})")"
	done
}

ratio() { # of a case to another, the median over the rounds
	local of=(${mpps[$1]}) to=(${mpps[$2]-}) ratios=() n
	((${#to[@]})) || { echo - && return; }
	for n in "${!of[@]}"; do
		ratios+=("$(calc %.4f "${of[n]} / ${to[n]}")")
	done
	calc %.2f "$(median "${ratios[@]}")"
}

members() {
	local name of to ratio parts=()
	for name in ${cases//,/ }; do
		of="\"mpps\":[$(join , ${mpps[$name]})],\"mpps_median\":$(median ${mpps[$name]})"
		for to in bare kernel; do
			ratio=$(ratio "$name" $to)
			of+=",\"of_$to\":${ratio/#-/null}"
		done
		of+=",\"cpu_ns_per_packet\":[$(join , ${cost[$name]})],\"cpu_ns_per_packet_median\":$(median ${cost[$name]})"
		parts+=("\"$name\":{$of}")
	done
	echo "\"rounds\":$rounds,\"seconds\":$seconds,\"size\":$size,\"flows\":$flows,\"dsts\":$dsts,\"cases\":{$(join , "${parts[@]}")}"
}
