# How exactly the token bucket of d1 keeps its rate, by kernel and by bypath, under a demand that it cannot fill. Of each rate and
# case: what d1 sent (its own counter, frames with their Ethernet header) over some seconds, against the rate; and the same
# over each second, the most and the least. A flood of more than the rate comes in meanwhile: at 1.3 times the rate up to
# 300,000 frames a second, beyond that as fast as it goes.
#
# A sample is a counter between two readings of the clock, the one of twenty that took the shortest, so its time is known within
# some microseconds. Frames count whole: at 1 Mbit/s over 10 s one of them is 0.12 %.

readonly PACED_MAX=300000

shape() {
	: "${seconds:=10}" "${cases:=kernel,run}" "${rates:=1mbit,10mbit,100mbit,1gbit,5gbit}"
	headline
	printf '%-10s %-8s %12s %10s %12s %12s %10s\n' rate case Mbit/s 'off by %' 'least 1 s %' 'most 1 s %' 'offered'
	local round rate name parts=()
	for rate in ${rates//,/ }; do
		for ((round = 1; round <= rounds; round++)); do
			for name in ${cases//,/ }; do
				keeps_rate "$rate" "$name"
				parts+=("$result")
			done
		done
	done
	keep "\"seconds\":$seconds,\"size\":$size,\"rows\":[$(join , "${parts[@]}")]"
}

# Prints "time bytes" of d1.
sample() {
	local i before after bytes took least=1000000 best=''
	for ((i = 0; i < 20; i++)); do
		before=${EPOCHREALTIME/[.,]/}
		read -r bytes </sys/class/net/d1/statistics/tx_bytes
		after=${EPOCHREALTIME/[.,]/}
		took=$((after - before))
		((took >= least)) || { least=$took && best="$(((before + after) / 2)) $bytes"; }
	done
	echo "$best"
}

keeps_rate() { # rate, case; leaves a JSON object in $result
	local bits second samples='' pace=() line
	bits=$(bits "$1")
	tbf_up "$1"
	start "$2"
	local frames=$((bits * 13 / 80 / size))
	((frames > PACED_MAX)) || pace=(--rate "$((frames + 20))")
	flood $((seconds + 2)) "${pace[@]}" >"$dir/flood" &
	local source=$!
	sleep 1 # what was in the bucket has left
	samples=$(sample)
	for ((second = 0; second < seconds; second++)); do
		sleep 1
		samples+=$'\n'$(sample)
	done
	wait $source
	line=$(<"$dir/flood")
	stop
	tc qdisc del dev d1 root
	local offered=$(calc %.3f "$(field offered "$line") * $size * 8e-6 / $(field seconds "$line")")
	read -r mbit off least most < <(awk -v rate="$bits" '
		function off(bytes, microseconds) { return (bytes * 8e6 / microseconds / rate - 1) * 100 }
		NR == 1 { time0 = $1; bytes0 = $2; least = 1e9; most = -1e9 }
		NR > 1 { now = off($2 - bytes, $1 - time); if (now < least) least = now; if (now > most) most = now }
		{ time = $1; bytes = $2 }
		END {
			printf "%.4f %+.4f %+.3f %+.3f\n", (bytes - bytes0) * 8 / (time - time0), off(bytes - bytes0, time - time0), least, most
		}' <<<"$samples")
	printf '%-10s %-8s %12s %10s %12s %12s %10s\n' "$1" "$2" "$mbit" "$off" "$least" "$most" "$offered"
	# The kernel shapes in the source's own softirq, which so offers little more than the rate.
	awk "BEGIN { exit !($offered * 1e6 < $bits * 1.02 && $off < -0.1) }" &&
		echo "NOTE: no more was offered than the rate, so that row says nothing"
	result="{\"rate\":\"$1\",\"case\":\"$2\",\"mbit\":$mbit,\"off_percent\":${off#+},\"least_percent\":${least#+},\"most_percent\":${most#+},\"offered_mbit\":$offered}"
}
