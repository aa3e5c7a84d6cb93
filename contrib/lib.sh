# Shared by the scripts here: finds the programs, starts and stops volunteers on loopback.
# Sourced, not run. Expects $root, the package's directory.

die() { echo "${0##*/}: $*" >&2; exit 1; }

# Waits until a command succeeds, a tenth of a second at a time: wait_until SECONDS WHAT COMMAND…
wait_until() {
    local tries=$(($1 * 10)) what=$2
    shift 2
    until "$@"; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || { echo "${0##*/}: timed out: $what" >&2; return 1; }
        sleep 0.1
    done
}

# Sets $bin to the directory of the three programs: $DISTCC_BIN, or what is built now.
find_programs() {
    if [ -n "${DISTCC_BIN:-}" ]; then
        bin=$(cd "$DISTCC_BIN" && pwd)
    elif [ -x "$root/contrib/build" ]; then
        bin=$root/target/dist/bin
        "$root/contrib/build" "$bin" >&2
    else
        (cd "$root" && cargo build --quiet --release --locked) >&2
        bin=$root/target/release
    fi
    local program
    for program in distcc distcc-broker distccd; do
        [ -x "$bin/$program" ] || die "no $program in $bin"
    done
}

# Makes the client and the volunteer whose keys are in STATE know each other, as `distccd --pair` and
# `distcc --pair` do for two machines:  introduce STATE
introduce() {
    local theirs ours
    mkdir -p "$1"
    chmod 700 "$1"
    theirs=$("$bin/distccd" --key --state-dir "$1") && ours=$("$bin/distcc" --key) || die "no keys can be made"
    (umask 077 && echo "$ours ${0##*/}" >>"$1/authorized_keys")
    (umask 077 && echo "${1##*/} $theirs" >>"$DISTCC_DIR/keys/known_volunteers")
}

# Starts N volunteers with J slots each, everything below the directory $farm:  start_farm N J
# Exports DISTCC_DIR and DISTCC_HOSTS; the broker starts with the first compile.
# Where $bare is set, they have no compilers, and the folders in $bare are not there.
start_farm() {
    local number port as_root=() surroundings=()
    [ -z "${bare:-}" ] || surroundings=(env HIDDEN="$bare" "$root/contrib/without-compilers")
    farm_pids=()
    # Else it would give root up, and with it the way into our temporary directory.
    [ "$(id -u)" != 0 ] && [ -z "${bare:-}" ] || as_root=(--user root)
    mkdir -p "$farm/home" "$farm/tmp"
    chmod 700 "$farm/home"
    # What is looked at is compiles: results of earlier ones would be none.
    export DISTCC_DIR=$farm/home DISTCC_HOSTS= TMPDIR=$farm/tmp DISTCC_CACHE=off
    for ((number = 1; number <= $1; number++)); do
        mkdir -p "$farm/volunteer$number"
        introduce "$farm/keys$number"
        "${surroundings[@]}" "$bin/distccd" --no-detach --listen 127.0.0.1 --port 0 --port-file "$farm/port$number" --jobs "$2" \
            --temp-dir "$farm/volunteer$number" --log-file "$farm/volunteer$number.log" --nice 0 \
            "${as_root[@]}" --max-load 100000 --state-dir "$farm/keys$number" \
            </dev/null >"$farm/volunteer$number.out" 2>&1 &
        farm_pids+=($!)
        wait_until 10 "volunteer $number did not say its port" test -s "$farm/port$number" \
            || die "$(cat "$farm/volunteer$number.out" "$farm/volunteer$number.log")"
        port=$(cat "$farm/port$number")
        DISTCC_HOSTS="$DISTCC_HOSTS${DISTCC_HOSTS:+ }127.0.0.1:$port/$2"
    done
}

# Whether no broker answers.
broker_is_gone() { ! status_json 2>/dev/null | grep -q '"totals"'; }

# Stops the broker and the volunteers that start_farm started; by process id, nothing else.
stop_farm() {
    [ -n "${farm_pids+set}" ] || return 0
    "$bin/distcc" --stop >/dev/null 2>&1 || true
    wait_until 10 "the broker did not stop" broker_is_gone || true
    local pid
    for pid in "${farm_pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${farm_pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    unset farm_pids
}

status_json() { "$bin/distcc" --status=json; }

# A number of the status's totals, e.g. `total remote`; 0 where there is no broker.
total() {
    local number
    number=$(status_json 2>/dev/null | tr -d ' \n' | grep -o '"totals":.*' | grep -o "\"$1\":[0-9]*" | head -n 1)
    echo "${number##*:}" | grep . || echo 0
}

# The counted local reasons, a line each: `probe 3`.
local_reasons() {
    status_json 2>/dev/null | tr -d ' \n' | grep -o '"local_reasons":{[^}]*}' | sed 's/.*{//; s/}//' \
        | tr ',' '\n' | sed 's/"//g; s/:/ /' || true
}
