# Runs a server in a directory of its own, and ends both once standard input ends.
#
#   SUPERVISE=THIS sh -c 'eval "$SUPERVISE"' supervise NAME BASE SIGNAL TRIES { WORDS COMMAND ARGUMENT... }...
#
# Standard input is a pipe whose other end only the parent holds, and nothing is written to it:
# when the parent goes, kill -9 included, reading it ends. The commands, each preceded by the
# number of its words, run one after the other in the directory; the last is the server. When it
# has ended and the parent makes a file called "again" in the directory, it is run once more.
# Told on standard output: "directory PATH", "server PID", "ended STATUS COMMAND".

unset SUPERVISE
name=$1 base=$2 signal=$3 tries=$4
shift 4
umask 077
directory=
idle=yes
exec 3<&0 0</dev/null 2>&1

# Speaks from a subshell: when the parent is gone there is no reader, and the signal that comes
# of it must not end the one who has yet to clean up.
tell() (printf '%s\n' "$*")

# Each program has a session of its own, so that what it has started is reached as well: the
# installer of a database is a script that would leave its children behind.
session=$(command -v setsid)

# To the program's whole group, or, before it has one, to itself.
# $! is read here, never a copy of it: a signal may come before a copy could be made.
send() {
    { [ -n "$session" ] && kill -s "$1" -- "-$!" 2>/dev/null; } || kill -s "$1" "$!" 2>/dev/null
}

stop() {
    trap '' TERM
    kill -s KILL "$watcher" 2>/dev/null
    if [ -z "$idle" ]; then
        # Sent again each time, for a program that has just begun may not hear it yet.
        while send "$signal" && [ "$tries" -gt 0 ]; do
            sleep 0.05
            tries=$((tries - 1))
        done
        [ "$tries" -gt 0 ] || send KILL
        wait "$!"
    fi
    cd /
    # The children of a killed server write until they notice, and rm then fails.
    tries=200
    while [ -n "$directory" ] && [ "$tries" -gt 0 ] && ! rm -rf "$directory" 2>/dev/null; do
        sleep 0.05
        tries=$((tries - 1))
    done
    exit 0
}
trap stop TERM

(
    trap - TERM
    while read -r _; do :; done
    kill -s TERM $$
) <&3 &
watcher=$!
exec 3<&-

# The base is the parent's, and may be closed to the account we run under.
directory=$(mktemp -d "$base/buttress-$name.XXXXXX" 2>/dev/null) ||
    directory=$(mktemp -d "/tmp/buttress-$name.XXXXXX") || stop
cd "$directory" || stop
tell "directory $directory"
exec 2>>log

ask=$signal
# What only prepares has nothing to bring into order.
signal=KILL
words=$1
shift
# While what remains is more than this step, it is not the server.
while [ "$#" -gt "$words" ]; do
    command=$1
    idle=
    (
        # The first so many words: turned to the end, and what is then before them dropped.
        later=$(($# - words))
        while [ "$words" -gt 0 ]; do
            set -- "$@" "$1"
            shift
            words=$((words - 1))
        done
        shift "$later"
        exec $session "$@"
    ) </dev/null >>log 2>&1 &
    shift "$words"
    wait "$!"
    status=$?
    idle=yes
    if [ "$status" -ne 0 ]; then
        tell "ended $status $command"
        # The parent reads the log before it lets go.
        wait "$watcher"
        stop
    fi
    words=$1
    shift
done

signal=$ask
while :; do
    idle=
    (exec $session "$@") </dev/null >>log 2>&1 &
    tell "server $!"
    wait "$!"
    status=$?
    idle=yes
    tell "ended $status $1"
    # The parent reads the log, and may ask for the server again. Otherwise the watcher ends this.
    while [ ! -e again ]; do sleep 0.02; done
    rm -f again
done
